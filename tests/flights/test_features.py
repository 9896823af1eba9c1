"""Refreshing feature tables: only what changed, the same as making everything anew; and what counts as a movement."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from boathouse.features.refresh import refresh_table
from boathouse.features.tables import versions_of
from boathouse.tables.table import Lakehouse, Table, read
from boathouse.tables.writes import append, merge
from flights.bronze import end_of
from flights.features import CONGESTION, aircraft_features, legs, movements
from flights.tables import FEATURES_AIRCRAFT, FEATURES_ORIGIN_CONGESTION, SILVER_FLIGHTS, SILVER_PLANES

ORIGIN = CONGESTION[0]
DAY, MINUTE, NOON = dt.timedelta(days=1), dt.timedelta(minutes=1), dt.datetime(2013, 6, 3, 12)


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


@dataclass(frozen=True)
class Refreshed:
    "The ticks of an airport before and after a correction, and what the refreshes said: the one after it, and later ones with nothing new."

    before: dict[tuple[str, dt.datetime], Row]
    after: dict[tuple[str, dt.datetime], Row]
    anew: dict[tuple[str, dt.datetime], Row]
    spans: list[list[dt.datetime]]
    idle: list[str]
    versions: list[dict[str, int]]


@pytest.fixture(scope="module")
def refreshed(spark: SparkSession) -> Refreshed:
    "Thirty flights, and the news on the next day that one of them left an hour later than first reported."
    lake = Lakehouse(spark, prefix="test_congestion_")
    known = [flight(n, NOON + n * 47 * MINUTE, n, 1, NOON + (90 + n * 47) * MINUTE) for n in range(30)]
    append(lake, SILVER_FLIGHTS, rows(spark, SILVER_FLIGHTS, *known), unique=True)

    def ticks(found: DataFrame) -> dict[tuple[str, dt.datetime], Row]:
        return {(row.origin, row.tick): row for row in found.select(FEATURES_ORIGIN_CONGESTION.schema.names).collect()}

    refresh_table(lake, ORIGIN, end_of(dt.date(2013, 6, 3)))
    before = ticks(read(lake, FEATURES_ORIGIN_CONGESTION))
    correction = flight(5, NOON + 5 * 47 * MINUTE + 60 * MINUTE, 65, 2)
    merge(lake, SILVER_FLIGHTS, rows(spark, SILVER_FLIGHTS, correction))
    news = refresh_table(lake, ORIGIN, end_of(dt.date(2013, 6, 4)))
    after, anew = (
        ticks(read(lake, FEATURES_ORIGIN_CONGESTION)),
        ticks(ORIGIN.rows(read(lake, SILVER_FLIGHTS), until=end_of(dt.date(2013, 6, 4)))),
    )
    versions = [versions_of(lake, [FEATURES_ORIGIN_CONGESTION])]
    idle = [
        str(done).rpartition(": ")[2]
        for day in (dt.date(2013, 6, 4), dt.date(2013, 6, 3))
        for done in refresh_table(lake, ORIGIN, end_of(day))
    ]
    versions.append(versions_of(lake, [FEATURES_ORIGIN_CONGESTION]))
    return Refreshed(before, after, anew, [[span.since for span in done.spans] for done in news], idle, versions)


def test_late_news_change_what_comes_after_them_and_the_result_is_that_of_starting_anew(refreshed: Refreshed) -> None:
    before, after = refreshed.before, refreshed.after
    changed = [tick for (origin, tick), row in after.items() if before.get((origin, tick)) not in (None, row)]
    assert min(changed) == dt.datetime(2013, 6, 3, 16), "flight 5 was counted from its first reported departure, 15:55, on"
    hops, ticks = refreshed.spans
    assert hops == [dt.datetime(2013, 6, 3, 15), dt.datetime(2013, 6, 4)], "its old and its new hour are one span"
    assert ticks[0] == dt.datetime(2013, 6, 3, 16)
    assert after == refreshed.anew


def test_nothing_new_writes_nothing_and_an_earlier_day_takes_nothing_away(refreshed: Refreshed) -> None:
    assert refreshed.idle == ["nothing new"] * 4
    assert refreshed.versions[0] == refreshed.versions[1]


def test_a_departure_counts_from_when_it_left_and_not_from_its_schedule(spark: SparkSession) -> None:
    late = rows(spark, SILVER_FLIGHTS, flight(1, NOON, 180, 1))  # planned for nine
    ticks = {r.tick: r.origin_departures_1h for r in ORIGIN.rows(late, until=NOON.replace(hour=0) + DAY).collect()}
    assert min(ticks) == NOON + 30 * MINUTE
    assert ticks[min(ticks)] == 1


def test_flights_that_did_not_leave_or_land_are_no_movements(spark: SparkSession) -> None:
    given = [
        flight(1, None, 0, 1),
        flight(2, NOON, 3, 1),
        flight(3, NOON, 3, 1, NOON + 60 * MINUTE),
        {**flight(4, NOON, 3, 1), "arrived_at": NOON + 99 * MINUTE},
    ]
    got = sorted((r.at, r.departure_delay, r.arrival_delay) for r in movements(rows(spark, SILVER_FLIGHTS, *given)).collect())
    assert [g[1:] for g in got] == [(3, None)] * 3 + [(None, 3)]  # the fourth was diverted: it came down, but has no arrival delay


def test_an_aircraft_is_known_by_its_last_movement_one_row_per_instant(spark: SparkSession) -> None:
    moves = [flight(1, NOON, 3, 1, NOON + 60 * MINUTE), flight(2, NOON + 60 * MINUTE, 9, 1), flight(3, NOON, 1, 1, tail="N2")]
    planes = rows(spark, SILVER_PLANES, {"tailnum": "N1", "year": 2003, "seats": 150})
    got = {
        (r.tailnum, r.known_at): (r.leg_landed, r.leg_delay, r.plane_age, r.plane_seats)
        for r in aircraft_features(legs(rows(spark, SILVER_FLIGHTS, *moves)), planes).collect()
    }
    # At 13:00 flight 1 landed and flight 2 left with the same registration: the landing wins, always.
    assert got == {
        ("N1", NOON): (0.0, 3.0, 10.0, 150.0),
        ("N1", NOON + 60 * MINUTE): (1.0, 3.0, 10.0, 150.0),
        ("N2", NOON): (0.0, 1.0, None, None),
    }
    assert list(FEATURES_AIRCRAFT.primary_key) == ["tailnum", "known_at"]
