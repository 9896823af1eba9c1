from __future__ import annotations

from datetime import timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.tables.evolution import create
from boathouse.tables.table import Lakehouse, read
from boathouse.tables.versions import version_of
from boathouse.tables.writes import last_note, merge
from flights import tables as t
from flights.gold import departures, gold


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_gold_")
    return lake


def flights(spark: SparkSession, *rows: tuple[int, str, str, int | None, int]) -> DataFrame:
    "Flights from (flight_id, month, status, arr_delay, bronze_version); due at noon of the month's first day, arriving two hours later."
    given = spark.createDataFrame(list(rows), "flight_id bigint, month string, status string, arr_delay int, bronze_version bigint")
    known = {"scheduled_at": "to_timestamp(month || '-01 12:00')", "time_hour": "to_timestamp(month || '-01 12:00')",
             "arrived_at": "IF(status = 'arrived', to_timestamp(month || '-01 14:00'), NULL)", "carrier": "'UA'", "flight": "1", "origin": "'EWR'"}  # fmt: skip
    rest = {c.name: f"cast(NULL AS {c.type})" for c in t.SILVER_FLIGHTS.columns if c.name not in given.columns and c.name not in known}
    return given.selectExpr("*", *[f"{e} AS {name}" for name, e in (known | rest).items()])


def test_the_label_is_late_after_fifteen_minutes_and_null_without_an_arrival(spark: SparkSession) -> None:
    some = flights(spark, (1, "2013-01", "arrived", 15, 1), (2, "2013-01", "arrived", 16, 1), (3, "2013-01", "diverted", None, 1),
                   (4, "2013-01", "departed", None, 1), (5, "2013-01", "cancelled", None, 1), (6, "2013-01", "arrived", -30, 1))  # fmt: skip
    rows = departures(some).collect()
    found = {r.flight_id: (r.late, r.label_time is not None) for r in rows}
    assert found == {1: (False, True), 2: (True, True), 3: (None, False), 4: (None, False), 5: (None, False), 6: (False, True)}
    assert {r.scheduled_at - r.predict_at for r in rows} == {timedelta(minutes=120)}


def test_only_months_with_changed_flights_are_computed_again(lake: Lakehouse) -> None:
    merge(
        lake,
        t.SILVER_FLIGHTS,
        flights(lake.spark, (1, "2013-01", "arrived", 20, 1), (2, "2013-02", "scheduled", None, 1)),
        note={"bronze_version": 1},
    )
    assert gold(lake) == ["2013-01", "2013-02"]
    merge(
        lake,
        t.SILVER_FLIGHTS,
        flights(lake.spark, (2, "2013-02", "arrived", 5, 2), (3, "2013-03", "scheduled", None, 2)),
        note={"bronze_version": 2},
    )
    assert gold(lake) == ["2013-02", "2013-03"]
    assert {(r.flight_id, r.late) for r in read(lake, t.GOLD_DEPARTURES).collect()} == {(1, True), (2, False), (3, None)}
    assert last_note(lake, t.GOLD_DEPARTURES) == {"bronze_version": 2}
    before = version_of(lake, t.GOLD_DEPARTURES)
    assert gold(lake) == []
    assert version_of(lake, t.GOLD_DEPARTURES) == before


def test_every_declared_table_can_be_created(lake: Lakehouse) -> None:
    for table in t.ALL:
        create(lake, table)
        assert [(f.name, f.dataType) for f in read(lake, table).schema] == [(f.name, f.dataType) for f in table.schema], table.name
