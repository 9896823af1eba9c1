"Maintenance between the stages: what is computed after it is what would have been computed without it."

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pyspark.sql import SparkSession

from boathouse.maintenance import maintain, vacuum
from boathouse.tables import Lakehouse, drop_all, read
from boathouse.versions import fingerprint
from boathouse.writes import last_note
from flights import tables as t
from flights.bronze import bronze, end_of
from flights.features import refresh_group
from flights.gold import gold
from flights.replay import WEATHER_COLUMNS, events, instants, read_text, zones_of_airports
from flights.silver import silver

DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")
NOW = datetime(2100, 1, 1)


def stories() -> dict[str, list[str]]:
    "The events of some flights of 2 January, by the day on which they became known."
    flights = read_text("flights")
    first = [row == ("1", "2") for row in zip(flights["month"].to_pylist(), flights["day"].to_pylist(), strict=True)]
    some = flights.filter(first).slice(0, 30)
    told = events(some, instants(some, zones_of_airports()))["line"].tolist()
    return {day: [line for line in told if line.split(",")[1].startswith(day)] for day in DAYS}


def land(landing: Path, day: str, lines: Sequence[str]) -> None:
    report = f"EWR,2013,1,{int(day[-2:])},1,39.02,26.06,59.37,270,10.35,NA,0,1012,10,{day}T06:00:00Z"
    for folder, columns, rows in (("flight_events", t.FLIGHT_EVENT_COLUMNS, lines), ("weather", WEATHER_COLUMNS, [report])):
        (landing / folder).mkdir(parents=True, exist_ok=True)
        (landing / folder / f"{day}.csv").write_text("\n".join([",".join(columns), *rows]) + "\n")


def refine(lake: Lakehouse, day: str) -> None:
    silver(lake, end_of(day))
    gold(lake)
    for group in ("weather", "congestion"):
        refresh_group(lake, group, day)


def content(lake: Lakehouse) -> dict[str, str]:
    "A fingerprint of each table; the version of bronze that a row came with counts commits, and upkeep is one."
    names = (
        t.SILVER_FLIGHTS,
        t.SILVER_FLIGHT_EVENTS,
        t.SILVER_WEATHER,
        t.GOLD_DEPARTURES,
        t.FEATURES_WEATHER,
        t.FEATURES_ORIGIN_CONGESTION,
    )
    return {table.name: fingerprint(read(lake, table).drop("bronze_version")) for table in names}


def test_a_lake_that_is_tended_between_its_stages_comes_to_the_same_rows(spark: SparkSession, tmp_path: Path) -> None:
    told, tended, plain = stories(), Lakehouse(spark, prefix="test_tended_"), Lakehouse(spark, prefix="test_plain_")
    for lake in (tended, plain):
        drop_all(lake)
    assert all(told.values())
    for day in DAYS[:2]:
        land(tmp_path, day, told[day])
        bronze(tended, tmp_path, end_of(day))
        if day == DAYS[0]:
            refine(tended, day)
    # Silver has seen the first delivery and not the second, and both are compacted into one file.
    done = {upkeep.table_name: upkeep for upkeep in maintain(tended, t.ALL, datetime(2013, 1, 3), "a run")}
    assert done["bronze.flight_events"].files_after == 1 < done["bronze.flight_events"].files_before
    assert vacuum(tended, t.BRONZE_FLIGHT_EVENTS, NOW) is None
    note = last_note(tended, t.SILVER_FLIGHTS)
    assert note["bronze_version"] == 1
    for day in DAYS[1:]:
        land(tmp_path, day, told[day])
        bronze(tended, tmp_path, end_of(day))
        bronze(plain, tmp_path, end_of(day))
        refine(tended, day)
        if day == DAYS[2]:
            refine(plain, day)
    assert content(tended) == content(plain)
    for lake in (tended, plain):
        events = read(lake, t.MONITORING_QUALITY_METRICS).where("table_name = 'silver.flight_events' AND rule = 'distance'")
        assert sum(row.checked for row in events.collect()) == sum(map(len, told.values()))
        drop_all(lake)
