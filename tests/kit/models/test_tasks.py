"""Labels and predictions of each task: what fits is taken as it is, everything else is refused before a model is fitted."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.svm import LinearSVC

from boathouse.models.learners import LEARNERS, PRIOR, REGRESSORS, Recipe, fit, importances, predict, reference_histogram
from boathouse.models.tasks import METRICS, TASKS, LabelError, Task, check_labels, check_predictions, measure_predictions

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=3),
    st.just(Decimal("0.5")),
)


def labels(values: list[Any], dtype: Any = object) -> pd.Series:
    return pd.Series(values, name="late", dtype=dtype)


@given(st.sampled_from(TASKS), st.one_of(st.lists(VALUES, max_size=12), st.lists(st.integers(0, 4), min_size=4, max_size=40)))
@settings(max_examples=300, deadline=None)
def test_labels_of_any_kind_are_taken_unchanged_or_refused_with_the_column(task: Task, values: list[Any]) -> None:
    column = labels(values)
    try:
        taken = check_labels(column, task)
    except LabelError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "label late must" in refused
        return
    assert len(taken) == len(values)
    assert not taken.isna().any()
    assert taken.nunique() > 1
    assert [float(a) == float(b) if not isinstance(b, str) else a == b for a, b in zip(taken, values, strict=True)] == [True] * len(values)


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        ([1, 1, 1], "binary", "must have at least two values, but all 3 rows have 1"),
        (["x", "x"], "multiclass", "must have at least two values, but all 2 rows have 'x'"),
        ([2.5, 2.5], "regression", "must have at least two values, but all 2 rows have 2.5"),
        ([0.0, 0.9], "binary", "must be true and false, or 0 and 1, for a binary task, got 0.0, 0.9"),
        ([0.4, 1.4], "binary", "got 0.4, 1.4"),
        ([0, 1, 0, 3], "binary", "got 0, 1, 3: for these values declare the task multiclass"),
        (["yes", "no"], "binary", "got 'yes', 'no'"),
        (["0", "1"], "binary", "got '0', '1'"),
        ([0, 1, None], "binary", "must have a value in every row, but 1 of 3 have none"),
        ([1.5, 2.5, 3.5], "multiclass", "must be text or whole numbers for a multiclass task, got 1.5, 2.5, 3.5: if it is a quantity"),
        ([1, "a", 1, "a"], "multiclass", "got values of type int: cast the label to text"),
        (list(range(25, 346)), "multiclass", "must have at most 100 classes and two rows per class, got 321 in 321 rows"),
        ([True, False], "regression", "must be a number for a regression task, got true and false"),
        (["1.5", "2.5"], "regression", "got '1.5', '2.5': cast it"),
        ([1.0, float("inf")], "regression", "must be finite for a regression task, but 1 of 2 rows are infinite"),
        ([0, 1], "ranking", "task must be one of binary, multiclass, regression, got 'ranking'"),
    ],
)
def test_a_label_that_does_not_fit_is_refused_by_name(values: list[Any], task: Task, message: str) -> None:
    with pytest.raises(LabelError) as caught:
        check_labels(pd.Series(values, name="late"), task)
    assert message in str(caught.value)


@pytest.mark.parametrize("dtype", ["bool", "boolean", "int64", "Int64", "float64", "object", "int8"])
def test_a_binary_label_of_any_type_is_the_same_label(dtype: str) -> None:
    assert check_labels(labels([1, 0, 1], dtype=object).astype(dtype)).tolist() == [1, 0, 1]


def test_probabilities_of_classes_that_the_rows_lack_are_measured_too() -> None:
    found = measure_predictions("multiclass", [0, 2, 0], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.5, 0.4, 0.1]])
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.8, 0.5]).mean())
    assert found["ovr_auc"] == 1.0
    assert found["accuracy"] == 1.0


@given(st.sampled_from(TASKS), st.integers(2, 30), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_constant_prediction_has_the_same_primary_metric_whatever_the_labels(task: Task, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = {"binary": rng.integers(0, 2, rows), "multiclass": rng.integers(0, 3, rows), "regression": rng.normal(size=rows)}[task]
    shares = np.bincount(truth.astype(int), minlength=3) / rows if task == "multiclass" else None
    predicted = {
        "binary": np.full(rows, 0.3),
        "multiclass": np.tile(shares, (rows, 1)) if shares is not None else None,
        "regression": np.full(rows, truth.mean()),
    }
    found = measure_predictions(task, truth, predicted[task])[METRICS[task][0].name]
    assert np.isnan(found) if len(np.unique(truth)) < 2 else found == pytest.approx(0.5 if task == "binary" else 0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("task", "predicted", "message"),
    [
        ("binary", [0.5, float("nan")], "1 of 2 rows have NaN or an infinite value"),
        ("binary", [153.0, 151.0], "2 of 2 rows have others, such as 153.0"),
        ("binary", [[0.5, 0.5], [0.1, 0.9]], r"must have the shape (2,), got (2, 2)"),
        ("multiclass", [0.5, 0.5], "must have the shape"),
        ("multiclass", [[0.5, 0.6], [0.5, 0.5]], "must add up to 1, but 1 of 2 rows do not, such as 1.1000"),
        ("regression", [1.0, float("inf")], "1 of 2 rows have NaN or an infinite value"),
    ],
)
def test_predictions_that_are_none_of_the_task_are_refused(task: Task, predicted: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_predictions(task, predicted, 2)


def wine() -> tuple[Recipe, pd.DataFrame]:
    found = load_wine(as_frame=True)
    rows = found.data.rename(columns=lambda c: c.replace("/", "_")).assign(
        kind=found.target.map({0: "barolo", 1: "grignolino", 2: "barbera"})
    )
    return Recipe((), tuple(c for c in rows if c != "kind"), "kind", task="multiclass"), rows


def diabetes() -> tuple[Recipe, pd.DataFrame]:
    rows = load_diabetes(as_frame=True).frame
    return Recipe((), tuple(c for c in rows if c != "target"), "target", task="regression"), rows


def test_wine_has_three_classes_and_diabetes_is_a_number() -> None:
    (kinds, bottles), (progress, patients) = wine(), diabetes()
    with pytest.raises(LabelError, match="for a binary task"):
        fit(Recipe((), kinds.numeric, "kind"), bottles, {})
    with pytest.raises(LabelError, match=r"declare the task (multiclass|regression)"):
        fit(Recipe((), progress.numeric, "target"), patients, {})
    for learner in (*LEARNERS, PRIOR):
        model = fit(kinds, bottles, {"learner": learner})
        predicted = predict(model, kinds, bottles)
        truth = np.searchsorted(model.classes_, bottles.kind)
        assert measure_predictions("multiclass", truth, predicted)["accuracy"] > (0.3 if learner == PRIOR else 0.8)
        assert sum(importances(model, kinds).values()) == pytest.approx(0 if learner == PRIOR else 1, abs=1e-4)
        assert sum(reference_histogram(kinds, bottles, predicted)["score"]["counts"]) == len(bottles)
    for learner in (*REGRESSORS, PRIOR):
        model = fit(progress, patients, {"learner": learner})
        predicted = predict(model, progress, patients)
        assert measure_predictions("regression", patients.target, predicted)["r2"] > (-1e-9 if learner == PRIOR else 0.3)
        assert sum(importances(model, progress).values()) == pytest.approx(0 if learner == PRIOR else 1, abs=1e-4)
        assert sum(reference_histogram(progress, patients, predicted)["score"]["counts"]) == len(patients)


def test_an_estimator_of_your_own_is_fitted_with_the_seed_and_explained_by_permutation() -> None:
    progress, patients = diabetes()
    own = {"forest": RandomForestRegressor}
    models = [
        fit(progress, patients, {"learner": "forest", "n_estimators": 10.0, "min_samples_split": 4.0}, estimators=own) for _ in range(2)
    ]
    assert (predict(models[0], progress, patients) == predict(models[1], progress, patients)).all()
    assert models[0][-1].get_params()["n_estimators"] == 10
    assert models[0][-1].random_state == progress.seed
    shares = importances(models[0], progress, patients)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
    assert max(shares, key=lambda name: shares[name]) in ("bmi", "s5")
    with pytest.raises(ValueError, match="importances of RandomForestRegressor must be measured on rows"):
        importances(models[0], progress)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"learner": "hist_gb", "n_jobs": 4}, "parameters must not include n_jobs: fit sets the seed by the recipe"),
        ({"learner": "lightgbm", "random_state": 4}, "parameters must not include random_state"),
        ({"learner": "hist_gb", "leaves": 4}, "parameters of hist_gb must be among loss, learning_rate"),
        (
            {"learner": "ridge"},
            "learner must be one of lightgbm, logistic, extra_trees, prior, hist_gb, svc for a binary task, got 'ridge'",
        ),
        ({"learner": "svc"}, "LinearSVC has none: wrap it in CalibratedClassifierCV"),
    ],
)
def test_a_parameter_or_learner_that_does_not_fit_is_named(parameters: dict[str, Any], message: str) -> None:
    rows = pd.DataFrame({"wind": range(40), "late": [True, False] * 20})
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(Recipe((), ("wind",), "late"), rows, parameters, estimators={"hist_gb": HistGradientBoostingClassifier, "svc": LinearSVC})


def test_none_is_a_parameter_like_any_other() -> None:
    rows = pd.DataFrame({"wind": range(40), "late": [True, False] * 20})
    model = fit(
        Recipe((), ("wind",), "late"),
        rows,
        {"learner": "extra_trees", "max_depth": None, "max_leaf_nodes": None, "class_weight": {0: 1, 1: 5}},
    )
    assert model[-1].max_depth is None
    assert model[-1].class_weight == {0: 1, 1: 5}
