"""Bronze, silver and gold killed without warning after a commit: what comes out is what an undisturbed run makes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse.tables.table import Lakehouse, read
from boathouse.tables.versions import fingerprint
from boathouse.workspace.cluster.cluster import Cluster, TaskResult, TaskSpec
from flights import tables as t

# The process ends itself with SIGKILL right after its first commit to the table, or to any table.
TASK = """
import os, signal, sys
from datetime import date
from pyspark.sql import DataFrameWriter
from delta.tables import DeltaMergeBuilder

prefix, landing, last = sys.argv[1:]

def deadly(commit):
    def committed(written, *names, **more):
        commit(written, *names, **more)
        if last == "any" or any(name.endswith(last) for name in names):
            os.kill(os.getpid(), signal.SIGKILL)
    return committed

DataFrameWriter.saveAsTable = deadly(DataFrameWriter.saveAsTable)
DeltaMergeBuilder.execute = deadly(DeltaMergeBuilder.execute)

from boathouse.runtime import get_spark
from boathouse.tables.table import Lakehouse
from flights.bronze import bronze, end_of
from flights.gold import gold
from flights.silver import silver

lake = Lakehouse(get_spark(), prefix=prefix)
bronze(lake, landing, end_of(date(2013, 2, 12)))
silver(lake, end_of(date(2013, 2, 12)))
gold(lake)
"""
TABLES = (t.BRONZE_FLIGHT_EVENTS, t.BRONZE_WEATHER, t.SILVER_FLIGHT_EVENTS, t.SILVER_FLIGHTS, t.SILVER_FLIGHT_EVENTS_QUARANTINE,
          t.SILVER_WEATHER, t.GOLD_DEPARTURES, t.MONITORING_QUALITY_METRICS)  # fmt: skip


def content(lake: Lakehouse) -> dict[str, str]:
    "A fingerprint of each table."
    return {table.name: fingerprint(read(lake, table).drop("bronze_version", "_ingested_at", "batch", "_id", "_run")) for table in TABLES}


@pytest.fixture(scope="module")
def undisturbed(calm_lake: Lakehouse) -> dict[str, str]:
    return content(calm_lake)


@pytest.fixture
def run(cluster: Cluster, calm_landing: Path, tmp_path: Path) -> Callable[[str, str], tuple[TaskResult, str]]:
    "A process that brings a lake to gold and dies of its first commit to a table: how it ended, and its log."
    script, numbers = tmp_path / "task.py", itertools.count(1)
    script.write_text(TASK)

    def call(prefix: str, last: str) -> tuple[TaskResult, str]:
        folder = tmp_path / "runs" / str(next(numbers))
        task = cluster.launch(TaskSpec(kind="script", folder=folder, project=tmp_path, file=script, argv=(prefix, str(calm_landing), last)))
        result = task.wait(300)
        assert result is not None
        return result, (folder / "log.txt").read_text()

    return call


def test_killed_between_bronze_and_silver_and_in_the_middle_of_silver_a_pipeline_makes_what_an_undisturbed_one_makes(
    spark: SparkSession,
    run: Callable[[str, str], tuple[TaskResult, str]],
    refine: Callable[[Lakehouse, Path], None],
    calm_landing: Path,
    undisturbed: dict[str, str],
) -> None:
    lake = Lakehouse(spark, prefix="test_shaken_twice_")
    for table in (t.BRONZE_FLIGHT_EVENTS, t.SILVER_FLIGHT_EVENTS):
        ended, log = run(lake.prefix, table.name)
        assert "SIGKILL" in (ended.error or ""), log
        assert read(lake, table).count() > 0  # it died of that commit
    refine(lake, calm_landing)
    assert content(lake) == undisturbed


@pytest.mark.long(order=4, minutes=8)
def test_killed_after_each_commit_in_turn_a_pipeline_makes_what_an_undisturbed_one_makes(
    spark: SparkSession,
    run: Callable[[str, str], tuple[TaskResult, str]],
    refine: Callable[[Lakehouse, Path], None],
    calm_landing: Path,
    undisturbed: dict[str, str],
) -> None:
    lake, deaths = Lakehouse(spark, prefix="test_shaken_often_"), 0
    while (ended := run(lake.prefix, "any"))[0].state != "SUCCESS":
        assert "SIGKILL" in (ended[0].error or ""), ended[1]
        deaths += 1
        assert deaths < 40, "a run makes no headway after a death"
    assert deaths >= 6  # nine tables are written, some of them side by side
    refine(lake, calm_landing)
    assert content(lake) == undisturbed
