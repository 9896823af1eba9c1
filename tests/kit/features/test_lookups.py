"""Training sets: lookups at named versions, on grids and by keys, one row out for each label whatever the engine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.features.lookups import FeatureLookup, join_features
from boathouse.features.tables import versions_of
from boathouse.tables.table import Column, Lakehouse, Table, drop_all
from boathouse.tables.writes import append

HOUR = dt.timedelta(hours=1)


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


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_training_sets_")
    drop_all(lake)
    rows = [("x", at(1), 1.0), ("x", at(2), 2.0), ("y", at(2), 9.0)]
    append(lake, DELAYS, spark.createDataFrame(rows, DELAYS.schema), unique=True)
    known = [("x", at(1), 1.0, at(1.25)), ("x", at(2), 2.0, at(2))]
    append(lake, KNOWN, spark.createDataFrame(known, KNOWN.schema), unique=True)
    yield lake
    drop_all(lake)


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
