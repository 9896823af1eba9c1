"""Windows on a grid: the aggregates of a plain loop, and nothing of the tick itself."""

from __future__ import annotations

import datetime as dt
import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from boathouse.point_in_time import grid_windows as windows
from boathouse.point_in_time.grid_windows import Grid, hops, rolling, ticks

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
ALL = {
    "n": ("count", "v"),
    "sum": ("sum", "v"),
    "mean": ("avg", "v"),
    "least": ("min", "v"),
    "top": ("max", "v"),
    "spread": ("stddev", "v"),
    "first": ("first", "v"),
    "last": ("last", "v"),
    "kinds": ("approx_distinct", "v"),
    "half": ("percentile(0.5)", "v"),
    "most": ("percentile(0.9)", "v"),
}
GRID = Grid(ALL, {"1h": HOUR, "3h": 3 * HOUR}, hop=HOUR / 2)


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


def by_hand(values: Sequence[tuple[int, Any]]) -> dict[str, Any]:
    "All aggregates of (minute, value) by a plain loop."
    found = sorted((m, v) for m, v in values if v is not None and not math.isnan(v))
    only = sorted(v for _, v in found)
    return {
        "n": len(found),
        "sum": sum(only) if only else None,
        "mean": sum(only) / len(only) if only else None,
        "least": min(only, default=None),
        "top": max(only, default=None),
        "spread": statistics.stdev(only) if len(only) > 1 else None,
        "first": found[0][1] if found else None,
        "last": found[-1][1] if found else None,
        "kinds": len(set(only)),
        "half": only[math.ceil(len(only) / 2) - 1] if only else None,
        "most": only[math.ceil(round(len(only) * 0.9, 9)) - 1] if only else None,
    }


def assert_like(row: Row, window: str, expected: dict[str, Any]) -> None:
    found = {name: row[f"{name}_{window}"] for name in expected}
    assert found == {name: pytest.approx(v, abs=1e-9) if isinstance(v, float) else v for name, v in expected.items()}


BY_HAND = [("x", 0, 3), ("x", 10, 7), ("x", 20, 5), ("x", 30, None), ("x", 59, 4), ("y", 60, 1), ("x", 400, 2), (None, 60, 9)]


def events_at_random(rng: random.Random) -> list[tuple[str | None, int, int | None]]:
    "Up to 25 events (key, minute, value), some without key or value, some at once."
    minutes = [rng.choice([rng.randrange(601), 30 * rng.randrange(21)]) for _ in range(rng.randint(1, 25))]
    return [(rng.choice(["x", "y", None]), m, rng.choice([None, 0, rng.randint(-256, 256), rng.randint(-256, 256)])) for m in minutes]


def test_every_aggregate_is_that_of_a_plain_loop_and_never_contains_its_own_tick(spark: SparkSession) -> None:
    rng = random.Random(7)
    cases = [BY_HAND, *[events_at_random(rng) for _ in range(60)]]
    rows = [(case, k, at(0) + m * MINUTE, v) for case, events in enumerate(cases) for k, m, v in events]
    df = spark.createDataFrame(rows, "case int, k string, at timestamp, v int")
    found = ticks(hops(df, ["case", "k"], "at", GRID), ["case", "k"], GRID).collect()
    for case, events in enumerate(cases):
        mine = [row for row in found if row.case == case]
        there = {(k, at(0) + t * 30 * MINUTE) for k, m, _ in events if k for t in range(m // 30 + 1, m // 30 + 7)}
        assert len(mine) == len(there)
        assert {(r.k, r.tick) for r in mine} == there
        for row in mine:
            for window, span in (("1h", 60), ("3h", 180)):
                tick = (row.tick - at(0)) // MINUTE
                assert_like(row, window, by_hand([(m, v) for k, m, v in events if k == row.k and tick - span <= m < tick]))


def test_fractions_and_nan_count_as_numbers_and_as_nothing(spark: SparkSession) -> None:
    values = [(0, 0.5), (10, float("nan")), (20, 2.25), (40, None), (50, -1e300)]
    df = spark.createDataFrame([("x", at(0) + m * MINUTE, v) for m, v in values], "k string, at timestamp, v double")
    (row,) = [r for r in rolling(df, "k", "at", ALL, {"1h": HOUR}, hop=HOUR).collect() if r.tick == at(1)]
    expected = by_hand(values)
    assert row.half_1h == 0.5
    assert row.n_1h == 3
    assert row.kinds_1h == 3
    assert (row.sum_1h, row.least_1h, row.first_1h, row.last_1h) == (expected["sum"], -1e300, 0.5, -1e300)


def test_what_is_no_number_has_a_first_and_a_last_and_is_counted(spark: SparkSession) -> None:
    df = spark.createDataFrame([("x", at(0.1), "b"), ("x", at(0.2), None), ("x", at(0.3), "a")], "k string, at timestamp, v string")
    some = {name: ALL[name] for name in ("n", "first", "last", "kinds")}
    row = rolling(df, "k", "at", some, {"1h": HOUR}, hop=HOUR).first()
    assert (row.n_1h, row.first_1h, row.last_1h, row.kinds_1h) == (2, "b", "a", 2)
    with pytest.raises(ValueError, match="aggregate 'sum': sum needs numbers, got string in 'v'"):
        rolling(df, "k", "at", {"sum": ("sum", "v")}, {"1h": HOUR}, hop=HOUR)


@pytest.mark.parametrize("function", ["median", "percentile", "percentile(1.5)", "percentile(x)"])
def test_a_function_that_is_none_is_refused_by_name(function: str) -> None:
    with pytest.raises(ValueError, match=r"aggregate 'top' .* must be one of count, sum, avg"):
        Grid({"top": (function, "v")}, {"1h": HOUR}, HOUR)


def test_a_key_of_two_columns_is_two_columns(spark: SparkSession) -> None:
    events = [(1, "12", at(0), 1), (11, "2", at(0), 2), (1, "1", at(0.2), 3)]
    df = spark.createDataFrame(events, "a int, b string, at timestamp, v int")
    rows = rolling(df, ["a", "b"], "at", {"sum": ("sum", "v")}, {"1h": HOUR}, hop=HOUR).collect()
    assert {(r.a, r.b): r.sum_1h for r in rows} == {(1, "12"): 1, (11, "2"): 2, (1, "1"): 3}
    with pytest.raises(ValueError, match="a key must not have the name of a column of the grid, got hop"):
        rolling(df.withColumnRenamed("b", "hop"), ["a", "hop"], "at", {"sum": ("sum", "v")}, {"1h": HOUR}, hop=HOUR)


def test_a_part_of_the_ticks_is_the_same_as_that_part_of_all_ticks(spark: SparkSession) -> None:
    events = spark.createDataFrame([("x", at(h / 3), h) for h in range(40)], "k string, at timestamp, v int")
    args = (events, "k", "at", {"mean": ("avg", "v")}, {"3h": 3 * HOUR}, HOUR)
    all_ticks = {row.tick: row.mean_3h for row in rolling(*args).collect()}
    some = {row.tick: row.mean_3h for row in rolling(*args, since=at(5), until=at(8)).collect()}
    assert some == {tick: value for tick, value in all_ticks.items() if at(5) <= tick <= at(8)}
    assert len(some) == 4


@pytest.mark.parametrize("kind", ["timestamp_ntz", "date"])
def test_bounds_hold_for_a_time_column_of_any_type(spark: SparkSession, kind: str) -> None:
    "A local timestamp has no literal to compare with: the comparison was null, and no event was left. A date was compared with the bound's day."
    events = spark.createDataFrame([("x", at(h), h) for h in range(48)], "k string, at timestamp, v int")
    events = events.withColumn("at", events.at.cast(kind))
    grid = Grid({"n": ("count", "v")}, {"1h": HOUR}, hop=HOUR)
    found = hops(events, "k", "at", grid, since=at(20), until=at(25))
    expected = {"timestamp_ntz": {at(h) for h in range(20, 25)}, "date": {at(24)}}[kind]
    assert {row.hop for row in found.collect()} == expected


def test_ticks_made_in_slices_are_those_made_at_once(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    events = spark.createDataFrame([(f"k{h % 7}", at(h / 5), h) for h in range(90)], "k string, at timestamp, v int")
    by_hop = hops(events, "k", "at", GRID).toArrow().sort_by([("k", "ascending"), ("hop", "ascending")])
    schema = ticks(hops(events, "k", "at", GRID), "k", GRID).limit(0).toArrow().schema
    whole = list(windows.ticks_of(by_hop, ["k"], GRID, None, None, schema))
    monkeypatch.setattr(windows, "SLICE", 20)
    sliced = list(windows.ticks_of(by_hop, ["k"], GRID, None, None, schema))
    assert len(whole) == 1
    assert len(sliced) > 5
    assert [row for part in sliced for row in part.to_pylist()] == whole[0].to_pylist()


def test_many_different_values_are_counted_within_three_percent_and_the_same_whatever_their_order(spark: SparkSession) -> None:
    day = 24 * HOUR
    grid = Grid({"kinds": ("approx_distinct", "id"), "half": ("percentile(0.5)", "id / 7")}, {"1d": day}, hop=6 * HOUR)
    df = spark.range(60_000).selectExpr("1 AS k", "id % 20000 AS id", "timestamp_seconds(id % 86400) AS at")
    one, other = (ticks(hops(rows, "k", "at", grid), "k", grid) for rows in (df, df.orderBy("id").repartition(5)))
    rows = one.orderBy("tick").collect()
    (row,) = [row for row in rows if row.tick == dt.datetime(1970, 1, 2)]
    assert row.kinds_1d == pytest.approx(20_000, rel=0.03)
    assert row.half_1d == pytest.approx(10_000 / 7, rel=0.004)
    assert rows == other.orderBy("tick").collect()


def test_one_shuffle_for_the_hops_and_one_for_the_ticks(spark: SparkSession) -> None:
    df = spark.createDataFrame([("x", at(0), 1)], "k string, at timestamp, v int")
    several = {name: ALL[name] for name in ("n", "mean", "top", "spread", "last", "kinds")}
    plan = rolling(df, "k", "at", several, {"1h": HOUR, "3h": 3 * HOUR}, hop=HOUR)._jdf.queryExecution().executedPlan().toString()
    assert plan.count("Exchange hashpartitioning") == 2
    assert plan.count("Expand") == plan.count("Generate") == 0
