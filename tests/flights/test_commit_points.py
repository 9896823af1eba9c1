"""Bronze, silver and gold killed without warning after every single commit: what comes out is what an undisturbed run makes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse.tables import Lakehouse, drop_all
from boathouse.workspace.cluster import Cluster, TaskResult, TaskSpec
from flights.replay import WEATHER_COLUMNS, events, instants, read_text, zones_of_airports
from flights.tables import FLIGHT_EVENT_COLUMNS

REPORT = "EWR,2013,{month},1,{hour},39.02,26.06,59.37,270,10.35,NA,0,1012,10,2013-{month:02d}-01T{hour:02d}:00:00Z"

# The process ends itself with SIGKILL right after its first commit; with "calm" it does not.
TASK = """
import json, os, signal, sys
from pyspark.sql import DataFrameWriter
from delta.tables import DeltaMergeBuilder

prefix, landing, mood = sys.argv[1:]

def deadly(commit):
    def committed(*args, **more):
        commit(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)
    return committed

if mood != "calm":
    DataFrameWriter.saveAsTable = deadly(DataFrameWriter.saveAsTable)
    DeltaMergeBuilder.execute = deadly(DeltaMergeBuilder.execute)

from boathouse.platform import get_spark
from boathouse.tables import Lakehouse, exists, read
from boathouse.versions import fingerprint
from flights import tables as t
from flights.bronze import bronze, end_of
from flights.gold import gold
from flights.silver import silver

lake = Lakehouse(get_spark(), prefix=prefix)
bronze(lake, landing, end_of("2013-02-12"))
silver(lake, end_of("2013-02-12"))
gold(lake)
if mood == "calm":
    passing = ("bronze_version", "_ingested_at", "batch")
    tables = (t.BRONZE_FLIGHT_EVENTS, t.BRONZE_WEATHER, t.SILVER_FLIGHT_EVENTS, t.SILVER_FLIGHTS, t.SILVER_FLIGHT_EVENTS_QUARANTINE,
              t.SILVER_WEATHER, t.GOLD_DEPARTURES, t.MONITORING_QUALITY_METRICS)
    found = {table.name: fingerprint(read(lake, table).drop(*passing)) for table in tables}
    print("CONTENT", json.dumps(found))
"""


def deliver(landing: Path) -> None:
    "Two files a feed: flights of the day after the storm, some lines twice, some broken."
    flights = read_text("flights")
    day = flights.filter([y == ("2", "9") for y in zip(flights["month"].to_pylist(), flights["day"].to_pylist(), strict=True)]).slice(0, 12)
    lines = events(day, instants(day, zones_of_airports()))["line"].tolist()
    files = {
        "flight_events": (FLIGHT_EVENT_COLUMNS, [lines[:20] + ["noise"], lines[15:] + lines[:1]]),
        "weather": (WEATHER_COLUMNS, [[REPORT.format(month=2, hour=h) for h in hours] for hours in ((5, 6), (6, 7))]),
    }
    for folder, (columns, parts) in files.items():
        (landing / folder).mkdir(parents=True)
        for name, part in zip("ab", parts, strict=True):
            (landing / folder / f"{name}.csv").write_text("\n".join([",".join(columns), *part]) + "\n")


@pytest.fixture
def lakes(spark: SparkSession) -> Iterator[tuple[str, str]]:
    names = ("test_calm_", "test_shaken_")
    for name in names:
        drop_all(Lakehouse(spark, prefix=name))
    yield names
    for name in names:
        drop_all(Lakehouse(spark, prefix=name))


def test_killed_after_each_commit_in_turn_a_pipeline_makes_what_an_undisturbed_one_makes(
    cluster: Cluster, lakes: tuple[str, str], tmp_path: Path
) -> None:
    calm, shaken = lakes
    landing = tmp_path / "landing"
    deliver(landing)
    script = tmp_path / "task.py"
    script.write_text(TASK)
    numbers = itertools.count(1)

    def run(prefix: str, mood: str) -> tuple[TaskResult, str]:
        folder = tmp_path / "runs" / str(next(numbers))
        task = cluster.launch(TaskSpec(kind="script", folder=folder, project=tmp_path, file=script, argv=(prefix, str(landing), mood)))
        result = task.wait(300)
        assert result is not None
        return result, (folder / "log.txt").read_text()

    def content(prefix: str) -> dict[str, str]:
        result, log = run(prefix, "calm")
        assert result.state == "SUCCESS", log
        return json.loads(next(line for line in log.splitlines() if line.startswith("CONTENT")).removeprefix("CONTENT "))

    deaths = 0
    while (ended := run(shaken, "deadly"))[0].state != "SUCCESS":
        assert "SIGKILL" in (ended[0].error or ""), ended[1]
        deaths += 1
        assert deaths < 40, "a run makes no headway after a death"
    assert deaths >= 6  # nine tables are written, some of them side by side
    assert content(shaken) == content(calm)
