"What is known of a flight after any set of events. The cases of the file are flights of one frame, which Spark reads once."

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from boathouse.tables.table import Lakehouse, read
from boathouse.tables.writes import append
from flights import tables as t
from flights.features import legs, movements
from flights.gold import departures
from flights.merging import apply_corrections, build_flights, latest_events, newest_per_key, update_flights

NOON = datetime(2013, 3, 1, 12)
KINDS = ("scheduled", "departed", "arrived", "cancelled", "diverted", "corrected")


def event(flight: int, kind: str, minutes: int, number: int = 0, version: int = 0, **values: Any) -> Row:
    "An event of a flight scheduled at noon of 1 March, so many minutes after noon."
    facts: dict[str, Any] = {
        "event_id": number or flight * 1000 + minutes * 10 + KINDS.index(kind), "event_type": kind, "event_time": NOON + timedelta(minutes=minutes),
        "flight_id": flight, "time_hour": NOON, "carrier": "B6", "flight": flight, "origin": "JFK", "dest": "BOS", "scheduled_at": NOON,
        "sched_arr_time": 1310, "dep_delay": None, "arr_delay": None, "tailnum": "N1", "air_time": None, "distance": 187.0, "bronze_version": version,
    }  # fmt: skip
    assert set(values) <= set(facts)
    return Row(**{**facts, **values})


TOLD: list[Row] = []  # the events of all cases


@dataclass(frozen=True)
class Found:
    "What the events of all cases lead to: rows of silver.flights and of gold.departures by flight, and rows of movements and of legs."

    flights: dict[int, Row]
    departures: dict[int, Row]
    movements: list[Row]
    legs: list[Row]


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> Found:
    flights = build_flights(apply_corrections(latest_events(spark.createDataFrame(TOLD, t.SILVER_FLIGHT_EVENTS.schema)))).collect()
    rows = spark.createDataFrame(flights, t.SILVER_FLIGHTS.schema)
    by_flight = [{row.flight_id: row for row in some} for some in (flights, departures(rows).collect())]
    return Found(*by_flight, movements(rows).collect(), legs(rows).collect())


CONTRADICTIONS: list[tuple[str, bool, list[Row]]] = [
    ("arrived", True, [event(1, "arrived", 60, arr_delay=5, dep_delay=4), event(1, "cancelled", 90)]),
    ("arrived", False, [event(2, "arrived", 60, arr_delay=5, dep_delay=4), event(2, "departed", 95, dep_delay=95)]),
    ("arrived", True, [event(3, "arrived", 60, arr_delay=5, dep_delay=4), event(3, "diverted", 70)]),
    ("arrived", True, [event(4, "arrived", 60, arr_delay=5), event(4, "arrived", 75, arr_delay=20)]),
    ("departed", False, [event(5, "cancelled", 0), event(5, "departed", 60, dep_delay=60)]),
    ("cancelled", False, [event(6, "departed", 4, dep_delay=4), event(6, "cancelled", 40)]),
    ("cancelled", False, [event(7, "scheduled", 0), event(7, "cancelled", 0)]),
    ("diverted", True, [event(8, "cancelled", 0), event(8, "diverted", 70)]),
    ("scheduled", False, [event(9, "scheduled", -1440)]),
]
TOLD += [told for _, _, story in CONTRADICTIONS for told in story]


def test_contradictions_have_one_answer_each(found: Found) -> None:
    rows = [found.flights[flight] for flight in range(1, 10)]
    assert [(row.status, row.contradicted) for row in rows] == [(status, contradicted) for status, contradicted, _ in CONTRADICTIONS]
    assert rows[3].arr_delay == 20  # two landings: the later one, until somebody corrects it


DAYS = 2 * 1440
TOLD += [
    event(11, "arrived", 80, dep_delay=4, arr_delay=20, air_time=51.0),
    event(11, "corrected", DAYS, dep_delay=4, arr_delay=12, air_time=50.0, tailnum="N2"),
]


def test_a_late_correction_does_not_reopen_an_arrived_flight_and_moves_its_landing(found: Found) -> None:
    row = found.flights[11]
    assert (row.status, row.arr_delay, row.air_time, row.tailnum) == ("arrived", 12, 50.0, "N2")
    assert (row.arrived_at, row.corrected_at) == (NOON + timedelta(minutes=72), NOON + timedelta(minutes=DAYS))
    assert (row.last_event_at, row.contradicted) == (NOON + timedelta(minutes=DAYS), False)


TOLD += [
    event(12, "corrected", 900, arr_delay=40),
    event(12, "corrected", 800, arr_delay=30, air_time=9.0),
    event(12, "arrived", 80, dep_delay=4, arr_delay=20, air_time=51.0),
]


def test_of_two_corrections_the_later_one_holds_and_a_value_it_does_not_name_is_the_landings(found: Found) -> None:
    row = found.flights[12]
    assert (row.arr_delay, row.air_time, row.arrived_at) == (40, 51.0, NOON + timedelta(minutes=100))


TOLD += [
    event(21, "corrected", 900, arr_delay=40),
    event(22, "departed", 4, dep_delay=4),
    event(22, "corrected", 900, dep_delay=6, arr_delay=40),
    event(23, "corrected", 30, dep_delay=50),
    event(23, "arrived", 80, dep_delay=5, arr_delay=20),
    event(24, "cancelled", 0),
    event(24, "corrected", 900, dep_delay=6, arr_delay=40),
]


def test_a_correction_waits_for_what_it_corrects(found: Found) -> None:
    "Alone it makes no flight; of a departed flight it corrects the departure and lands nothing; one from before the arrival is outdated."
    rows = [row for flight, row in sorted(found.flights.items()) if flight in range(21, 25)]
    assert [(r.flight_id, r.status, r.dep_delay, r.arr_delay, r.arrived_at) for r in rows] == [
        (22, "departed", 6, None, None),
        (23, "arrived", 5, 20, NOON + timedelta(minutes=80)),
        (24, "cancelled", None, None, None),
    ]


TOLD += [event(31, "arrived", 80, arr_delay=20), event(31, "corrected", 900, arr_delay=12), event(32, "arrived", 80, arr_delay=20)]


def test_a_corrected_label_is_known_from_the_correction_on(found: Found) -> None:
    labels = {flight: (found.departures[flight].late, found.departures[flight].label_time) for flight in (31, 32)}
    assert labels == {31: (False, NOON + timedelta(minutes=900)), 32: (True, NOON + timedelta(minutes=80))}


def left(flight: int, **place: str) -> list[Row]:
    "A flight that departed and arrived."
    return [event(flight, "departed", 5, dep_delay=5, **place), event(flight, "arrived", 70, dep_delay=5, arr_delay=0, **place)]


TOLD += [*left(41, carrier="C1", tailnum="N41"), *left(42, carrier="C2", tailnum="N42")]
TOLD += [
    event(42, "corrected", 1400, carrier="C2", dep_delay=65, arr_delay=60, tailnum="N99", dest="MIA", distance=1089.0, sched_arr_time=1400)
]


def test_a_correction_after_the_fact_is_the_label_s_alone_and_changes_no_feature_of_the_past(found: Found) -> None:
    "Two flights that are alike but for carrier and aircraft; the second one is corrected a day later."

    def without(rows: Sequence[Row], name: str, value: str) -> list[str]:
        "The rows of one carrier or aircraft, as text without its name."
        return sorted(str(sorted((k, v) for k, v in row.asDict().items() if k != name)) for row in rows if row[name] == value)

    for rows, name, uncorrected, corrected_later in ((found.movements, "carrier", "C1", "C2"), (found.legs, "tailnum", "N41", "N42")):
        assert without(rows, name, uncorrected) == without(rows, name, corrected_later)
        assert len(without(rows, name, uncorrected)) == 2
    assert "N99" not in {row.tailnum for row in found.legs}
    before, after = found.departures[41], found.departures[42]
    inputs = ("dest", "distance", "scheduled_arrival_minute", "tailnum")
    assert [before[c] for c in inputs] == ["BOS", 187.0, 790, "N41"]
    assert [after[c] for c in inputs] == ["BOS", 187.0, 790, "N42"]
    assert (before.late, after.late) == (False, True)
    assert after.label_time == NOON + timedelta(minutes=1400)


def test_any_order_and_any_split_into_deliveries_gives_the_flights_of_all_events_at_once(spark: SparkSession) -> None:
    "Forty stories of six flights each, told in any order, and each cut into up to three deliveries where chance will have it."
    draw, deliveries = random.Random(7), [[], [], []]  # type: ignore[var-annotated]
    for story in range(1, 41):
        told = {(draw.randint(1, 6), draw.choice(KINDS), draw.randint(0, 60)) for _ in range(draw.randint(8, 40))}
        cuts = sorted(draw.choices(range(len(told) + 1), k=2))
        for n, (flight, kind, minutes) in enumerate(draw.sample(sorted(told), len(told))):
            delays = {"dep_delay": minutes, "arr_delay": minutes if kind in ("arrived", "corrected") else None}
            deliveries[(n >= cuts[0]) + (n >= cuts[1])].append(event(story * 10 + flight, kind, minutes, **delays))
    lake, schema = Lakehouse(spark, prefix="test_merging_"), t.SILVER_FLIGHT_EVENTS.schema
    for version, part in enumerate(deliveries):
        rows = [Row(**{**told.asDict(), "bronze_version": version}) for told in part]
        append(lake, t.SILVER_FLIGHT_EVENTS, spark.createDataFrame(rows, schema), note={"bronze_version": version}, unique=True)
        update_flights(lake)
    at_once = build_flights(apply_corrections(latest_events(spark.createDataFrame([told for part in deliveries for told in part], schema))))
    facts = [c for c in t.SILVER_FLIGHTS.schema.names if c != "bronze_version"]
    expected, found = ({r.flight_id: r for r in rows.select(facts).collect()} for rows in (at_once, read(lake, t.SILVER_FLIGHTS)))
    assert len(expected) > 200
    assert found == expected


def test_the_latest_state_is_that_of_a_plain_sort_whatever_the_order(spark: SparkSession) -> None:
    "A hundred stories of three flights, in any order."
    draw, rank = random.Random(7), {"scheduled": 0, "departed": 1}
    told = [
        (story * 10 + draw.randint(1, 3), draw.choice(KINDS[:5]), draw.randint(0, 3), n)
        for story in range(100)
        for n in range(draw.randint(1, 12))
    ]
    expected = {}
    for flight, kind, at, n in sorted(told, key=lambda e: (e[1] == "arrived", e[2], rank.get(e[1], 2), e[3])):
        expected[flight] = (kind, at, n)
    draw.shuffle(told)
    rows = spark.createDataFrame(
        [(*e, 1) for e in told], "flight_id bigint, event_type string, event_time int, event_id bigint, bronze_version bigint"
    )
    assert {r.flight_id: (r.event_type, r.event_time, r.event_id) for r in latest_events(rows).collect()} == expected


def test_the_correction_of_a_report_wins_over_the_report_in_whatever_order_they_come(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("EWR", 1, 30.0, "01.csv", 5), ("EWR", 1, 31.0, "02.csv", 2), ("JFK", 1, 29.0, "01.csv", 2), ("JFK", 1, 28.0, "01.csv", 3)],
        "origin string, hour int, temp double, source_file string, bronze_version bigint",
    )
    found = newest_per_key(rows, ("origin", "hour"), ("source_file", "bronze_version"))
    assert {(r.origin, r.temp) for r in found.collect()} == {("EWR", 31.0), ("JFK", 28.0)}
