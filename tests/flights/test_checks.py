"""Tables as a whole after an ingestion: a feed that stopped, a day with too few events, a carrier without a name."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import reduce

import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.quality.dataset_checks import CheckFinding, finding_metrics
from boathouse.tables.table import Lakehouse, read
from boathouse.tables.writes import append
from flights import tables as t
from flights.checks import check_tables, record_findings

DAY, NOON = date(2013, 2, 9), datetime(2013, 2, 9, 12)
EVENTS = t.SILVER_FLIGHT_EVENTS.name


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    "Silver of twenty flights of one day, with the names of all carriers but one."
    lake = Lakehouse(spark, prefix="test_checks_")
    flights = [
        {"event_id": n, "event_type": "departed", "event_time": NOON, "flight_id": n, "time_hour": NOON, "carrier": f"C{n % 4}", "flight": n,
         "origin": "EWR", "bronze_version": 1} for n in range(20)
    ]  # fmt: skip
    report = {"origin": "EWR", "time_hour": NOON, "published_at": NOON + timedelta(hours=1)}
    names = [{"carrier": f"C{n}", "name": "a name"} for n in range(1, 4)]
    known = {t.SILVER_FLIGHT_EVENTS: flights, t.SILVER_FLIGHTS: flights, t.SILVER_WEATHER: [report], t.SILVER_AIRLINES: names}
    for table, rows in known.items():
        values = [tuple(row.get(column) for column in table.schema.names) for row in rows]
        append(lake, table, spark.createDataFrame(values, table.schema), unique=True)
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
    usual = [CheckFinding("usual_count", "warn", 20 * events, 0)]
    days = [DAY - timedelta(days=back) for back in range(1, 8)]
    recorded = reduce(DataFrame.unionByName, [finding_metrics(lake.spark, EVENTS, usual, str(day), NOON) for day in days])
    append(lake, t.MONITORING_QUALITY_METRICS, recorded)
    few = check_tables(lake, DAY)[EVENTS][1]
    assert (few.failed, few.detail) == (1, f"expected {19 * events} to {21 * events} rows, got {events}")
