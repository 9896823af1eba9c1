"""Training sets: lookups at named versions, on grids and by keys, one row out for each label whatever the engine."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.features.lookups import FeatureLookup, join_features
from boathouse.features.tables import versions_of
from boathouse.features.training_sets import FeatureFunction, FeatureSpec, create_training_set, with_features
from boathouse.serving.client import FeatureEngineeringClient
from boathouse.tables.table import Column, Lakehouse, Table
from boathouse.tables.writes import append

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


def labels(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "n int, k string, t timestamp")


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


TWICE, MOVING = replace(DELAYS, name="features.twice"), replace(DELAYS, name="features.moving")
KNOWN = replace(DELAYS, name="features.known", columns=(*DELAYS.columns, Column("known", "timestamp", "known since")))
BERTHS = Table(
    "features.berths",
    "One row per place, with the time of its last change.",
    (Column("place", "string", "place", nullable=False), Column("changed", "timestamp", "last change"), Column("berths", "int", "number")),
    primary_key=("place",),
    time_key="changed",
)


TIDES = replace(KNOWN, name="features.tides")
# Readings of ten hours at two places, each with the minute at which it became known. The value is the minute of the reading: it says when it is from.
RANDOM = random.Random(7)
READINGS = [(place, m, m + RANDOM.choice([-30, 0, 0, 45, 200])) for place in "xy" for m in sorted(RANDOM.sample(range(0, 600, 5), 50))]


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_training_sets_")
    rows = [("x", at(1), 1.0), ("x", at(2), 2.0), ("y", at(2), 9.0)]
    append(lake, DELAYS, spark.createDataFrame(rows, DELAYS.schema), unique=True)
    known = [("x", at(1), 1.0, at(1.25)), ("x", at(2), 2.0, at(2))]
    append(lake, KNOWN, spark.createDataFrame(known, KNOWN.schema), unique=True)
    append(lake, BERTHS, spark.createDataFrame([("x", at(9), 4)], BERTHS.schema), unique=True)
    append(
        lake,
        TIDES,
        spark.createDataFrame([(place, at(0) + m * MINUTE, float(m), at(0) + k * MINUTE) for place, m, k in READINGS], TIDES.schema),
        unique=True,
    )
    return lake


def test_a_lookup_on_the_grid_gives_the_tick_at_or_before_and_nothing_older(spark: SparkSession, lake: Lakehouse) -> None:
    grid = FeatureLookup(
        "features.delays", "k", timestamp_lookup_key="t", grid=HOUR, rename_outputs={"delay": "d"}, default_values={"delay": -1.0}
    )
    left = labels(spark, (1, "x", at(1.99)), (2, "x", at(2)), (3, "x", at(3)), (4, "y", at(1.5)), (5, None, at(2)), (6, "x", None))
    rows = join_features(lake, left, [grid], match="seen")
    assert {r.n: r.d for r in rows.collect()} == {1: 1.0, 2: 2.0, 3: -1.0, 4: -1.0, 5: -1.0, 6: -1.0}
    assert {r.n: r.seen.features_delays for r in rows.where("n < 3").collect()} == {1: at(1), 2: at(2)}


def test_duplicates_that_got_into_a_feature_table_do_not_multiply_labels(spark: SparkSession, lake: Lakehouse) -> None:
    append(lake, TWICE, spark.createDataFrame([("x", at(2), v) for v in (2.0, 7.0, 8.0)], TWICE.schema), unique=True)  # it is not
    for lookup in (
        FeatureLookup("features.twice", "k", timestamp_lookup_key="t", grid=HOUR),
        FeatureLookup("features.twice", "k", timestamp_lookup_key="t"),
    ):
        assert join_features(lake, labels(spark, (1, "x", at(2)), (2, "x", at(2))), [lookup]).count() == 2


def test_a_named_version_is_read_whatever_is_written_afterwards(spark: SparkSession, lake: Lakehouse) -> None:
    lookup = FeatureLookup("features.moving", "k", timestamp_lookup_key="t", lookback_window=HOUR)
    append(lake, MOVING, spark.createDataFrame([("x", at(2), 2.0)], MOVING.schema), unique=True)
    versions = versions_of(lake, [MOVING])
    append(lake, MOVING, spark.createDataFrame([("x", at(2.5), 99.0)], MOVING.schema), unique=True)
    left = labels(spark, (1, "x", at(3)))
    assert [join_features(lake, left, [lookup], v).first().delay for v in (versions, None)] == [2.0, 99.0]


def test_a_table_without_keys_cannot_be_looked_up(spark: SparkSession, lake: Lakehouse) -> None:
    append(lake, Table("features.loose", "Anything.", (Column("k", "string", "k"),)), spark.createDataFrame([("x",)], "k string"))
    with pytest.raises(ValueError, match="declares no primary key"):
        join_features(lake, labels(spark, (1, "x", at(1))), [FeatureLookup("features.loose", "k")])


@pytest.mark.parametrize("engine", ["local", "union"])
def test_a_row_on_the_grid_that_was_not_known_yet_is_taken_by_no_engine(spark: SparkSession, lake: Lakehouse, engine: str) -> None:
    grid = FeatureLookup("features.known", "k", timestamp_lookup_key="t", grid=HOUR, known_by="known")
    left = labels(spark, (1, "x", at(1.24)), (2, "x", at(1.25)), (3, "x", at(2)))
    found = join_features(lake, left, [grid], match="seen", engine=engine).collect()
    assert {r.n: r.delay for r in found} == {1: None, 2: 1.0, 3: 2.0}
    assert {r.n: r.seen.features_known for r in found} == {1: None, 2: at(1.25), 3: at(2)}  # since when each counts


def test_two_lookups_of_one_table_keep_an_instant_each(spark: SparkSession, lake: Lakehouse) -> None:
    newest = FeatureLookup("features.delays", "k", timestamp_lookup_key="t")
    strict = FeatureLookup("features.delays", "k", timestamp_lookup_key="t", boundary="lt", rename_outputs={"delay": "earlier"})
    row = join_features(lake, labels(spark, (1, "x", at(2))), [newest, strict], match="seen").first()
    assert row.seen.asDict() == {"features_delays": at(2), "features_delays_2": at(1)}
    # What the label rows bring is not looked up, and the other keeps its name.
    brought = labels(spark, (1, "x", at(2))).withColumn("delay", F.lit(7.0))
    row = join_features(lake, brought, [newest, strict], match="seen", given=True).first()
    assert (row.delay, row.earlier, row.seen.asDict()) == (7.0, 1.0, {"features_delays_2": at(1)})


def test_a_training_set_refuses_labels_that_already_have_a_feature_in_any_case_and_scoring_keeps_it(
    spark: SparkSession, lake: Lakehouse
) -> None:
    newest, renamed = (
        FeatureLookup("features.delays", "k", timestamp_lookup_key="t", rename_outputs=names) for names in ({}, {"delay": "n"})
    )
    for name, lookup in (("delay", newest), ("DELAY", newest), ("given", renamed)):
        brought = labels(spark, (1, "x", at(2))).withColumn(name, F.lit(7.0))
        with pytest.raises(ValueError, match="each column of the result must have one source"):
            create_training_set(lake, brought, [lookup], None)
    brought = labels(spark, (1, "x", at(2))).withColumn("delay", F.lit(7.0))
    assert with_features(lake, brought, FeatureSpec((newest,), {})).first().delay == 7.0


PATHS: dict[str, Callable[[Lakehouse, DataFrame, FeatureLookup], object]] = {
    "join_features": lambda lake, rows, lookup: join_features(lake, rows, [lookup]),
    "with_features": lambda lake, rows, lookup: with_features(lake, rows, FeatureSpec((lookup,), {})),
    "create_training_set": lambda lake, rows, lookup: create_training_set(lake, rows, [lookup], None),
    "the client": lambda lake, rows, lookup: FeatureEngineeringClient(spark=lake.spark, prefix=lake.prefix).create_training_set(df=rows, feature_lookups=[lookup]),
    "the client with a spec": lambda lake, rows, lookup: FeatureEngineeringClient(spark=lake.spark, prefix=lake.prefix).create_training_set(df=rows, feature_spec=FeatureSpec((lookup,), {})),
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_forgotten_timestamp_is_refused_by_every_path_to_a_table_with_a_time_key(spark: SparkSession, lake: Lakehouse, path: str) -> None:
    rows, call = labels(spark, (1, "x", at(1))), PATHS[path]
    for name in ("features.delays", "features.berths"):
        with pytest.raises(ValueError, match=f"lookup of {name}: timestamp_lookup_key must be given, because the table has the time key"):
            call(lake, rows, FeatureLookup(name, "k"))
    with pytest.raises(ValueError, match=r"lookup of features.delays: timestamp_lookup_key must be given"):  # several rows of a key: which?
        call(lake, rows, FeatureLookup("features.delays", "k", undated=True))
    call(lake, rows, FeatureLookup("features.berths", "k", undated=True))


def test_a_table_with_one_row_per_key_and_a_time_is_looked_up_by_key_only_if_the_lookup_says_so(
    spark: SparkSession, lake: Lakehouse
) -> None:
    rows = labels(spark, (1, "x", at(1)), (2, "x", at(10)))
    words = [
        FeatureLookup("features.berths", "k", undated=True),
        FeatureLookup("features.berths", "k", timestamp_lookup_key="t", rename_outputs={"berths": "known"}),
    ]
    assert {(r.n, r.berths, r.known) for r in join_features(lake, rows, words).collect()} == {(1, 4, None), (2, 4, 4)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lookback_window": -HOUR}, "lookback_window must be a timedelta of at least 0:00:00, got datetime.timedelta"),
        ({"lookback_window": 3600}, "lookback_window must be a timedelta of at least 0:00:00, got 3600"),
        ({"grid": dt.timedelta(0)}, "grid must be a timedelta of at least 0:00:00.000001, got datetime.timedelta"),
        ({"grid": -HOUR}, "grid must be a timedelta"),
        ({"undated": True}, "undated must not be given with a timestamp_lookup_key, got 't'"),
    ],
    ids=str,
)
def test_a_lookup_with_a_negative_span_or_a_contradiction_is_refused(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=f"lookup of features.delays: {said}"):
        FeatureLookup("features.delays", "k", timestamp_lookup_key="t", **options)
    assert FeatureLookup("features.delays", "k", timestamp_lookup_key="t", lookback_window=dt.timedelta(0)).back == dt.timedelta(0)


def test_a_training_set_refuses_a_stream_a_misspelt_exclusion_and_a_key_or_a_time_as_a_feature(
    spark: SparkSession, lake: Lakehouse
) -> None:
    rows, timed = labels(spark, (1, "x", at(2))), FeatureLookup("features.known", "k", timestamp_lookup_key="t")
    stream = spark.readStream.format("rate").load().selectExpr("1 AS n", "'x' AS k", "timestamp AS t")
    age = FeatureFunction(f"{__name__}:age", {"later": "t", "earlier": "tick"}, "age")
    named = [replace(timed, feature_names=["delay", name]) for name in ("place", "tick")]
    for call, said in (
        (lambda: create_training_set(lake, stream, [timed], None), "needs labels from a table or a batch, got a stream of n, k, t"),
        (lambda: join_features(lake, stream, [timed]), "need rows that can be read twice, got a stream for features.known"),
        (lambda: create_training_set(lake, rows, [timed], "n", ["kk"]), "exclude_columns must name columns of the training set other than its label, got kk: it has n, k, t, delay"),
        (lambda: create_training_set(lake, rows, [timed], "n", "nn"), "got nn: it has"),
        (lambda: create_training_set(lake, rows, [timed], "n", ["N"]), "other than its label, got N"),
        (lambda: create_training_set(lake, rows, [timed], "n", ["seen"], match="seen"), "got seen"),
        (lambda: create_training_set(lake, rows, [named[0]], "n"), "feature_names must not have keys or times of the table, got place"),
        (lambda: create_training_set(lake, rows, [named[1]], "n"), "feature_names must not have keys or times of the table, got tick"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            call()
    whole = ["n", "k", "t", "delay", "tick"]
    assert create_training_set(lake, rows, [named[1], age], "n").load_df().columns == [*whole, "age"]  # a function takes the time
    renamed = replace(named[1], rename_outputs={"tick": "read_at"})
    assert create_training_set(lake, rows, [renamed], "n").load_df().columns == [*whole[:-1], "read_at"]
    assert create_training_set(lake, rows, [named[1]], "n", ["TICK", "k"]).load_df().columns == ["n", "t", "delay"]
    # Without a time to compare, a stream is joined like a batch.
    assert join_features(lake, stream, [FeatureLookup("features.berths", "k", undated=True)]).isStreaming


def age(later: pd.Series, earlier: pd.Series) -> pd.Series:
    return (later - earlier) / HOUR


@st.composite
def timed_lookups(draw: st.DrawFn) -> FeatureLookup:
    back, known, grid = draw(st.none() | st.integers(0, 300)), draw(st.booleans()), draw(st.none() | st.just(5))
    words = {
        "timestamp_lookup_key": "t",
        "lookback_window": None if back is None or grid else back * MINUTE,
        "grid": grid and grid * MINUTE,
        "known_by": "known" if known else None,
        "boundary": draw(st.sampled_from(["le", "lt"])),
        "nulls": draw(st.sampled_from(["row", "column"])),
    }
    return FeatureLookup("features.tides", "k", feature_names=["delay"], **words)


ASKED = st.lists(st.tuples(st.sampled_from(["x", "y", "z", None]), st.none() | st.integers(-20, 700)), min_size=1, max_size=12)


@settings(max_examples=5)
@given(
    rows=ASKED,
    lookups=st.lists(timed_lookups(), min_size=6, max_size=6),
    engine=st.sampled_from(["local", "union", "auto"]),
    path=st.sampled_from(sorted(PATHS)),
)
def test_lookups_never_take_a_row_of_the_future_over_random_calls(
    spark: SparkSession, lake: Lakehouse, rows: list, lookups: list[FeatureLookup], engine: str, path: str
) -> None:
    asked = labels(spark, *[(n, k, m if m is None else at(0) + m * MINUTE) for n, (k, m) in enumerate(rows)])
    named = [replace(one, rename_outputs={"delay": f"d{i}"}) for i, one in enumerate(lookups)]
    for found in join_features(lake, asked, named, engine=engine).collect():  # six calls in one join
        place, minute = rows[found.n]
        for i, one in enumerate(named):
            back = None if one.back is None else one.back / MINUTE
            allowed = [
                m
                for where, m, known in READINGS
                if (where, minute is None) == (place, False)
                and (m < minute if one.boundary == "lt" else m <= minute)
                and (back is None or minute - m <= back)
                and (one.known_by is None or known <= minute)
            ]
            assert found[f"d{i}"] == max(allowed, default=None), (one, place, minute)
    bare = {"timestamp_lookup_key": None, "lookback_window": None, "grid": None, "known_by": None}
    with pytest.raises(ValueError, match="timestamp_lookup_key must be given"):  # the same call without its timestamp
        PATHS[path](lake, asked, replace(named[0], **bare))
