"""The feature engineering client takes the calls of Databricks' client as they are written there, and refuses what it cannot honour."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
from pyspark.sql import SparkSession

from boathouse.feature_engineering import FeatureEngineeringClient, FeatureFunction, FeatureLookup
from boathouse.tables.contracts import ContractViolation
from boathouse.tables.table import exists

# Parameters of `databricks-feature-engineering` 0.18, as its public documentation lists them.
CALLS = {
    "__init__": "model_registry_uri",
    "create_table": "name primary_keys df timeseries_column partition_columns schema description tags",
    "get_table": "name",
    "read_table": "name",
    "write_table": "name df mode checkpoint_location trigger",
    "drop_table": "name",
    "set_feature_table_tag": "name key value",
    "delete_feature_table_tag": "name key",
    "create_training_set": "df feature_lookups feature_spec features label exclude_columns use_spark_native_join use_timeseries_filtering",
    "log_model": "model artifact_path flavor training_set registered_model_name infer_input_example",
    "score_batch": "model_uri df result_type env_manager params use_spark_native_join",
}


@pytest.mark.parametrize("method", CALLS)
def test_a_call_of_databricks_is_accepted_with_its_parameters_by_name(method: str) -> None:
    assert set(CALLS[method].split()) <= set(inspect.signature(getattr(FeatureEngineeringClient, method)).parameters)


@pytest.mark.parametrize(
    ("entity", "parameters"),
    [
        (FeatureLookup, "table_name lookup_key feature_names rename_outputs timestamp_lookup_key lookback_window default_values"),
        (FeatureFunction, "udf_name input_bindings output_name"),
    ],
)
def test_an_entity_of_databricks_is_made_with_its_parameters_by_name(entity: type, parameters: str) -> None:
    assert set(parameters.split()) <= set(inspect.signature(entity).parameters)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda fe, df: fe.create_training_set(df=df, label="late"), "exactly one of feature_lookups and feature_spec"),
        (lambda fe, df: fe.create_training_set(df=df, feature_lookups=[], label=["late", "gone"]), "takes one label, got 2: late, gone"),
        (lambda fe, df: fe.create_training_set(df=df, feature_lookups=[], label="late", exclude_columns=["boatt"]), "exclude_columns must name columns of the training set other than its label, got boatt: it has boat, late"),
        (lambda fe, df: fe.create_training_set(df=df, feature_lookups=[], label="late", exclude_columns="late"), "other than its label, got late"),
        (lambda fe, df: fe.create_training_set(df=df, features=[1], label="late"), "declarative `features` are not supported"),
        (lambda fe, df: fe.log_model(model=1, flavor=None, training_set=None), "exactly one of artifact_path and name"),
        (lambda fe, df: fe.score_batch(model_uri="models:/m/1", df=df, env_manager="conda"), "env_manager must be 'local', got 'conda'"),
        (lambda fe, df: fe.score_batch(model_uri="models:/m/1", df=df, params={"n": 1}), "takes no params here, got n"),
        (lambda fe, df: fe.read_table(name="other.features.wind"), "table name must be schema.table or spark_catalog.schema.table"),
        (lambda fe, df: fe.get_table(name="features.nothing"), "does not exist; create it with create_table"),
        (lambda fe, df: fe.write_table(name="features.nothing", df=df, mode="overwrite"), "mode must be 'merge', got 'overwrite'"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_with_what_was_expected(spark: SparkSession, call: Callable[..., object], said: str) -> None:
    fe = FeatureEngineeringClient(spark=spark, prefix="test_client_")
    with pytest.raises(ValueError, match=re.escape(said)):
        call(fe, spark.sql("SELECT 1 AS boat, true AS late"))


def test_a_table_whose_rows_cannot_be_written_is_not_created_and_is_created_once_they_are_mended(spark: SparkSession) -> None:
    fe = FeatureEngineeringClient(spark=spark, prefix="test_client_")
    good = spark.sql("SELECT 1 AS boat, 2D AS knots")
    for bad, said in ((good.union(good), "not unique"), (good.selectExpr("nullif(boat, 1) AS boat", "knots"), "null")):
        with pytest.raises(ContractViolation, match=said):
            fe.create_table(name="features.mended", primary_keys="boat", df=bad, tags={"team": "harbour"})
        assert not exists(fe.lake, "features.mended")
    assert fe.create_table(name="features.mended", primary_keys="boat", df=good).features == ("knots",)
    with pytest.raises(ValueError, match="exists already"):  # a refusal does not drop what was there
        fe.create_table(name="features.mended", primary_keys="boat", df=good)
    assert fe.create_training_set(df=good, feature_lookups=[], exclude_columns=["BOAT"]).load_df().columns == ["knots"]
    assert fe.read_table(name="features.mended").count() == 1


def test_a_bare_name_is_a_table_of_the_current_schema(spark: SparkSession) -> None:
    assert FeatureEngineeringClient(spark=spark).short("wind") == f"{spark.catalog.currentDatabase()}.wind"
