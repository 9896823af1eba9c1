"""Scoring on executors: the same numbers as here, every row once, nothing that the signature forbids."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Iterator

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema
from pyspark.errors import PythonException
from pyspark.sql import SparkSession
from sklearn.linear_model import LinearRegression

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.models.scoring import (
    PackedModel,
    collect_scores,
    load_packed,
    pack_folder,
    pack_model,
    positive_probability,
    score,
    score_together,
)
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


# The columns that fit each type of a signature; all others are refused.
COLUMNS = {
    "tinyint": "tinyint(1)", "smallint": "smallint(1)", "int": "1", "bigint": "1L", "float": "1F", "double": "1D", "decimal(2,1)": "1.5BD", "string": "'1'",
    "boolean": "true", "date": "date'2013-06-01'", "timestamp": "timestamp'2013-06-01 12:00'", "timestamp_ntz": "timestamp_ntz'2013-06-01 12:00'",
    "binary": "X'01'", "void": "NULL", "array<int>": "array(1)", "struct<a:int>": "named_struct('a', 1)",
}  # fmt: skip
NUMBERS = ["tinyint", "smallint", "int", "bigint", "float", "double", "decimal(2,1)"]
FITTING = {
    "double": [*NUMBERS, "void"],
    "float": ["tinyint", "smallint", "float", "void"],
    "long": ["tinyint", "smallint", "int", "bigint"],
    "integer": ["tinyint", "smallint", "int"],
    "boolean": ["boolean"],
    "string": ["string", "void"],
    "datetime": ["date", "timestamp", "timestamp_ntz", "void"],
    "binary": ["binary", "void"],
}


@pytest.mark.parametrize("kind", FITTING)
def test_a_column_that_does_not_fit_the_signature_is_named_with_both_types_before_spark_starts(spark: SparkSession, kind: str) -> None:
    rows, model = (
        spark.sql(f"SELECT {', '.join(f'{sql} AS `{name}`' for name, sql in COLUMNS.items())}"),
        PackedModel("boats", 3, ("x",), b"", {"x": kind}),
    )
    for name in COLUMNS:
        one = rows.select(rows[f"`{name}`"].alias("x"))
        if name in FITTING[kind]:
            assert score(one, model, keep=["x"]).schema["x"] == one.schema["x"], "a kept column keeps its type"
            assert score_together(one, {"new": model}, ["x"]).schema["x"] == one.schema["x"]
            continue
        with pytest.raises(
            ValueError, match=re.escape(f"boats version 3 takes other types of columns: x must be {kind}, got {name}. Cast")
        ):
            score(one, model, keep=[])
        with pytest.raises(
            ValueError, match=re.escape(f"new (boats version 3) takes other types of columns: x must be {kind}, got {name}. Cast")
        ):
            score_together(one, {"new": model}, ["x"])


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> PackedModel:
    "A model with an input of each type, which returns a number that is made of all of them."

    class Echo(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: pd.DataFrame, params=None) -> np.ndarray:
            rows = model_input
            times = (rows["datetime"] - pd.Timestamp("2013-06-01")) / pd.Timedelta(hours=1)
            texts, blobs = (rows[c].map(lambda v: 0 if v is None else len(v)) for c in ("string", "binary"))
            numbers = rows[["double", "float"]].fillna(-1).sum(axis=1) + rows[["long", "integer", "boolean"]].sum(axis=1)
            return (numbers + 100 * times.fillna(0) + 10_000 * texts + 1_000_000 * blobs).to_numpy(float)

    folder = tmp_path_factory.mktemp("echo") / "model"
    signature = ModelSignature(Schema([ColSpec(kind, kind) for kind in FITTING]), Schema([ColSpec("double")]))
    mlflow.pyfunc.save_model(str(folder), python_model=Echo(), signature=signature, pip_requirements=[])
    return pack_folder(folder, "echo", 1)


def test_values_of_each_type_reach_the_model_and_kept_columns_stay_as_they_are(spark: SparkSession, echo: PackedModel) -> None:
    whole = "2 AS double, tinyint(3) AS float, 4 AS long, smallint(5) AS integer, true AS boolean, 'ab' AS string, date'2013-06-02' AS datetime, X'010203' AS binary"
    exact = "2.5D AS double, 3F AS float, 4L AS long, 5 AS integer, false AS boolean, 'ab' AS string, timestamp'2013-06-01 12:00' AS datetime, X'01' AS binary"
    empty = "double(null) AS double, float(null) AS float, 4L AS long, 5 AS integer, false AS boolean, string(null) AS string, timestamp(null) AS datetime, binary(null) AS binary"
    found = [score(spark.sql(f"SELECT {words}"), echo, keep=["double", "datetime"]) for words in (whole, exact, empty)]
    assert [dict(rows.dtypes)["datetime"] for rows in found] == ["date", "timestamp", "timestamp"]
    parts = [rows.selectExpr("string(double) AS kept", "probability") for rows in found]
    assert [tuple(row) for row in parts[0].union(parts[1]).union(parts[2]).collect()] == [
        ("2", 2 + 3 + 4 + 5 + 1 + 2400 + 20_000 + 3_000_000.0), ("2.5", 2.5 + 3 + 4 + 5 + 1200 + 20_000 + 1_000_000.0), (None, -2 + 4 + 5.0),
    ]  # fmt: skip
    both = score_together(spark.sql(f"SELECT {whole}"), {"one": echo, "two": echo}, ["double"], inputs=["datetime"])
    kept, scores, sample = collect_scores(both, ["one", "two"])
    assert scores["one"].tolist() == scores["two"].tolist() == [3_022_415.0]
    assert (kept["double"].tolist(), sample["datetime"].tolist()) == ([2], [dt.date(2013, 6, 2)])
    with pytest.raises(
        PythonException, match=r"echo version 1 takes no null in long \(long\), boolean \(boolean\): fill the missing values"
    ):
        score(
            spark.sql(f"SELECT {exact}").selectExpr("* EXCEPT (long, boolean)", "int(null) AS long", "boolean(null) AS boolean"), echo, []
        ).collect()


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
