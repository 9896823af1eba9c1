"""Contributions add up to the score of every learner, say what is used where, and refuse what they cannot take apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from mlflow.tracking import MlflowClient
from PIL import Image
from pyspark.sql import SparkSession
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from boathouse.models.learners import LEARNERS, Recipe, fit, probabilities
from boathouse.validation.explanation import (
    BASE,
    ExplanationError,
    by_slice,
    contributions,
    explain,
    explanation_picture,
    log_explanation,
    raw_scores,
    strengths,
    unit_of,
)
from boathouse.validation.metrics import slices

RNG = np.random.default_rng(3)
ROWS = pd.DataFrame(
    {
        "boat": RNG.choice(["large", "small"], 4000),
        "pier": RNG.choice([f"p{n}" for n in range(30)] + ["rare"], 4000),
        "wind": np.where(RNG.random(4000) < 0.1, np.nan, RNG.normal(size=4000)),
        "load": RNG.gamma(2.0, size=4000),
        "hull": 0.0,
    }
)
# The wind makes small boats late, and no others.
CHANCE = 1 / (1 + np.exp(1 - 2 * ROWS.wind.fillna(0) * (ROWS.boat == "small") - 0.3 * ROWS.load))
ROWS["late"] = RNG.random(4000) < CHANCE
RECIPE = Recipe(("boat", "pier"), ("wind", "load", "hull"), "late")
SIZES = {"lightgbm": {"n_estimators": 30}, "logistic": {}, "extra_trees": {"n_estimators": 10}}
MODELS = {name: fit(RECIPE, ROWS, {"learner": name, **SIZES[name]}) for name in LEARNERS}

NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6))
BOATS = st.tuples(st.sampled_from(["large", "small", "raft", None]), st.sampled_from(["p0", "rare", "elsewhere", None]), NUMBERS, NUMBERS)


@pytest.mark.parametrize("learner", LEARNERS)
@given(boats=st.lists(BOATS, min_size=1, max_size=20))
def test_contributions_and_base_add_up_to_the_score_of_any_row(learner: str, boats: list[tuple[object, ...]]) -> None:
    rows = pd.DataFrame(boats, columns=["boat", "pier", "wind", "load"]).astype({"wind": float, "load": float}).assign(hull=0.0)
    found = contributions(MODELS[learner], RECIPE, rows)
    assert list(found.columns) == [*RECIPE.inputs, BASE]
    assert np.allclose(found.sum(axis=1), raw_scores(MODELS[learner], RECIPE, rows), rtol=1e-9, atol=1e-9)
    assert found[BASE].nunique() == 1


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_score_is_that_of_the_probability_in_its_unit(learner: str) -> None:
    model, scores = MODELS[learner], probabilities(MODELS[learner], RECIPE, ROWS)
    log_odds = np.log(scores / (1 - scores))
    assert raw_scores(model, RECIPE, ROWS) == pytest.approx(scores if unit_of(model) == "probability" else log_odds)
    assert (unit_of(model) == "probability") == (learner == "extra_trees")


@pytest.mark.parametrize("learner", LEARNERS)
def test_an_input_that_the_model_cannot_use_has_no_contribution_and_others_have(learner: str) -> None:
    size = strengths(contributions(MODELS[learner], RECIPE, ROWS)).set_index("input")["mean_absolute"]
    assert size["hull"] == 0
    assert (size.drop("hull") > 0).all()
    assert size.index[-1] == "hull"


@pytest.mark.parametrize("learner", ["lightgbm", "extra_trees"])
def test_an_input_that_matters_in_one_slice_alone_stands_out_there(learner: str) -> None:
    table = by_slice(contributions(MODELS[learner], RECIPE, ROWS), ROWS, ["boat"])
    size = table.pivot(index="value", columns="input", values="mean_absolute")
    assert size.loc["small", "wind"] > 2 * size.loc["large", "wind"]
    assert table[table.value == "small"].iloc[0]["input"] == "wind"


def test_the_contributions_of_a_line_are_its_distance_from_the_average_row() -> None:
    found = contributions(MODELS["logistic"], RECIPE, ROWS)
    assert found.mean()[RECIPE.inputs].to_numpy() == pytest.approx(np.zeros(5), abs=1e-5)  # one-hot columns are kept in 32 bits
    heavier = contributions(MODELS["logistic"], RECIPE, ROWS.assign(load=ROWS.load + 1)) - found
    assert heavier["load"].std() == pytest.approx(0, abs=1e-9)
    assert (heavier.drop(columns="load") == 0).all(axis=None)


def test_boosted_trees_are_taken_apart_as_shapley_defined_it() -> None:
    # Two inputs, every combination equally often: the value of a set of inputs is the mean score with these known.
    rows = pd.DataFrame({"a": [0.0, 0.0, 1.0, 1.0] * 50, "b": [0.0, 1.0, 0.0, 1.0] * 50})
    rows["late"] = np.tile([False, True, True, True], 50) & (RNG.random(200) < 0.9)
    recipe = Recipe((), ("a", "b"), "late")
    model = fit(recipe, rows, {"n_estimators": 5, "min_child_samples": 1})
    grid = rows[["a", "b"]].head(4)
    score = raw_scores(model, recipe, grid).reshape(2, 2)
    mean, of_a, of_b = score.mean(), score.mean(axis=1), score.mean(axis=0)
    shapley = [((of_a[i] - mean) + (score[i, j] - of_b[j])) / 2 for i in (0, 1) for j in (0, 1)]
    assert contributions(model, recipe, grid)["a"].to_numpy() == pytest.approx(shapley, rel=0.02, abs=0.02)


def test_slices_are_pooled_as_they_are_where_they_are_judged() -> None:
    found = contributions(MODELS["lightgbm"], RECIPE, ROWS)
    judged = slices(ROWS, ["boat", "pier"], ROWS.late, CHANCE.to_numpy(), at_least=130)
    table = by_slice(found, ROWS, ["boat", "pier"], ROWS.late.to_numpy(), at_least=130)
    rows = table.groupby(["slice", "value"])["rows"].first().to_dict()
    assert rows == {(one["slice"], one["value"]): one["rows"] for one in judged}
    assert ("pier", "(other)") in rows
    assert len(rows) > 4
    assert table.groupby(["slice", "value"])["share"].sum().to_numpy() == pytest.approx(1.0)


def test_without_labels_only_the_number_of_rows_pools() -> None:
    rows = ROWS.assign(late=ROWS.boat == "small")
    found = contributions(MODELS["lightgbm"], RECIPE, rows)
    assert set(by_slice(found, rows, ["boat"])["value"]) == {"large", "small"}
    assert set(by_slice(found, rows, ["boat"], rows.late.to_numpy())["value"]) == {"(other)"}


def test_a_sample_is_drawn_alike_each_time_and_knows_its_slices_of_all_rows() -> None:
    one, two = (explain(MODELS["lightgbm"], RECIPE, ROWS, ROWS, ["boat"], at_most=300, at_least=1000) for _ in range(2))
    assert one.to_dict() == two.to_dict()
    assert (one.rows, one.explained) == (4000, 300)
    assert set(one.slices["value"]) == {"large", "small"}  # 1000 rows each of all, not of the 300
    assert one.slices.groupby("value")["rows"].first().sum() == 300
    other = explain(MODELS["lightgbm"], replace(RECIPE, seed=8), ROWS, ROWS, ["boat"], at_most=300)
    assert other.to_dict()["inputs"] != one.to_dict()["inputs"]


def test_the_picture_shows_as_many_inputs_as_asked_and_every_slice() -> None:
    told = explain(MODELS["extra_trees"], RECIPE, ROWS, ROWS, ["boat"], at_most=500)
    bars, heat = explanation_picture(told, most=3).axes
    assert [label.get_text() for label in bars.get_yticklabels()] == told.inputs["input"].head(3).tolist()
    assert [label.get_text().split("  ")[0] for label in heat.get_yticklabels()] == ["boat large", "boat small"]
    assert len(explanation_picture(replace(told, slices=told.slices.head(0))).axes) == 1


def test_a_run_keeps_the_last_explanation_and_its_picture(spark: SparkSession, tmp_path: Path) -> None:
    told = [explain(MODELS["logistic"], RECIPE, ROWS.head(n), ROWS.head(n), ["boat"], at_least=20) for n in (100, 200)]
    mlflow.set_experiment("/test_explanation")
    with mlflow.start_run() as run:
        for one in told:
            log_explanation(run.info.run_id, one)
    assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/explanation.json") == told[1].to_dict()
    with Image.open(MlflowClient().download_artifacts(run.info.run_id, "explanation.png", str(tmp_path))) as picture:
        assert picture.width > 800


def test_what_cannot_be_taken_apart_exactly_is_refused_with_what_to_do() -> None:
    columns = MODELS["logistic"][0]
    with pytest.raises(ExplanationError, match=r"must end with one of .*, got LinearRegression: show its importances instead"):
        contributions(make_pipeline(columns, LinearRegression()), RECIPE, ROWS)
    three = LogisticRegression().fit(columns.transform(ROWS[RECIPE.inputs]), np.arange(4000) % 3)
    with pytest.raises(ExplanationError, match=r"two outcomes to be explained, got \[0, 1, 2\]"):
        contributions(make_pipeline(columns, three), RECIPE, ROWS)
    with pytest.raises(ExplanationError, match="must have all inputs of the model, but they lack load"):
        contributions(MODELS["lightgbm"], RECIPE, ROWS.drop(columns="load"))
    named = Recipe((), ("base",), "late")
    with pytest.raises(ExplanationError, match=r"an input must not be called 'base'.*another name"):
        contributions(MODELS["lightgbm"], named, ROWS.assign(base=1.0))
    coded = MODELS["lightgbm"][0]
    bent = LGBMClassifier(linear_tree=True, n_estimators=3, verbose=-1).fit(coded.transform(ROWS[RECIPE.inputs]), ROWS.late.astype(int))
    with pytest.raises(ExplanationError, match="train it without linear_tree"):
        contributions(Pipeline([("columns", coded), ("trees", bent)]), RECIPE, ROWS)


def test_rows_that_are_not_those_of_the_slices_are_refused() -> None:
    found = contributions(MODELS["logistic"], RECIPE, ROWS.head(50))
    with pytest.raises(ExplanationError, match="but 0 are repeated and 50 missing"):
        by_slice(found, ROWS.tail(50), ["boat"])
    with pytest.raises(ExplanationError, match="must be unique and include that of the contributions, but 4000 are repeated and 0 missing"):
        by_slice(found, pd.concat([ROWS, ROWS]), ["boat"])
    with pytest.raises(ExplanationError, match="the same index"):
        explain(MODELS["logistic"], RECIPE, ROWS, ROWS.iloc[::-1], ["boat"])
    with pytest.raises(ExplanationError, match="at least one row must be explained, got 0 rows"):
        explain(MODELS["logistic"], RECIPE, ROWS.head(0), ROWS.head(0), ["boat"])
