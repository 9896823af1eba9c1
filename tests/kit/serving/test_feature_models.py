"""Specs and the models that carry them: the same values in training, batch and stream, and the training set made again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from pyspark.sql import DataFrame, SparkSession
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from boathouse.features.lookups import FeatureLookup
from boathouse.features.training_sets import (
    FeatureFunction,
    FeatureSpec,
    Labels,
    create_training_set,
    rebuild_from_spec,
    spec_from_json,
    spec_to_json,
    with_features,
    with_functions,
)
from boathouse.registry.promotions import register
from boathouse.serving.client import FeatureEngineeringClient
from boathouse.serving.feature_models import infer_signature, log_model, log_spec, read_spec, rebuild_training_set, score_batch
from boathouse.tables.versions import fingerprint, version_of

MODEL, HOUR = "spark_catalog.test_ml.harbour", dt.timedelta(hours=1)
FEATURES = (
    FeatureFunction(f"{__name__}:doubled", {"value": "age_hours"}, "age_doubled"),  # takes what the next one gives
    FeatureFunction(f"{__name__}:hours", {"later": "planned", "earlier": "read_at"}, "age_hours"),
    FeatureLookup(
        "features.wind", "pier", rename_outputs={"at": "read_at"}, feature_names=["knots", "boats", "at"], timestamp_lookup_key="planned", lookback_window=3 * HOUR
    ),
    FeatureLookup("features.piers", "pier", default_values={"length": -1}),
)  # fmt: skip


def hours(later: pd.Series, earlier: pd.Series) -> pd.Series:
    return (later - earlier) / HOUR


def doubled(value: pd.Series) -> pd.Series:
    return 2 * value


@dataclass(frozen=True)
class Harbour:
    tables: FeatureEngineeringClient
    labels: Labels
    uri: str
    before: dict[str, int]


@pytest.fixture(scope="module")
def harbour(spark: SparkSession) -> Iterator[Harbour]:
    "Two feature tables, trips as labels, and a model of them; since then the pier has grown, and a trip was corrected."
    tables = FeatureEngineeringClient(spark=spark, prefix="test_feature_models_")
    wind = spark.sql(
        "SELECT 'east' AS pier, timestamp_seconds(1370044800 + 3600 * id) AS at, double(id % 7) AS knots, int(id % 3) AS boats FROM range(60)"
    )
    tables.create_table("features.wind", "pier", wind, timeseries_column="at")
    tables.create_table("features.piers", "pier", spark.sql("SELECT 'east' AS pier, 40 AS length"))
    trips = """SELECT int(id) AS trip, if(id % 10 = 9, 'west', 'east') AS pier, timestamp_seconds(1370044800 + 3000 * id) AS planned,
               double(id) AS minutes FROM range(60)"""
    tables.create_table("gold.trips", "trip", spark.sql(trips))
    labels = Labels("gold.trips", version_of(tables.lake, "gold.trips"), "trip < 40")
    made = tables.create_training_set(labels, FEATURES, "minutes", exclude_columns=["trip", "pier", "planned", "read_at"])
    rows = made.load_df().toPandas().fillna(0.0)
    mlflow.set_experiment("/test_feature_models")
    with mlflow.start_run():
        fitted = LinearRegression().fit(rows.drop(columns="minutes").astype(float), rows["minutes"])
        signature = mlflow.models.infer_signature(rows.drop(columns="minutes").astype(float), rows["minutes"])
        tables.log_model(
            fitted, "model", flavor=mlflow.sklearn, training_set=made, registered_model_name=MODEL,
            signature=signature, pip_requirements=[], serialization_format="skops",
        )  # fmt: skip
    before = {name: version_of(tables.lake, name) for name in ("features.wind", "features.piers")}
    tables.write_table("features.piers", spark.sql("SELECT 'east' AS pier, 1000 AS length"))
    late_row = "SELECT 1 AS trip, 'east' AS pier, timestamp'2013-06-01' AS planned, 77D AS minutes"
    tables.write_table("gold.trips", spark.sql(late_row))
    yield Harbour(tables, labels, f"models:/{MODEL}/1", before)
    MlflowClient().delete_registered_model(MODEL)


def asked(harbour: Harbour) -> DataFrame:
    return harbour.labels.rows(harbour.tables.lake).where("pier = 'east'").drop("minutes")


def test_the_spec_that_a_model_carries_is_the_one_it_was_trained_with(harbour: Harbour) -> None:
    spec = read_spec(harbour.uri)
    assert spec.features == FEATURES
    assert (spec.label, spec.exclude_columns, spec.labels) == ("minutes", ("trip", "pier", "planned", "read_at"), harbour.labels)
    assert set(spec.versions) == {"features.wind", "features.piers"}
    assert spec.fingerprint


def test_a_training_set_is_made_again_from_the_model_alone_whatever_was_written_since(harbour: Harbour) -> None:
    again = rebuild_training_set(harbour.tables.lake, harbour.uri)
    assert fingerprint(again) == read_spec(harbour.uri).fingerprint
    assert {row.length for row in again.collect()} == {40, -1}
    lying = replace(read_spec(harbour.uri), versions={"features.piers": 2, "features.wind": 1})
    with pytest.raises(ValueError, match=r"must have the fingerprint \w+ of its spec, got"):
        rebuild_from_spec(harbour.tables.lake, lying)


def test_a_value_is_the_same_in_training_batch_and_stream_for_every_engine(harbour: Harbour, tmp_path: Path) -> None:
    spark, lake, then = harbour.tables.lake.spark, harbour.tables.lake, harbour.before
    names = ["knots", "boats", "length", "age_hours", "age_doubled", "prediction"]
    made = create_training_set(lake, asked(harbour), FEATURES, None, versions=then).load_df()
    trained = {r.trip: tuple(r[n] for n in names[:-1]) for r in made.collect()}
    batch = {r.trip: tuple(r[n] for n in names) for r in score_batch(lake, harbour.uri, asked(harbour), then).collect()}
    assert {trip: row[:-1] for trip, row in batch.items()} == trained
    assert all(row[-1] is not None for row in batch.values())
    scored = score_batch(lake, harbour.uri, asked(harbour), then, engine="union").collect()
    assert {r.trip: tuple(r[n] for n in names) for r in scored} == batch

    source, sink = str(tmp_path / "asked"), str(tmp_path / "scored")
    asked(harbour).repartition(3).write.parquet(source)

    def serve(rows: DataFrame, number: int) -> None:
        score_batch(lake, harbour.uri, rows, then).write.mode("append").parquet(sink)

    stream = spark.readStream.schema(asked(harbour).schema).option("maxFilesPerTrigger", 1).parquet(source)
    stream.writeStream.foreachBatch(serve).option("checkpointLocation", str(tmp_path / "c")).trigger(
        availableNow=True
    ).start().awaitTermination()
    assert {r.trip: tuple(r[n] for n in names) for r in spark.read.parquet(sink).collect()} == batch


def test_a_feature_that_the_rows_have_already_is_not_looked_up(spark: SparkSession, harbour: Harbour) -> None:
    rows = asked(harbour).where("trip = 5").selectExpr("*", "50D AS knots", "timestamp'2013-06-01' AS read_at", "2D AS age_doubled")
    out = score_batch(harbour.tables.lake, harbour.uri, rows).first()
    assert (out.knots, out.age_doubled, out.boats, round(out.age_hours, 3)) == (50.0, 2.0, 1, 4.167)


def test_a_new_key_without_a_whole_number_feature_is_scored_as_missing(spark: SparkSession, harbour: Harbour) -> None:
    # `boats` is an int in the feature table; for a pier without readings it is null, and no training row was null.
    lookup = FeatureLookup("features.wind", "pier", feature_names=["boats"], timestamp_lookup_key="planned")
    labels = replace(harbour.labels, where="trip < 40 AND pier = 'east'")
    made = create_training_set(harbour.tables.lake, labels, [lookup], "minutes", ["trip", "pier", "planned"])
    rows = made.load_df().toPandas()
    fitted = make_pipeline(SimpleImputer(strategy="constant", fill_value=-1000.0), LinearRegression()).fit(
        rows[["boats"]].astype(float), rows["boats"]
    )
    name = "spark_catalog.test_ml.counted"
    with mlflow.start_run():
        words = {"pip_requirements": [], "serialization_format": "skops", "skops_trusted_types": ["numpy.dtype"]}
        log_model(fitted, "m", flavor=mlflow.sklearn, training_set=made, registered_model_name=name, **words)
    new = spark.sql("SELECT 'north' AS pier, timestamp'2013-06-02' AS planned")
    known = spark.sql("SELECT 'east' AS pier, timestamp'2013-06-01 02:00' AS planned")
    scored = [score_batch(harbour.tables.lake, f"models:/{name}/1", rows) for rows in (new, known)]
    assert dict(scored[0].dtypes)["boats"] == "int"
    assert [(r.pier, r.boats, round(r.prediction, 6)) for r in scored[0].union(scored[1]).collect()] == [
        ("north", None, -1000.0),
        ("east", 2, 2.0),
    ]
    text = known.selectExpr("*", "'two' AS boats")
    with pytest.raises(ValueError, match="counted version 1 takes other types of columns: boats must be double, got string"):
        score_batch(harbour.tables.lake, f"models:/{name}/1", text)
    MlflowClient().delete_registered_model(name)


def test_a_model_whose_lookup_forgot_the_timestamp_scores_nothing(spark: SparkSession, harbour: Harbour) -> None:
    # A spec of an earlier version of the kit may have such a lookup: it took any row of the key.
    with mlflow.start_run():
        line = LinearRegression().fit(pd.DataFrame({"knots": [1.0, 2.0]}), [1.0, 2.0])
        signature = mlflow.models.infer_signature(pd.DataFrame({"knots": [1.0, 2.0]}), [1.0])
        info = mlflow.sklearn.log_model(line, name="m", signature=signature, pip_requirements=[], serialization_format="skops")
    log_spec(info.model_id, FeatureSpec((FeatureLookup("features.wind", "pier", feature_names=["knots"]),), {"features.wind": 1}))
    name = "spark_catalog.test_ml.untimed"
    register(name, info.model_uri, info.run_id)
    with pytest.raises(
        ValueError, match=r"lookup of features.wind: timestamp_lookup_key must be given, because the table has the time key at"
    ):
        score_batch(harbour.tables.lake, f"models:/{name}/1", spark.sql("SELECT 'east' AS pier"))
    given = spark.sql("SELECT 'east' AS pier, 1.5D AS knots")  # nothing is looked up
    assert score_batch(harbour.tables.lake, f"models:/{name}/1", given).first().prediction == pytest.approx(1.5)
    MlflowClient().delete_registered_model(name)


def test_what_was_known_at_a_version_is_scored_by_naming_it(harbour: Harbour) -> None:
    one = asked(harbour).where("trip = 5")
    lengths = [score_batch(harbour.tables.lake, harbour.uri, one, v).first().length for v in (harbour.before, None)]
    assert lengths == [40, 1000]


def test_what_cannot_be_scored_or_made_again_is_refused_with_the_reason(spark: SparkSession, harbour: Harbour) -> None:
    lake = harbour.tables.lake
    with mlflow.start_run():
        bare = mlflow.sklearn.log_model(
            LinearRegression().fit([[1.0]], [1.0]), name="bare", pip_requirements=[], serialization_format="skops"
        )
    unlabelled = create_training_set(lake, asked(harbour), FEATURES, None).spec
    for call, said in (
        (lambda: read_spec(bare.model_uri), "has none: log the model with its training set"),
        (lambda: score_batch(lake, "runs:/1/model", asked(harbour)), "models:/NAME/VERSION"),
        (lambda: score_batch(lake, harbour.uri, asked(harbour).selectExpr("*", "1 AS prediction")), "must not have columns of a prediction, got prediction"),
        (lambda: score_batch(lake, harbour.uri, asked(harbour).drop("pier")), r"the rows have no pier to look up features in features.wind: they have trip, planned; add"),
        (lambda: score_batch(lake, harbour.uri, asked(harbour).selectExpr("planned", "1D AS knots", "1 AS boats", "planned AS read_at")), "the rows have no pier to look up features in features.piers"),
        (lambda: rebuild_from_spec(lake, unlabelled), "spec.labels must be `Labels` to read the label rows again, got None"),
        (lambda: create_training_set(lake, asked(harbour), FEATURES, "delay"), "no column delay: they have trip, pier, planned"),
        (lambda: with_functions(spark.range(1), FEATURES[:2]), "age_doubled, age_hours: the rows need the columns .*planned"),
        (lambda: FeatureFunction("boathouse.features.training_sets:nothing", {"a": "b"}, "c").column(), "udf_name must be an importable module:function, got 'boathouse.features.training_sets:nothing'"),
        (lambda: FeatureFunction(f"{__name__}:hours", {"late": "b"}, "c").column(), "takes no late: it takes later, earlier"),
        (lambda: spec_from_json('{"format": 2}'), "must have format 1, got 2"),
        (lambda: with_features(lake, asked(harbour), FeatureSpec((FeatureLookup("features.piers", "pier", feature_names=["depth"]),), {})), "has no depth; it has"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            call()


words = st.text("abc_.", min_size=1, max_size=5)
lookups = st.builds(
    FeatureLookup,
    words,
    st.one_of(words, st.lists(words, min_size=1, max_size=3)),
    feature_names=st.one_of(st.none(), st.lists(words, max_size=3)),
    rename_outputs=st.dictionaries(words, words, max_size=2),
    timestamp_lookup_key=words,
    lookback_window=st.one_of(st.none(), st.timedeltas(dt.timedelta(0), dt.timedelta(days=9))),
    default_values=st.dictionaries(words, st.one_of(st.integers(), st.booleans(), words, st.floats(allow_nan=False)), max_size=2),
    nulls=st.sampled_from(["row", "column"]),
)
functions = st.builds(FeatureFunction, words, st.dictionaries(words, words, max_size=2), words)


@given(st.lists(st.one_of(lookups, functions), max_size=4), st.dictionaries(words, st.integers(0)), st.one_of(st.none(), words))
def test_a_spec_comes_back_from_its_text_as_it_was(features: list, versions: dict, label: str | None) -> None:
    spec = FeatureSpec(tuple(features), versions, label, ("a", "b"), Labels("gold.x", 3, "a > 'b'", ("a", "b AS c")), "fp")
    assert spec_from_json(spec_to_json(spec)) == spec
    assert spec_from_json(spec_to_json(replace(spec, labels=None))).labels is None


def test_a_logged_model_gets_its_signature_from_the_training_set(harbour: Harbour) -> None:
    labels = replace(harbour.labels, where="trip < 5")
    lookup = FeatureLookup("features.wind", "pier", feature_names=["knots"], timestamp_lookup_key="planned")
    made = create_training_set(harbour.tables.lake, labels, [lookup], "minutes", exclude_columns=["trip", "pier", "planned"])
    with mlflow.start_run():
        info = log_model(
            LinearRegression().fit([[1.0]], [1.0]),
            "m",
            flavor=mlflow.sklearn,
            training_set=made,
            pip_requirements=[],
            serialization_format="skops",
        )
    assert (info.signature.inputs.input_names(), read_spec(info.model_uri).label) == (["knots"], "minutes")


def test_the_signature_has_what_the_model_was_fitted_on_and_numbers_that_may_be_null_later(spark: SparkSession, harbour: Harbour) -> None:
    rows = spark.sql("SELECT 7L AS trip, 'east' AS pier, timestamp'2013-06-01' AS planned, 2 AS berths, 1.5BD AS draught, 3D AS minutes")
    made = create_training_set(harbour.tables.lake, rows, [FeatureLookup("features.piers", "pier")], "minutes")
    frame, names = made.load_df().toPandas(), ["length", "berths", "draught"]  # not in the order of the training set
    line = LinearRegression().fit(frame[names].astype(float), frame["minutes"])
    found = infer_signature(line, made).inputs
    assert [(column.name, column.type.name) for column in found] == [(name, "double") for name in names]
    strange = LinearRegression().fit(frame[["berths"]].assign(tide=1.0), frame["minutes"])
    no_number = create_training_set(harbour.tables.lake, rows.selectExpr("interval 1 day AS turn", "minutes"), [], "minutes")
    narrow = create_training_set(harbour.tables.lake, rows.select("trip", "berths", "minutes"), [], "minutes")
    for model, training_set, said in (
        (strange, made, "the model takes tide, but the training set has the columns trip, pier, planned"),
        (None, made, "inputs of a model must not be dates or timestamps, got planned: name them in exclude_columns"),
        (
            LinearRegression().fit([[1.0]], [1.0]),
            narrow,
            "the model takes 1 columns, but the training set has 2 without its label: trip, berths",
        ),
        (None, no_number, "a signature needs columns of numbers or text, got turn interval day"),
    ):
        with pytest.raises(ValueError, match=said):
            infer_signature(model, training_set)
    named = mlflow.models.infer_signature(frame[["planned"]], frame["minutes"])
    with pytest.raises(ValueError, match="must not be dates or timestamps, got planned"):  # also if a person wrote the signature
        log_model(line, "m", flavor=mlflow.sklearn, training_set=made, signature=named)
