"""Lines back from quarantine: after a repair, or a change of the rules, silver and gold are what they would be had the lines been right at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.quality import quarantine
from boathouse.quality.rules import Rule
from boathouse.tables.table import Lakehouse, read
from boathouse.tables.versions import fingerprint, version_of
from flights import requeue as requeue_module
from flights import silver as silver_module
from flights import tables as t
from flights.bronze import bronze, end_of
from flights.gold import gold
from flights.requeue import requeue_silver
from flights.trace import delivered_lines

AT = end_of(date(2013, 2, 12))  # the day of `refine`
FLIGHTS = [c.name for c in t.SILVER_FLIGHTS.columns if c.name != "bronze_version"]
GOLD = [c.name for c in t.GOLD_DEPARTURES.columns if c.name != "bronze_version"]


def content(lake: Lakehouse) -> list[str]:
    "Flights, departures and weather, but for the versions of bronze and the files that brought them."
    wanted = ((t.SILVER_FLIGHTS, FLIGHTS), (t.GOLD_DEPARTURES, GOLD), (t.SILVER_WEATHER, ["origin", "time_hour", "temp"]))
    return [fingerprint(read(lake, table).select(columns)) for table, columns in wanted]


def lies(lake: Lakehouse) -> set[tuple]:
    "What became of the quarantined lines: reason, and the run that sent them on."
    tables = (t.SILVER_FLIGHT_EVENTS_QUARANTINE, t.SILVER_WEATHER_QUARANTINE)
    return {tuple(row) for table in tables for row in read(lake, table).select("_reason", "_requeued_run").collect()}


def whole(lines: DataFrame) -> DataFrame:
    return lines.withColumn("air_time", F.regexp_replace("air_time", " min$", ""))


def fahrenheit(lines: DataFrame) -> DataFrame:
    return lines.withColumn("temp", F.regexp_replace("temp", "F$", ""))


FIXES = {t.SILVER_FLIGHT_EVENTS.name: whole, t.SILVER_WEATHER.name: fahrenheit}
READABLE = "a value does not fit its type"


@pytest.fixture(scope="module")
def right(calm_lake: Lakehouse) -> list[str]:
    "What comes out if every line is right at once."
    return content(calm_lake)


@pytest.fixture(scope="module")
def reports(weather_report: Callable[[int, str], str]) -> list[str]:
    return [weather_report(1, "39.02"), weather_report(2, "41")]


def test_repaired_lines_come_into_silver_and_gold_once_wherever_the_job_dies(
    right: list[str],
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stories: Callable[..., list[str]],
    deliver: Callable[..., None],
    refine: Callable[[Lakehouse, Path], None],
    reports: list[str],
) -> None:
    lake, lines = Lakehouse(spark, prefix="test_repaired_requeue_"), stories(12)
    arrival = next(line for line in lines if line.startswith("arrived"))
    fields = arrival.split(",")
    at = t.FLIGHT_EVENT_COLUMNS.index("air_time")
    spoilt = ",".join([*fields[:at], fields[at] + " min", *fields[at + 1 :]])
    deliver(
        tmp_path,
        "a",
        [spoilt if line == arrival else line for line in lines] + [spoilt, "noise"],
        [reports[0].replace("39.02", "39.02F"), reports[1]],
    )
    refine(lake, tmp_path)
    assert content(lake) != right
    assert lies(lake) == {(READABLE, None), ("1 field where 21 are declared", None)}

    def dies(*_: object) -> None:
        raise ConnectionAbortedError("the machine went away")

    for room, step in ((requeue_module, "add_events"), (quarantine, "mark_requeued"), (requeue_module, "update_flights")):
        with monkeypatch.context() as patch:
            patch.setattr(room, step, dies)
            with pytest.raises(ConnectionAbortedError):
                requeue_silver(lake, AT, "fix", FIXES)
    assert requeue_silver(lake, AT, "fix", FIXES) == {
        "silver.flight_events": 0,
        "silver.weather": 0,
    }  # all had been sent on, but for the flights
    gold(lake)
    assert content(lake) == right
    assert lies(lake) == {(READABLE, "fix"), ("1 field where 21 are declared", None)}
    versions = [version_of(lake, table) for table in (t.BRONZE_FLIGHT_EVENTS, t.SILVER_FLIGHT_EVENTS, t.SILVER_FLIGHT_EVENTS_QUARANTINE)]
    assert read(lake, t.BRONZE_FLIGHT_EVENTS).count() == len(lines) + 2
    bronze(lake, tmp_path, AT)
    requeue_silver(lake, AT, "again", FIXES)
    assert versions == [
        version_of(lake, table) for table in (t.BRONZE_FLIGHT_EVENTS, t.SILVER_FLIGHT_EVENTS, t.SILVER_FLIGHT_EVENTS_QUARANTINE)
    ]


def test_lines_that_a_rule_refused_by_mistake_go_on_when_it_is_gone_and_what_comes_later_is_not_missed(
    right: list[str],
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stories: Callable[..., list[str]],
    deliver: Callable[..., None],
    refine: Callable[[Lakehouse, Path], None],
    reports: list[str],
) -> None:
    lake, lines = Lakehouse(spark, prefix="test_mistaken_requeue_"), stories(12)
    number = next(line for line in lines if line.startswith("arrived")).split(",")[t.FLIGHT_EVENT_COLUMNS.index("flight")]
    mistake = (*silver_module.EVENT_RULES, Rule("mistake", f"flight != {number}", reason="nobody knows why"))
    deliver(tmp_path, "a", lines[:-5], reports)
    with monkeypatch.context() as patch:
        patch.setattr(silver_module, "EVENT_RULES", mistake)
        patch.setattr(silver_module, "EVENTS", dataclasses.replace(silver_module.EVENTS, rules=mistake))
        refine(lake, tmp_path)
    assert lies(lake) == {("nobody knows why", None)}
    deliver(tmp_path, "b", lines[-5:], [])
    bronze(lake, tmp_path, AT)  # silver has not seen these when the lines are requeued
    before = ", ".join(f"{name} = NULL" for name in ("_id", "_run", "_rule_set", "_quarantined_at"))  # as lines were rejected once
    spark.sql(f"UPDATE {lake.name(t.SILVER_FLIGHT_EVENTS_QUARANTINE)} SET {before}")
    sent = requeue_silver(lake, AT, "rule")["silver.flight_events"]
    assert sent == sum(line.split(",")[t.FLIGHT_EVENT_COLUMNS.index("flight")] == number for line in lines[:-5])
    gold(lake)
    assert content(lake) == right
    assert lies(lake) == {("nobody knows why", "rule")}
    flight = read(lake, t.SILVER_FLIGHTS).where(f"flight = {number}").first().flight_id
    assert {(row.became, row.reason) for row in delivered_lines(lake, flight).collect()} == {("event", None)}
