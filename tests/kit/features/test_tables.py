"""Feature tables: the calls of Databricks' client on Delta tables whose keys are kept."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from boathouse.features.tables import read_declaration
from boathouse.serving.client import FeatureEngineeringClient
from boathouse.tables.contracts import ContractViolation
from boathouse.tables.evolution import create
from boathouse.tables.table import Column, Table, declaration_digest
from boathouse.tables.versions import version_of

DAY = dt.datetime(2013, 6, 1)


@pytest.fixture(scope="module")
def tables(spark: SparkSession) -> FeatureEngineeringClient:
    tables = FeatureEngineeringClient(spark=spark, prefix="test_features_")
    return tables


def wind(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "pier string, at timestamp, knots double")


def seen(tables: FeatureEngineeringClient, name: str) -> dict:
    return {row.pier: tuple(row)[2:] for row in tables.read_table(name).collect()}


def test_a_table_is_made_from_rows_and_tells_what_it_is(spark: SparkSession, tables: FeatureEngineeringClient) -> None:
    tables.create_table(
        "spark_catalog.features.made",
        "pier",
        wind(spark, ("east", DAY, 12.0)),
        timeseries_column="at",
        description="One row a reading.",
        tags={"team": "x"},
    )
    made = tables.get_table("features.made")
    assert (made.primary_keys, made.timestamp_key, made.features) == (("pier",), "at", ("knots",))
    assert (made.description, dict(made.tags)) == ("One row a reading.", {"team": "x"})
    tables.delete_feature_table_tag("features.made", "team")
    assert not tables.get_table("features.made").tags
    assert seen(tables, "features.made") == {"east": (12.0,)}
    assert not tables.read_table("features.made").schema["at"].nullable


def test_a_write_replaces_known_keys_adds_others_and_grows_by_new_columns(spark: SparkSession, tables: FeatureEngineeringClient) -> None:
    tables.create_table("features.grown", "pier", wind(spark, ("east", DAY, 12.0), ("west", DAY, 5.0)), timeseries_column="at")
    tables.write_table("features.grown", wind(spark, ("east", DAY, 13.0), ("north", DAY, 1.0)).selectExpr("*", "knots + 10 AS gusts"))
    assert seen(tables, "features.grown") == {"east": (13.0, 23.0), "west": (5.0, None), "north": (1.0, 11.0)}
    tables.write_table("features.grown", wind(spark, ("east", DAY, 14.0)))  # without gusts: they are kept
    assert seen(tables, "features.grown")["east"] == (14.0, 23.0)


def test_a_key_that_comes_twice_is_refused_with_its_number_and_examples_and_nothing_is_written(
    spark: SparkSession, tables: FeatureEngineeringClient
) -> None:
    tables.create_table("features.kept", "pier", wind(spark, ("east", DAY, 12.0)), timeseries_column="at")
    version = version_of(tables.lake, "features.kept")
    with pytest.raises(ContractViolation, match="west"):
        tables.write_table("features.kept", wind(spark, ("west", DAY, 1.0), ("west", DAY, 2.0), ("north", DAY, 1.0)))
    with pytest.raises(ContractViolation, match="must have the primary key columns, and lack at"):
        tables.write_table("features.kept", wind(spark, ("west", DAY, 1.0)).drop("at"))
    with pytest.raises(ContractViolation):
        tables.write_table("features.kept", wind(spark, (None, DAY, 1.0)))
    assert (seen(tables, "features.kept"), version_of(tables.lake, "features.kept")) == ({"east": (12.0,)}, version)


def test_a_stream_is_merged_batch_by_batch_and_goes_on_where_it_was(
    spark: SparkSession, tables: FeatureEngineeringClient, tmp_path: Path
) -> None:
    tables.create_table("features.streamed", "pier", schema=wind(spark, ("east", DAY, 12.0)).schema, timeseries_column="at")
    tables.create_table("features.source", "pier", wind(spark, ("east", DAY, 12.0)), timeseries_column="at")
    for n in range(2):
        stream = spark.readStream.option("ignoreChanges", "true").table(tables.lake.name("features.source"))
        tables.write_table("features.streamed", stream, checkpoint_location=str(tmp_path / "checkpoint")).awaitTermination()
        assert seen(tables, "features.streamed") == {"east": (12.0,), **({"west": (3.0,)} if n else {})}
        tables.write_table("features.source", wind(spark, ("west", DAY, 3.0)))
    with pytest.raises(ValueError, match="needs a checkpoint_location"):
        tables.write_table("features.streamed", spark.readStream.table(tables.lake.name("features.source")))


def test_what_cannot_be_created_or_written_is_refused_with_what_to_do(spark: SparkSession, tables: FeatureEngineeringClient) -> None:
    rows = wind(spark, ("east", DAY, 12.0))
    tables.create_table("features.refused", ["pier"], rows, timeseries_column="at")
    for call, said in (
        (lambda: tables.create_table("features.refused", "pier", rows), "exists already"),
        (lambda: tables.create_table("features.other", "pier"), "exactly one of `df` and `schema`"),
        (lambda: tables.create_table("features.other", "dock", rows), "keys must be among the columns pier, at, knots, got dock"),
        (lambda: tables.create_table("a.b.c.wind", "pier", rows), "table name must be schema.table"),
        (lambda: tables.read_table("prod.features.refused"), "must be schema.table or spark_catalog.schema.table"),
        (lambda: tables.write_table("features.refused", rows, mode="overwrite"), "drop the table and create it again"),
        (lambda: tables.get_table("features.other"), "does not exist"),
        (lambda: tables.drop_table("features.other"), "does not exist"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    tables.drop_table("features.refused")
    with pytest.raises(ValueError, match="does not exist"):
        tables.get_table("features.refused")


def test_a_table_declared_elsewhere_is_read_back_as_it_was_declared(tables: FeatureEngineeringClient) -> None:
    table = Table(
        "features.declared",
        "One row a pier.",
        (Column("pier", "string", "the pier", nullable=False), Column("knots", "double", "wind")),
        primary_key=("pier",),
        owner="harbour",
        retention="interval 90 days",
        change_feed=True,
    )
    create(tables.lake, table)
    read = read_declaration(tables.lake, "features.declared")
    assert (read.primary_key, read.owner, read.retention, read.change_feed) == (("pier",), "harbour", "interval 90 days", True)
    create(tables.lake, read)
    assert declaration_digest(tables.lake, "features.declared") == read.digest
    assert isinstance(read.schema, T.StructType)
