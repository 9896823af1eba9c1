from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse.contracts import ContractViolation
from boathouse.tables import Lakehouse, Table, drop_all, read
from boathouse.versions import fingerprint
from boathouse.writes import last_note
from flights import merging
from flights import silver as silver_module
from flights import tables as t
from flights.bronze import bronze, end_of
from flights.replay import WEATHER_COLUMNS, events, instants, read_text, zones_of_airports
from flights.silver import deduplicated, silver

FACTS = [c.name for c in t.SILVER_FLIGHTS.columns if c.name != "bronze_version"]
EVENT_FACTS = [c.name for c in t.SILVER_FLIGHT_EVENTS.columns if c.name != "bronze_version"]
REPORT = "EWR,2013,1,1,1,39.02,26.06,59.37,270,10.35,NA,0,1012,10,2013-01-01T06:00:00Z"


def stories(count: int = 40) -> list[str]:
    "The events of some flights of 9 February, the day after the storm: arrived, cancelled, diverted."
    flights = read_text("flights")
    day = flights.filter([y == ("2", "9") for y in zip(flights["month"].to_pylist(), flights["day"].to_pylist(), strict=True)])
    some = day.slice(0, count)
    return events(some, instants(some, zones_of_airports()))["line"].tolist()


def deliver(landing: Path, name: str, lines: Sequence[str]) -> None:
    for folder, columns, rows in (("flight_events", t.FLIGHT_EVENT_COLUMNS, lines), ("weather", WEATHER_COLUMNS, [REPORT])):
        (landing / folder).mkdir(parents=True, exist_ok=True)
        (landing / folder / f"{name}.csv").write_text("\n".join([",".join(columns), *rows]) + "\n")


def run(lake: Lakehouse, landing: Path) -> None:
    bronze(lake, landing, end_of("2013-02-12"))
    silver(lake, end_of("2013-02-12"))


def content(lake: Lakehouse) -> dict[str, str]:
    flights, told = read(lake, t.SILVER_FLIGHTS).select(FACTS), read(lake, t.SILVER_FLIGHT_EVENTS).select(EVENT_FACTS)
    return {
        "flights": fingerprint(flights),
        "events": fingerprint(told),
        "weather": fingerprint(read(lake, t.SILVER_WEATHER).drop("source_file")),
    }


@pytest.fixture(scope="module")
def whole(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lakehouse]:
    "Silver of all the stories, delivered in order, in one file."
    lake = Lakehouse(spark, prefix="test_whole_silver_")
    drop_all(lake)
    landing = tmp_path_factory.mktemp("whole")
    deliver(landing, "all", stories())
    run(lake, landing)
    yield lake
    drop_all(lake)


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_silver_")
    drop_all(lake)
    yield lake
    drop_all(lake)


def test_each_flight_has_one_row_in_the_state_its_story_ends_in(whole: Lakehouse) -> None:
    ends = {"arrived": 0, "cancelled": 0, "diverted": 0}
    for line in stories():
        kind = line.split(",", 1)[0]
        if kind in ends:
            ends[kind] += 1
    counts = {r.status: r["count"] for r in read(whole, t.SILVER_FLIGHTS).groupBy("status").count().collect()}
    assert counts == {kind: n for kind, n in ends.items() if n}
    assert sum(counts.values()) == 40


def crash(patch: pytest.MonkeyPatch) -> None:
    "The third commit of silver fails."
    left = iter(range(2))

    def dies(write: Callable[..., None]) -> Callable[..., None]:
        def maybe(*args: object, **more: object) -> None:
            if next(left, None) is None:
                raise ConnectionAbortedError("the machine went away")
            write(*args, **more)

        return maybe

    for room, name in ((silver_module, "append"), (silver_module, "merge"), (merging, "replace")):
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
    whole: Lakehouse, lake: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = stories()
    random.Random(7).shuffle(lines)
    parts = (
        (lines[:75], crash, ConnectionAbortedError, "the machine went away"),
        (lines[70:] + lines[60:65], drop, ContractViolation, "silver.flight_events was dropped while its rows were computed"),
    )
    for part, trouble, error, said in parts:
        deliver(tmp_path, trouble.__name__, part)
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


def test_a_later_event_changes_its_own_flight_and_nothing_that_was_before(lake: Lakehouse, tmp_path: Path) -> None:
    lines = stories(12)
    last = next(line for line in reversed(lines) if line.startswith("arrived"))
    deliver(tmp_path, "a", [line for line in lines if line != last])
    run(lake, tmp_path)
    flights, told = read(lake, t.SILVER_FLIGHTS).collect(), read(lake, t.SILVER_FLIGHT_EVENTS).collect()
    deliver(tmp_path, "b", [last])
    run(lake, tmp_path)
    after = read(lake, t.SILVER_FLIGHTS).collect()
    changed = set(after) - set(flights)
    assert len(after) == len(flights) == 12
    assert [(r.status, r.flight) for r in changed] == [("arrived", int(last.split(",")[12]))]
    assert {r.bronze_version for r in changed} == {max(r.bronze_version for r in flights) + 1}
    assert set(told) < set(read(lake, t.SILVER_FLIGHT_EVENTS).collect())


def test_what_is_impossible_or_malformed_is_rejected_with_its_reason_and_its_text(lake: Lakehouse, tmp_path: Path) -> None:
    good = stories(1)[-1]
    teleported = good.replace("arrived", "teleported", 1)
    timeless = good.replace(good.split(",")[1], "soon")
    deliver(tmp_path, "a", [good, teleported, timeless, good[:30], "noise"])
    run(lake, tmp_path)
    rejected = {r._raw: (list(r._failed_rules), r.event_type) for r in read(lake, t.SILVER_FLIGHT_EVENTS_QUARANTINE).collect()}
    assert rejected == {
        teleported: (["known_event"], "teleported"),
        timeless: (["readable", "in_time"], "arrived"),
        good[:30]: (["well_formed"], None),
        "noise": (["well_formed"], None),
    }
    counts = {
        r.rule: (r.checked, r.failed)
        for r in read(lake, t.MONITORING_QUALITY_METRICS).where("table_name = 'silver.flight_events'").collect()
    }
    assert counts["well_formed"] == (5, 2)
    assert counts["distance"] == (5, 0)
    assert set(counts) == {rule.name for rule in silver_module.EVENT_RULES}


def test_a_duplicate_keeps_the_version_that_brought_it_first(whole: Lakehouse) -> None:
    some = read(whole, t.SILVER_FLIGHT_EVENTS).orderBy("event_id").limit(3)
    again = some.withColumn("bronze_version", some.bronze_version + 4)
    assert set(deduplicated(again.unionByName(some)).collect()) == set(deduplicated(some).collect())


def test_a_delivery_of_nothing_but_broken_lines_changes_no_flight_and_is_done_with(spark: SparkSession, tmp_path: Path) -> None:
    "There is no earliest event then, from which on to look at flights again."
    lake = Lakehouse(spark, prefix="test_broken_delivery_")
    drop_all(lake)
    deliver(tmp_path, "first", stories(3))
    run(lake, tmp_path)
    before = content(lake)
    deliver(tmp_path, "second", ["not,an,event"])
    run(lake, tmp_path)
    assert content(lake) == before
    assert read(lake, t.SILVER_FLIGHT_EVENTS_QUARANTINE).count() == 1
    assert last_note(lake, t.SILVER_FLIGHTS) == last_note(lake, t.SILVER_FLIGHT_EVENTS)
    drop_all(lake)
