"A linear model that Spark computes itself predicts what scikit-learn predicts; any other model goes through Python."

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from boathouse.models.expressions import compile_linear
from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.models.scoring import PackedModel, pack_folder, score, sql_predictions, task_predictions

TYPES = {"pier": "string", "hull": "string", "wind": "double", "tide": "double"}
RNG = np.random.default_rng(12)


def trips(n: int, kinds: str = "north south east", holes: float = 0.1) -> pd.DataFrame:
    rows = pd.DataFrame(
        {
            "pier": RNG.choice(kinds.split(), n).astype(object),
            "hull": RNG.choice(["s", "l"], n).astype(object),
            "wind": RNG.gamma(4, 3, n),
            "tide": 1e6 + RNG.normal(size=n),
        }
    )
    for name in rows:
        rows.loc[RNG.random(n) < holes, name] = None
    score = rows["wind"].fillna(20) / 6 + (rows["pier"] == "east") * 2 + (rows["tide"].fillna(1e6) - 1e6)
    rows["minutes"] = score * 5 + RNG.normal(size=n)
    rows["late"] = score + RNG.normal(size=n) > 3
    rows["state"] = np.select([rows["minutes"] > 20, rows["minutes"] > 12], ["late", "delayed"], "on time")
    return rows


SEEN = trips(3000, "north south east " * 30 + "rare")
NEW = pd.concat([trips(400, "north south east west rare", 0.3), SEEN.head(50)], ignore_index=True)
CASES: dict[str, tuple[Recipe, dict[str, Any]]] = {
    "two classes": (Recipe(("pier", "hull"), ("wind", "tide"), "late"), {"learner": "logistic", "C": 0.3}),
    "three classes": (Recipe(("pier", "hull"), ("wind", "tide"), "state", task="multiclass"), {"learner": "logistic"}),
    "a number": (Recipe(("pier", "hull"), ("wind", "tide"), "minutes", task="regression"), {"learner": "ridge", "alpha": 2.0}),
    "numbers alone": (Recipe((), ("wind", "tide"), "late"), {"learner": "logistic"}),
    "a text and a number": (Recipe(("hull",), ("tide",), "minutes", task="regression"), {"learner": "ridge"}),
    "two classes named as several": (Recipe(("hull",), ("wind",), "side", task="multiclass"), {"learner": "logistic"}),
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PackedModel]:
    found, rows = {}, SEEN.assign(side=np.where(SEEN["late"], "late", "early"))
    mlflow.set_experiment("/test_expressions")
    for name, (recipe, parameters) in CASES.items():
        with mlflow.start_run():
            uri = log_pipeline(fit(recipe, rows, parameters), recipe, rows, "model")
        found[name] = pack_folder(Path(mlflow.artifacts.download_artifacts(uri)), name.replace(" ", "_"), 1)
    return found


@pytest.fixture(scope="module")
def scored(spark: SparkSession, packed: dict[str, PackedModel]) -> dict[str, pd.DataFrame]:
    "The predictions of all models by Spark alone, in the order of `NEW`."
    rows = frame_of(spark, NEW)
    return {name: score(rows, model, ["row"]).toPandas().sort_values("row") for name, model in packed.items()}


def frame_of(spark: SparkSession, rows: pd.DataFrame) -> DataFrame:
    "The rows with their position; NaN is null, and one wind is NaN."
    plain = [tuple(None if pd.isna(v) else v for v in row) for row in rows[list(TYPES)].itertuples(index=False)]
    df = spark.createDataFrame([(i, *row) for i, row in enumerate(plain)], "row int, pier string, hull string, wind double, tide double")
    return df.selectExpr("row", "pier", "hull", "if(row = 7, double('NaN'), wind) AS wind", "tide")


@pytest.mark.parametrize("case", CASES)
def test_spark_computes_what_scikit_learn_predicts(case: str, packed: dict[str, PackedModel], scored: dict[str, pd.DataFrame]) -> None:
    model, rows = packed[case], NEW.copy()
    rows.loc[7, "wind"] = np.nan
    place = {c: c for c in model.inputs}
    assert sql_predictions(model, place) is not None
    found, expected = (
        scored[case],
        task_predictions(
            model, rows.astype({"wind": float, "tide": float}).replace({float("nan"): None}).astype({"wind": float, "tide": float})
        ),
    )
    if model.task == "multiclass":
        assert np.abs(np.stack(found["probabilities"]) - expected).max() < 1e-12
        assert found["prediction"].tolist() == [model.classes[k] for k in expected.argmax(axis=1)]
    else:
        column = "prediction" if model.task == "regression" else "probability"
        assert np.abs(found[column] - expected).max() < 1e-9 * max(1, np.abs(expected).max())
    assert len(found) == len(NEW)


def test_no_python_process_takes_part(spark: SparkSession, packed: dict[str, PackedModel]) -> None:
    plan = score(frame_of(spark, NEW.head(3)), packed["two classes"], ["row"])._jdf.queryExecution().toString()
    assert "MapInArrow" not in plan
    assert "Python" not in plan


def test_a_row_that_scikit_learn_would_refuse_ends_the_job_with_a_sentence(spark: SparkSession, packed: dict[str, PackedModel]) -> None:
    rows = spark.createDataFrame([(1, 5.0, 1e6), (2, float("inf"), 1e6)], "row int, wind double, tide double")
    with pytest.raises(PySparkException, match="numbers_alone version 1 has no prediction for a row: its inputs must be finite numbers"):
        score(rows, packed["numbers alone"], ["row"]).collect()


def fitted(*steps: Any, columns: tuple[str, ...] = ("wind", "tide"), label: str = "late") -> Pipeline:
    whole = SEEN.dropna()
    return make_pipeline(*steps).fit(whole[list(columns)], whole[label])


def test_your_own_pipelines_are_compiled_if_every_step_is_known_and_left_alone_if_not(spark: SparkSession) -> None:
    numbers = {"wind": "double", "tide": "double"}
    hot = ColumnTransformer(
        [
            ("a", OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["pier"]),
            ("b", StandardScaler(), ["wind"]),
            ("c", "drop", ["tide"]),
        ]
    )
    known = {
        "scaled": (fitted(StandardScaler(), LogisticRegression()), numbers),
        "plain": (fitted(LinearRegression(), label="minutes"), numbers),
        "columns": (fitted(hot, Ridge(), columns=("pier", "wind", "tide"), label="minutes"), {"pier": "string", **numbers}),
    }
    whole = SEEN.dropna().head(40)
    rows = frame_of(spark, whole).where("row <> 7")
    expressions = {}
    for name, (model, types) in known.items():
        predict = compile_linear(model, types)
        assert predict is not None, name
        expressions[name] = predict({c: rows[c] for c in types})[0]
    found = rows.select("row", *[column.alias(name) for name, column in expressions.items()]).toPandas().set_index("row")
    whole = whole.reset_index(drop=True).drop(7)
    for name, (model, types) in known.items():
        expected = model.predict_proba(whole[list(types)])[:, 1] if name == "scaled" else model.predict(whole[list(types)])
        assert np.abs(found[name].to_numpy() - expected).max() < 1e-6, name
    assert compile_linear(fitted(StandardScaler(), PolynomialFeatures(), LogisticRegression()), numbers) is None
    assert compile_linear(fitted(StandardScaler(), LogisticRegression()), {"wind": "double", "tide": "long"}) is None
    assert compile_linear(known["columns"][0], {"wind": "double", "tide": "double"}) is None
    texts = Recipe(("pier", "hull"), (), "minutes", task="regression")  # scikit-learn computes it in single precision
    assert compile_linear(fit(texts, SEEN, {"learner": "ridge"}), {"pier": "string", "hull": "string"}) is None
    strict = make_pipeline(OneHotEncoder(), Ridge()).fit(SEEN.dropna()[["pier"]], SEEN.dropna()["minutes"])
    assert compile_linear(strict, {"pier": "string"}) is None  # an unknown category is an error there
    assert compile_linear(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), {"wind": "double"}) is None
