"""A refresh killed without warning after one of its commits: the next one ends as if nothing had happened."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from boathouse.features.definitions import WindowedFeatures
from boathouse.features.refresh import refresh_table
from boathouse.tables.table import Lakehouse, drop_all, exists, read
from boathouse.tables.versions import fingerprint
from boathouse.workspace.cluster.cluster import Cluster, TaskSpec

UNTIL = datetime(2013, 6, 2)

# The process ends itself with SIGKILL right after its first commit that no process before it died of; the last one finds nothing to die of.
TASK = """
import os, signal, sys
from datetime import datetime, timedelta
from pathlib import Path
from pyspark.sql import DataFrameWriter, SparkSession

from boathouse.features.definitions import WindowedFeatures
from boathouse.runtime import get_spark
from boathouse.features.refresh import refresh_table
from boathouse.tables.table import Column, Lakehouse, Table
from boathouse.tables.versions import fingerprint
from boathouse.point_in_time.grid_windows import Grid

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
WINDOWS = WindowedFeatures(DELAYS, RETURNS, "at", Grid({"late": ("avg", "late")}, {"2h": 2 * HOUR}, HOUR))

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
    print(*refresh_table(Lakehouse(get_spark(), prefix=prefix), WINDOWS, datetime(2013, 6, 2)))
"""


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_deadly_refresh_")
    drop_all(lake)
    yield lake
    drop_all(lake)


@dataclass(frozen=True)
class Deadly:
    "Refreshes in processes of their own; `deaths` names what each process that was killed had just written."

    cluster: Cluster
    lake: Lakehouse
    folder: Path
    numbers: Iterator[int]

    @property
    def deaths(self) -> list[tuple[str, str]]:
        found = [line.partition(": ") for line in (self.folder / "deaths").read_text().splitlines()]
        return [(told, written.replace(self.lake.name(""), "")) for told, _, written in found]

    def refresh(self, round_: str) -> bool:
        "Whether the process lived."
        folder = self.folder / str(next(self.numbers))
        words = (str(self.folder / "deaths"), self.lake.prefix, round_)
        spec = TaskSpec(kind="script", folder=folder, project=self.folder, file=self.folder / "task.py", argv=words)
        result = self.cluster.launch(spec).wait(300)
        assert result is not None
        if "SIGKILL" in (result.error or ""):
            return False
        assert result.error is None, (folder / "log.txt").read_text()
        return True

    def until_it_lives(self, round_: str) -> list[str]:
        "What each of the processes that were killed in this round had just written."
        assert any(self.refresh(round_) for _ in range(12)), f"it never came to its end: {self.deaths}"
        return [written for told, written in self.deaths if told == round_]


@pytest.fixture
def deadly(cluster: Cluster, lake: Lakehouse, tmp_path: Path) -> Deadly:
    (tmp_path / "task.py").write_text(TASK)
    return Deadly(cluster, lake, tmp_path, itertools.count())


@pytest.fixture
def windows(lake: Lakehouse) -> WindowedFeatures:
    "The windows of the task, and their source with two rows."
    made: dict[str, Any] = {"__name__": "task"}
    exec(TASK, made)
    returns = made["RETURNS"]
    lake.spark.sql(f"CREATE SCHEMA {lake.name('silver')}")
    lake.spark.sql(f"CREATE TABLE {lake.name(returns)} {returns.ddl}")
    lake.spark.sql(
        f"INSERT INTO {lake.name(returns)} VALUES (1, 'east', timestamp '2013-06-01 08:20', 10), (2, 'east', timestamp '2013-06-01 09:20', 30)"
    )
    return made["WINDOWS"]


def late_return(lake: Lakehouse) -> None:
    lake.spark.sql(f"UPDATE {lake.name('silver.returns')} SET at = timestamp '2013-06-01 14:20' WHERE id = 1")


def table(lake: Lakehouse, windows: WindowedFeatures) -> str:
    return fingerprint(read(lake, windows.table))


def expected(lake: Lakehouse, windows: WindowedFeatures) -> str:
    return fingerprint(windows.rows(read(lake, windows.source), until=UNTIL))


def test_killed_between_hops_and_ticks_a_refresh_is_ended_by_the_next_one(
    lake: Lakehouse, windows: WindowedFeatures, deadly: Deadly
) -> None:
    refresh_table(lake, windows, UNTIL)
    late_return(lake)
    assert not deadly.refresh("second")
    assert deadly.deaths == [("second", "features.delays_hops")]
    assert table(lake, windows) != expected(lake, windows)
    hops, ticks = refresh_table(lake, windows, UNTIL)
    assert (hops.kind, ticks.kind) == (None, "changes")
    assert table(lake, windows) == expected(lake, windows)


@pytest.mark.long(order=4, minutes=6)
def test_killed_after_each_commit_a_refresh_ends_as_an_undisturbed_one(lake: Lakehouse, windows: WindowedFeatures, deadly: Deadly) -> None:
    first = deadly.until_it_lives("first")
    assert [line for line in first if line.startswith("features")] == ["features.delays_hops", "features.delays"]
    assert len(first) == 5, f"a schema, two tables and two commits of rows: {first}"
    assert table(lake, windows) == expected(lake, windows)

    late_return(lake)
    assert deadly.until_it_lives("second") == ["features.delays_hops", "features.delays"]
    assert exists(lake, "features.delays_hops")
    assert table(lake, windows) == expected(lake, windows)
