"""The standard gates on data without flights: classes, numbers, no time, groups, one day, a forgotten champion, the champion itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from boathouse.models.learners import Recipe, fit, predict
from boathouse.models.tasks import METRICS, TASKS, Task, measure_predictions
from boathouse.validation.card import model_card
from boathouse.validation.comparison import check_beats_champion, check_not_worse_than_champion, jackknife_of, t_interval
from boathouse.validation.gate import Evidence, FreshProcessCheck, RegisteredVersion, run_gate, run_gates
from boathouse.validation.leakage import check_leaking_feature, training_facts
from boathouse.validation.metrics import check_auc_floor, check_calibration, check_metric_floor
from boathouse.validation.policy import STANDARD_GATES, Policy, gates_of


def judged(rows: pd.DataFrame, recipe: Recipe, parameters: dict[str, Any], unit: str | None = None, **more: Any) -> Evidence:
    "Evidence of a model that has learned from four fifths of the rows, by key; the rest is held out."
    rows = rows.assign(id=np.arange(len(rows)))
    held = np.random.default_rng(3).permutation(len(rows)) % 5 == 0
    if unit is not None:
        held = rows[unit].to_numpy() % 5 == 0
    known, test = rows[~held].reset_index(drop=True), rows[held].reset_index(drop=True)
    model = fit(recipe, known, parameters)
    predicted, inputs = predict(model, recipe, test), tuple(recipe.inputs)
    classes = tuple(model.classes_) if recipe.task == "multiclass" else ()
    learned = known[recipe.label] if not classes else np.searchsorted(classes, known[recipe.label])
    facts = training_facts(
        known,
        ["id"],
        inputs,
        recipe.label,
        train_metric=next(iter(measure_predictions(recipe.task, learned, predict(model, recipe, known)).values())),
    )
    outputs = 1 if predicted.ndim == 1 and recipe.task == "regression" else max(2, len(classes))
    shape = (20,) if outputs == 1 else (20, outputs)
    return Evidence(
        "m", 1, test, {"candidate": predicted}, recipe.label, key=("id",), inputs=inputs, task=recipe.task, classes=classes, unit=unit,
        registered=RegisteredVersion("what it predicts", {"owner": "ml"}, dict.fromkeys(inputs, "double"), outputs, 40_000, (), "a", "a"),
        training=replace(facts, cv_metric=facts.train_metric), shown=(1,), open_failures=(), has_champion=False,
        fresh=FreshProcessCheck("", tuple(predicted[:20].ravel()), shape, 0.0, inputs, 0.01, 0.002), **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cancer() -> Evidence:
    rows = load_breast_cancer(as_frame=True).frame
    return judged(rows, Recipe((), tuple(c for c in rows if c != "target"), "target"), {"learner": "logistic"})


@pytest.fixture(scope="module")
def wine() -> Evidence:
    rows = load_wine(as_frame=True).frame
    return judged(rows, Recipe((), tuple(c for c in rows if c != "target"), "target", task="multiclass"), {"learner": "logistic"})


@pytest.fixture(scope="module")
def diabetes() -> Evidence:
    rows = load_diabetes(as_frame=True).frame
    return judged(rows, Recipe((), tuple(c for c in rows if c != "target"), "target", task="regression"), {"learner": "ridge"})


def test_rows_without_a_time_pass_the_gates_that_have_a_meaning_and_the_verdict_names_the_others(cancer: Evidence) -> None:
    lenient = {
        "cv_gap": {"tolerance": 0.1},
        "leaking_feature": {"confirmed": [c for c in cancer.inputs if c.startswith(("worst", "mean"))], "limit": 0.95},
    }
    verdict = run_gates(gates_of(Policy.standard("binary", lenient)), cancer)
    assert verdict.accepted, verdict.refusals
    assert verdict.left_out == dict.fromkeys(("training_recency", "test_after_training"), "the rows have no day") | {
        "future_features": "the rows have no instant"
    }
    assert len(verdict.results) + len(verdict.left_out) == len(STANDARD_GATES)
    page = model_card(cancer, verdict)
    assert "Gates left out" in page
    assert "test_after_training" in page
    assert "groups of rows" in page


def test_an_input_that_alone_knows_the_label_is_refused_until_a_person_confirms_it(cancer: Evidence) -> None:
    found = run_gate(check_leaking_feature, cancer)
    assert found.outcome == "refuse"
    assert "worst" in found.reason
    assert run_gate(check_leaking_feature.configure(confirmed=cancer.inputs), cancer).outcome == "inconclusive"


def test_wine_is_judged_by_its_three_classes(wine: Evidence) -> None:
    verdict = run_gates(gates_of(Policy.standard("multiclass", {"leaking_feature": {"limit": 0.9}, "cv_gap": {"tolerance": 0.2}})), wine)
    assert verdict.accepted, [(r.name, r.reason) for r in verdict.results if not r.passed]
    floor = next(r for r in verdict.results if r.name == "metric_floor")
    assert floor.value > 0.8
    assert "D2 of the log loss" in floor.reason
    assert {"auc_floor", "calibration"} & {r.name for r in verdict.results} == set()
    assert "macro_f1" in model_card(wine, verdict)


def test_three_classes_are_no_binary_label(wine: Evidence) -> None:
    as_binary = replace(wine, task="binary", classes=(), scores={"candidate": wine.scores["candidate"][:, 1]}, _cache={})
    verdict = run_gates(gates_of(Policy.standard("binary")), as_binary)
    assert not verdict.accepted
    assert "for a binary task, got" in run_gate(check_auc_floor, as_binary).reason


def test_a_model_that_guesses_classes_is_refused(wine: Evidence) -> None:
    guess = np.random.default_rng(1).dirichlet(np.ones(3), len(wine.rows))
    assert run_gate(check_metric_floor, replace(wine, scores={"candidate": guess}, _cache={})).outcome == "refuse"


def test_a_regression_is_judged_by_r2(diabetes: Evidence) -> None:
    verdict = run_gates(gates_of(Policy.standard("regression", {"cv_gap": {"tolerance": 0.2}})), diabetes)
    assert verdict.accepted, [(r.name, r.reason) for r in verdict.results if not r.passed]
    assert {"valid_predictions", "metric_floor", "mean_error"} <= {r.name for r in verdict.results}
    shuffled = replace(diabetes, scores={"candidate": diabetes.scores["candidate"][::-1].copy()}, _cache={})
    assert run_gate(check_metric_floor, shuffled).outcome == "refuse"
    assert "rmse" in model_card(diabetes, verdict)


def test_a_number_that_gives_the_delay_away_is_found_in_a_regression(diabetes: Evidence) -> None:
    rows = diabetes.rows.assign(bmi=diabetes.rows.target * 2 + np.random.default_rng(1).normal(0, 5, len(diabetes.rows)))
    many = replace(diabetes, rows=pd.concat([rows] * 4, ignore_index=True), scores={}, _cache={})
    assert run_gate(check_leaking_feature, many).outcome == "refuse"
    assert run_gate(check_leaking_feature, diabetes).outcome == "pass"


def test_patients_are_left_out_whole(diabetes: Evidence) -> None:
    rows = pd.concat([diabetes.rows.assign(patient=np.arange(len(diabetes.rows)))] * 10, ignore_index=True)
    scores = {"candidate": np.tile(diabetes.scores["candidate"], 10)}
    alone, grouped = (replace(diabetes, rows=rows, scores=scores, unit=unit, _cache={}) for unit in (None, "patient"))
    r2 = METRICS["regression"][0]
    widths = []
    for one in (alone, grouped):
        found = jackknife_of(r2, one.truth, one.scores["candidate"], one.units)
        low, high, _ = t_interval(found.value, found.without)
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]  # ten copies of a row are no ten rows
    assert grouped.unit_name == "values of patient"
    assert alone.unit_name == "groups of rows"


def test_one_day_of_rows_is_inconclusive(cancer: Evidence) -> None:
    one_day = replace(cancer, rows=cancer.rows.assign(day=date(2026, 1, 1)), day="day", _cache={})
    for gate in (check_auc_floor, check_calibration):
        found = run_gate(gate, one_day)
        assert found.outcome == "inconclusive", found.reason


def test_a_champion_that_nobody_mentions_was_perhaps_forgotten(cancer: Evidence) -> None:
    outcomes = {given: run_gate(check_beats_champion, replace(cancer, has_champion=given, _cache={})) for given in (False, True, None)}
    assert [found.passed for found in outcomes.values()] == [True, False, False]
    assert "the evidence has no scores of it" in outcomes[True].reason
    assert "set has_champion" in outcomes[None].reason


def test_the_champion_itself_is_no_candidate_whatever_the_tolerance(cancer: Evidence) -> None:
    copy = replace(cancer, scores={"candidate": cancer.scores["candidate"], "champion": cancer.scores["candidate"].copy()}, _cache={})
    for gate in (check_beats_champion, check_not_worse_than_champion.configure(tolerance=0.01)):
        found = run_gate(gate, copy)
        assert (found.outcome, found.reason) == (
            "refuse",
            f"candidate and champion predict the same for each of {len(cancer.rows)} rows: it is the same model",
        )


@given(st.sampled_from(TASKS), st.integers(2, 40), st.sampled_from([None, "unit", "day"]), st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_small_tests_never_raise_and_never_pass_on_nan(task: Task, size: int, unit: str | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    days = [date(2026, 1, 1) + timedelta(days=int(d)) for d in rng.integers(0, 3, size)]
    rows = pd.DataFrame({"x": rng.normal(size=size), "unit": rng.integers(0, 4, size), "day": days})
    rows["y"] = {"binary": rng.integers(0, 2, size), "multiclass": rng.integers(0, 3, size), "regression": rng.normal(size=size)}[task]
    predicted = {"binary": rng.random(size), "multiclass": rng.dirichlet(np.ones(3), size), "regression": rng.normal(size=size)}[task]
    evidence = Evidence(
        "m", 1, rows, {"candidate": predicted}, "y", None, "day" if unit == "day" else None, inputs=("x",), task=task,
        classes=(0, 1, 2) if task == "multiclass" else (), unit=None if unit == "day" else unit, has_champion=False,
    )  # fmt: skip
    measured = (
        "valid_probabilities",
        "valid_predictions",
        "auc_floor",
        "metric_floor",
        "calibration",
        "mean_error",
        "leaking_feature",
        "beats_champion",
    )
    for found in run_gates([g for g in gates_of(Policy.standard(task)) if g.name in measured], evidence).results:
        assert "could not run" not in found.reason or "must converge" in found.reason, (found.name, found.reason)
        assert found.value is None or not np.isnan(found.value) or found.outcome != "pass"
