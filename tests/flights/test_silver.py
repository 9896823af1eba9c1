from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from boathouse.tables.contracts import ContractViolation
from boathouse.tables.table import Lakehouse, Table, read
from boathouse.tables.versions import fingerprint
from boathouse.tables.writes import last_note
from flights import merging
from flights import silver as silver_module
from flights import tables as t
from flights.bronze import bronze, end_of
from flights.silver import deduplicate, silver

FACTS = [c.name for c in t.SILVER_FLIGHTS.columns if c.name != "bronze_version"]
EVENT_FACTS = [c.name for c in t.SILVER_FLIGHT_EVENTS.columns if c.name != "bronze_version"]
REPORT = "EWR,2013,1,1,1,39.02,26.06,59.37,270,10.35,NA,0,1012,10,2013-01-01T06:00:00Z"


def run(lake: Lakehouse, landing: Path) -> None:
    bronze(lake, landing, end_of(date(2013, 2, 12)))
    silver(lake, end_of(date(2013, 2, 12)))


def content(lake: Lakehouse) -> dict[str, str]:
    flights, told = read(lake, t.SILVER_FLIGHTS).select(FACTS), read(lake, t.SILVER_FLIGHT_EVENTS).select(EVENT_FACTS)
    return {
        "flights": fingerprint(flights),
        "events": fingerprint(told),
        "weather": fingerprint(read(lake, t.SILVER_WEATHER).drop("source_file")),
    }


@pytest.fixture(scope="module")
def whole(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, stories: Callable[..., list[str]], deliver: Callable[..., None]
) -> Lakehouse:
    "Silver of all the stories, delivered in order, in one file."
    lake, landing = Lakehouse(spark, prefix="test_whole_silver_"), tmp_path_factory.mktemp("whole")
    deliver(landing, "all", stories(40), [REPORT])
    run(lake, landing)
    return lake


def test_each_flight_has_one_row_in_the_state_its_story_ends_in(whole: Lakehouse, stories: Callable[..., list[str]]) -> None:
    ends = {"arrived": 0, "cancelled": 0, "diverted": 0}
    for line in stories(40):
        kind = line.split(",", 1)[0]
        if kind in ends:
            ends[kind] += 1
    counts = {r.status: r["count"] for r in read(whole, t.SILVER_FLIGHTS).groupBy("status").count().collect()}
    assert counts == {kind: n for kind, n in ends.items() if n}
    assert sum(counts.values()) == 40


def crash(patch: pytest.MonkeyPatch) -> None:
    "The third commit of silver fails."
    left = iter(range(2))

    def dies(write: Callable[..., object]) -> Callable[..., object]:
        def maybe(*args: object, **more: object) -> object:
            if next(left, None) is None:
                raise ConnectionAbortedError("the machine went away")
            return write(*args, **more)

        return maybe

    for room, name in ((silver_module, "append_rejected"), (silver_module, "append"), (silver_module, "merge"), (merging, "replace")):
        patch.setattr(room, name, dies(getattr(room, name)))


def drop(patch: pytest.MonkeyPatch) -> None:
    "Somebody drops the events while they are added to."
    append = silver_module.append

    def late(lake: Lakehouse, table: Table, *args: object, **more: object) -> None:
        if table == t.SILVER_FLIGHT_EVENTS:
            lake.spark.sql(f"DROP TABLE {lake.name(table)}")
        append(lake, table, *args, **more)

    patch.setattr(silver_module, "append", late)


def test_shuffled_deliveries_with_duplicates_a_crash_and_a_dropped_table_give_the_same_silver(
    whole: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stories: Callable[..., list[str]], deliver: Callable[..., None]
) -> None:
    lake, lines = Lakehouse(whole.spark, prefix="test_shuffled_silver_"), stories(40)
    random.Random(7).shuffle(lines)
    parts = (
        (lines[:75], crash, ConnectionAbortedError, "the machine went away"),
        (
            lines[70:] + lines[60:65],
            drop,
            ContractViolation,
            "silver.flight_events was dropped while its rows were computed, but must exist",
        ),
    )
    for part, trouble, error, said in parts:
        deliver(tmp_path, trouble.__name__, part, [REPORT])
        with monkeypatch.context() as patch:
            trouble(patch)
            with pytest.raises(error, match=said):
                run(lake, tmp_path)
        run(lake, tmp_path)
    assert content(lake) == content(whole)
    checked = read(lake, t.MONITORING_QUALITY_METRICS).where("table_name = 'silver.flight_events' AND rule = 'distance'")
    assert sum(r.checked for r in checked.collect()) == len(lines) + 10
    before = last_note(lake, t.SILVER_FLIGHTS)
    run(lake, tmp_path)
    assert last_note(lake, t.SILVER_FLIGHTS) == before


@dataclass(frozen=True)
class Steps:
    "Three deliveries, one after the other: what silver holds after each, the counts by rule of the first, and its lines."

    lake: Lakehouse
    flights: list[set[Row]]
    events: list[set[Row]]
    weather: list[set[Row]]
    rejected: list[dict[str, Row]]
    counts: dict[str, tuple[int, int]]
    lines: list[str]
    last: str
    bad: dict[str, str]


@pytest.fixture(scope="module")
def steps(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, stories: Callable[..., list[str]], deliver: Callable[..., None]
) -> Steps:
    "Twelve flights, but for the landing of one, among lines that are no events; that landing; and nothing but a broken line."
    lake, landing = Lakehouse(spark, prefix="test_steps_silver_"), tmp_path_factory.mktemp("steps")
    lines = stories(12)
    good, last = [line for line in lines if line.startswith("arrived")][-2:]
    lines.remove(last)
    bad = {"event": good.replace("arrived", "teleported", 1), "time": good.replace(good.split(",")[1], "soon"),
           "half": good[:30], "noise": "noise"}  # fmt: skip
    found: list[list[Any]] = []
    for name, part in {"a": [*lines, *bad.values()], "b": [last], "c": ["not,an,event"]}.items():
        deliver(landing, name, part, [REPORT] if name == "a" else [])
        run(lake, landing)
        tables = (t.SILVER_FLIGHTS, t.SILVER_FLIGHT_EVENTS, t.SILVER_WEATHER, t.SILVER_FLIGHT_EVENTS_QUARANTINE)
        found.append([read(lake, table).collect() for table in tables])
    told = read(lake, t.MONITORING_QUALITY_METRICS).where("table_name = 'silver.flight_events'").orderBy("batch").collect()
    counts = {row.rule: (row.checked, row.failed) for row in told if row.batch == told[0].batch}
    flights, events, weather, rejected = zip(*found, strict=True)
    texts = [{row._raw: row for row in rows} for rows in rejected]
    reports = [{(row.origin, row.time_hour, row.temp) for row in rows} for rows in weather]
    return Steps(lake, [*map(set, flights)], [*map(set, events)], reports, texts, counts, lines, last, bad)


def test_a_later_event_changes_its_own_flight_and_nothing_that_was_before(steps: Steps) -> None:
    before, after = steps.flights[:2]
    changed = after - before
    assert len(after) == len(before) == 12
    assert [(r.status, r.flight) for r in changed] == [("arrived", int(steps.last.split(",")[12]))]
    assert {r.bronze_version for r in changed} == {max(r.bronze_version for r in before) + 1}
    assert steps.events[0] < steps.events[1]


def test_what_is_impossible_or_malformed_is_rejected_with_its_reason_and_its_text(steps: Steps) -> None:
    bad = steps.bad
    rejected = {text: (list(row._failed_rules), row.event_type) for text, row in steps.rejected[0].items()}
    assert rejected == {
        bad["event"]: (["known_event"], "teleported"),
        bad["time"]: (["readable", "in_time"], "arrived"),
        bad["half"]: (["well_formed"], None),
        bad["noise"]: (["well_formed"], None),
    }
    checked = len(steps.lines) + len(bad)
    assert steps.counts["well_formed"] == (checked, 2)
    assert steps.counts["distance"] == (checked, 0)
    assert set(steps.counts) == {rule.name for rule in silver_module.EVENT_RULES}


def test_a_delivery_of_nothing_but_broken_lines_changes_no_flight_and_is_done_with(steps: Steps) -> None:
    "There is no earliest event then, from which on to look at flights again."
    for held in (steps.flights, steps.events, steps.weather):
        assert held[2] == held[1]
    assert set(steps.rejected[2]) - set(steps.rejected[1]) == {"not,an,event"}
    assert last_note(steps.lake, t.SILVER_FLIGHTS) == last_note(steps.lake, t.SILVER_FLIGHT_EVENTS)


def test_a_duplicate_keeps_the_version_that_brought_it_first(whole: Lakehouse) -> None:
    some = read(whole, t.SILVER_FLIGHT_EVENTS).orderBy("event_id").limit(3)
    again = some.withColumn("bronze_version", some.bronze_version + 4)
    assert set(deduplicate(again.unionByName(some)).collect()) == set(deduplicate(some).collect())
