"The whole of 2013 with its dirt through replay, bronze, silver and gold; and two weeks of it with and without."

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from boathouse.ingest.csv_lines import split_lines
from boathouse.tables.table import Lakehouse, read
from boathouse.tables.versions import fingerprint
from flights import tables as t
from flights.silver import EVENT_TYPES, add_ids, parse_lines

FACTS = [c.name for c in t.SILVER_FLIGHTS.columns if c.name != "bronze_version"]
RULE_OF = {
    "event_type": "known_event",
    "event_time": "in_time",
    "dep_time": "clock",
    "dep_delay": "delay",
    "flight": "readable",
    "origin": "from_new_york",
}


@pytest.fixture(scope="module")
def compiled(spark: SparkSession) -> Iterator[None]:
    "A million rows are worth the code that is generated for them."
    interpreted = {name: spark.conf.get(name) for name in ("spark.sql.codegen.wholeStage", "spark.sql.codegen.factoryMode")}
    for name, value in zip(interpreted, ("true", "FALLBACK"), strict=True):
        spark.conf.set(name, value)
    yield
    for name, value in interpreted.items():
        spark.conf.set(name, value)


@pytest.fixture(scope="module")
def dirty(
    spark: SparkSession, compiled: None, tmp_path_factory: pytest.TempPathFactory, lived: Callable[..., Lakehouse]
) -> tuple[Lakehouse, Path]:
    lake, landing = Lakehouse(spark, prefix="test_year_dirty_"), tmp_path_factory.mktemp("dirty")
    return lived(lake, landing, "2014-01-01", dirt=1), landing


@pytest.fixture(scope="module")
def planted(dirty: tuple[Lakehouse, Path]) -> list[dict[str, str]]:
    with (dirty[1] / "_planted.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long(order=3, minutes=6)
def test_the_facts_of_the_year(dirty: tuple[Lakehouse, Path]) -> None:
    lake, _ = dirty
    flights = read(lake, t.SILVER_FLIGHTS)
    counts = {r.status: r["count"] for r in flights.groupBy("status").count().collect()}
    assert counts == {"arrived": 327_346, "cancelled": 8_255, "diverted": 1_175}
    labels = read(lake, t.GOLD_DEPARTURES).agg(F.count("*"), F.count("late"), F.count("label_time"), F.countDistinct("flight_id")).first()
    assert tuple(labels) == (336_776, 327_346, 327_346, 336_776)
    assert read(lake, t.SILVER_FLIGHT_EVENTS).count() == 1_002_073


def test_dirt_leaves_no_trace_in_the_facts(spark: SparkSession, tmp_path: Path, lived: Callable[..., Lakehouse]) -> None:
    dirty, pure = (
        lived(Lakehouse(spark, prefix=f"test_year_{name}_"), tmp_path / name, "2013-01-06", dirt)
        for name, dirt in (("soiled", 1), ("pure", 0))
    )
    # A line that dirt delays comes three days later at most: by the sixth, all is said of the flights of New Year's Day.
    reports = [c.name for c in t.SILVER_WEATHER.columns if c.name != "source_file"]  # a delayed line comes in another file
    told = {t.SILVER_FLIGHTS: (FACTS, "scheduled_at"), t.GOLD_DEPARTURES: (["*"], "scheduled_at"), t.SILVER_WEATHER: (reports, "time_hour")}
    for table, (columns, instant) in told.items():
        one, two = (read(lake, table).where(F.col(instant) < "2013-01-02").select(*columns) for lake in (dirty, pure))
        assert fingerprint(one) == fingerprint(two), table.name
        assert one.count() > 50


@pytest.mark.long(order=3, minutes=6)
def test_each_malformed_or_impossible_line_is_in_quarantine_with_a_fitting_reason(
    dirty: tuple[Lakehouse, Path], planted: list[dict[str, str]]
) -> None:
    expected = Counter(
        (row["file"], row["text"], "well_formed" if row["kind"] == "malformed" else RULE_OF.get(row["detail"], row["detail"]))
        for row in planted if row["kind"] in ("malformed", "impossible")
    )  # fmt: skip
    found: Counter[tuple[str, str, str]] = Counter()
    for table in (t.SILVER_FLIGHT_EVENTS_QUARANTINE, t.SILVER_WEATHER_QUARANTINE):
        for row in read(dirty[0], table).select("_source_file", "_raw", "_failed_rules").collect():
            found[row._source_file, row._raw, row._failed_rules[0]] += 1
    assert len(expected) > 1_500
    assert not expected - found
    rest = found - expected
    # The one line of the real data: a wind of 1,048 miles per hour over Newark on 12 February.
    assert [(file, rule) for file, _, rule in rest] == [("weather/2013-02-12.csv", "wind_speed")]
    assert "1048.36058" in next(iter(rest))[1]


@pytest.mark.long(order=3, minutes=6)
def test_each_duplicate_late_or_displaced_line_is_one_event(dirty: tuple[Lakehouse, Path], planted: list[dict[str, str]]) -> None:
    lake, _ = dirty
    texts = sorted(
        {r["text"] for r in planted if r["kind"] in ("duplicate", "late", "out_of_order") and r["file"].startswith("flight_events")}
    )
    raw = lake.spark.createDataFrame(
        [(text, "f", n) for n, text in enumerate(texts)], "_raw string, _source_file string, bronze_version bigint"
    )
    lines = split_lines(raw, t.FLIGHT_EVENT_COLUMNS).withColumns(
        {"bronze_version": F.lit(0).cast("bigint"), "_ingested_at": F.lit(None).cast("timestamp")}
    )
    ids = add_ids(parse_lines(lines, EVENT_TYPES)).select("event_id")
    counts = ids.join(read(lake, t.SILVER_FLIGHT_EVENTS), "event_id").groupBy("event_id").count()
    assert len(texts) > 6_000
    assert counts.agg(F.count("*"), F.max("count")).first()[:] == (len(texts), 1)


@pytest.mark.long(order=3, minutes=6)
def test_lines_delivered_are_lines_kept(dirty: tuple[Lakehouse, Path]) -> None:
    lake, landing = dirty
    for feed, table in (("flight_events", t.BRONZE_FLIGHT_EVENTS), ("weather", t.BRONZE_WEATHER)):
        delivered = sum(len(p.read_text().splitlines()) - 1 for p in (landing / feed).glob("*.csv"))
        assert read(lake, table).count() == delivered
