"""`pin`, `materialise` and `unpin` killed without warning after each of their commits: what is pinned stays readable, and the same call again ends it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse.tables.pins import LASTING, RETENTION, delta_properties, list_pins, materialise, pin, unpin
from boathouse.tables.table import Lakehouse, drop_all, exists, read
from boathouse.workspace.cluster.cluster import Cluster, TaskSpec

AT, LATER = datetime(2013, 6, 1), datetime(2100, 1, 1)
BOATS, YEAR = "harbour.boats", "interval 365 days"

# The process ends itself with SIGKILL right after its first commit that no process before it died of.
TASK = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from pyspark.sql import DataFrameWriter, SparkSession

deaths, prefix, action = Path(sys.argv[1]), *sys.argv[2:]
known = deaths.read_text().splitlines() if deaths.exists() else []

def deadly(change, commits):
    def changed(self, text, *words, **more):
        found, line = change(self, text, *words, **more), action + ": " + " ".join(text.split())
        if commits(text) and line not in known:
            deaths.write_text("\\n".join([*known, line]))
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return changed

DataFrameWriter.saveAsTable = deadly(DataFrameWriter.saveAsTable, lambda name: True)
SparkSession.sql = deadly(SparkSession.sql, lambda text: text.split()[0] in ("ALTER", "CREATE", "DROP"))

from boathouse.tables.pins import materialise, pin, unpin
from boathouse.runtime import get_spark
from boathouse.tables.table import Lakehouse

lake, AT, LATER = Lakehouse(get_spark(), prefix=prefix), datetime(2013, 6, 1), datetime(2100, 1, 1)
eval(action)
"""


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    "A table whose version 1 holds Ida at berth 1, and version 2 Ida at berth 2."
    lake = Lakehouse(spark, prefix="test_killed_pins_")
    drop_all(lake)
    spark.sql(f"CREATE SCHEMA {lake.name('harbour')}")
    kept = ", ".join(f"'{name}' = '{YEAR}'" for name in RETENTION)
    spark.sql(f"CREATE TABLE {lake.name(BOATS)} (boat STRING, berth INT) USING delta TBLPROPERTIES ({kept})")
    for berth in (1, 2):
        spark.sql(f"INSERT OVERWRITE {lake.name(BOATS)} VALUES ('Ida', {berth})")
    yield lake
    drop_all(lake)


@pytest.fixture
def death(cluster: Cluster, lake: Lakehouse, tmp_path: Path) -> Callable[[str], str]:
    "Calls in a process of its own, which is killed: what it had just written."
    script, deaths, numbers = tmp_path / "task.py", tmp_path / "deaths", itertools.count()
    script.write_text(TASK)

    def call(action: str) -> str:
        folder = tmp_path / str(next(numbers))
        argv = (str(deaths), lake.prefix, action)
        result = cluster.launch(TaskSpec(kind="script", folder=folder, project=tmp_path, file=script, argv=argv)).wait(300)
        assert result is not None
        assert "SIGKILL" in (result.error or ""), f"{result.state}: {(folder / 'log.txt').read_text()}"
        return deaths.read_text().splitlines()[-1].partition(": ")[2].replace(lake.name(""), "")

    return call


def remembered(lake: Lakehouse) -> dict[str, str]:
    "The table's retention, and what it keeps of the one before."
    return {key: value for key, value in delta_properties(lake, BOATS).items() if key.endswith(RETENTION)}


def unbroken(lake: Lakehouse) -> bool:
    "Whether each pin that stands can be read, from a table that keeps its files or from a copy."
    stands = [found for found in list_pins(lake).values() if found.action != "unpinned"]
    kept = remembered(lake)
    lasting = all(kept[name] == LASTING for name in RETENTION)
    rows = {p.name: read(lake, p.copy) if p.copy else read(lake, BOATS, p.version) for p in stands if p.copy or lasting}
    return all(p.name in rows and rows[p.name].collect() == [("Ida", p.version)] for p in stands)


def stands(lake: Lakehouse, name: str) -> tuple[int, str, bool, set[str]]:
    "Steps of the pin, the last of them, whether there is a copy, and what the table's retention is and was."
    found = list_pins(lake)[name]
    return found.step, found.action, exists(lake, f"ops.pin_{name}"), set(remembered(lake).values())


def test_killed_after_its_first_commit_no_pin_is_broken_and_the_same_call_again_ends_as_an_undisturbed_one(
    lake: Lakehouse, death: Callable[[str], str]
) -> None:
    assert death("pin(lake, 'a', 'harbour.boats', 1, AT, 'a model')").startswith("ALTER")
    pin(lake, "a", BOATS, 1, AT, "a model")
    assert stands(lake, "a") == (1, "pinned", False, {LASTING, YEAR})
    assert death("materialise(lake, 'a', LATER)") == "ops.pin_a"
    assert unbroken(lake)
    materialise(lake, "a", LATER)
    assert stands(lake, "a") == (2, "materialised", True, {YEAR})
    assert death("unpin(lake, 'a', LATER, 'done with')") == "ops.pins"
    assert unbroken(lake)
    unpin(lake, "a", LATER, "done with")
    assert stands(lake, "a") == (3, "unpinned", False, {YEAR})


@pytest.mark.long(order=4, minutes=5)
def test_killed_after_each_commit_no_pin_is_broken_and_the_same_call_again_ends_as_an_undisturbed_one(
    lake: Lakehouse, death: Callable[[str], str]
) -> None:
    def dies(action: str, *writes: str) -> None:
        for write in writes:
            written = death(action)
            assert unbroken(lake), f"killed in {action} after {written}"
            assert written.startswith(write)

    def again(name: str, wanted: tuple[int, str, bool, set[str]], call: Callable[[], object]) -> None:
        assert stands(lake, name) == wanted
        call()
        assert stands(lake, name) == wanted

    dies("pin(lake, 'a', 'harbour.boats', 1, AT, 'a model')", "ALTER", "CREATE SCHEMA", "CREATE TABLE", "ops.pins")
    # That was the last commit, so that the same call again finds everything done.
    again("a", (1, "pinned", False, {LASTING, YEAR}), lambda: pin(lake, "a", BOATS, 1, AT, "a model"))
    dies("unpin(lake, 'a', LATER, 'done with')", "ops.pins", "ALTER", "ALTER")
    again("a", (2, "unpinned", False, {YEAR}), lambda: unpin(lake, "a", LATER, "done with"))

    for name, version in (("b", 1), ("c", 2)):
        pin(lake, name, BOATS, version, AT, "a model")
    dies("materialise(lake, 'b', LATER)", "ops.pin_b", "ops.pins")
    again("b", (2, "materialised", True, {LASTING, YEAR}), lambda: materialise(lake, "b", LATER))  # c holds the table
    dies("unpin(lake, 'b', LATER, 'done with')", "ops.pins", "DROP TABLE")
    again("b", (3, "unpinned", False, {LASTING, YEAR}), lambda: unpin(lake, "b", LATER, "done with"))
    dies("materialise(lake, 'c', LATER)", "ops.pin_c", "ops.pins", "ALTER", "ALTER")
    again("c", (2, "materialised", True, {YEAR}), lambda: materialise(lake, "c", LATER))
