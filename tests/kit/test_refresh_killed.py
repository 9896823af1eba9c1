"""A refresh killed without warning after each of its commits: the next one ends as if nothing had happened."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse.tables import Lakehouse, drop_all, exists, read
from boathouse.versions import fingerprint
from boathouse.workspace.cluster import Cluster, TaskSpec

# The process ends itself with SIGKILL right after its first commit that no process before it died of; the last one finds nothing to die of.
TASK = """
import os, signal, sys
from datetime import datetime, timedelta
from pathlib import Path
from pyspark.sql import DataFrameWriter, SparkSession

from boathouse.computed import Windowed
from boathouse.platform import get_spark
from boathouse.refresh import refresh
from boathouse.tables import Column, Lakehouse, Table
from boathouse.versions import fingerprint
from boathouse.windows import Grid

HOUR = timedelta(hours=1)
RETURNS = Table(
    "silver.returns",
    "One row per return.",
    (Column("id", "int", "of the return", False), Column("pier", "string", "where"), Column("at", "timestamp", "when"), Column("late", "int", "minutes")),
    ("id",), "at", change_feed=True,
)
DELAYS = Table(
    "features.delays",
    "One row per pier and hour.",
    (Column("pier", "string", "where", False), Column("tick", "timestamp", "when", False), Column("late_2h", "double", "mean delay, minutes")),
    ("pier", "tick"), "tick",
)
WINDOWS = Windowed(DELAYS, RETURNS, "at", Grid({"late": ("avg", "late")}, {"2h": 2 * HOUR}, HOUR))

if __name__ == "__main__":
    deaths, prefix, round_ = Path(sys.argv[1]), *sys.argv[2:]
    known = deaths.read_text().splitlines() if deaths.exists() else []

    def deadly(change, commits):
        def changed(self, text, *words, **more):
            found, line = change(self, text, *words, **more), f"{round_}: {' '.join(text.split()[:6])}"
            if commits(text) and line not in known:
                deaths.write_text("\\n".join([*known, line]))
                os.kill(os.getpid(), signal.SIGKILL)
            return found
        return changed

    DataFrameWriter.saveAsTable = deadly(DataFrameWriter.saveAsTable, lambda name: True)
    SparkSession.sql = deadly(SparkSession.sql, lambda text: text.split()[0] in ("ALTER", "CREATE", "DROP"))
    print(*refresh(Lakehouse(get_spark(), prefix=prefix), WINDOWS, datetime(2013, 6, 2)))
"""


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_refresh_killed_")
    drop_all(lake)
    yield lake
    drop_all(lake)


@pytest.fixture
def until_it_lives(cluster: Cluster, lake: Lakehouse, tmp_path: Path) -> Callable[[str], list[str]]:
    "Refreshes in processes of their own until one is not killed; what each of the others had just written."
    script, deaths, numbers = tmp_path / "task.py", tmp_path / "deaths", itertools.count()
    script.write_text(TASK)

    def call(round_: str) -> list[str]:
        for _ in range(12):
            folder = tmp_path / str(next(numbers))
            spec = TaskSpec(kind="script", folder=folder, project=tmp_path, file=script, argv=(str(deaths), lake.prefix, round_))
            result = cluster.launch(spec).wait(300)
            assert result is not None
            if "SIGKILL" not in (result.error or ""):
                assert result.error is None, (folder / "log.txt").read_text()
                found = [line.partition(": ") for line in deaths.read_text().splitlines()]
                return [written.replace(lake.name(""), "") for told, _, written in found if told == round_]
        raise AssertionError(f"it never came to its end: {deaths.read_text()}")

    return call


def test_killed_after_each_commit_a_refresh_ends_as_an_undisturbed_one(lake: Lakehouse, until_it_lives: Callable[[str], list[str]]) -> None:
    made: dict[str, object] = {"__name__": "task"}
    exec(TASK, made)
    returns, windows = made["RETURNS"], made["WINDOWS"]

    def expected() -> str:
        return fingerprint(windows.rows(read(lake, returns), until=datetime(2013, 6, 2)))

    lake.spark.sql(f"CREATE SCHEMA {lake.name('silver')}")
    lake.spark.sql(f"CREATE TABLE {lake.name(returns)} {returns.ddl}")
    lake.spark.sql(
        f"INSERT INTO {lake.name(returns)} VALUES (1, 'east', timestamp '2013-06-01 08:20', 10), (2, 'east', timestamp '2013-06-01 09:20', 30)"
    )
    first = until_it_lives("first")
    assert [line for line in first if line.startswith("features")] == ["features.delays_hops", "features.delays"]
    assert len(first) == 5, f"a schema, two tables and two commits of rows: {first}"
    assert fingerprint(read(lake, windows.table)) == expected()

    lake.spark.sql(f"UPDATE {lake.name(returns)} SET at = timestamp '2013-06-01 14:20' WHERE id = 1")
    assert until_it_lives("second") == ["features.delays_hops", "features.delays"]
    assert exists(lake, "features.delays_hops")
    assert fingerprint(read(lake, windows.table)) == expected()
