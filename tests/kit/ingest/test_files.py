"Three runs over one landing folder, and what a RESTORE, a DROP and a SIGKILL leave to the next run. The files of a test stand above it."

from __future__ import annotations

import datetime as dt
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pyspark.sql import Row, SparkSession

from boathouse.ingest import files as ingest_module
from boathouse.ingest.files import IngestResult, LedgerEntry, ingest, list_files, read_ledger, unlisted_files
from boathouse.tables.table import Column, Lakehouse, Table, read
from boathouse.workspace.cluster.cluster import Cluster, TaskSpec

NOON = dt.datetime(2013, 6, 1, 12)


def log(name: str) -> Table:
    kept = [Column(c, "string", c) for c in ("boat", "berth", "_raw", "_source_file", "_malformed")]
    return Table(f"bronze.{name}", "One row per line.", (*kept, Column("_ingested_at", "timestamp", "when")))


LOG = log("log")


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_ingest_")
    return lake


def deliver(landing: Path, **files: str) -> None:
    for name, text in files.items():
        (landing / "log").mkdir(exist_ok=True)
        (landing / "log" / f"{name}.csv").write_text(text)


def lines(lake: Lakehouse, table: Table = LOG) -> list[str]:
    return sorted(row._raw for row in read(lake, table).select("_raw").collect())


class Runs(NamedTuple):
    "What each of the three runs did, the rows of each file afterwards, the entries of each file, and how many rows the ledger had after each run."

    done: list[IngestResult]
    rows: dict[str, list[Row]]
    entries: dict[str, list[LedgerEntry]]
    entered: list[int]

    def lines(self, name: str) -> list[str]:
        return sorted(row._raw for row in self.rows[name])


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("landing")


@pytest.fixture(scope="module")
def runs(lake: Lakehouse, landing: Path) -> Runs:
    "A run over all files; one after some were rewritten; and one with nothing new, while the data files of the table are away."
    deliver(landing, **ONCE, **SWAPPED, **AGAIN, **VANISHING, **GROWING)
    look, write = ingest_module.scan_files, ingest_module.write_lines

    def then_one_vanishes(*given: Any) -> object:
        found = look(*given)
        (landing / "log" / "vanishing.csv").unlink()
        return found

    def while_somebody_appends(*given: Any) -> None:
        write(*given)
        with (landing / "log" / "growing.csv").open("a") as file:
            file.write("Tern,7\n")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_module, "scan_files", then_one_vanishes)
        patch.setattr(ingest_module, "write_lines", while_somebody_appends)
        first = ingest(lake, LOG, landing, "log", NOON)
    before = read_ledger(lake, LOG)
    deliver(landing, **REWRITTEN)
    for name in ("again", "touched"):
        os.utime(landing / "log" / f"{name}.csv", (1_400_000_000, 1_400_000_000))
    second, entries = ingest(lake, LOG, landing, "log", NOON), read_ledger(lake, LOG)
    folder = Path(lake.spark.sql(f"DESCRIBE DETAIL {lake.name(LOG)}").first().location.removeprefix("file:"))
    data = [path for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts]
    for path in data:
        path.rename(path.with_suffix(".away"))
    third, after = ingest(lake, LOG, landing, "log", NOON), read_ledger(lake, LOG)
    for path in data:
        path.with_suffix(".away").rename(path)
    assert data
    rows: dict[str, list[Row]] = {}
    for row in read(lake, LOG).collect():
        rows.setdefault(row._source_file.removeprefix("log/").removesuffix(".csv"), []).append(row)
    of = {name: [e for e in entries if e.file.name == f"log/{name}.csv"] for name in rows}
    return Runs([first, second, third], rows, of, [len(before), len(entries), len(after)])


ONCE = {"once": 'boat,berth\nIda,4\n"Gull, the",NA\nTe\nTern,7,8\n\n'}


def test_a_file_is_ingested_once_and_every_line_is_kept(runs: Runs) -> None:
    assert [done.files for done in runs.done] == [5, 2, 0]
    assert {(r._raw, r.boat, r.berth, r._malformed) for r in runs.rows["once"]} == {
        ("Ida,4", "Ida", "4", None),
        ('"Gull, the",NA', "Gull, the", "NA", None),
        ("Te", None, None, "1 field where 2 are declared"),
        ("Tern,7,8", None, None, "3 fields where 2 are declared"),
        ("", None, None, "the line is empty"),
    }
    assert len(runs.rows["once"]) == 5


SWAPPED = {"swapped": "berth,boat\n7,Tern\n"}


def test_columns_in_another_order_are_read_by_name(runs: Runs) -> None:
    assert [(r.boat, r.berth) for r in runs.rows["swapped"]] == [("Tern", "7")]


AGAIN = {"again": "boat,berth\nIda,4\n", "touched": "boat,berth\nTern,7\n"}
REWRITTEN = {"again": "boat,berth\nIda,5\n"}  # of the same size


def test_a_rewritten_file_is_taken_again_as_a_further_revision_and_a_touched_one_is_not(runs: Runs) -> None:
    assert runs.done[1:] == [IngestResult(2, again={"log/again.csv": 2, "log/growing.csv": 2}), IngestResult(0)]
    assert (runs.lines("again"), runs.lines("touched")) == (["Ida,4", "Ida,5"], ["Tern,7"])
    assert {(e.revision, e.version) for e in runs.entries["again"]} == {(1, 1), (2, 2)}
    assert {(e.revision, e.version) for e in runs.entries["touched"]} == {(1, 1)}


VANISHING = {"vanishing": "boat,berth\nIda,4\n"}


def test_a_file_that_vanishes_between_the_look_and_the_commit_does_not_hurt(runs: Runs) -> None:
    assert runs.done[0] == IngestResult(5, left={"log/vanishing.csv": "it disappeared during the run"})
    assert set(runs.rows) == {"once", "swapped", "again", "touched", "growing"}


GROWING = {"growing": "boat,berth\nIda,4\n"}


def test_lines_that_are_added_while_a_file_is_taken_come_with_its_next_revision(runs: Runs) -> None:
    assert runs.done[1].again["log/growing.csv"] == 2
    assert runs.lines("growing") == ["Ida,4", "Ida,4", "Tern,7"]


def test_a_run_with_nothing_new_reads_no_row_of_the_table_and_writes_nothing(runs: Runs) -> None:
    assert runs.done[2] == IngestResult(0)  # a read would have missed the data files
    assert runs.entered[2] == runs.entered[1] > runs.entered[0]


def test_the_ledger_holds_as_many_lines_as_the_tables(lake: Lakehouse, runs: Runs) -> None:
    assert {name: sum(e.file.rows for e in runs.entries[name] if e.revision == 1) for name in ("once", "swapped")} == {
        "once": 5,
        "swapped": 1,
    }
    assert read_ledger(lake, log("another")) == []


def test_a_table_that_is_rolled_back_or_dropped_gets_its_files_again(lake: Lakehouse, landing: Path, runs: Runs) -> None:
    whole = sorted(row._raw for rows in runs.rows.values() for row in rows)
    first = lake.spark.sql(f"DESCRIBE HISTORY {lake.name(LOG)}").where("version = 1").first().timestamp
    lake.spark.sql(f"RESTORE TABLE {lake.name(LOG)} TO TIMESTAMP AS OF '{first}'")
    assert len(lines(lake)) == len(whole) - 3  # the revisions of the second run have one line and two
    assert ingest(lake, LOG, landing, "log", NOON) == runs.done[1]
    assert lines(lake) == whole
    lake.spark.sql(f"DROP TABLE {lake.name(LOG)}")
    assert ingest(lake, LOG, landing, "log", NOON) == IngestResult(5)
    assert ingest(lake, LOG, landing, "log", NOON) == IngestResult(0)
    latest = [row._raw for name in ("once", "swapped", "touched") for row in runs.rows[name]] + ["Ida,4", "Ida,5", "Tern,7"]
    assert lines(lake) == sorted(latest)


CHILD = """
import datetime as dt
import os, signal, sys
from boathouse.ingest import files as module
from boathouse.tables.table import Column, Lakehouse, Table

kept = [Column(c, "string", c) for c in ("boat", "berth", "_raw", "_source_file", "_malformed")]
table = Table("bronze.killed", "One row per line.", (*kept, Column("_ingested_at", "timestamp", "when")))
commit = module.write_lines

def and_die(*given):
    commit(*given)
    os.kill(os.getpid(), signal.SIGKILL)

module.write_lines = and_die
module.ingest(Lakehouse(spark, prefix="test_ingest_"), table, sys.argv[1], "log", dt.datetime(2013, 6, 1, 12))
"""


def test_a_run_killed_between_the_commits_of_bronze_and_ledger_is_completed_by_the_next(
    lake: Lakehouse, cluster: Cluster, tmp_path: Path
) -> None:
    table = log("killed")
    deliver(tmp_path, a="boat,berth\nIda,4\n", b="boat,berth\nTern,7\n")
    (tmp_path / "it.py").write_text(CHILD)
    spec = TaskSpec(kind="script", folder=tmp_path / "run", project=tmp_path, file=tmp_path / "it.py", argv=(str(tmp_path),))
    dead = cluster.launch(spec).wait(300)
    assert dead is not None
    assert signal.SIGKILL.name in (dead.error or ""), dead
    assert (lines(lake, table), read_ledger(lake, table)) == (["Ida,4", "Tern,7"], [])
    deliver(tmp_path, c="boat,berth\nSwan,2\n")
    assert ingest(lake, table, tmp_path, "log", NOON) == IngestResult(1)
    assert lines(lake, table) == ["Ida,4", "Swan,2", "Tern,7"]
    assert {(e.file.name, e.version) for e in read_ledger(lake, table)} == {("log/a.csv", 1), ("log/b.csv", 1), ("log/c.csv", 2)}


def test_a_missing_folder_or_a_reserved_column_is_refused_before_anything_is_read(lake: Lakehouse, tmp_path: Path) -> None:
    marked = Table("bronze.marked", LOG.grain, (Column("_id", "string", "as delivered"), *LOG.columns))
    with pytest.raises(FileNotFoundError, match=r"^bronze\.log: .*/log must be a folder of delivered files, found none"):
        ingest(lake, LOG, tmp_path, "log", NOON)
    deliver(tmp_path, **{"_id": "_id,boat,berth\n"})
    with pytest.raises(ValueError, match=r"^bronze\.marked: names with _ are reserved, .* got _id: rename it"):
        ingest(lake, marked, tmp_path, "log", NOON)


def test_what_is_passed_over_is_named_and_hidden_files_are_not(tmp_path: Path) -> None:
    deliver(tmp_path, one="", _two="")
    for name in ("THREE.CSV", "four.txt", ".five.tmp", "six.csv.bak"):
        (tmp_path / "log" / name).write_text("")
    (tmp_path / "log" / "2013").mkdir()
    kind = "its name does not end in .csv or .csv.gz"
    assert unlisted_files(tmp_path, "log") == {
        "log/2013": "it is a folder",
        "log/THREE.CSV": kind,
        "log/four.txt": kind,
        "log/six.csv.bak": kind,
    }


def test_files_that_begin_with_an_underscore_or_a_dot_are_not_data(tmp_path: Path) -> None:
    deliver(tmp_path, _planted="x\n", **{".half": "boat,berth\nIda"})
    assert list_files(tmp_path, "log") == []


def test_a_folder_written_in_another_way_is_the_same_folder_and_a_key_on_bronze_is_refused(lake: Lakehouse, tmp_path: Path) -> None:
    deliver(tmp_path, one="boat,berth\nIda,1\n")
    table = log("spelled")
    for folder in ("log", "log/", "./log", "log/."):
        ingest(lake, table, tmp_path, folder, NOON)
    assert read(lake, table).count() == 1
    keyed = Table("bronze.keyed", "One row per line.", table.columns, primary_key=("boat",))
    with pytest.raises(ValueError, match="a bronze table must have no primary_key"):
        ingest(lake, keyed, tmp_path, "log", NOON)
