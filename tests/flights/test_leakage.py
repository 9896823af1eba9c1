"""No feature moves when something happens after the forecast; it does when the same thing happens before."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.features.leak_report import refuse_leaks
from boathouse.features.training_sets import create_training_set
from boathouse.tables.table import Lakehouse, Table, read
from boathouse.tables.writes import append
from flights.features import CALENDAR, CATEGORICAL, GROUPS, LABELS, MATCHED, features, lookups, model_rows, numeric, refresh_group
from flights.tables import FEATURES_AIRCRAFT, GOLD_DEPARTURES, SILVER_FLIGHTS, SILVER_PLANES, SILVER_WEATHER

NOON = dt.datetime(2013, 6, 3, 12)  # when the forecasts are made
MINUTE = dt.timedelta(minutes=1)


def rows(spark: SparkSession, table: Table, *given: dict) -> DataFrame:
    "Rows of a table from the columns that matter; the others are null."
    return spark.createDataFrame([tuple(row.get(c.name) for c in table.columns) for row in given], table.schema)


@dataclass(frozen=True)
class World:
    "An airport with a carrier, a destination and an aircraft of its own: what happens in one moves no feature of another."

    number: int
    origin: str
    dest: str
    carrier: str
    tailnum: str

    def flight(self, number: int, left: dt.datetime, late: int, landed: dt.datetime | None = None, tailnum: str | None = None) -> dict:
        "A flight that left and landed at these instants, `late` minutes late."
        planned = left - late * MINUTE
        return {
            "flight_id": self.number * 1000 + number,
            "flight": number,
            "time_hour": planned,
            "scheduled_at": planned,
            "bronze_version": 1,
            "carrier": self.carrier,
            "origin": self.origin,
            "dest": self.dest,
            "tailnum": tailnum or self.tailnum,
            "distance": 187.0,
            "status": "scheduled",
            "departed_at": left,
            "dep_delay": late,
            "arrived_at": landed,
            "arr_delay": late if landed else None,
        }

    def weather(self, hour: dt.datetime, wind: float) -> dict:
        return {"origin": self.origin, "time_hour": hour, "published_at": hour + 60 * MINUTE, "wind_speed": wind}

    def forecast(self) -> dict:
        "The departure that is forecast at noon."
        facts = {"flight_id": self.number, "scheduled_at": NOON + 120 * MINUTE, "predict_at": NOON, "flight_date": NOON.date()}
        place = {"origin": self.origin, "dest": self.dest, "carrier": self.carrier, "tailnum": self.tailnum}
        return {**facts, **place, "month": "2013-06", "distance": 187.0}


QUIET, AFTER, BEFORE = (
    World(1, "JFK", "BOS", "B6", "N1"),
    World(2, "EWR", "ATL", "DL", "N2"),
    World(3, "LGA", "LAX", "UA", "N3"),
)


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    "The same quiet day before noon in three worlds, and a storm: in the second one after the forecasts at noon, in the third before them."
    lake = Lakehouse(spark, prefix="test_leakage_")
    flights, weather = [], []
    for world in (QUIET, AFTER, BEFORE):
        flights += [world.flight(n, NOON - (30 + 20 * n) * MINUTE, 5, NOON - (5 + n) * MINUTE) for n in range(1, 6)]
        weather += [world.weather(NOON - 120 * MINUTE, 4.0)]
    # After the forecast: departures and landings (another aircraft's at noon sharp), hours late, and a storm published a minute past noon.
    flights += [AFTER.flight(20 + n, NOON + (1 + n * 7) * MINUTE, 400, NOON + (2 + n * 9) * MINUTE) for n in range(4)]
    flights += [AFTER.flight(29, NOON, 400, NOON, tailnum="N9")]
    weather += [AFTER.weather(NOON - 59 * MINUTE, 99.0)]
    # The same kind of thing a minute before: everything that counts departures must move.
    flights += [BEFORE.flight(30, NOON - MINUTE, 400, tailnum="N8")]
    weather += [BEFORE.weather(NOON - 60 * MINUTE, 50.0)]
    append(lake, SILVER_FLIGHTS, rows(spark, SILVER_FLIGHTS, *flights), unique=True)
    append(lake, SILVER_WEATHER, rows(spark, SILVER_WEATHER, *weather), unique=True)
    planes = [{"tailnum": world.tailnum, "year": 2000, "seats": 100} for world in (QUIET, AFTER, BEFORE)]
    append(lake, SILVER_PLANES, rows(spark, SILVER_PLANES, *planes), unique=True)
    departures = [world.forecast() for world in (QUIET, AFTER, BEFORE)]
    append(lake, GOLD_DEPARTURES, rows(spark, GOLD_DEPARTURES, *departures), unique=True)
    for group in GROUPS:
        refresh_group(lake, group, dt.date(2013, 6, 3))
    return lake


def test_events_after_the_forecast_move_no_feature_and_events_before_it_do(lake: Lakehouse) -> None:
    "What the model would see at noon: its inputs and when each was known."
    seen = model_rows(lake, read(lake, GOLD_DEPARTURES)).orderBy("flight_id").collect()
    quiet, after, before = seen
    assert quiet.origin_departures_3h == 5.0
    assert quiet.wind_speed == 4.0
    assert quiet.leg_landed == 1.0

    assert read(lake, FEATURES_AIRCRAFT).where("leg_delay = 400 AND tailnum IN ('N2', 'N9')").count() == 9  # the future is in the tables
    assert [after[name] for name in (*numeric(), MATCHED)] == [quiet[name] for name in (*numeric(), MATCHED)]
    assert all(value is None or value <= NOON for row in seen for value in row[MATCHED])

    assert before.origin_departures_3h == 6.0
    assert before.carrier_delay_3h > quiet.carrier_delay_3h
    assert before.wind_speed == 50.0


def test_every_feature_but_those_of_the_timetable_has_an_instant_and_none_is_later_than_the_forecast(lake: Lakehouse) -> None:
    made = create_training_set(lake, read(lake, GOLD_DEPARTURES).select(*LABELS), features(), None, match=MATCHED)
    report = refuse_leaks(made, [*CATEGORICAL, *numeric()], instant="predict_at", label_key=["flight_id"])
    assert set(report.feature[report.later.isna()]) == {*CATEGORICAL, *CALENDAR}


def test_no_feature_is_taken_from_the_schedule_or_the_outcome() -> None:
    forbidden = {"dep_delay", "arr_delay", "air_time", "departed_at", "arrived_at", "status", "late", "label_time"}
    assert not forbidden & set(numeric())
    assert not {"month", "day"} & set(numeric())
    assert all(lookup.timestamp_lookup_key == "predict_at" for lookup in lookups())
    assert len(set(numeric())) == len(numeric())
