from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse import ingest as ingest_module
from boathouse.ingest import INGESTED_FILES, Ingested, ingest, ledger, listed
from boathouse.tables import Column, Lakehouse, Table, drop_all, read

NOON = dt.datetime(2013, 6, 1, 12)


def log(name: str) -> Table:
    kept = [Column(c, "string", c) for c in ("boat", "berth", "_raw", "_source_file", "_malformed")]
    return Table(f"bronze.{name}", "One row per line.", (*kept, Column("_ingested_at", "timestamp", "when")))


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_ingest_")
    drop_all(lake)
    yield lake
    drop_all(lake)


def deliver(landing: Path, **files: str) -> None:
    for name, text in files.items():
        (landing / "log").mkdir(exist_ok=True)
        (landing / "log" / f"{name}.csv").write_text(text)


def lines(lake: Lakehouse, table: Table) -> list[str | None]:
    return sorted(row._raw or "" for row in read(lake, table).select("_raw").collect())


def test_a_file_is_ingested_once_and_every_line_is_kept(lake: Lakehouse, tmp_path: Path) -> None:
    deliver(tmp_path, a='boat,berth\nIda,4\n"Gull, the",NA\nTe\nTern,7,8\n\n')
    assert ingest(lake, log("once"), tmp_path, "log", NOON) == Ingested(1)
    assert ingest(lake, log("once"), tmp_path, "log", NOON) == Ingested(0)
    found = {(r._raw, r.boat, r.berth, r._malformed) for r in read(lake, log("once")).collect()}
    assert found == {
        ("Ida,4", "Ida", "4", None),
        ('"Gull, the",NA', "Gull, the", "NA", None),
        ("Te", None, None, "1 field where 2 are declared"),
        ("Tern,7,8", None, None, "3 fields where 2 are declared"),
        ("", None, None, "the line is empty"),
    }


def test_columns_in_another_order_are_read_by_name(lake: Lakehouse, tmp_path: Path) -> None:
    deliver(tmp_path, usual="boat,berth\nIda,4\n", swapped="berth,boat\n7,Tern\n")
    assert ingest(lake, log("swapped"), tmp_path, "log", NOON) == Ingested(2)
    assert {(r.boat, r.berth) for r in read(lake, log("swapped")).collect()} == {("Ida", "4"), ("Tern", "7")}


def test_a_rewritten_file_is_taken_again_as_a_further_revision_and_a_touched_one_is_not(lake: Lakehouse, tmp_path: Path) -> None:
    deliver(tmp_path, a="boat,berth\nIda,4\n", b="boat,berth\nTern,7\n")
    ingest(lake, log("again"), tmp_path, "log", NOON)
    deliver(tmp_path, a="boat,berth\nIda,5\n")  # of the same size
    for name in ("a", "b"):
        os.utime(tmp_path / "log" / f"{name}.csv", (1_400_000_000, 1_400_000_000))
    assert ingest(lake, log("again"), tmp_path, "log", NOON) == Ingested(1, again={"log/a.csv": 2})
    assert lines(lake, log("again")) == ["Ida,4", "Ida,5", "Tern,7"]
    entries = {(e.file.name, e.revision, e.version) for e in ledger(lake, log("again"))}
    assert entries == {("log/a.csv", 1, 1), ("log/b.csv", 1, 1), ("log/a.csv", 2, 2)}
    assert ingest(lake, log("again"), tmp_path, "log", NOON) == Ingested(0)


def test_a_file_that_vanishes_between_the_look_and_the_commit_does_not_hurt(
    lake: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, a="boat,berth\nIda,4\n", b="boat,berth\nTern,7\n")
    look = ingest_module.look

    def then_it_vanishes(*given: object) -> object:
        found = look(*given)
        (tmp_path / "log" / "a.csv").unlink()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ingest_module, "look", then_it_vanishes)
        assert ingest(lake, log("vanishing"), tmp_path, "log", NOON) == Ingested(1, left={"log/a.csv": "it vanished"})
    assert lines(lake, log("vanishing")) == ["Tern,7"]


def test_lines_that_are_added_while_a_file_is_taken_come_with_its_next_revision(
    lake: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, a="boat,berth\nIda,4\n")
    write = ingest_module.write

    def while_somebody_appends(*given: object) -> None:
        write(*given)
        with (tmp_path / "log" / "a.csv").open("a") as file:
            file.write("Tern,7\n")

    with monkeypatch.context() as patch:
        patch.setattr(ingest_module, "write", while_somebody_appends)
        ingest(lake, log("growing"), tmp_path, "log", NOON)
    assert ingest(lake, log("growing"), tmp_path, "log", NOON) == Ingested(1, again={"log/a.csv": 2})
    assert lines(lake, log("growing")) == ["Ida,4", "Ida,4", "Tern,7"]


def test_a_table_that_is_rolled_back_or_dropped_gets_its_files_again(lake: Lakehouse, tmp_path: Path) -> None:
    table = log("restored")
    for name, text in (("a", "boat,berth\nIda,4\n"), ("b", "boat,berth\nTern,7\n")):
        deliver(tmp_path, **{name: text})
        ingest(lake, table, tmp_path, "log", NOON)
    lake.spark.sql(f"RESTORE TABLE {lake.name(table)} TO VERSION AS OF 1").collect()
    assert lines(lake, table) == ["Ida,4"]
    assert ingest(lake, table, tmp_path, "log", NOON) == Ingested(1)
    first = lake.spark.sql(f"DESCRIBE HISTORY {lake.name(table)}").where("version = 1").first().timestamp
    lake.spark.sql(f"RESTORE TABLE {lake.name(table)} TO TIMESTAMP AS OF '{first}'")
    assert ingest(lake, table, tmp_path, "log", NOON) == Ingested(1)
    assert lines(lake, table) == ["Ida,4", "Tern,7"]
    lake.spark.sql(f"DROP TABLE {lake.name(table)}")
    assert ingest(lake, table, tmp_path, "log", NOON) == Ingested(2)
    assert ingest(lake, table, tmp_path, "log", NOON) == Ingested(0)
    assert lines(lake, table) == ["Ida,4", "Tern,7"]


def test_a_run_with_nothing_new_reads_no_row_of_the_table_and_writes_nothing(lake: Lakehouse, tmp_path: Path) -> None:
    table = log("idle")
    deliver(tmp_path, a="boat,berth\nIda,4\n")
    ingest(lake, table, tmp_path, "log", NOON)
    folder = Path(lake.spark.sql(f"DESCRIBE DETAIL {lake.name(table)}").first().location.removeprefix("file:"))
    entered = len(ledger(lake, table))
    data = [path for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts]
    for path in data:
        path.rename(path.with_suffix(".away"))
    assert data
    assert ingest(lake, table, tmp_path, "log", NOON) == Ingested(0)
    assert len(ledger(lake, table)) == entered


CHILD = """
import os, signal, sys
from pathlib import Path
from boathouse.workspace.session import local_session
spark = local_session(sys.argv[1])
import datetime as dt
from boathouse import ingest as module
from boathouse.tables import Column, Lakehouse, Table
kept = [Column(c, "string", c) for c in ("boat", "berth", "_raw", "_source_file", "_malformed")]
table = Table("bronze.log", "One row per line.", (*kept, Column("_ingested_at", "timestamp", "when")))
commit = module.write

def and_die(*given):
    commit(*given)
    os.killpg(0, signal.SIGKILL)

module.write = and_die
module.ingest(Lakehouse(spark), table, sys.argv[2], "log", dt.datetime(2013, 6, 1, 12))
"""


def test_a_run_killed_between_the_commits_of_bronze_and_ledger_is_completed_by_the_next(lake: Lakehouse, tmp_path: Path) -> None:
    deliver(tmp_path, a="boat,berth\nIda,4\n", b="boat,berth\nTern,7\n")
    state = tmp_path / "state"
    dead = subprocess.run(
        [sys.executable, "-c", CHILD, str(state), str(tmp_path)], start_new_session=True, capture_output=True, check=False
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr[-2000:]
    assert not (state / "warehouse" / "ops.db").exists()
    left = Lakehouse(lake.spark, prefix="test_ingest_killed_")
    drop_all(left)
    lake.spark.sql("CREATE SCHEMA test_ingest_killed_bronze")
    lake.spark.sql(f"CREATE TABLE {left.name('bronze.log')} USING DELTA LOCATION '{state / 'warehouse' / 'bronze.db' / 'log'}'")
    deliver(tmp_path, c="boat,berth\nSwan,2\n")
    assert ingest(left, log("log"), tmp_path, "log", NOON) == Ingested(1)
    assert lines(left, log("log")) == ["Ida,4", "Swan,2", "Tern,7"]
    assert {(e.file.name, e.version) for e in ledger(left, log("log"))} == {("log/a.csv", 1), ("log/b.csv", 1), ("log/c.csv", 2)}
    drop_all(left)


def test_files_that_begin_with_an_underscore_or_a_dot_are_not_data(tmp_path: Path) -> None:
    deliver(tmp_path, _planted="x\n", **{".half": "boat,berth\nIda"})
    assert listed(tmp_path, "log") == []


def test_the_ledger_holds_as_many_lines_as_the_tables(lake: Lakehouse) -> None:
    told = {r[0]: r[1] for r in read(lake, INGESTED_FILES).where("revision = 1").groupBy("table_name").sum("lines").collect()}
    assert told["bronze.once"] == 5
    assert told["bronze.swapped"] == 2
