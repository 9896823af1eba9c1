"""Splits, search and what a run writes down."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import mlflow
import numpy as np
import pandas as pd
import pytest
from hyperopt import hp
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession

from boathouse.training import (
    Recipe,
    fit,
    fold_scores,
    log_pipeline,
    log_trials,
    probabilities,
    reference,
    search,
    split_by_time,
    table_inputs,
    to_pandas,
)

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


@given(days=st.integers(9, 800), length=st.integers(3, 60), folds=st.integers(1, 5), gap=st.integers(0, 3))
def test_folds_lie_in_order_before_the_held_out_days_and_those_before_the_gap(days: int, length: int, folds: int, gap: int) -> None:
    first = dt.date(2013, 1, 1)
    as_of = first + dt.timedelta(days=days + gap)
    split = split_by_time(first, as_of, length, folds, gap)
    edges = [edge for fold in split.folds for edge in fold]
    assert edges == sorted(edges)
    assert first <= edges[0]
    assert edges[-1] == split.holdout < split.end == as_of - dt.timedelta(days=gap)
    assert 2 <= (split.end - split.holdout).days <= max(2, length)
    assert (split.end - split.holdout).days * 4 <= days + 3


def test_too_short_a_history_is_refused_in_days() -> None:
    with pytest.raises(ValueError, match="5 days of history"):
        split_by_time(dt.date(2013, 1, 1), dt.date(2013, 1, 7))


def test_no_fold_is_trained_on_its_own_days_or_later_ones() -> None:
    # The label turns round on the fold's first day: a model that had seen one day of the fold would not be this wrong.
    rows = boats()
    split = split_by_time(dt.date(2013, 1, 1), dt.date(2013, 3, 2), folds=1)
    start = split.folds[0][0]
    turned = rows.assign(late=np.where(rows.day >= start, rows.knots < 12, rows.knots >= 12))
    assert fold_scores(RECIPE, turned, "day", split, {"n_estimators": 10})[0] < 0.05


def test_the_same_rows_and_seed_give_the_same_model_to_the_last_bit() -> None:
    rows = boats(20)
    one, two = (
        probabilities(fit(RECIPE, rows, {"n_estimators": 20, "colsample_bytree": 0.5, "subsample": 0.5, "subsample_freq": 1}), RECIPE, rows)
        for _ in range(2)
    )
    assert (one == two).all()


def test_a_category_never_seen_is_missing_and_not_somebody_else() -> None:
    rows = boats(30)
    rows["late"] = rows.hull == "s"
    model = fit(RECIPE, rows, {"n_estimators": 20})
    odd = pd.DataFrame({"hull": ["s", "l", "a", "zz", None], "knots": [12.0] * 5})
    small, large, *unknown = probabilities(model, RECIPE, odd)
    assert small > 0.8
    assert large < 0.2
    assert len(set(unknown)) == 1


def test_the_search_never_ends_below_its_known_points_and_survives_failing_trials() -> None:
    def score(p: Mapping[str, float]) -> tuple[float, ...]:
        if p["x"] > 0.8:
            raise RuntimeError("out of memory")
        return (1 - abs(p["x"] - 0.3), 1 - abs(p["x"] - 0.3))

    trials = search(score, {"x": hp.uniform("x", 0, 1)}, {"defaults": {"x": 0.3}, "champion": {"x": 0.9}}, max_evals=12, seed=1)
    assert trials[0].name == "defaults"
    assert trials[0].score == 1.0
    assert len(trials) == 12
    assert {t.error for t in trials if not t.scores} == {"RuntimeError: out of memory"}
    assert trials[-1].scores == ()
    again = search(score, {"x": hp.uniform("x", 0, 1)}, {"defaults": {"x": 0.3}, "champion": {"x": 0.9}}, max_evals=12, seed=1)
    assert [t.parameters for t in again] == [t.parameters for t in trials]


def test_more_rows_than_stated_do_not_reach_memory(spark: SparkSession) -> None:
    assert len(to_pandas(spark.range(10), 10)) == 10
    with pytest.raises(ValueError, match="more than 9 rows"):
        to_pandas(spark.range(10), 9)


def test_every_row_is_counted_once_in_the_reference_and_nulls_apart() -> None:
    rows = pd.DataFrame({"hull": ["s", "l", None], "knots": [1.0, np.nan, np.nan], "late": [True, False, False]})
    found = reference(RECIPE, rows, np.array([0.0, 0.5, 1.0]))
    for name in ("hull", "knots"):
        counts = found["features"][name]["counts"]
        assert sum(counts.values() if isinstance(counts, dict) else counts) + found["features"][name]["nulls"] == 3
    assert found["score"]["counts"][0] == found["score"]["counts"][10] == found["score"]["counts"][19] == 1


def test_a_run_keeps_table_versions_trials_and_a_model_that_refuses_other_types(spark: SparkSession) -> None:
    client, rows = MlflowClient(), boats(20)
    mlflow.set_experiment("/test_training")
    trials = search(
        lambda p: fold_scores(RECIPE, rows, "day", split_by_time(dt.date(2013, 1, 1), dt.date(2013, 1, 21)), p),
        {},
        {"good": {"n_estimators": 5}, "bad": {"n_estimators": -1}},
        2,
        1,
    )
    with mlflow.start_run() as run:
        client.log_inputs(run.info.run_id, table_inputs({"gold.trips": 3}))
        log_trials(client, run.info.run_id, trials)
        uri = log_pipeline(fit(RECIPE, rows, trials[0].parameters), RECIPE, rows, "model")
    logged = client.get_run(run.info.run_id)
    assert '"delta_table_version": 3' in logged.inputs.dataset_inputs[0].dataset.source
    nested = {
        r.data.tags["trial"]: r for r in client.search_runs([logged.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    }
    assert nested["good"].data.metrics["mean_auc"] == pytest.approx(trials[0].score)
    assert nested["bad"].info.status == "FAILED"
    assert "greater than 0" in nested["bad"].data.tags["error"]
    model = mlflow.pyfunc.load_model(uri)
    assert np.allclose(model.predict(rows[["hull", "knots"]])[:, 1], probabilities(fit(RECIPE, rows, trials[0].parameters), RECIPE, rows))
    assert model.metadata.saved_input_example_info is not None
    assert model.metadata.flavors["sklearn"]["serialization_format"] == "skops"
    with pytest.raises(mlflow.exceptions.MlflowException, match="Incompatible input types"):
        model.predict(rows[["hull", "knots"]].assign(hull=1))
