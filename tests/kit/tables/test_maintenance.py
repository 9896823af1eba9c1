from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.tables import maintenance as maintenance_module
from boathouse.tables.evolution import create
from boathouse.tables.maintenance import (
    MAINTENANCE,
    MaintenanceFailed,
    maintain_table,
    maintain_tables,
    optimize,
    read_layout,
    retention_of,
    vacuum,
)
from boathouse.tables.pins import extend_retention, pin, read_pin, restore_retention
from boathouse.tables.table import Column, Lakehouse, Table, read
from boathouse.tables.versions import fingerprint, version_of
from boathouse.tables.writes import append, last_note, replace

BOATS = Table(
    name="harbour.boats",
    grain="One row per boat.",
    columns=(Column("boat", "string", "its name"), Column("berth", "int", "where it lies")),
    retention="interval 30 days",
    change_feed=True,
)
PAST, FUTURE = datetime(2013, 6, 1), datetime(2100, 1, 1)


def boats(lake: Lakehouse, *values: tuple[str, int]) -> DataFrame:
    return lake.spark.createDataFrame(list(values), BOATS.schema).coalesce(1)


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    "A table in three files, each of which came with a note."
    lake = Lakehouse(spark, prefix="test_maintenance_")
    for berth in range(3):
        append(lake, BOATS, boats(lake, ("Ida", berth)), note={"berth": berth})
    return lake


@pytest.fixture(scope="module")
def copy(lake: Lakehouse, state: Path) -> Callable[[str, str], Table]:
    "The table under another name; its version 4 has another retention."
    harbour = state / "warehouse" / "test_maintenance_harbour.db"

    def copied(name: str, retention: str) -> Table:
        table = dataclasses.replace(BOATS, name=f"harbour.{name}", retention=retention)
        shutil.copytree(harbour / "boats", harbour / name)
        lake.spark.sql(f"CREATE TABLE {lake.name(table)} USING delta LOCATION '{harbour / name}'")
        create(lake, table)
        return table

    return copied


class Tended(NamedTuple):
    "A table that was compacted, vacuumed and appended to, twice, and its last note after each time."

    table: Table
    notes: list[dict]


@pytest.fixture(scope="module")
def tended(lake: Lakehouse, copy: Callable[[str, str], Table]) -> Tended:
    found = Tended(copy("tended", "interval 1 days"), [])
    for _ in range(2):
        assert optimize(lake, found.table) is None
        assert vacuum(lake, found.table, FUTURE) is None
        append(lake, found.table, boats(lake, ("Tern", 9)))
        found.notes.append(last_note(lake, found.table))
    return found


def test_compaction_changes_files_and_neither_rows_nor_note_nor_change_feed(lake: Lakehouse, tended: Tended) -> None:
    table = tended.table
    assert tended.notes[0] == {"berth": 2}
    assert version_of(lake, table) == 12  # OPTIMIZE is 5, VACUUM 6 and 7, the append 8; and the same again
    assert fingerprint(read(lake, table, 7)) == fingerprint(read(lake, table, 3))
    feed = lake.spark.read.option("readChangeFeed", "true").option("startingVersion", 1).option("endingVersion", 8).table(lake.name(table))
    assert sorted((r.berth, r._change_type, r._commit_version) for r in feed.collect()) == [
        (0, "insert", 1), (1, "insert", 2), (2, "insert", 3), (9, "insert", 8)]  # fmt: skip


def test_the_last_note_is_found_behind_more_commits_without_one_than_are_looked_at_first(lake: Lakehouse, tended: Tended) -> None:
    assert version_of(lake, tended.table) > 3 + 5
    assert tended.notes[1] == {"berth": 2}


def test_what_has_nothing_to_gain_is_left_alone(lake: Lakehouse) -> None:
    table = dataclasses.replace(BOATS, name="harbour.few")
    create(lake, table)
    assert optimize(lake, table) == "no rows"
    append(lake, table, boats(lake, ("Ida", 1)))
    assert optimize(lake, table) == "one file"
    parts = dataclasses.replace(BOATS, name="harbour.parts", partition_by=("berth",))
    append(lake, parts, boats(lake, ("Ida", 0), ("Ida", 1), ("Ida", 2)))
    assert optimize(lake, parts) is None  # one file a partition: Delta finds nothing to do
    assert version_of(lake, parts) == 1
    append(lake, parts, boats(lake, ("Tern", 1)))
    assert (optimize(lake, parts), optimize(lake, parts)) == (None, "no new rows since the last OPTIMIZE")
    vacuum(lake, parts, FUTURE)
    assert optimize(lake, parts) == "no new rows since the last OPTIMIZE"
    replace(lake, parts, boats(lake, ("Ida", 2)), where="berth = 2")
    assert optimize(lake, parts) is None


def test_a_clustered_table_is_clustered_once(lake: Lakehouse) -> None:
    table = dataclasses.replace(BOATS, name="harbour.clustered", cluster_by=("berth",))
    for berth in range(2):
        append(lake, table, boats(lake, ("Ida", berth)))
    assert optimize(lake, table) is None
    assert (read_layout(lake, table).numFiles, optimize(lake, table)) == (1, "no new rows since the last OPTIMIZE")


@pytest.mark.parametrize(
    ("said", "span"),
    [("interval 2 weeks", 14 * 24), ("interval 365 days", 365 * 24), ("interval 1 day 12 hours", 36), ("interval 0 hours", 0), (None, 168)],
)
def test_a_retention_is_understood_as_delta_means_it(said: str | None, span: int) -> None:
    assert retention_of({"delta.deletedFileRetentionDuration": said} if said else {}) == timedelta(hours=span)


def test_vacuum_runs_on_tables_older_than_their_retention_and_logical_time_deletes_nothing(
    lake: Lakehouse, copy: Callable[[str, str], Table]
) -> None:
    table = copy("young", "interval 0 hours")
    optimize(lake, table)
    assert vacuum(lake, table, PAST) == "younger than its retention"
    tended = maintain_table(lake, table, FUTURE)
    assert (tended.not_optimized, tended.not_vacuumed, tended.failed) == ("one file", None, None)
    assert tended.files_deleted >= 3
    assert tended.bytes_deleted > 0
    assert len(read(lake, table).inputFiles()) == read(lake, table).count() - 2 == 1
    extend_retention(lake, table)
    assert vacuum(lake, table, FUTURE) == "its retention is a hundred years"
    restore_retention(lake, table)


def test_a_run_is_recorded_table_by_table_and_a_pin_or_a_failure_of_one_stops_no_other(
    lake: Lakehouse, copy: Callable[[str, str], Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned, broken, plain = (copy(name, "interval 0 hours") for name in ("pinned", "broken", "plain"))
    pin(lake, "june", pinned, 1, PAST, "the month's report")
    real = optimize

    def breaks(lake: Lakehouse, table: Table) -> str | None:
        if table is broken:
            raise OSError("the disk is full")
        return real(lake, table)

    absent = dataclasses.replace(BOATS, name="harbour.absent")
    monkeypatch.setattr(maintenance_module, "optimize", breaks)
    with pytest.raises(MaintenanceFailed, match=r"^harbour.broken: OSError: the disk is full$"):
        maintain_tables(lake, [pinned, broken, absent, plain], FUTURE, "run 7")
    rows = {r.table_name: r for r in read(lake, MAINTENANCE).where("run_id = 'run 7'").collect()}
    assert set(rows) == {"harbour.pinned", "harbour.broken", "harbour.plain"}
    assert {name: (r.files_before, r.files_after, r.files_deleted > 0) for name, r in rows.items()} == {
        "harbour.pinned": (3, 1, False), "harbour.broken": (3, 3, False), "harbour.plain": (3, 1, True)}  # fmt: skip
    assert "is pinned by june (version 1: the month's report)" in rows["harbour.pinned"].not_vacuumed
    assert (rows["harbour.plain"].version_before, rows["harbour.plain"].not_optimized, rows["harbour.plain"].at) == (4, None, FUTURE)
    assert read_pin(lake, "june").first().berth == 0
