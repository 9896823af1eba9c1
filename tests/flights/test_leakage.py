"""No feature moves when something happens after the forecast; it does when the same thing happens before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from boathouse.leaks import refuse_leaks
from boathouse.specs import create_training_set
from boathouse.tables import Lakehouse, Table, drop_all, read
from boathouse.writes import append, merge
from flights.features import CALENDAR, CATEGORICAL, GROUPS, LABELS, MATCHED, features, lookups, model_rows, numeric, refresh_group
from flights.tables import FEATURES_AIRCRAFT, GOLD_DEPARTURES, SILVER_FLIGHTS, SILVER_PLANES, SILVER_WEATHER

NOON = dt.datetime(2013, 6, 3, 12)  # when the forecasts are made
MINUTE = dt.timedelta(minutes=1)


def rows(spark: SparkSession, table: Table, *given: dict) -> DataFrame:
    "Rows of a table from the columns that matter; the others are null."
    return spark.createDataFrame([tuple(row.get(c.name) for c in table.columns) for row in given], table.schema)


def flight(number: int, left: dt.datetime | None, late: int, version: int, landed: dt.datetime | None = None, tail: str = "N1") -> dict:
    "A flight of JetBlue from JFK to BOS that left and landed at these instants, `late` minutes late."
    planned = (left or NOON) - late * MINUTE
    known = {"departed_at": left, "dep_delay": late if left else None, "arrived_at": landed, "arr_delay": late if landed else None}
    place = {"carrier": "B6", "origin": "JFK", "dest": "BOS", "tailnum": tail, "distance": 187.0, "status": "scheduled"}
    return {
        "flight_id": number,
        "flight": number,
        "time_hour": planned,
        "scheduled_at": planned,
        "bronze_version": version,
        **place,
        **known,
    }


def weather(hour: dt.datetime, wind: float) -> dict:
    return {"origin": "JFK", "time_hour": hour, "published_at": hour + 60 * MINUTE, "wind_speed": wind}


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    "A quiet day before noon, three flights to forecast at noon, and their features."
    lake = Lakehouse(spark, prefix="test_leakage_")
    drop_all(lake)
    quiet = [flight(n, NOON - (30 + 20 * n) * MINUTE, 5, 1, NOON - (5 + n) * MINUTE) for n in range(1, 6)]
    append(lake, SILVER_FLIGHTS, rows(spark, SILVER_FLIGHTS, *quiet))
    append(lake, SILVER_WEATHER, rows(spark, SILVER_WEATHER, weather(NOON - 120 * MINUTE, 4.0)))
    append(lake, SILVER_PLANES, rows(spark, SILVER_PLANES, {"tailnum": "N1", "year": 2000, "seats": 100}))
    ahead = {
        "scheduled_at": NOON + 120 * MINUTE,
        "predict_at": NOON,
        "flight_date": NOON.date(),
        "month": "2013-06",
        "origin": "JFK",
        "dest": "BOS",
        "carrier": "B6",
    }
    append(
        lake,
        GOLD_DEPARTURES,
        rows(spark, GOLD_DEPARTURES, *[{"flight_id": n, "tailnum": "N1", "distance": 187.0, **ahead} for n in (101, 102, 103)]),
    )
    refresh(lake)
    yield lake
    drop_all(lake)


def refresh(lake: Lakehouse) -> None:
    for group in GROUPS:
        refresh_group(lake, group, "2013-06-03")


def seen(lake: Lakehouse) -> list[Row]:
    "What the model would see at noon: its inputs and when each was known."
    return model_rows(lake, read(lake, GOLD_DEPARTURES)).orderBy("flight_id").collect()


def test_events_after_the_forecast_move_no_feature_and_events_before_it_do(spark: SparkSession, lake: Lakehouse) -> None:
    before = seen(lake)
    assert len(before) == 3
    assert before[0].origin_departures_3h == 5.0
    assert before[0].wind_speed == 4.0
    assert before[0].leg_landed == 1.0

    # The planted future: departures and landings after noon (another aircraft's at noon sharp), hours late, and a storm published a minute past noon.
    later = [flight(20 + n, NOON + (1 + n * 7) * MINUTE, 400, 2, NOON + (2 + n * 9) * MINUTE) for n in range(4)]
    merge(lake, SILVER_FLIGHTS, rows(spark, SILVER_FLIGHTS, *later, flight(29, NOON, 400, 2, NOON, tail="N9")))
    append(lake, SILVER_WEATHER, rows(spark, SILVER_WEATHER, weather(NOON - 59 * MINUTE, 99.0)))
    refresh(lake)
    assert read(lake, FEATURES_AIRCRAFT).where("leg_delay = 400").count() == 9  # the future is in the tables
    assert seen(lake) == before
    assert all(value is None or value <= NOON for row in before for value in row[MATCHED])
    made = create_training_set(lake, read(lake, GOLD_DEPARTURES).select(*LABELS), features(), None, match=MATCHED)
    report = refuse_leaks(made, [*CATEGORICAL, *numeric()], instant="predict_at", label_key=["flight_id"])
    untimed = set(report.feature[report.later.isna()])
    assert untimed == {*CATEGORICAL, *CALENDAR}  # every other one has an instant, and none of these is later than noon

    # The same kind of event a minute before noon is delivered late: everything that counts departures must move.
    merge(lake, SILVER_FLIGHTS, rows(spark, SILVER_FLIGHTS, flight(30, NOON - MINUTE, 400, 3, tail="N2")))
    append(lake, SILVER_WEATHER, rows(spark, SILVER_WEATHER, weather(NOON - 60 * MINUTE, 50.0)))
    refresh(lake)
    corrected = seen(lake)[0]
    assert corrected.origin_departures_3h == 6.0
    assert corrected.carrier_delay_3h > before[0].carrier_delay_3h
    assert corrected.wind_speed == 50.0


def test_no_feature_is_taken_from_the_schedule_or_the_outcome(spark: SparkSession) -> None:
    forbidden = {"dep_delay", "arr_delay", "air_time", "departed_at", "arrived_at", "status", "late", "label_time"}
    assert not forbidden & set(numeric())
    assert not {"month", "day"} & set(numeric())
    assert all(lookup.timestamp_lookup_key == "predict_at" for lookup in lookups())
    assert len(set(numeric())) == len(numeric())
