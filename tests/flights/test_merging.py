from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import Row, SparkSession

from boathouse.tables import Lakehouse, drop_all, read
from boathouse.writes import append
from flights import tables as t
from flights.features import legs, movements
from flights.gold import departures
from flights.merging import corrected, flights_of, latest, newest, update_flights

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


def states(spark: SparkSession, *told: Row) -> list[Row]:
    "The rows of silver.flights that these events lead to."
    events = spark.createDataFrame(list(told), t.SILVER_FLIGHT_EVENTS.schema)
    return flights_of(corrected(latest(events))).orderBy("flight_id").collect()


def test_contradictions_have_one_answer_each(spark: SparkSession) -> None:
    "All cases in one frame: a flight a case."
    cases: list[tuple[str, bool, list[Row]]] = [
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
    found = states(spark, *[told for _, _, story in cases for told in story])
    assert [(row.status, row.contradicted) for row in found] == [(status, contradicted) for status, contradicted, _ in cases]
    assert found[3].arr_delay == 20  # two landings: the later one, until somebody corrects it


def test_a_late_correction_does_not_reopen_an_arrived_flight_and_moves_its_landing(spark: SparkSession) -> None:
    landing = event(1, "arrived", 80, dep_delay=4, arr_delay=20, air_time=51.0)
    days = 2 * 1440
    (row,) = states(spark, landing, event(1, "corrected", days, dep_delay=4, arr_delay=12, air_time=50.0, tailnum="N2"))
    assert (row.status, row.arr_delay, row.air_time, row.tailnum) == ("arrived", 12, 50.0, "N2")
    assert (row.arrived_at, row.corrected_at) == (NOON + timedelta(minutes=72), NOON + timedelta(minutes=days))
    assert (row.last_event_at, row.contradicted) == (NOON + timedelta(minutes=days), False)


def test_of_two_corrections_the_later_one_holds_and_a_value_it_does_not_name_is_the_landings(spark: SparkSession) -> None:
    landing = event(1, "arrived", 80, dep_delay=4, arr_delay=20, air_time=51.0)
    corrections = [event(1, "corrected", 900, arr_delay=40), event(1, "corrected", 800, arr_delay=30, air_time=9.0)]
    (row,) = states(spark, *corrections, landing)
    assert (row.arr_delay, row.air_time, row.arrived_at) == (40, 51.0, NOON + timedelta(minutes=100))


def test_a_correction_waits_for_what_it_corrects(spark: SparkSession) -> None:
    "Alone it makes no flight; of a departed flight it corrects the departure and lands nothing; one from before the arrival is outdated."
    found = states(
        spark,
        event(1, "corrected", 900, arr_delay=40),
        event(2, "departed", 4, dep_delay=4),
        event(2, "corrected", 900, dep_delay=6, arr_delay=40),
        event(3, "corrected", 30, dep_delay=50),
        event(3, "arrived", 80, dep_delay=5, arr_delay=20),
        event(4, "cancelled", 0),
        event(4, "corrected", 900, dep_delay=6, arr_delay=40),
    )
    told = [(r.flight_id, r.status, r.dep_delay, r.arr_delay, r.arrived_at) for r in found]
    assert told == [
        (2, "departed", 6, None, None),
        (3, "arrived", 5, 20, NOON + timedelta(minutes=80)),
        (4, "cancelled", None, None, None),
    ]


def test_a_corrected_label_is_known_from_the_correction_on(spark: SparkSession) -> None:
    told = [event(1, "arrived", 80, arr_delay=20), event(1, "corrected", 900, arr_delay=12), event(2, "arrived", 80, arr_delay=20)]
    rows = flights_of(corrected(latest(spark.createDataFrame(told, t.SILVER_FLIGHT_EVENTS.schema))))
    labels = {r.flight_id: (r.late, r.label_time) for r in departures(rows).collect()}
    assert labels == {1: (False, NOON + timedelta(minutes=900)), 2: (True, NOON + timedelta(minutes=80))}


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_merging_")
    yield lake
    drop_all(lake)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(KINDS), st.integers(0, 60)), min_size=8, max_size=40, unique=True),
    st.lists(st.integers(1, 39), min_size=1, max_size=2),
    st.randoms(),
)
def test_any_order_and_any_split_into_deliveries_gives_the_flights_of_all_events_at_once(
    lake: Lakehouse, told: list[tuple[int, str, int]], cuts: list[int], order: random.Random
) -> None:
    events = [event(f, kind, m, dep_delay=m, arr_delay=m if kind in ("arrived", "corrected") else None) for f, kind, m in told]
    expected = {r.flight_id: r for r in states(lake.spark, *events)}
    order.shuffle(events)
    drop_all(lake)
    edges = [0, *sorted({c for c in cuts if c < len(events)}), len(events)]
    for version, (low, high) in enumerate(pairwise(edges)):
        rows = [Row(**{**e.asDict(), "bronze_version": version}) for e in events[low:high]]
        append(
            lake, t.SILVER_FLIGHT_EVENTS, lake.spark.createDataFrame(rows, t.SILVER_FLIGHT_EVENTS.schema), note={"bronze_version": version}
        )
        update_flights(lake)
    facts = [c for c in t.SILVER_FLIGHTS.schema.names if c != "bronze_version"]
    found = {r.flight_id: [r[c] for c in facts] for r in read(lake, t.SILVER_FLIGHTS).collect()}
    assert found == {f: [r[c] for c in facts] for f, r in expected.items()}


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(KINDS[:5]), st.integers(0, 3)), min_size=1, max_size=12), st.randoms())
def test_the_latest_state_is_that_of_a_plain_sort_whatever_the_order(
    spark: SparkSession, told: list[tuple[int, str, int]], order: random.Random
) -> None:
    rank = {"scheduled": 0, "departed": 1}
    told = [(flight, kind, at, n) for n, (flight, kind, at) in enumerate(told)]
    expected = {}
    for flight, kind, at, n in sorted(told, key=lambda e: (e[1] == "arrived", e[2], rank.get(e[1], 2), e[3])):
        expected[flight] = (kind, at, n)
    order.shuffle(told)
    rows = spark.createDataFrame(
        [(*e, 1) for e in told], "flight_id bigint, event_type string, event_time int, event_id bigint, bronze_version bigint"
    )
    assert {r.flight_id: (r.event_type, r.event_time, r.event_id) for r in latest(rows).collect()} == expected


def test_the_correction_of_a_report_wins_over_the_report_in_whatever_order_they_come(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("EWR", 1, 30.0, "01.csv", 5), ("EWR", 1, 31.0, "02.csv", 2), ("JFK", 1, 29.0, "01.csv", 2), ("JFK", 1, 28.0, "01.csv", 3)],
        "origin string, hour int, temp double, source_file string, bronze_version bigint",
    )
    found = newest(rows, ("origin", "hour"), ("source_file", "bronze_version"))
    assert {(r.origin, r.temp) for r in found.collect()} == {("EWR", 31.0), ("JFK", 28.0)}


def test_a_correction_after_the_fact_is_the_label_s_alone_and_changes_no_feature_of_the_past(spark: SparkSession) -> None:
    left = [
        event(1, "departed", 5, dep_delay=5, tailnum="N1", dest="BOS", distance=187.0, sched_arr_time=1310),
        event(1, "arrived", 70, dep_delay=5, arr_delay=0, tailnum="N1", dest="BOS", distance=187.0, sched_arr_time=1310),
    ]
    right = event(1, "corrected", 1400, dep_delay=65, arr_delay=60, tailnum="N2", dest="MIA", distance=1089.0, sched_arr_time=1400)

    def known(*told: Row) -> tuple[list, list, Row]:
        flights = flights_of(corrected(latest(spark.createDataFrame(list(told), t.SILVER_FLIGHT_EVENTS.schema))))
        moves = sorted(map(tuple, movements(flights).collect()), key=str)
        return moves, sorted(map(tuple, legs(flights).collect()), key=str), departures(flights).first()

    before, after = known(*left), known(*left, right)
    assert before[:2] == after[:2]
    assert len(before[0]) == len(before[1]) == 2
    inputs = ("tailnum", "dest", "distance", "scheduled_arrival_minute")
    assert [before[2][c] for c in inputs] == [after[2][c] for c in inputs] == ["N1", "BOS", 187.0, 790]
    assert (before[2].late, after[2].late) == (False, True)
    assert after[2].label_time == NOON + timedelta(minutes=1400)
