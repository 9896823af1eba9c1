"""Tables as a whole after an ingestion: a feed that stopped, a day with too few events, a carrier without a name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import pytest
from pyspark.sql import SparkSession

from boathouse.quality.dataset_checks import CheckFinding
from boathouse.tables.table import Lakehouse, read
from boathouse.tables.writes import append
from flights import tables as t
from flights.bronze import bronze, end_of
from flights.checks import check_tables, record_findings
from flights.silver import silver

DAY = date(2013, 2, 9)
EVENTS = t.SILVER_FLIGHT_EVENTS.name
REPORT = "EWR,2013,2,9,22,39.02,26.06,59.37,270,10.35,NA,0,1012,10,2013-02-09T22:00:00Z"


@pytest.fixture(scope="module")
def lake(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, stories: Callable[..., list[str]], deliver: Callable[..., None]
) -> Lakehouse:
    "Silver of twenty flights of one day, with the names of all carriers but one."
    lake, landing = Lakehouse(spark, prefix="test_checks_"), tmp_path_factory.mktemp("landing")
    deliver(landing, "a", stories(20), [REPORT])
    bronze(lake, landing, end_of(DAY))
    silver(lake, end_of(DAY))
    carriers = sorted({row.carrier for row in read(lake, t.SILVER_FLIGHTS).select("carrier").collect()})
    append(lake, t.SILVER_AIRLINES, spark.createDataFrame([(carrier, "a name") for carrier in carriers[1:]], t.SILVER_AIRLINES.schema))
    return lake


def test_a_carrier_without_a_name_and_a_stale_feed_are_found_and_recorded_once(lake: Lakehouse) -> None:
    found = check_tables(lake, DAY + timedelta(days=2))
    assert {(f.rule, f.action, bool(f.failed)) for findings in found.values() for f in findings} == {
        ("fresh_event_time", "warn", True),
        ("usual_count", "warn", False),
        ("fresh_published_at", "warn", True),
        ("refers_carrier", "fail", True),
    }
    for _ in range(2):
        record_findings(lake, found, DAY + timedelta(days=2))
    kept = read(lake, t.MONITORING_QUALITY_METRICS).where(f"batch = '{DAY + timedelta(days=2)}'")
    assert kept.count() == sum(map(len, found.values())) == 4


def test_a_day_is_compared_with_the_days_before_it(lake: Lakehouse) -> None:
    events = check_tables(lake, DAY)[EVENTS][1].checked
    assert events >= 20
    for back in range(1, 8):
        record_findings(lake, {EVENTS: [CheckFinding("usual_count", "warn", 20 * events, 0)]}, DAY - timedelta(days=back))
    few = check_tables(lake, DAY)[EVENTS][1]
    assert (few.failed, few.detail) == (1, f"expected {19 * events} to {21 * events} rows, got {events}")
