"""What refreshes did is recorded once, with rows beside the source that count when they differ."""

from __future__ import annotations

import datetime as dt

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.features.definitions import ComputedFeatures
from boathouse.features.freshness import (
    FEATURE_REFRESHES,
    FeatureLimitError,
    FeatureLimits,
    check_feature_limits,
    measure_freshness,
    record_refreshes,
)
from boathouse.features.refresh import refresh_table
from boathouse.tables.table import Column, Lakehouse, Table, read
from boathouse.tables.writes import append, merge

WHERE, WHEN, LATE = Column("pier", "string", "where", False), Column("at", "timestamp", "when", False), Column("late", "int", "minutes")
RETURNS = Table(
    "silver.returns", "One row per return.", (Column("id", "int", "of the return", False), WHERE, WHEN, LATE), ("id",), change_feed=True
)
PIERS = Table("silver.piers", "One row per pier.", (WHERE, Column("berths", "int", "how many")), ("pier",), change_feed=True)
TABLE = Table(
    "features.moored", "One row per pier and return.", (WHERE, WHEN, LATE, Column("berths", "int", "how many")), ("pier", "at"), "at"
)


def moored(events: DataFrame, piers: DataFrame) -> DataFrame:
    "One row per pier and return: who came last, and how many berths the pier has."
    return events.groupBy("pier", "at").agg(F.max("late").alias("late")).join(piers, "pier", "left")


MOORED = ComputedFeatures(TABLE, RETURNS, "at", make=moored, beside=(PIERS,))
NEVER = ComputedFeatures(
    Table("features.never", TABLE.grain, TABLE.columns, TABLE.primary_key, "at"), RETURNS, "at", make=moored, beside=(PIERS,)
)


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * dt.timedelta(hours=1)


def returns(lake: Lakehouse, *rows: tuple[int, str, float, int]) -> DataFrame:
    "Returns from (id, pier, hours since the first of June, minutes late)."
    return lake.spark.createDataFrame([(n, p, at(h), v) for n, p, h, v in rows], RETURNS.schema)


def piers(lake: Lakehouse, **berths: int) -> DataFrame:
    return lake.spark.createDataFrame(list(berths.items()), PIERS.schema)


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    return Lakehouse(spark, prefix="test_freshness_")


@pytest.fixture(scope="module")
def told(lake: Lakehouse) -> list[str]:
    "Four refreshes, recorded after the first, the third and the last: what each did, and how many were new to the record."
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5), (2, "west", 3.1, 6)), unique=True)
    append(lake, PIERS, piers(lake, east=4, west=7), unique=True)
    told = [str(*refresh_table(lake, MOORED, at(24), run="r1")), f"{record_refreshes(lake, [MOORED, NEVER])} new"]

    merge(lake, PIERS, piers(lake, east=4))
    append(lake, RETURNS, returns(lake, (3, "west", 5.1, 1)), unique=True)
    told += [str(*refresh_table(lake, MOORED, at(24), run="r2")), str(*refresh_table(lake, MOORED, at(24), run="r3"))]
    told += [f"{record_refreshes(lake, [MOORED])} new", f"{record_refreshes(lake, [MOORED])} new"]

    merge(lake, PIERS, piers(lake, west=9))
    append(lake, RETURNS, returns(lake, (4, "east", 26.5, 2)), unique=True)
    return [*told, str(*refresh_table(lake, MOORED, at(48), run="r4")), f"{record_refreshes(lake, [MOORED])} new"]


def test_rows_beside_the_source_count_when_they_differ_and_not_when_they_are_written_again(lake: Lakehouse, told: list[str]) -> None:
    assert [line for line in told if "new" not in line] == [
        "features.moored: everything; rows replaced from the beginning to 2013-06-02 00:00:00",
        "features.moored: changes; rows replaced from 2013-06-01 05:00:00 to 2013-06-01 06:00:00",
        "features.moored: everything; rows replaced from the beginning to 2013-06-03 00:00:00",
    ]
    rows = {(r.pier, r.late, r.berths) for r in read(lake, TABLE).collect()}
    assert rows == {("east", 5, 4), ("west", 6, 9), ("west", 1, 9), ("east", 2, 4)}


def test_what_refreshes_did_and_how_fresh_tables_are_is_recorded_once(lake: Lakehouse, told: list[str]) -> None:
    assert [line for line in told if "new" in line] == ["1 new", "features.moored: nothing new", "1 new", "0 new", "1 new"]
    rows = read(lake, FEATURE_REFRESHES).orderBy("version").collect()
    assert [(r.table_name, r.kind, r.spans, r.until, r.newest, r.rows, r.run_id) for r in rows] == [
        ("features.moored", "everything", 1, at(24), at(3.1), 2, "r1"),
        ("features.moored", "changes", 1, at(24), at(5.1), 1, "r2"),
        ("features.moored", "everything", 1, at(48), at(26.5), 4, "r4"),
    ]
    assert all(r.seconds > 0 and r.bytes > 0 and r.committed_at.year >= 2026 for r in rows)
    assert [tuple(r) for r in measure_freshness(lake, at(50)).collect()] == [("features.moored", at(48), at(26.5), 23.5)]


def test_a_table_that_is_too_old_or_too_slow_fails_and_is_named(lake: Lakehouse, told: list[str]) -> None:
    within = FeatureLimits(hours_behind=22, seconds=3600)
    check_feature_limits(lake, at(48), within)  # the newest return was at 26.5 hours
    with pytest.raises(FeatureLimitError, match=r"features.moored: its latest event is 21.5 hours old, the limit is 21;"):
        check_feature_limits(lake, at(48), FeatureLimits(21, 3600))
    with pytest.raises(FeatureLimitError, match=r"features.moored: its latest refresh took \d+ seconds, the budget is 0.001"):
        check_feature_limits(lake, at(48), FeatureLimits(22, 0.001))
    check_feature_limits(lake, at(96), within, {"features.moored": FeatureLimits(100, 3600)})
    with pytest.raises(FeatureLimitError, match=r"hours old.*; features.moored: its latest refresh"):
        check_feature_limits(lake, at(96), FeatureLimits(22, 0.001))
