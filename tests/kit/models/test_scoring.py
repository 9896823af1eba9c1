"""Scoring on executors: the same numbers as here, every row once, nothing that the signature forbids."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from sklearn.linear_model import LinearRegression

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.models.scoring import PackedModel, load_packed, pack_model, positive_probability, score
from boathouse.registry.promotions import register

NAME = "spark_catalog.test_ml.scored"


def logged(name: str, trees: int) -> tuple[int, str]:
    "A small registered model: its version and the URI of what was logged."
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"hull": rng.choice(["s", "l"], 500), "knots": rng.gamma(4, 3, 500)})
    rows["late"] = rng.random(500) < 1 / (1 + np.exp(4 - 0.3 * rows.knots))
    recipe = Recipe(("hull",), ("knots",), "late")
    mlflow.set_experiment("/test_scoring")
    with mlflow.start_run() as run:
        uri = log_pipeline(fit(recipe, rows, {"n_estimators": trees}), recipe, rows, "model")
    return register(name, uri, run.info.run_id), uri


@pytest.fixture(scope="module")
def model(spark: SparkSession) -> Iterator[PackedModel]:
    version, _ = logged(NAME, trees=10)
    yield pack_model(NAME, version)
    MlflowClient().delete_registered_model(NAME)


def test_executors_give_every_row_once_and_the_numbers_of_the_driver(spark: SparkSession, model: PackedModel) -> None:
    boats = spark.range(200).selectExpr(
        "id AS boat", "if(id % 3 = 0, 's', 'l') AS hull", "if(id % 7 = 0, null, double(id) / 10) AS knots", "'x' AS ignored"
    )
    scored = score(boats.repartition(3), model, keep=["boat", "hull"])
    assert scored.columns == ["boat", "hull", "probability"]
    assert dict(scored.dtypes)["boat"] == "bigint"
    got = scored.orderBy("boat").toPandas()
    here = load_packed(model).predict(boats.orderBy("boat").toPandas()[list(model.inputs)])[:, 1]
    assert got.boat.tolist() == list(range(200))
    assert np.allclose(got.probability, here)


def test_no_rows_give_no_rows(spark: SparkSession, model: PackedModel) -> None:
    assert score(spark.createDataFrame([], "boat int, hull string, knots double"), model, keep=["boat"]).count() == 0


def test_a_type_that_the_signature_forbids_fails_the_job(spark: SparkSession, model: PackedModel) -> None:
    wrong = spark.createDataFrame([(1, 5, 2.0)], "boat int, hull int, knots double")
    with pytest.raises(Exception, match="Incompatible input types for column hull"):
        score(wrong, model, keep=["boat"]).collect()


def test_missing_inputs_are_named_before_anything_runs(spark: SparkSession, model: PackedModel) -> None:
    with pytest.raises(ValueError, match="do not have: hull, knots"):
        score(spark.range(1), model, keep=["id"])


def test_executors_need_nothing_but_the_bytes_they_were_sent(spark: SparkSession) -> None:
    # A path of the driver in the closure works on one machine and nowhere else: here the files are gone when scoring starts.
    version, uri = logged("spark_catalog.test_ml.travels", trees=3)
    packed = pack_model("spark_catalog.test_ml.travels", version)
    shutil.rmtree(mlflow.get_logged_model(uri.removeprefix("models:/")).artifact_location.removeprefix("file://"))
    assert score(spark.createDataFrame([(1, "s", 2.0)], "boat int, hull string, knots double"), packed, keep=["boat"]).count() == 1
    MlflowClient().delete_registered_model("spark_catalog.test_ml.travels")


def test_a_model_without_a_signature_is_not_packed(spark: SparkSession) -> None:
    mlflow.set_experiment("/test_scoring")
    with mlflow.start_run() as run:
        line = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
        logged = mlflow.sklearn.log_model(line, name="plain", serialization_format="skops", pip_requirements=["scikit-learn"])
    version = register("spark_catalog.test_ml.plain", logged.model_uri, run.info.run_id)
    with pytest.raises(ValueError, match="has no signature"):
        pack_model("spark_catalog.test_ml.plain", version)
    MlflowClient().delete_registered_model("spark_catalog.test_ml.plain")


def test_the_positive_class_is_the_last_column_and_a_vector_is_itself() -> None:
    assert positive_probability(np.array([[0.9, 0.1], [0.2, 0.8]])).tolist() == [0.1, 0.8]
    assert positive_probability([0.3, 0.4]).tolist() == [0.3, 0.4]
