"Files that are broken as a whole, and files without lines, among good ones."

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse.tables.table import Lakehouse, read
from boathouse.tables.versions import version_of
from flights import tables as t
from flights.bronze import bronze, end_of, summarize_ingestion
from flights.silver import EVENTS, add_events, process_feed


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory, stories: Callable[..., list[str]], deliver: Callable[..., None]) -> Path:
    "The landing folder after a good day."
    folder = tmp_path_factory.mktemp("landing")
    deliver(folder, "2013-02-09", stories(12), [])
    return folder


@pytest.fixture(scope="module")
def lake(spark: SparkSession, landing: Path) -> Lakehouse:
    "Bronze of that day. The tests add to both."
    lake = Lakehouse(spark, prefix="test_bronze_")
    bronze(lake, landing, end_of(date(2013, 2, 9)))
    return lake


def test_a_time_without_flights_adds_nothing_and_is_not_an_error(lake: Lakehouse, landing: Path) -> None:
    before = read(lake, t.BRONZE_FLIGHT_EVENTS).count(), version_of(lake, t.BRONZE_FLIGHT_EVENTS)
    (landing / "flight_events" / "2013-02-10.csv").write_text(",".join(t.FLIGHT_EVENT_COLUMNS) + "\n")
    assert summarize_ingestion(bronze(lake, landing, end_of(date(2013, 2, 10)))) == "Ingested new files: 1 of flight_events."
    assert (read(lake, t.BRONZE_FLIGHT_EVENTS).count(), version_of(lake, t.BRONZE_FLIGHT_EVENTS)) == (before[0], before[1] + 1)
    assert summarize_ingestion(bronze(lake, landing / "nowhere", end_of(date(2013, 2, 10)))) == "Ingested new files: none."


def test_broken_files_among_good_ones_end_in_quarantine_with_the_reason_and_the_rest_goes_on(lake: Lakehouse, landing: Path) -> None:
    events = landing / "flight_events"
    good = (events / "2013-02-09.csv").read_text().splitlines()
    (events / "2013-02-11.csv").write_text("\n".join(line.rpartition(",")[0] for line in good[:4]) + "\n")
    (events / "2013-02-12.csv").write_text("")
    (events / "2013-02-13.csv").write_text("<html>\n<body>503 Service Unavailable</body>\n</html>\n")
    (events / "2013-02-14.csv").write_text(good[0] + "\n")
    done = bronze(lake, landing, end_of(date(2013, 2, 14)))
    assert (
        "flight_events/2013-02-11.csv: the header differs; missing time_hour; its lines are stored and marked."
        in summarize_ingestion(done).splitlines()
    )

    counts = process_feed(lake, EVENTS, add_events, end_of(date(2013, 2, 14)))
    assert counts is not None
    assert (counts["checked"], counts["well_formed"], counts["distance"]) == (len(good) - 1 + 4 + 1 + 3, 8, 0)
    rows = read(lake, t.SILVER_FLIGHT_EVENTS_QUARANTINE).groupBy("_source_file", "_reason").count().collect()
    assert {(r._source_file, r._reason, r["count"]) for r in rows} == {
        ("flight_events/2013-02-11.csv", "the header differs; missing time_hour", 4),
        ("flight_events/2013-02-12.csv", "the file is empty", 1),
        ("flight_events/2013-02-13.csv", "the file is not CSV with a header: it begins with '<html>'", 3),
    }
