"""Files damaged, lost, or never written for want of room: a clear error, the other tables as they were, and a way back that `doctor` names."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from boathouse.ingest.files import ingest
from boathouse.tables.table import Column, Lakehouse, Table, read
from boathouse.tables.versions import fingerprint, version_of
from boathouse.tables.writes import last_note, merge
from boathouse.workspace.spark.checkpoints import find_damage
from boathouse.workspace.spark.delta_log import Damage, damages

NOON = dt.datetime(2013, 6, 1, 12)
KEPT = [Column(c, "string", c) for c in ("boat", "berth", "_raw", "_source_file", "_malformed")]
LOG = Table("bronze.log", "One row per line.", (*KEPT, Column("_ingested_at", "timestamp", "when")))
BOATS = Table("silver.boats", "One row per boat.", (Column("boat", "string", "name"), Column("berth", "int", "last berth")), ("boat",))


def update(lake: Lakehouse, landing: Path) -> None:
    "Lines to bronze, and the last berth of each boat to silver."
    ingest(lake, LOG, landing, "log", NOON)
    done, upto = last_note(lake, BOATS).get("line", 0), read(lake, LOG).count()
    if upto > done:
        last = read(lake, LOG).groupBy("boat").agg(F.max(F.struct("_source_file", F.col("berth").cast("int").alias("berth"))).alias("l"))
        merge(lake, BOATS, last.select("boat", "l.berth"), note={"line": upto})


class Content(NamedTuple):
    "The fingerprints of the log and of the boats."

    log: str
    boats: str


def content(lake: Lakehouse) -> Content:
    return Content(*(fingerprint(read(lake, table)) for table in (LOG, BOATS)))


@pytest.fixture(scope="module")
def lake(spark: SparkSession, landing: Path) -> Lakehouse:
    "The log of two days, of which the second came after the first was worked on; each test leaves it as it found it."
    lake = Lakehouse(spark, prefix="test_damage_")
    for day, text in (("a", "boat,berth\nIda,4\nTern,7\n"), ("b", "boat,berth\nIda,5\nGull,1\n")):
        (landing / "log" / f"{day}.csv").write_text(text)
        update(lake, landing)
    return lake


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    (folder / "log").mkdir()
    return folder


@pytest.fixture(scope="module")
def before(lake: Lakehouse) -> Content:
    "What each test finds, and has to leave."
    return content(lake)


@pytest.fixture(scope="module")
def warehouse(state: Path) -> Path:
    return state / "warehouse"


Harm = Callable[[Path], object]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def zero(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


def newest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern), key=lambda file: (file.stat().st_mtime_ns, file.name))


def ours(warehouse: Path) -> list[Damage]:
    return [damage for damage in damages(warehouse) if damage.table.startswith("test_damage_")]


def afresh(spark: SparkSession) -> None:
    "What a cluster started anew knows of tables: nothing."
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    spark.catalog.clearCache()


SHORT, EMPTY, ABSENT = (cut, r"has [\d,]+ of [\d,]+ bytes"), (zero, "is not Parquet any more"), (Path.unlink, "is missing")


@pytest.mark.parametrize(("log", "boats"), [(SHORT, EMPTY), (ABSENT, SHORT)], ids=["cut and zeroed", "missing and cut"])
def test_a_damaged_data_file_is_named_and_after_its_fix_the_next_run_brings_everything_back(
    lake: Lakehouse, landing: Path, warehouse: Path, before: Content, log: tuple[Harm, str], boats: tuple[Harm, str]
) -> None:
    for table, (harm, said), other in ((LOG, log, BOATS), (BOATS, boats, LOG)):
        assert ours(warehouse) == []
        whole, name = fingerprint(read(lake, other)), f"test_damage_{table.name}"
        file = newest(warehouse, f"{name.replace('.', '.db/')}/*.parquet")
        harm(file)
        with pytest.raises(Exception, match=re.escape(file.name)):
            read(lake, table).collect()
        assert fingerprint(read(lake, other)) == whole
        (found,) = ours(warehouse)
        assert (found.table, bool(re.fullmatch(f"{re.escape(file.name)} {said}", found.found))) == (name, True), found
        statement = found.fix.split('"')[1]
        assert statement == f"RESTORE TABLE {name} TO VERSION AS OF {version_of(lake, table) - 1}"
        lake.spark.sql(statement)
    assert ours(warehouse) == []
    update(lake, landing)
    assert content(lake) == before


def test_a_table_that_has_no_whole_version_is_dropped_and_made_anew(
    lake: Lakehouse, landing: Path, warehouse: Path, before: Content
) -> None:
    for file in warehouse.glob("test_damage_silver.db/boats/*.parquet"):
        file.unlink()
    (found,) = ours(warehouse)
    assert found.fix.startswith('boathouse sql "DROP TABLE test_damage_silver.boats", then run the job again')
    lake.spark.sql(found.fix.split('"')[1])
    update(lake, landing)
    assert content(lake) == before


def test_a_damaged_table_of_the_default_schema_is_found_too(spark: SparkSession, warehouse: Path) -> None:
    spark.sql("CREATE OR REPLACE TABLE default.test_damage AS SELECT 1 AS n")
    cut(newest(warehouse, "test_damage/*.parquet"))
    found = [damage for damage in damages(warehouse) if damage.table == "default.test_damage"]
    spark.sql("DROP TABLE default.test_damage")
    assert [damage.fix for damage in found] == [
        'boathouse sql "DROP TABLE default.test_damage", then run the job again: it is filled again from the tables before it'
    ]


def test_a_last_commit_that_was_cut_off_is_named_and_without_it_the_next_run_does_it_again(
    lake: Lakehouse, landing: Path, warehouse: Path, before: Content
) -> None:
    log = warehouse / "test_damage_bronze.db/log/_delta_log"
    commit = newest(log, "*.json")
    cut(commit)
    (found,) = ours(warehouse)
    assert (found.table, found.found.split(" (")[0]) == ("test_damage_bronze.log", f"_delta_log/{commit.name} cannot be read")
    assert found.fix.startswith(f"Stop the cluster, delete _delta_log/{commit.name} and the .crc beside it")
    commit.unlink()
    commit.with_suffix(".crc").unlink(missing_ok=True)
    (log / f".{commit.name}.crc").unlink(missing_ok=True)
    afresh(lake.spark)
    assert ours(warehouse) == []
    update(lake, landing)
    assert content(lake) == before


@pytest.fixture(scope="module")
def checkpointed(lake: Lakehouse, warehouse: Path) -> Path:
    "The folder of a table whose last commit wrote a checkpoint."
    name = lake.name("silver.checkpointed")
    lake.spark.sql(f"CREATE TABLE {name} USING delta TBLPROPERTIES ('delta.checkpointInterval' = '1') AS SELECT 'Ida' AS boat, 4 AS berth")
    lake.spark.sql(f"INSERT INTO {name} VALUES ('Tern', 9)")
    return warehouse / "test_damage_silver.db/checkpointed"


@pytest.mark.parametrize("harm", [cut, zero])
def test_a_damaged_checkpoint_of_a_table_is_named_and_can_be_deleted_because_the_commits_tell_the_same(
    spark: SparkSession, checkpointed: Path, tmp_path: Path, harm: Harm
) -> None:
    table = shutil.copytree(checkpointed, tmp_path / "harbour.db/boats")
    checkpoint = newest(table / "_delta_log", "*.checkpoint*.parquet")
    harm(checkpoint)
    (found,) = damages(tmp_path)
    assert (found.table, found.fix) == (
        "harbour.boats",
        f"Stop the cluster and delete _delta_log/{checkpoint.name}: the commits tell the same",
    )
    checkpoint.unlink()
    for file in checkpoint.parent.glob(f".{checkpoint.name}.crc"):
        file.unlink()
    assert sorted(map(tuple, spark.read.format("delta").load(str(table)).collect())) == [("Ida", 4), ("Tern", 9)]
    assert list(damages(tmp_path)) == []


def test_a_stream_with_a_zeroed_checkpoint_stops_and_goes_on_without_it_taking_no_line_twice(lake: Lakehouse, tmp_path: Path) -> None:
    table, whole = dataclasses.replace(LOG, name="bronze.streamed"), tmp_path / "whole"
    (tmp_path / "log").mkdir()

    def stream(checkpoint: Path) -> None:
        ingest(lake, table, tmp_path, "log", NOON, stream=True, checkpoint=checkpoint)

    (tmp_path / "log" / "a.csv").write_text("boat,berth\nIda,4\n")
    stream(whole)
    (tmp_path / "log" / "b.csv").write_text("boat,berth\nTern,7\n")
    for file in ("offsets/0", "commits/0"):
        checkpoint = shutil.copytree(whole, tmp_path / file[:6])
        zero(checkpoint / file)
        with pytest.raises(Exception, match=r"(?i)offset|commit|log|json|checkpoint|batch"):
            stream(checkpoint)
        assert str(find_damage(checkpoint)).startswith(f"{file} is damaged")
        assert [row.boat for row in read(lake, table).collect()] == ["Ida"]
    stream(tmp_path / "anew")
    assert sorted(row.boat for row in read(lake, table).collect()) == ["Ida", "Tern"]


PRIVATE = ("unshare", "--map-root-user", "--mount")
FULL = """
import sys
from pathlib import Path
from boathouse.tables.table import Column, Lakehouse, Table, read
from boathouse.tables.versions import fingerprint
from boathouse.workspace.spark.session import local_session
from boathouse.workspace.spark.delta_log import damages
from boathouse.tables.writes import append

state = Path(sys.argv[1])
lake = Lakehouse(local_session(state))
table = Table("bronze.noise", "One row per number.", (Column("id", "bigint", "number"), Column("noise", "double", "noise")))

def batch(first, rows):
    return lake.spark.range(first, first + rows, 1, 1).selectExpr("id", "rand(7) AS noise")

append(lake, table, batch(0, 1000))
ballast = state / "ballast"  # what a person finds to delete when the disk is full
ballast.write_bytes(bytes(18 * 2**20))
before = fingerprint(read(lake, table))
try:
    append(lake, table, batch(1000, 5_000_000))
except Exception as error:
    print("refused:", any(said in str(error) for said in ("No space left on device", "File too large")))
print("as before:", fingerprint(read(lake, table)) == before)
ballast.unlink()
append(lake, table, batch(1000, 1000))
print("rows:", read(lake, table).count(), "damages:", list(damages(state / "warehouse")))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="a small file system of its own needs Linux's unshare")
def test_a_write_that_finds_the_disk_full_says_so_and_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    state, script = tmp_path / "state", tmp_path / "full.py"
    state.mkdir()
    script.write_text(FULL)
    mount = 'mount -t tmpfs -o size=48m small "$1" && exec "$2" "$3" "$1"'
    command = [*PRIVATE, "sh", "-c", mount, "sh", str(state), sys.executable, str(script)]
    if subprocess.run(
        [*PRIVATE, "true"], capture_output=True, check=False
    ).returncode:  # not allowed here: files have a greatest size instead
        command = ["prlimit", "--fsize=20000000", sys.executable, str(script), str(state)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["refused: True", "as before: True", "rows: 2000 damages: []"], done.stdout + done.stderr[-3000:]
