"""Refreshing feature tables: only what changed, the same as making everything anew; and what counts as a movement."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.features import versions_of
from boathouse.refresh import refresh
from boathouse.tables import Lakehouse, Table, drop_all, read
from boathouse.versions import fingerprint
from boathouse.writes import append, merge
from flights.bronze import end_of
from flights.features import CONGESTION, aircraft, legs, movements
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


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_refresh_")
    drop_all(lake)
    append(
        lake,
        SILVER_FLIGHTS,
        rows(spark, SILVER_FLIGHTS, *[flight(n, NOON + n * 47 * MINUTE, n, 1, NOON + (90 + n * 47) * MINUTE) for n in range(30)]),
    )
    yield lake
    drop_all(lake)


def test_late_news_change_what_comes_after_them_and_the_result_is_that_of_starting_anew(spark: SparkSession, lake: Lakehouse) -> None:
    refresh(lake, ORIGIN, end_of("2013-06-03"))
    before = {(r.origin, r.tick): r for r in read(lake, FEATURES_ORIGIN_CONGESTION).collect()}
    correction = flight(5, NOON + 5 * 47 * MINUTE + 60 * MINUTE, 65, 2)  # it left an hour later than first reported
    merge(lake, SILVER_FLIGHTS, rows(spark, SILVER_FLIGHTS, correction))
    hops, ticks = refresh(lake, ORIGIN, end_of("2013-06-04"))
    after = {(r.origin, r.tick): r for r in read(lake, FEATURES_ORIGIN_CONGESTION).collect()}

    changed = [tick for (origin, tick), row in after.items() if before.get((origin, tick)) not in (None, row)]
    assert min(changed) == dt.datetime(2013, 6, 3, 16), "flight 5 was counted from its first reported departure, 15:55, on"
    assert [span.since for span in hops.spans] == [dt.datetime(2013, 6, 3, 15), dt.datetime(2013, 6, 4)], (
        "its old and its new hour are one span"
    )
    assert ticks.spans[0].since == dt.datetime(2013, 6, 3, 16)
    anew = ORIGIN.rows(read(lake, SILVER_FLIGHTS), until=end_of("2013-06-04"))
    assert fingerprint(read(lake, FEATURES_ORIGIN_CONGESTION)) == fingerprint(anew)


def test_nothing_new_writes_nothing_and_an_earlier_day_takes_nothing_away(lake: Lakehouse) -> None:
    refresh(lake, ORIGIN, end_of("2013-06-04"))
    version = versions_of(lake, [FEATURES_ORIGIN_CONGESTION])
    for day in ("2013-06-04", "2013-06-03"):
        assert [str(done).rpartition(": ")[2] for done in refresh(lake, ORIGIN, end_of(day))] == ["nothing new"] * 2
    assert versions_of(lake, [FEATURES_ORIGIN_CONGESTION]) == version


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
        for r in aircraft(legs(rows(spark, SILVER_FLIGHTS, *moves)), planes).collect()
    }
    # At 13:00 flight 1 landed and flight 2 left with the same registration: the landing wins, always.
    assert got == {
        ("N1", NOON): (0.0, 3.0, 10.0, 150.0),
        ("N1", NOON + 60 * MINUTE): (1.0, 3.0, 10.0, 150.0),
        ("N2", NOON): (0.0, 1.0, None, None),
    }
    assert list(FEATURES_AIRCRAFT.primary_key) == ["tailnum", "known_at"]
