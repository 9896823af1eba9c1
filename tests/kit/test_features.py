"""Point-in-time joins, windows and training sets: the semantics, and the defects that other systems were seen to have."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from boathouse.features import FeatureLookup, as_of_join, leak_report, rolling, training_set, versions_of
from boathouse.tables import Column, Lakehouse, Table, drop_all
from boathouse.writes import append, replace

HOUR = dt.timedelta(hours=1)


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


def labels(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "n int, k string, t timestamp")


def readings(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "k string, at timestamp, a int, b int")


def joined(left: DataFrame, right: DataFrame, **more: object) -> dict[int, tuple]:
    return {row.n: (row.a, row.b) for row in as_of_join(left, right, "k", "t", "at", **more).collect()}


def test_a_feature_at_the_labels_own_instant_counts_and_one_microsecond_later_does_not(spark: SparkSession) -> None:
    rows = readings(spark, ("x", at(1), 1, 1), ("x", at(2) + dt.timedelta(microseconds=1), 2, 2))
    assert joined(labels(spark, (1, "x", at(2)), (2, "x", at(1)), (3, "x", at(0.5))), rows) == {1: (1, 1), 2: (1, 1), 3: (None, None)}


def test_ties_do_not_multiply_labels_and_are_settled_the_same_way_in_any_order(spark: SparkSession) -> None:
    # Feast 0.67 on Spark returned 7 rows for 4 labels when two feature rows shared a timestamp.
    tied = [("x", at(1), 1, 1), ("x", at(1), 2, 2), ("x", at(1), 3, None), ("x", at(1), None, 3)]
    left = labels(spark, *[(n, "x", at(1)) for n in range(4)])
    forwards, backwards = joined(left, readings(spark, *tied)), joined(left, readings(spark, *tied[::-1]))
    assert len(forwards) == 4
    assert len(set(forwards.values())) == 1
    assert forwards == backwards


def test_composite_keys_are_compared_part_by_part(spark: SparkSession) -> None:
    # Feast 0.67 on Spark glued keys: (1, 12) and (11, 2) became one entity.
    left = spark.createDataFrame([(1, 12, at(2)), (11, 2, at(2))], "p int, q int, t timestamp")
    right = spark.createDataFrame([(1, 12, at(1), "one-twelve"), (11, 2, at(1), "eleven-two")], "p int, q int, at timestamp, name string")
    got = {(row.p, row.q): row.name for row in as_of_join(left, right, ["p", "q"], "t", "at").collect()}
    assert got == {(1, 12): "one-twelve", (11, 2): "eleven-two"}


def test_the_whole_row_is_taken_and_rows_are_never_mixed(spark: SparkSession) -> None:
    # tempo's default carried the last value of each column: `a` of one day beside `b` of another.
    assert joined(labels(spark, (1, "x", at(3))), readings(spark, ("x", at(1), 1, 1), ("x", at(2), 2, None))) == {1: (2, None)}


def test_null_keys_match_nothing_and_labels_without_time_are_kept(spark: SparkSession) -> None:
    # tempo matched null keys to null keys, and dropped labels without a timestamp.
    rows = readings(spark, (None, at(1), 9, 9), ("x", at(1), 1, 1), ("x", None, 8, 8))
    assert joined(labels(spark, (1, None, at(2)), (2, "x", None), (3, "x", at(2))), rows) == {1: (None, None), 2: (None, None), 3: (1, 1)}


def test_equal_labels_are_all_kept_with_their_columns_untouched(spark: SparkSession) -> None:
    # Feast's Dask store dropped labels that shared key and timestamp.
    left = labels(spark, (7, "x", at(2)), (7, "x", at(2)), (7, "x", at(2)))
    out = as_of_join(left, readings(spark, ("x", at(1), 1, 1)), "k", "t", "at")
    assert out.columns == ["n", "k", "t", "a", "b"]
    assert [tuple(r) for r in out.collect()] == [(7, "x", at(2), 1, 1)] * 3


def test_lookback_is_inclusive_and_a_stale_row_is_not_replaced_by_a_staler_one(spark: SparkSession) -> None:
    rows = readings(spark, ("x", at(0), 0, 0), ("x", at(1), 1, 1))
    left = labels(spark, (1, "x", at(3)), (2, "x", at(3) + dt.timedelta(microseconds=1)))
    assert joined(left, rows, lookback=2 * HOUR) == {1: (1, 1), 2: (None, None)}


def test_a_column_that_both_sides_have_is_refused_by_name(spark: SparkSession) -> None:
    with pytest.raises(ValueError, match="already have a"):
        as_of_join(labels(spark, (1, "x", at(1))).withColumnRenamed("n", "a"), readings(spark, ("x", at(1), 1, 1)), "k", "t", "at")


moments = st.integers(0, 6)
keys = st.sampled_from(["x", "y", None])


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    left=st.lists(st.tuples(keys, st.one_of(st.none(), moments)), min_size=1, max_size=12),
    right=st.lists(st.tuples(keys, moments, st.integers(0, 99)), max_size=12, unique_by=lambda r: r[:2]),
)
def test_the_join_agrees_with_a_plain_loop_over_all_pairs(spark: SparkSession, left: list, right: list) -> None:
    def newest(key: str | None, t: int | None) -> int | None:
        known = [(u, v) for k, u, v in right if t is not None and k is not None and k == key and t - 3 <= u <= t]
        return max(known)[1] if known else None

    labels = spark.createDataFrame([(n, k, None if t is None else at(t)) for n, (k, t) in enumerate(left)], "n int, k string, t timestamp")
    rows = spark.createDataFrame([(k, at(u), v) for k, u, v in right], "k string, at timestamp, v int")
    got = {row.n: row.v for row in as_of_join(labels, rows, "k", "t", "at", lookback=3 * HOUR).collect()}
    assert got == {n: newest(k, t) for n, (k, t) in enumerate(left)}


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


DELAYS = Table(
    "features.delays",
    "One row per place and hour.",
    (
        Column("place", "string", "place", nullable=False),
        Column("tick", "timestamp", "tick", nullable=False),
        Column("delay", "double", "minutes"),
    ),
    primary_key=("place", "tick"),
    time_key="tick",
)


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_features_")
    drop_all(lake)
    rows = [("x", at(1), 1.0), ("x", at(2), 2.0), ("y", at(2), 9.0)]
    replace(lake, DELAYS, spark.createDataFrame(rows, DELAYS.schema), "true")
    yield lake
    drop_all(lake)


def test_a_lookup_on_the_grid_gives_the_tick_at_or_before_and_nothing_older(spark: SparkSession, lake: Lakehouse) -> None:
    grid = FeatureLookup(
        "features.delays", "k", timestamp_lookup_key="t", grid=HOUR, rename_outputs={"delay": "d"}, default_values={"delay": -1.0}
    )
    left = labels(spark, (1, "x", at(1.99)), (2, "x", at(2)), (3, "x", at(3)), (4, "y", at(1.5)), (5, None, at(2)), (6, "x", None))
    rows = training_set(lake, left, [grid], match="seen")
    assert {r.n: r.d for r in rows.collect()} == {1: 1.0, 2: 2.0, 3: -1.0, 4: -1.0, 5: -1.0, 6: -1.0}
    assert leak_report(rows, "seen", "t")["features_delays"] == {"matched": 2, "later": 0, "youngest_seconds": 0.0}


def test_duplicates_that_got_into_a_feature_table_do_not_multiply_labels(spark: SparkSession, lake: Lakehouse) -> None:
    append(lake, DELAYS, spark.createDataFrame([("x", at(2), 7.0), ("x", at(2), 8.0)], DELAYS.schema), unique=True)  # it is not
    for lookup in (
        FeatureLookup("features.delays", "k", timestamp_lookup_key="t", grid=HOUR),
        FeatureLookup("features.delays", "k", timestamp_lookup_key="t"),
    ):
        assert training_set(lake, labels(spark, (1, "x", at(2)), (2, "x", at(2))), [lookup]).count() == 2


def test_a_named_version_is_read_whatever_is_written_afterwards(spark: SparkSession, lake: Lakehouse) -> None:
    lookup = FeatureLookup("features.delays", "k", timestamp_lookup_key="t", lookback_window=HOUR)
    versions = versions_of(lake, [DELAYS])
    append(lake, DELAYS, spark.createDataFrame([("x", at(2.5), 99.0)], DELAYS.schema))
    left = labels(spark, (1, "x", at(3)))
    assert [training_set(lake, left, [lookup], v).first().delay for v in (versions, None)] == [2.0, 99.0]


def test_a_table_without_keys_cannot_be_looked_up(spark: SparkSession, lake: Lakehouse) -> None:
    append(lake, Table("features.loose", "Anything.", (Column("k", "string", "k"),)), spark.createDataFrame([("x",)], "k string"))
    with pytest.raises(ValueError, match="declares no primary key"):
        training_set(lake, labels(spark, (1, "x", at(1))), [FeatureLookup("features.loose", "k")])


def test_the_leak_report_counts_rows_from_after_the_label(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(at(2), (at(1),)), (at(2), (at(3),)), (at(2), (None,))], "t timestamp, seen struct<wind: timestamp>")
    assert leak_report(rows, "seen", "t") == {"wind": {"matched": 2, "later": 1, "youngest_seconds": -3600.0}}
