"""Training sets: lookups at named versions, on grids and by keys, one row out for each label whatever the engine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.features import versions_of
from boathouse.tables import Column, Lakehouse, Table, drop_all
from boathouse.training_sets import FeatureLookup, leak_report, training_set
from boathouse.writes import append, replace

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


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_training_sets_")
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
