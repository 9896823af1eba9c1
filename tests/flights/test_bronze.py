from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse.tables import Lakehouse, drop_all, read
from boathouse.versions import version_of
from flights import tables as t
from flights.bronze import bronze, end_of, summary
from flights.replay import replay
from flights.silver import EVENTS, add_events, process


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_bronze_")
    drop_all(lake)
    yield lake
    drop_all(lake)


def test_broken_files_among_good_ones_end_in_quarantine_with_the_reason_and_the_rest_goes_on(lake: Lakehouse, tmp_path: Path) -> None:
    replay(tmp_path, date(2012, 12, 31), dirt=0)
    events = tmp_path / "flight_events"
    good = (events / "2012-12-31.csv").read_text().splitlines()
    (events / "2013-01-01.csv").write_text("\n".join(line.rpartition(",")[0] for line in good[:4]) + "\n")
    (events / "2013-01-02.csv").write_text("")
    (events / "2013-01-03.csv").write_text("<html>\n<body>503 Service Unavailable</body>\n</html>\n")
    (events / "2013-01-04.csv").write_text(good[0] + "\n")
    done = bronze(lake, tmp_path, end_of("2013-01-04"))
    assert (
        "flight_events/2013-01-01.csv: the header differs; missing time_hour; its lines are kept and marked." in summary(done).splitlines()
    )

    counts = process(lake, EVENTS, add_events)
    assert counts is not None
    assert (counts["checked"], counts["well_formed"], counts["distance"]) == (len(good) - 1 + 4 + 1 + 3, 8, 0)
    rows = read(lake, t.SILVER_FLIGHT_EVENTS_QUARANTINE).groupBy("_source_file", "_reason").count().collect()
    assert {(r._source_file, r._reason, r["count"]) for r in rows} == {
        ("flight_events/2013-01-01.csv", "the header differs; missing time_hour", 4),
        ("flight_events/2013-01-02.csv", "the file is empty", 1),
        ("flight_events/2013-01-03.csv", "the file is not CSV with a header: it begins with '<html>'", 3),
    }


def test_a_time_without_flights_adds_nothing_and_is_not_an_error(lake: Lakehouse, tmp_path: Path) -> None:
    replay(tmp_path, date(2012, 12, 31), dirt=0)
    bronze(lake, tmp_path, end_of("2012-12-31"))
    before = version_of(lake, t.BRONZE_FLIGHT_EVENTS), read(lake, t.BRONZE_FLIGHT_EVENTS).count()
    (tmp_path / "flight_events" / "2013-01-01.csv").write_text(",".join(t.FLIGHT_EVENT_COLUMNS) + "\n")
    bronze(lake, tmp_path, end_of("2013-01-01"))
    assert read(lake, t.BRONZE_FLIGHT_EVENTS).count() == before[1]
    assert (
        summary(bronze(Lakehouse(lake.spark, prefix="test_bronze_none_"), tmp_path / "nowhere", end_of("2013-01-01")))
        == "Ingested new files: none."
    )
