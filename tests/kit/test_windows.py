"""Windows on a grid: the aggregates of a plain loop, and nothing of the tick itself."""

from __future__ import annotations

import datetime as dt

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from boathouse.windows import rolling

HOUR = dt.timedelta(hours=1)


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(
        st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 600), st.one_of(st.none(), st.integers(-5, 5))), min_size=1, max_size=15
    )
)
def test_windows_agree_with_a_plain_loop_and_never_contain_their_own_tick(spark: SparkSession, events: list) -> None:
    minute = dt.timedelta(minutes=1)
    df = spark.createDataFrame([(k, at(0) + m * minute, v) for k, m, v in events], "k string, at timestamp, v int")
    made = {"mean": ("avg", "v"), "n": ("count", "v"), "top": ("max", "v"), "sum": ("sum", "v")}
    rows = rolling(df, "k", "at", made, {"1h": HOUR, "3h": 3 * HOUR}, hop=HOUR / 2).collect()
    assert {(r.k, r.tick) for r in rows} == {(k, at(0) + t * 30 * minute) for k, m, _ in events for t in range(m // 30 + 1, m // 30 + 7)}
    for row in rows:
        for name, span in (("1h", 60), ("3h", 180)):
            tick = (row.tick - at(0)) // minute
            inside = [v for k, m, v in events if k == row.k and tick - span <= m < tick and v is not None]
            expected = (
                sum(inside) / len(inside) if inside else None,
                len(inside),
                max(inside, default=None),
                sum(inside) if inside else None,
            )
            assert (row[f"mean_{name}"], row[f"n_{name}"], row[f"top_{name}"], row[f"sum_{name}"]) == expected


def test_a_part_of_the_ticks_is_the_same_as_that_part_of_all_ticks(spark: SparkSession) -> None:
    events = spark.createDataFrame([("x", at(h / 3), h) for h in range(40)], "k string, at timestamp, v int")
    args = (events, "k", "at", {"mean": ("avg", "v")}, {"3h": 3 * HOUR}, HOUR)
    all_ticks = {row.tick: row.mean_3h for row in rolling(*args).collect()}
    some = {row.tick: row.mean_3h for row in rolling(*args, since=at(5), until=at(8)).collect()}
    assert some == {tick: value for tick, value in all_ticks.items() if at(5) <= tick <= at(8)}
    assert len(some) == 4
