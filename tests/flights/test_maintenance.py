"Maintenance between the stages: what is computed after it is what would have been computed without it."

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse.features.refresh import refresh_table
from boathouse.tables.maintenance import maintain_tables
from boathouse.tables.table import Lakehouse, read
from boathouse.tables.versions import fingerprint
from boathouse.tables.writes import last_note
from flights import tables as t
from flights.bronze import bronze, end_of
from flights.features import CONGESTION
from flights.gold import gold
from flights.silver import silver

DAYS = (date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 3))
REPORT = "EWR,2013,1,1,1,39.02,26.06,59.37,270,10.35,NA,0,1012,10,2013-01-01T06:00:00Z"
NOW = datetime(2100, 1, 1)


def refine(lake: Lakehouse, day: date) -> None:
    silver(lake, end_of(day))
    gold(lake)
    refresh_table(lake, CONGESTION[0], end_of(day))


def content(lake: Lakehouse) -> dict[str, str]:
    "A fingerprint of each table; the version of bronze that a row came with counts commits, and upkeep is one."
    names = (t.SILVER_FLIGHTS, t.SILVER_FLIGHT_EVENTS, t.SILVER_WEATHER, t.GOLD_DEPARTURES, t.FEATURES_ORIGIN_CONGESTION)
    return {table.name: fingerprint(read(lake, table).drop("bronze_version")) for table in names}


# `make test` proves the parts: a refresh after OPTIMIZE in tests/kit/features/test_refresh.py, silver after one in the chapter flights.maintenance.
@pytest.mark.long(order=5, minutes=3)
def test_a_lake_that_is_tended_between_its_stages_comes_to_the_same_rows(
    spark: SparkSession, tmp_path: Path, stories: Callable[..., list[str]], deliver: Callable[..., None]
) -> None:
    "Silver has seen the first delivery and not the second; both are compacted into one file, and then the third comes."
    tended, plain = (Lakehouse(spark, prefix=f"test_{name}_") for name in ("tended", "plain"))
    told = {day: [line for line in stories(30, 1, 2) if line.split(",")[1].startswith(str(day))] for day in DAYS}  # as it became known
    assert all(told.values())
    for day in DAYS:
        deliver(tmp_path, str(day), told[day], [REPORT] if day == DAYS[0] else [])
        bronze(tended, tmp_path, end_of(day))
        if day == DAYS[0]:
            refine(tended, day)
        if day == DAYS[1]:
            upkept = maintain_tables(
                tended, [t.BRONZE_FLIGHT_EVENTS, t.SILVER_FLIGHT_EVENTS, t.SILVER_FLIGHTS, t.GOLD_DEPARTURES], NOW, "a run"
            )
    files = {upkeep.table_name: (upkeep.files_before, upkeep.files_after, upkeep.not_vacuumed) for upkeep in upkept}
    assert files["bronze.flight_events"] == (2, 1, None)
    assert last_note(tended, t.SILVER_FLIGHTS) == {"bronze_version": 1}
    refine(tended, DAYS[2])
    bronze(plain, tmp_path, end_of(DAYS[2]))
    refine(plain, DAYS[2])
    assert content(tended) == content(plain)
    assert read(tended, t.GOLD_DEPARTURES).where("late IS NOT NULL").count() > 20
    for lake in (tended, plain):
        counted = read(lake, t.MONITORING_QUALITY_METRICS).where("table_name = 'silver.flight_events' AND rule = 'distance'")
        assert sum(row.checked for row in counted.collect()) == sum(map(len, told.values()))
