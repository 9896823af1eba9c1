"""As-of joins: one contract for both engines, with the defects that other systems were seen to have."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.point_in_time.join import as_of_join, join_all
from boathouse.point_in_time.plan import AsOfLookup
from boathouse.point_in_time.spark import Side, row_hash

HOUR, MICROSECOND = dt.timedelta(hours=1), dt.timedelta(microseconds=1)
KEYS = ("case", "k")
Found = dict[int, tuple]


@pytest.fixture(scope="module", params=["local", "union"])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


# The cases of this file are joined at once for each engine: `@case` stands above the test that reads what its labels found.


@dataclass(frozen=True)
class Case:
    "Labels (n, k, t), feature rows (k, at, a, b, seen, over), and how they are joined."

    labels: list[tuple]
    rows: list[tuple]
    how: dict[str, Any]


CASES: dict[str, Case] = {}


def case(labels: list[tuple], rows: list[tuple], **how: Any) -> Callable:
    def register(test: Callable) -> Callable:
        CASES[test.__name__] = Case(labels, rows, how)
        return test

    return register


def row(k: str | None, when: dt.datetime | None, a: int | None, b: int | None = None, **more: dt.datetime) -> tuple:
    return k, when, a, b, more.get("seen"), more.get("over")


def features_of(spark: SparkSession) -> DataFrame:
    rows = [(name, *values) for name, each in CASES.items() for values in each.rows]
    return spark.createDataFrame(rows, "case string, k string, at timestamp, a int, b int, seen timestamp, over timestamp")


@pytest.fixture(scope="module")
def answers(spark: SparkSession, engine: str) -> dict[str, dict[str, Found]]:
    "Of each case what its labels found, (a, b), with the same rows in another order, and without any row; and the time of the row found."
    labels = [(name, *values) for name, each in CASES.items() for values in each.labels]
    rows, ways = features_of(spark), [dict(way) for way in {tuple(sorted(each.how.items())) for each in CASES.values()}]
    frames = [(rows, way) for way in ways] + [(rows.orderBy(F.desc("case"), "b", F.desc("a")), {}), (rows.where("a > 1000"), {})]
    sides = [Side(df, KEYS, "at", {"a": f"a{n}", "b": f"b{n}"}, match_time=f"at{n}", **how) for n, (df, how) in enumerate(frames)]
    left = spark.createDataFrame(labels, "case string, n int, k string, t timestamp")
    joined = join_all(left, [AsOfLookup(KEYS, "t", side) for side in sides], engine).collect()
    assert len(joined) == len(labels)
    out: dict[str, dict[str, Found]] = {name: {"found": {}, "backwards": {}, "without": {}, "times": {}} for name in CASES}
    for r in joined:
        mine, last = ways.index(CASES[r.case].how), len(ways)
        for what, n in (("found", mine), ("backwards", last), ("without", last + 1)):
            out[r.case][what][r.n] = (r[f"a{n}"], r[f"b{n}"])
        out[r.case]["times"][r.n] = r[f"at{mine}"]
    return out


@pytest.fixture
def found(answers: dict[str, dict[str, Found]], request: pytest.FixtureRequest) -> Found:
    "What the labels of this test's case found, by their number."
    return answers[request.function.__name__]["found"]


@case([(1, "x", at(2)), (2, "x", at(1)), (3, "x", at(0.5))], [row("x", at(1), 1, 1), row("x", at(2) + MICROSECOND, 2, 2)])
def test_a_feature_at_the_labels_own_instant_counts_and_one_microsecond_later_does_not(found: Found) -> None:
    assert found == {1: (1, 1), 2: (1, 1), 3: (None, None)}


@case([(1, "x", at(2)), (2, "x", at(2) + MICROSECOND), (3, "x", at(1))], [row("x", at(1), 1, 1), row("x", at(2), 2, 2)], boundary="lt")
def test_with_the_boundary_lt_only_what_was_there_before_counts(found: Found) -> None:
    assert found == {1: (1, 1), 2: (2, 2), 3: (None, None)}


# Feast 0.67 on Spark returned 7 rows for 4 labels when two feature rows shared a timestamp.
@case(
    [(n, "x", at(1)) for n in range(4)],
    [row("x", at(1), 1, 1), row("x", at(1), 2, 2), row("x", at(1), 3, None), row("x", at(1), None, 3)],
)
def test_ties_do_not_multiply_labels_and_are_settled_the_same_way_in_any_order(
    spark: SparkSession, answers: dict[str, dict[str, Found]], request: pytest.FixtureRequest
) -> None:
    name, rows = request.function.__name__, features_of(spark)
    assert len(answers[name]["found"]) == 4
    winner = rows.where(F.col("case") == name).orderBy(row_hash(rows).desc()).first()
    assert set(answers[name]["found"].values()) == {(winner.a, winner.b)}
    assert answers[name]["found"] == answers[name]["backwards"]


# tempo's default carried the last value of each column: `a` of one day beside `b` of another.
@case([(1, "x", at(3))], [row("x", at(1), 1, 1), row("x", at(2), 2, None)])
def test_the_whole_row_is_taken_and_rows_are_never_mixed(found: Found) -> None:
    assert found == {1: (2, None)}


@case(
    [(1, "x", at(3)), (2, "x", at(3.5)), (3, "x", at(9))],
    [row("x", at(1), 1, 1), row("x", at(2), 2, None), row("x", at(2.5), None, None)],
    nulls="column", lookback=2 * HOUR,
)  # fmt: skip
def test_columns_are_taken_one_by_one_where_that_is_asked_for_each_no_older_than_its_lookback(
    found: Found, answers: dict[str, dict[str, Found]], request: pytest.FixtureRequest
) -> None:
    assert found == {1: (2, 1), 2: (2, None), 3: (None, None)}
    assert answers[request.function.__name__]["times"] == {1: at(2.5), 2: at(2.5), 3: None}


# tempo matched null keys to null keys, and dropped labels without a timestamp.
@case([(1, None, at(2)), (2, "x", None), (3, "x", at(2))], [row(None, at(1), 9, 9), row("x", at(1), 1, 1), row("x", None, 8, 8)])
def test_null_keys_match_nothing_and_labels_without_time_are_kept(found: Found) -> None:
    assert found == {1: (None, None), 2: (None, None), 3: (1, 1)}


STALE = [row("x", at(0), 0, 0), row("x", at(1), 1, 1)]


@case([(1, "x", at(3)), (2, "x", at(3) + MICROSECOND), (3, "x", at(1))], STALE, lookback=2 * HOUR)
def test_lookback_is_inclusive_and_a_stale_row_is_not_replaced_by_a_staler_one(found: Found) -> None:
    assert found == {1: (1, 1), 2: (None, None), 3: (1, 1)}


@case([(1, "x", at(3)), (2, "x", at(3) + MICROSECOND), (3, "x", at(1))], STALE, lookback=0 * HOUR)
def test_a_lookback_of_nothing_leaves_the_labels_own_instant(found: Found) -> None:
    assert found == {1: (None, None), 2: (None, None), 3: (1, 1)}


@case(
    [(n, "x", at(n)) for n in range(1, 8)],
    [row("x", at(1), 1, seen=at(5)), row("x", at(2), 2, seen=at(3)), row("x", at(2), 20, seen=at(6)), row("x", at(4), 4)],
    known_by="seen",
)
def test_a_row_counts_only_from_when_it_was_known_and_never_hides_a_newer_one(found: Found) -> None:
    assert {n: a for n, (a, _) in found.items()} == {1: None, 2: None, 3: 2, 4: 2, 5: 2, 6: 20, 7: 20}


@case(
    [*[(n, "x", at(n)) for n in range(5)], (5, "x", at(3) - MICROSECOND)],
    [row("x", at(1), 1, over=at(3)), row("x", at(4), 4)],
    until="over",
)
def test_a_row_with_an_end_of_validity_is_not_found_after_it(found: Found) -> None:
    assert {n: a for n, (a, _) in found.items()} == {0: None, 1: 1, 2: 1, 3: None, 4: 4, 5: 1}


def test_no_features_and_no_labels_are_no_trouble(spark: SparkSession, engine: str, answers: dict[str, dict[str, Found]]) -> None:
    assert {pair for each in answers.values() for pair in each["without"].values()} == {(None, None)}
    nobody = spark.createDataFrame([], "n int, case string, k string, t timestamp")
    assert as_of_join(nobody, features_of(spark), list(KEYS), "t", "at", ["a", "b"], engine=engine).collect() == []


def test_composite_keys_are_compared_part_by_part(spark: SparkSession, engine: str) -> None:
    # Feast 0.67 on Spark glued keys: (1, 12) and (11, 2) became one entity.
    left = spark.createDataFrame([(1, 12, at(2)), (11, 2, at(2))], "p int, q int, t timestamp")
    right = spark.createDataFrame(
        [(1, 12, at(1), "one-twelve"), (11, 2, at(1), "eleven-two")], "p int, q bigint, at timestamp, name string"
    )
    got = {(row.p, row.q): row.name for row in as_of_join(left, right, ["p", "q"], "t", "at", engine=engine).collect()}
    assert got == {(1, 12): "one-twelve", (11, 2): "eleven-two"}


def test_equal_labels_are_all_kept_with_their_columns_untouched(spark: SparkSession, engine: str) -> None:
    # Feast's Dask store dropped labels that shared key and timestamp.
    left = spark.createDataFrame([(7, "x", at(2))] * 3, "n int, k string, t timestamp")
    more = left.selectExpr(
        "*", "array(n, null) AS `an array`", "map('k', k) AS m", "named_struct('t', t) AS s", "cast(n AS decimal(9,2)) AS d"
    )
    rows = spark.createDataFrame([("x", at(1), 1, 1)], "k string, at timestamp, a int, b int")
    out = as_of_join(more, rows, "k", "t", "at", engine=engine)
    assert out.columns == [*more.columns, "a", "b"]
    assert [f.dataType for f in out.schema][: len(more.columns)] == [f.dataType for f in more.schema]
    assert [tuple(r) for r in out.collect()] == [(*more.first(), 1, 1)] * 3


def test_instants_are_utc_in_any_session_zone_for_dates_and_in_the_night_when_clocks_change(spark: SparkSession, engine: str) -> None:
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        # 5:30 and 6:30 UTC are both half past one in New York: the clocks went back in between.
        hours = spark.sql("SELECT 'x' AS k, timestamp_seconds(1383456600 + 3600 * id) AS at, int(id) AS a FROM range(3)")
        days = spark.sql("SELECT 'midnight' AS k, date'2013-11-03' AS at, 1 AS a")
        local = hours.withColumn("at", F.expr("timestamp_ntz'2013-11-03 05:30:00'")).where("a = 0")
        left = spark.sql("""
            SELECT int(id) AS n, 'x' AS k, timestamp_seconds(1383456599 + 3600 * id) AS t FROM range(4) UNION ALL
            SELECT int(10 + id), 'midnight', timestamp_micros(1383436800000000 - 1 + id) FROM range(2)""")
        sides = [Side(df, ("k",), "at", {"a": name}) for df, name in ((hours, "hour"), (days, "day"), (local, "local"))]
        found = {r.n: tuple(r)[3:] for r in join_all(left, [AsOfLookup(("k",), "t", side) for side in sides], engine).collect()}
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
    assert found == {
        0: (None, None, None), 1: (0, None, 0), 2: (1, None, 0), 3: (2, None, 0), 10: (None, None, None), 11: (None, 1, None)
    }  # fmt: skip


def test_whole_numbers_are_a_clock_too(spark: SparkSession, engine: str) -> None:
    rows = spark.createDataFrame([("x", 3, 1), ("x", 5, 2)], "k string, at bigint, a int")
    left = spark.createDataFrame([(n, "x", n) for n in (2, 3, 4, 5)], "n int, k string, t int")
    assert {r.n: r.a for r in as_of_join(left, rows, "k", "t", "at", engine=engine).collect()} == {2: None, 3: 1, 4: 1, 5: 2}


def oracle(
    left: list, right: list, hashes: list[int], lookback: dt.timedelta | None, boundary: str, nulls: str, late: bool
) -> dict[int, tuple]:
    "A look at every pair of rows."

    def best(key: tuple, t: dt.datetime | None, column: int | None) -> int | None:
        counting = [
            (r[2], r[3] if late else r[2], hashes[i], i)
            for i, r in enumerate(right)
            if t is not None and None not in key and None not in r[:3] and r[:2] == key and (not late or r[3] is not None)
            and (max(r[2], r[3] if late else r[2]) <= t if boundary == "le" else max(r[2], r[3] if late else r[2]) < t)
            and (column is None or r[column] is not None)
        ]  # fmt: skip
        found = max(counting)[3] if counting else None
        return None if found is None or (lookback is not None and right[found][2] < t - lookback) else found

    out = {}
    for n, p, q, t in left:
        rows = [best((p, q), t, c if nulls == "column" else None) for c in (4, 5)]
        out[n] = tuple(None if i is None else right[i][c] for i, c in zip(rows, (4, 5), strict=True))
    return out


def test_every_engine_gives_the_rows_of_a_plain_loop(spark: SparkSession, engine: str) -> None:
    rng = random.Random(1)

    def maybe(value: object, odds: float = 0.1) -> object:
        return None if rng.random() < odds else value

    left = [(n, maybe(rng.choice("xyz")), maybe(rng.randrange(3)), maybe(at(rng.randrange(24)))) for n in range(200)]
    right = [
        (maybe(rng.choice("xyzw")), maybe(rng.randrange(4)), maybe(at(t)), maybe(at(t + rng.randrange(-3, 9))), maybe(rng.randrange(9), 0.3), maybe("v", 0.3))
        for t in (rng.randrange(24) for _ in range(250))
    ]  # fmt: skip
    frame = spark.createDataFrame(left, "n int, p string, q int, t timestamp")
    rows = spark.createDataFrame(right, "p string, q bigint, at timestamp, seen timestamp, a int, b string")
    hashes = [row[0] for row in rows.select(row_hash(rows)).collect()]
    ways = [
        (None, "le", "row", False),
        (5, "lt", "row", False),
        (5, "le", "column", False),
        (None, "lt", "row", True),
        (8, "le", "column", True),
    ]
    backs = [None if hours is None else hours * HOUR for hours, *_ in ways]
    asked = [
        AsOfLookup(
            ("p", "q"), "t", Side(rows, ("p", "q"), "at", {"a": f"a{n}", "b": f"b{n}"}, back, boundary, nulls, "seen" if late else None)
        )
        for n, (back, (_, boundary, nulls, late)) in enumerate(zip(backs, ways, strict=True))
    ]
    joined = join_all(frame, asked, engine).collect()
    assert len(joined) == len(left)
    for n, (back, (_, boundary, nulls, late)) in enumerate(zip(backs, ways, strict=True)):
        wanted = oracle(left, right, hashes, back, boundary, nulls, late)
        assert sum(value != (None, None) for value in wanted.values()) > 80
        assert {r.n: (r[f"a{n}"], r[f"b{n}"]) for r in joined} == wanted, ways[n]
