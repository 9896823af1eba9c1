"""After a RESTORE: what it took away is done again, once, and what it left is not."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import NamedTuple

import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.quality.quarantine import EvaluatedRows, quarantine_of, record_metrics, requeue_rows, write_with_quarantine
from boathouse.quality.rules import METRICS, Rule
from boathouse.tables.table import Column, Lakehouse, Table, read
from boathouse.tables.versions import version_of
from boathouse.tables.writes import Commit, append, commits, last_note, without_undone
from boathouse.workspace.cluster.cluster import Cluster, TaskSpec

NOON = dt.datetime(2013, 6, 1, 12)
BOATS = Table("harbour.boats", "One row per boat.", (Column("boat", "string", "name"), Column("berth", "int", "where it lies")))
RULES = (Rule("berthed", "berth > 0", reason="berths count from 1"),)
COUNTS = Table("harbour.counts", "One row per rule and batch.", tuple(Column(*c.split(), "") for c in METRICS.split(", ")))


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_restored_")
    return lake


def named(name: str) -> tuple[Table, Table]:
    table = dataclasses.replace(BOATS, name=f"harbour.{name}")
    return table, quarantine_of(table)


def batch(lake: Lakehouse, tables: tuple[Table, Table], run: str, *rows: tuple[str, int]) -> None:
    write_with_quarantine(lake, tables[0], lake.spark.createDataFrame(rows, BOATS.schema), RULES, quarantine=tables[1], run=run, at=NOON)


def mended(rows: DataFrame) -> DataFrame:
    return rows.selectExpr("boat", "abs(berth) AS berth", "_id")


def content(lake: Lakehouse, tables: tuple[Table, Table]) -> list[list[tuple]]:
    "The rows of a table and its quarantine, without what depends on chance."
    names = (["boat", "berth"], ["boat", "berth", "_run", "_requeued_run"])
    return [sorted(map(tuple, read(lake, t).select(*n).collect()), key=str) for t, n in zip(tables, names, strict=True)]


def restore(lake: Lakehouse, table: Table, version: int) -> None:
    lake.spark.sql(f"RESTORE TABLE {lake.name(table)} TO VERSION AS OF {version}")


def test_a_commit_counts_unless_a_restore_that_counts_has_undone_it() -> None:
    history = [Commit(version, None, {4: 1, 5: 3, 6: 4}.get(version)) for version in range(7)]
    found = {upto: [commit.version for commit in without_undone(history[upto::-1])] for upto in (3, 4, 5, 6)}
    assert found == {3: [3, 2, 1, 0], 4: [4, 1, 0], 5: [5, 3, 2, 1, 0], 6: [6, 4, 1, 0]}


def test_a_restore_to_an_instant_goes_back_to_the_version_of_then(lake: Lakehouse) -> None:
    table, _ = named("noted")
    for n in (1, 2):
        append(lake, table, lake.spark.createDataFrame([("Ida", n)], BOATS.schema), note={"n": n})
    instant = lake.spark.sql(f"DESCRIBE HISTORY {lake.name(table)}").where("version = 1").first().timestamp
    lake.spark.sql(f"RESTORE TABLE {lake.name(table)} TO TIMESTAMP AS OF '{instant}'")
    assert (last_note(lake, table), read(lake, table).count()) == ({"n": 1}, 1)
    assert [c.back_to for c in commits(lake, table)] == [1, None, None, None]
    assert [c.back_to for c in commits(lake, table, 1)] == [1]


FIRST, SECOND = [("Ida", 1), ("Tern", -2)], [("Swan", 3), ("Gull", -4)]


class Written(NamedTuple):
    "A table and its quarantine, their versions after the first batch, and their rows after the second."

    tables: tuple[Table, Table]
    before: list[int]
    wanted: list[list[tuple]]


@pytest.fixture(scope="module")
def written(lake: Lakehouse) -> Written:
    "Two batches; each test takes the second away, and has to bring it back."
    tables = named("batch")
    batch(lake, tables, "1", *FIRST)
    before = [version_of(lake, table) for table in tables]
    batch(lake, tables, "2", *SECOND)
    return Written(tables, before, content(lake, tables))


# A run looks for itself among the latest hundred commits, or two, first.
@pytest.mark.parametrize(("recent", "taken"), [(100, (0, 1)), (2, (1,))], ids=["near", "further_back"])
def test_a_batch_that_a_restore_took_from_either_table_is_written_again_once(
    lake: Lakehouse, written: Written, monkeypatch: pytest.MonkeyPatch, recent: int, taken: tuple[int, ...]
) -> None:
    monkeypatch.setattr("boathouse.quality.quarantine.RECENT", recent)
    for n in taken:
        restore(lake, written.tables[n], written.before[n])
    for run, rows in (("2", SECOND), ("1", FIRST), ("2", SECOND)):
        batch(lake, written.tables, run, *rows)
    assert content(lake, written.tables) == written.wanted


def test_a_batch_that_a_second_restore_brings_back_is_not_written_again(lake: Lakehouse) -> None:
    tables = named("back")
    for run in "12":
        batch(lake, tables, run, ("Ida", int(run)))
    restore(lake, tables[0], 1)
    batch(lake, tables, "2", ("Ida", 2))
    restore(lake, tables[0], 2)
    for run in "12":
        batch(lake, tables, run, ("Ida", int(run)))
    assert sorted(row.berth for row in read(lake, tables[0]).collect()) == [1, 2]


def test_counts_that_a_restore_took_away_are_recorded_again_once(lake: Lakehouse) -> None:
    found = EvaluatedRows("harbour.counted", "1", RULES, {"checked": 1, "berthed": 0})
    record_metrics(lake, COUNTS, found, NOON)
    restore(lake, COUNTS, 0)
    for _ in range(2):
        record_metrics(lake, COUNTS, found, NOON)
    assert [row.rule for row in read(lake, COUNTS).collect()] == ["berthed"]


def test_a_requeue_that_a_restore_took_from_either_table_is_done_again_once(lake: Lakehouse) -> None:
    tables = named("requeued")
    batch(lake, tables, "1", ("Ida", 1), ("Tern", -2), ("Log", 0))
    before = [version_of(lake, table) for table in tables]
    requeue_rows(lake, tables[0], RULES, quarantine=tables[1], run="fix", at=NOON, fix=mended)
    wanted = content(lake, tables)
    assert wanted[0] == [("Ida", 1), ("Tern", 2)]
    for taken in ({0: before[0]}, {1: before[1]}, {0: 0, 1: 0}):  # before the requeue, or before the batch itself
        for n, version in taken.items():
            restore(lake, tables[n], version)
        if len(taken) == 2:
            batch(lake, tables, "1", ("Ida", 1), ("Tern", -2), ("Log", 0))
        requeue_rows(lake, tables[0], RULES, quarantine=tables[1], run="fix", at=NOON, fix=mended)
        assert content(lake, tables) == wanted, taken


KILLED = """
import os, signal, sys
from pyspark.sql import DataFrameWriter

write, left = DataFrameWriter.saveAsTable, int(sys.argv[1])

def deadly(*words, **more):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(*words, **more)

DataFrameWriter.saveAsTable = deadly
import datetime as dt
from boathouse.quality.rules import Rule
from boathouse.quality.quarantine import quarantine_of, write_with_quarantine
from boathouse.tables.table import Column, Lakehouse, Table

table = Table("harbour.batch", "One row per boat.", (Column("boat", "string", "name"), Column("berth", "int", "where it lies")))
rules = (Rule("berthed", "berth > 0", reason="berths count from 1"),)
rows = spark.createDataFrame([("Swan", 3), ("Gull", -4)], table.schema)
write_with_quarantine(Lakehouse(spark, prefix="test_restored_"), table, rows, rules, quarantine=quarantine_of(table), run="2", at=dt.datetime(2013, 6, 1, 12))
"""


@pytest.mark.parametrize(("commits_made", "rows"), [pytest.param(0, [1, 1], marks=pytest.mark.long(order=5, minutes=2)), (1, [2, 1])])
def test_killed_before_either_commit_of_a_batch_s_second_life_nothing_is_lost_or_doubled(
    lake: Lakehouse, cluster: Cluster, written: Written, tmp_path: Path, commits_made: int, rows: list[int]
) -> None:
    for table, version in zip(written.tables, written.before, strict=True):
        restore(lake, table, version)
    (tmp_path / "it.py").write_text(KILLED)
    spec = TaskSpec(kind="script", folder=tmp_path / "run", project=tmp_path, file=tmp_path / "it.py", argv=(str(commits_made),))
    result = cluster.launch(spec).wait(300)
    assert result is not None
    assert "SIGKILL" in (result.error or ""), result
    assert [read(lake, table).count() for table in written.tables] == rows
    for _ in range(2):
        batch(lake, written.tables, "2", *SECOND)
    assert content(lake, written.tables) == written.wanted
