"""Learners, what they go by, and what a run writes down."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info

from boathouse.models.learners import LEARNERS, PRIOR, Recipe, fit, importances, log_pipeline, probabilities, reference_histogram, to_pandas

RECIPE = Recipe(("hull",), ("knots",), "late")


def boats(days: int = 60, a_day: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = days * a_day
    rows = pd.DataFrame(
        {
            "day": np.repeat([dt.date(2013, 1, 1) + dt.timedelta(days=d) for d in range(days)], a_day),
            "hull": rng.choice(["s", "l"], n),
            "knots": rng.gamma(4, 3, n),
        }
    )
    return rows.assign(late=rng.random(n) < 1 / (1 + np.exp(4 - 0.3 * rows.knots)))


def test_the_same_rows_and_seed_give_the_same_model_to_the_last_bit() -> None:
    rows = boats(20)
    one, two = (
        probabilities(fit(RECIPE, rows, {"n_estimators": 20, "colsample_bytree": 0.5, "subsample": 0.5, "subsample_freq": 1}), RECIPE, rows)
        for _ in range(2)
    )
    assert (one == two).all()


class Counting(LogisticRegression):
    "A regression that keeps the number of OpenMP threads that its fit may use."

    def fit(self, rows: np.ndarray, label: np.ndarray) -> Counting:
        self.threads_ = max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp")
        return super().fit(rows, label)


@pytest.mark.parametrize(("rows", "threads", "used"), [(900, 1, 1), (900, 2, 1), (21_000, 2, 2)])
def test_an_estimator_that_takes_no_n_jobs_gets_the_threads_of_fit_and_one_for_few_rows(rows: int, threads: int, used: int) -> None:
    HistGradientBoostingClassifier(max_iter=1).fit([[0.0], [1.0]], [0, 1])  # its OpenMP is loaded
    fitted = fit(RECIPE, boats(rows // 30), {"learner": "counting"}, threads, {"counting": Counting})
    assert fitted[-1].threads_ == used


def test_a_category_never_seen_is_missing_and_not_somebody_else() -> None:
    rows = boats(30)
    rows["late"] = rows.hull == "s"
    model = fit(RECIPE, rows, {"n_estimators": 20})
    odd = pd.DataFrame({"hull": ["s", "l", "a", "zz", None], "knots": [12.0] * 5})
    small, large, *unknown = probabilities(model, RECIPE, odd)
    assert small > 0.8
    assert large < 0.2
    assert len(set(unknown)) == 1


@pytest.mark.parametrize("learner", [*LEARNERS, PRIOR])
def test_each_learner_is_the_same_to_the_last_bit_and_comes_back_from_its_file_with_no_type_but_the_trusted(
    spark: SparkSession, learner: str
) -> None:
    rows = boats(20)
    rows.loc[:40, "knots"] = np.nan
    rows.loc[60:90, "hull"] = None
    rows.loc[5, "hull"] = "a rare one"
    one, two = (fit(RECIPE, rows, {"learner": learner}) for _ in range(2))
    assert (probabilities(one, RECIPE, rows) == probabilities(two, RECIPE, rows)).all()
    odd = pd.DataFrame({"hull": ["s", "zz", None], "knots": [12.0, np.nan, 1000.0]})
    mlflow.set_experiment("/test_training")
    with mlflow.start_run():
        uri = log_pipeline(one, RECIPE, rows, "model")
    assert (mlflow.pyfunc.load_model(uri).predict(odd)[:, 1] == probabilities(one, RECIPE, odd)).all()
    assert sum(f.stat().st_size for f in Path(mlflow.artifacts.download_artifacts(uri)).rglob("*") if f.is_file()) < 3_000_000


def test_a_learner_nobody_knows_is_refused_and_none_is_boosted_trees() -> None:
    with pytest.raises(ValueError, match="learner must be one of lightgbm, logistic, extra_trees, prior for a binary task, got 'oracle'"):
        fit(RECIPE, boats(20), {"learner": "oracle"})
    assert type(fit(RECIPE, boats(20), {"n_estimators": 5.0})[-1]).__name__ == "LGBMClassifier"


@pytest.mark.parametrize("learner", LEARNERS)
def test_importances_name_the_columns_that_the_label_hangs_on_whatever_their_scale(learner: str) -> None:
    recipe, rng = Recipe(("hull", "hull_b"), ("knots", "tide"), "late"), np.random.default_rng(0)
    rows = pd.DataFrame({
        "hull": rng.choice(list("abc"), 3000), "hull_b": rng.choice(list("xyz"), 3000), "knots": rng.normal(0, 1e-6, 3000), "tide": rng.normal(0, 1e6, 3000),
    })  # fmt: skip
    rows["late"] = (rows.knots > 0) ^ (rng.random(3000) < 0.1)
    rows.loc[rng.random(3000) < 0.1, "knots"] = np.nan
    found = importances(fit(recipe, rows, {"learner": learner}), recipe)
    assert list(found) == recipe.inputs
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    assert max(found, key=found.get) == "knots"
    assert found["knots"] > 0.5
    by_hull = importances(fit(recipe, rows.assign(late=(rows.hull == "b") ^ (rng.random(3000) < 0.1)), {"learner": learner}), recipe)
    assert max(by_hull, key=by_hull.get) == "hull", by_hull


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_model_of_some_columns_is_that_of_a_recipe_of_them_and_takes_the_others_unseen(learner: str) -> None:
    rows = boats(20).assign(tide=lambda r: np.arange(len(r)) % 7.0, pier="east")
    wide, narrow = Recipe(("pier", "hull"), ("tide", "knots"), "late"), Recipe(("hull",), ("knots",), "late")
    model = fit(wide, rows, {"learner": learner, "columns": ["knots", "hull"]})
    expected = probabilities(fit(narrow, rows, {"learner": learner}), narrow, rows)
    assert (probabilities(model, wide, rows) == expected).all()
    assert (probabilities(model, wide, rows.assign(tide=np.nan, pier=None)) == expected).all()
    found = importances(model, wide)
    assert list(found) == wide.inputs
    assert found["pier"] == found["tide"] == 0.0 < min(found["hull"], found["knots"])


def test_a_column_that_the_recipe_does_not_have_cannot_be_looked_at() -> None:
    with pytest.raises(ValueError, match=r"columns must be inputs of the recipe \(hull, knots\), got 'tide', 'late'"):
        fit(RECIPE, boats(20), {"columns": ["knots", "tide", "late"]})


def test_the_prior_says_the_same_share_of_every_row_and_goes_by_nothing() -> None:
    rows = boats(20)
    model = fit(RECIPE, rows, {"learner": PRIOR})
    assert set(probabilities(model, RECIPE, rows)) == {rows.late.mean()}
    assert importances(model, RECIPE) == {"hull": 0.0, "knots": 0.0}


def test_a_model_that_uses_nothing_goes_by_nothing() -> None:
    rows = boats(20).assign(knots=1.0, hull="s")
    assert importances(fit(RECIPE, rows, {}), RECIPE) == {"hull": 0.0, "knots": 0.0}


def test_more_rows_than_stated_do_not_reach_memory(spark: SparkSession) -> None:
    assert len(to_pandas(spark.range(10), 10)) == 10
    with pytest.raises(ValueError, match="expected at most 9 rows, got more"):
        to_pandas(spark.range(10), 9)


def test_every_row_is_counted_once_in_the_reference_and_nulls_apart() -> None:
    rows = pd.DataFrame({"hull": ["s", "l", None], "knots": [1.0, np.nan, np.nan], "late": [True, False, False]})
    found = reference_histogram(RECIPE, rows, np.array([0.0, 0.5, 1.0]))
    for name in ("hull", "knots"):
        counts = found["features"][name]["counts"]
        assert sum(counts.values() if isinstance(counts, dict) else counts) + found["features"][name]["nulls"] == 3
    assert found["score"]["counts"][0] == found["score"]["counts"][10] == found["score"]["counts"][19] == 1


def test_a_run_keeps_a_model_that_refuses_other_types(spark: SparkSession) -> None:
    rows = boats(20)
    mlflow.set_experiment("/test_training")
    with mlflow.start_run():
        uri = log_pipeline(fit(RECIPE, rows, {"n_estimators": 5}), RECIPE, rows, "model")
    model = mlflow.pyfunc.load_model(uri)
    assert model.metadata.saved_input_example_info is not None
    assert model.metadata.flavors["sklearn"]["serialization_format"] == "skops"
    with pytest.raises(mlflow.exceptions.MlflowException, match="Incompatible input types"):
        model.predict(rows[["hull", "knots"]].assign(hull=1))


def test_a_recipe_with_its_label_or_one_input_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="the label must not be an input, got late among wind, late"):
        Recipe((), ("wind", "late"), "late")
    with pytest.raises(ValueError, match="each input must be named once, got wind more than once"):
        Recipe(("wind",), ("wind",), "late")


def test_an_estimator_of_another_task_is_refused_with_what_fits() -> None:
    rows = pd.DataFrame({"wind": np.arange(20.0), "late": [0, 1] * 10})
    voting = {"vote": lambda: VotingClassifier([("line", LogisticRegression())])}
    with pytest.raises(ValueError, match="must be a regressor, got the classifier LogisticRegression"):
        fit(Recipe((), ("wind",), "late", task="regression"), rows, {"learner": "line"}, estimators={"line": LogisticRegression})
    with pytest.raises(ValueError, match='VotingClassifier has none: set voting="soft"'):
        fit(Recipe((), ("wind",), "late"), rows, {"learner": "vote"}, estimators=voting)


def test_pandas_own_types_with_missing_values_are_learned_as_others_and_mixed_types_name_their_column() -> None:
    plain = pd.DataFrame({"hull": ["small", "large", None] * 20, "sails": [True, False, None] * 20, "knots": [1.0, 9.0, np.nan] * 20})
    own = plain.astype({"hull": "string", "sails": "boolean", "knots": "Int64"})
    late, recipe = [1, 0, 0] * 20, Recipe(("hull", "sails"), ("knots",), "late")
    for learner in LEARNERS:
        one, other = (fit(recipe, rows.assign(late=late), {"learner": learner}) for rows in (plain, own))
        assert np.array_equal(probabilities(one, recipe, plain), probabilities(other, recipe, own)), learner
    with pytest.raises(ValueError, match="input hull must hold texts alone or no texts, got values of the types int, str"):
        fit(recipe, plain.assign(late=late, hull=["small", 3, None] * 20), {})
    with pytest.raises(ValueError, match="the rows must have the inputs sails, got the columns hull, knots, late"):
        fit(recipe, plain.drop(columns="sails").assign(late=late), {})
