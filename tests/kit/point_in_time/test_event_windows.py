"""Windows at an instant: the aggregates of a plain loop over the events of each window, the same from both engines and in any order of delivery."""

from __future__ import annotations

import datetime as dt
import math
import random
import re
import statistics
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from boathouse.point_in_time.event_windows import AGGREGATES, Wanted, window_columns, window_join
from boathouse.point_in_time.match import NEVER, Line

HOUR = dt.timedelta(hours=1)
FUNCTIONS = (*AGGREGATES[:-1], "percentile(0)", "percentile(0.07)", "percentile(0.5)", "percentile(1)")
MEASURES = {name: (name, "v") for name in FUNCTIONS}


def plain(function: str, values: list[float]) -> float | None:
    "The aggregate of the values that are there, in order."
    if function in ("count", "approx_distinct"):
        return len(values if function == "count" else set(values))
    if not values or (function == "stddev" and len(values) < 2):
        return None
    if function.startswith("percentile"):
        share = Fraction(function[11:-1])
        return next(v for v in sorted(values) if sum(other <= v for other in values) >= share * len(values))
    made = {
        "sum": sum, "avg": lambda v: sum(v) / len(v), "min": min, "max": max,
        "stddev": statistics.stdev, "first": lambda v: v[0], "last": lambda v: v[-1],
    }  # fmt: skip
    return made[function](values)


instants = st.one_of(st.integers(0, 12), st.just(NEVER), st.sampled_from([2**61, -(2**61)]))
codes = st.integers(-1, 2)
values = st.one_of(st.none(), st.integers(-50, 50))


@given(
    st.lists(st.tuples(codes, instants), max_size=8),
    st.lists(st.tuples(codes, instants, values), max_size=25),
    st.integers(1, 9),
    st.booleans(),
)
def test_a_range_of_rows_has_the_aggregates_of_a_plain_loop(labels: list, events: list, span: int, whole: bool) -> None:
    line = Line(*(np.array([row[n] for row in labels], np.int64) for n in range(2)))
    rows = Line(*(np.array([row[n] for row in events], np.int64) for n in range(2)))
    column = pa.array(
        [None if row[2] is None else row[2] if whole else row[2] / 7 for row in events], pa.int64() if whole else pa.float64()
    )
    wanted = Wanted(tuple((f"{f}_{w}", f, 0, w) for f in FUNCTIONS for w in (span, None)))
    made = window_columns(line, rows, [column], wanted)
    for (_, function, _, window), found in zip(wanted.columns, made, strict=True):
        for n, (code, at) in enumerate(labels):
            inside = sorted(
                (t, v.as_py())
                for (k, t, _), v in zip(events, column, strict=True)
                if code >= 0 and at != NEVER and t != NEVER and k == code and t < at and (window is None or t >= at - window) and v.is_valid
            )
            expected = plain(function, [v for _, v in inside])
            got = found[n].as_py()
            assert got == expected or math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-12), (function, window, inside)


def test_labels_of_many_more_keys_than_the_events_have_do_not_wrap_around_into_theirs() -> None:
    year = 365 * 86_400_000_000  # 45 bits: a key beyond 18 bits leaves the integer that holds both
    events = Line(np.array([1, 1]), np.array([0, year]))
    labels = Line(np.array([1, 1 + (1 << 19), 1 << 18]), np.full(3, year + 1))
    made = window_columns(labels, events, [pa.array([5, 6])], Wanted((("sum", "sum", 0, None), ("n", "count", 0, 2))))
    assert [column.to_pylist() for column in made] == [[11, None, None], [1, 0, 0]]


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


def labels(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "n int, k string, t timestamp")


def test_both_engines_give_the_windows_of_a_plain_loop(spark: SparkSession) -> None:
    rng = random.Random(5)
    left = [(n, rng.choice(["x", "y", None]), rng.choice([at(rng.uniform(0, 48)), None])) for n in range(150)]
    given = [
        (rng.choice(["x", "y", "z", None]), at(rng.randrange(48)), rng.choice([None, *range(9)]), rng.choice("ab")) for _ in range(300)
    ]
    events = spark.createDataFrame(given, "k string, at timestamp, v int, s string")
    windows = {"3h": 3 * HOUR, "1d": 24 * HOUR, "ever": None}
    measures = {
        **MEASURES,
        "long": ("sum", "double(v) * 1.5"),
        "word": ("last", "s"),
        "all": ("count", "1"),
        "words": ("approx_distinct", "s"),
    }
    answers = []
    for engine in ("local", "cogroup"):
        out = window_join(labels(spark, *left), events, "k", "t", "at", measures, windows, engine)
        assert out.columns[:3] == ["n", "k", "t"]
        answers.append({row.n: row.asDict() for row in out.collect()})
    assert answers[0] == answers[1]
    for n, key, t in left:
        for name, span in windows.items():
            inside = sorted(
                (u, v if v is not None else -1, s, v)
                for k, u, v, s in given
                if None not in (key, t) and k == key and u < t and (span is None or u >= t - span)
            )
            row = answers[0][n]
            there = [v for *_, v in inside if v is not None]
            assert row[f"all_{name}"] == len(inside)
            assert row[f"words_{name}"] == len({s for *_, s, _ in inside})
            for function in ("count", "sum", "min", "max", *FUNCTIONS[-5:]):
                assert row[f"{function}_{name}"] == plain(function, there), (n, name, function)
            assert row[f"long_{name}"] == (None if not there else sum(there) * 1.5)


def test_values_of_any_type_are_counted_once_each_and_a_percentile_is_one_of_the_values(spark: SparkSession) -> None:
    events = spark.sql("""
        SELECT 'x' AS k, timestamp(at) AS at, * EXCEPT (at) FROM VALUES
        ('2013-06-01 01:00', 1.5D, date '2013-01-01', array(1), true, 9223372036854775807L), ('2013-06-01 01:00', double('NaN'), NULL, array(1, 2), true, 5L),
        ('2013-06-01 01:30', -0.0D, date '2013-01-01', array(1), false, 9223372036854775806L), ('2013-06-01 02:00', 0.0D, date '2013-01-02', NULL, NULL, NULL)
        AS t(at, double, day, list, flag, long)""")
    names = ("double", "day", "list", "flag", "long")
    measures = {name: ("approx_distinct", name) for name in names} | {
        "top": ("percentile(1)", "long"),
        "mid": ("percentile(0.5)", "double"),
    }
    window = {"3h": 3 * HOUR}
    for engine in ("local", "cogroup"):
        out = window_join(
            labels(spark, (1, "x", at(3)), (2, "x", at(0)), (3, None, at(3))), events, "k", "t", "at", measures, window, engine
        )
        assert dict(out.dtypes)["top_3h"] == "bigint"
        assert dict(out.dtypes)["mid_3h"] == "double"
        found = {row.n: tuple(row)[3:] for row in out.collect()}
        assert found == {1: (2, 2, 2, 2, 3, 2**63 - 1, 0.0), 2: (0, 0, 0, 0, 0, None, None), 3: (0, 0, 0, 0, 0, None, None)}


def test_an_answer_does_not_depend_on_the_order_of_delivery_nor_on_what_lies_outside_the_window(spark: SparkSession) -> None:
    rng = random.Random(1)
    inside = [("x", at(10 + rng.randrange(3) / 2), rng.uniform(-1, 1) * 10 ** rng.randrange(9)) for _ in range(60)]
    before = [("x", at(rng.uniform(0, 9)), rng.uniform(-1, 1) * 1e15) for _ in range(40)] + [("w", at(11), 1e15)]
    measures = {name: (name, "v") for name in ("sum", "avg", "stddev", "first", "last")}

    deliveries = [inside, inside[::-1], before + inside, rng.sample(before + inside, 101)]
    rows = [(n, *event) for n, events in enumerate(deliveries) for event in events]
    events = spark.createDataFrame(rows, "case int, k string, at timestamp, v double")
    left = spark.createDataFrame([(n, "x", at(12)) for n in range(4)], "case int, k string, t timestamp")
    out = window_join(left, events, ["case", "k"], "t", "at", measures, {"2h": 2 * HOUR})
    first, *others = [tuple(row)[3:] for row in out.orderBy("case").collect()]
    assert None not in first
    assert others == [first] * 3


def test_the_labels_own_instant_is_outside_and_the_far_edge_inside(spark: SparkSession) -> None:
    events = spark.createDataFrame([("x", at(1), 1), ("x", at(2), 2), ("x", at(3), 4)], "k string, at timestamp, v int")
    out = window_join(labels(spark, (1, "x", at(3)), (2, "x", at(3.0001))), events, "k", "t", "at", {"s": ("sum", "v")}, {"2h": 2 * HOUR})
    assert {row.n: row.s_2h for row in out.collect()} == {1: 3, 2: 6}


def test_what_does_not_fit_takes_the_cluster_and_what_cannot_be_aggregated_is_refused(
    spark: SparkSession, capsys: pytest.CaptureFixture
) -> None:
    events = spark.createDataFrame([("x", at(1), 1, "a")], "k string, at timestamp, v int, s string")
    left, window = labels(spark, (1, "x", at(3))), {"3h": 3 * HOUR}
    assert window_join(left, events, "k", "t", "at", {"s": ("sum", "v")}, window, budget=10, explain=True).first().s_3h == 1
    assert "engine cogroup" in capsys.readouterr().out
    for call, said in (
        (lambda: window_join(left, events, "k", "t", "at", {"s": ("median", "v")}, window), "no aggregate is called median: there are count, sum"),
        *((lambda word=word: window_join(left, events, "k", "t", "at", {"s": (word, "v")}, window), f"no aggregate is called {re.escape(word)}: ")
          for word in ("percentile(1.01)", "percentile(-0.1)", "percentile(x)", "percentile()", "percentile", "percentile(q)", "percentile(0.5", "percentile(nan)")),
        (lambda: window_join(left, events, "k", "t", "at", {"s": ("percentile(0.5)", "s")}, window), r"percentile\(0.5\) of 's', which is string and not a number"),
        (lambda: window_join(left, events, "k", "t", "at", {"s": ("sum", "s")}, window), "sum of 's', which is string and not a number"),
        (lambda: window_join(left, events, "k", "t", "at", {"s": ("sum", "v")}, {"0h": 0 * HOUR}), "windows 0h have no length"),
        (lambda: window_join(left, events, "k", "t", "when", {"s": ("sum", "v")}, window), "the events have no when"),
        (lambda: window_join(left.withColumnRenamed("n", "s_3h"), events, "k", "t", "at", {"s": ("sum", "v")}, window), "already have s_3h"),
        (lambda: window_join(left, events, "k", "t", "at", {"s": ("sum", "v")}, window, engine="local", budget=10), "engine 'local' has a budget of 0 MiB"),
        (lambda: window_join(left, events, "k", "t", "at", {"s": ("sum", "v")}, window, engine="union"), "one of auto, local, cogroup"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            call()
