"""A candidate is made of what was known, by recorded versions, and never ends below its start."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace

import mlflow
import numpy as np
import pytest
from hyperopt.pyll.stochastic import sample
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession

from boathouse.features.leak_report import LeakError
from boathouse.features.lookups import FeatureLookup
from boathouse.models.learners import LEARNERS, PRIOR, fit, probabilities
from boathouse.registry.manifest import Code, LineageError
from boathouse.registry.promotions import promote
from boathouse.tables.table import Lakehouse, read
from boathouse.tables.versions import has_same_rows
from flights import training
from flights.features import CALENDAR, CATEGORICAL, feature_versions, features, numeric
from flights.tables import FEATURES_AIRCRAFT, GOLD_DEPARTURES
from flights.training import (
    TIMETABLE,
    TrainedVersion,
    TrainingOrigin,
    TrainingRequest,
    TrainingRows,
    baselines,
    champion_parameters,
    known_points,
    load_rows,
    recipe,
    space,
    train,
    with_known_labels,
)

MODEL = "spark_catalog.test_ml.flights_in_service"


@pytest.fixture
def version(candidate: TrainedVersion, registered: Callable[[str, TrainedVersion], int]) -> Iterator[int]:
    "The candidate, as version of a model that can be promoted."
    yield registered(MODEL, candidate)
    MlflowClient().delete_registered_model(MODEL)


def test_a_label_counts_from_its_landing_on(spark: SparkSession) -> None:
    rows = [(1, True, dt.datetime(2013, 10, 1)), (2, True, dt.datetime(2013, 10, 1, 0, 0, 0, 1)), (3, None, None)]
    known = with_known_labels(spark.createDataFrame(rows, "id int, late boolean, label_time timestamp"), dt.date(2013, 10, 1))
    assert [row.id for row in known.collect()] == [1]


def test_training_rows_are_one_per_flight_and_lie_before_the_held_out_days(airport: Lakehouse, learned: TrainingRows) -> None:
    rows, split = learned.frame, learned.split
    expected = read(airport, GOLD_DEPARTURES).where(f"late IS NOT NULL AND flight_date < '{split.holdout}' - interval 1 day").count()
    assert len(rows) == expected == rows.flight_id.nunique()
    assert rows.flight_date.max() == split.holdout - dt.timedelta(days=2)
    assert split.end == dt.date(2013, 9, 29)
    assert (rows.label_time <= dt.datetime(2013, 9, 30)).all()


def test_the_run_says_which_tables_at_which_versions_made_the_model(airport: Lakehouse, candidate: TrainedVersion) -> None:
    client = MlflowClient()
    run = client.get_run(candidate.run_id)
    recorded = {k.removeprefix("table."): int(v) for k, v in run.data.params.items() if k.startswith("table.")}
    latest = feature_versions(airport)
    assert recorded.keys() == latest.keys()
    assert all(
        has_same_rows(airport, table, version, latest[table]) for table, version in recorded.items()
    )  # pinning lengthens their retention
    assert len(run.inputs.dataset_inputs) == len(recorded)
    (registered,) = client.search_model_versions(f"run_id = '{candidate.run_id}'")
    assert int(registered.version) == candidate.version
    assert "baseline" not in registered.tags  # the model itself won
    assert {f.path for f in client.list_artifacts(candidate.run_id)} >= {"reference.json", "leaks.json"}
    found = mlflow.artifacts.load_dict(f"runs:/{candidate.run_id}/reference.json")
    assert found["rows"] == candidate.train_rows
    assert set(found["features"]) >= {"carrier", "wind_speed"}


def test_the_run_keeps_for_each_feature_how_old_the_newest_thing_was_that_it_knew(candidate: TrainedVersion) -> None:
    leaks = mlflow.load_table("leaks.json", run_ids=[candidate.run_id]).set_index("feature")
    assert set(leaks.index) == {*CATEGORICAL, *numeric()}
    assert leaks.later.fillna(0).sum() == 0
    assert (leaks.matched + leaks.unmatched == candidate.train_rows).all()
    untimed = set(leaks.index[leaks.table == "label row"])
    assert untimed == {*CATEGORICAL, *CALENDAR}
    assert (leaks.drop(index=list(untimed)).youngest_seconds >= 0).all()
    assert leaks.table["leg_age_hours"] == "flights.features:leg_age_hours"


def test_a_guarded_target_refuses_uncommitted_code_before_anything_is_read(airport: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "current_code", lambda *_: Code("1f3c9ab", True, {}, {}, "3.11.7"))
    monkeypatch.setattr(training, "feature_versions", lambda *_: pytest.fail("something was read"))
    with pytest.raises(LineageError, match="target 'prod' requires committed code"):
        train(TrainingRequest(airport, MODEL, dt.date(2013, 9, 30), origin=TrainingOrigin(target="prod", guarded=True)), "/test_flights")


def test_a_feature_from_after_the_forecast_ends_the_training_before_it_begins(airport: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of all lookups the aircraft's alone, and that as of the landing, where it should be as of the forecast.
    of_aircraft = [f for f in features() if not isinstance(f, FeatureLookup) or f.keys == ("tailnum",)]
    wrong = [replace(f, timestamp_lookup_key="label_time") if isinstance(f, FeatureLookup) else f for f in of_aircraft]
    there = (*CALENDAR, *FEATURES_AIRCRAFT.schema.names, "leg_age_hours")
    monkeypatch.setattr("flights.training.features", lambda: wrong)
    monkeypatch.setattr("flights.training.numeric", lambda: [name for name in numeric() if name in there])
    with pytest.raises(LeakError, match=r"leg_landed, from features.aircraft, .* such as for flight_id \d+; .*leg_age_hours") as caught:
        load_rows(airport, feature_versions(airport), dt.date(2013, 9, 30))
    report = caught.value.report
    assert set(report.table[report.later.fillna(0) > 0]) == {"features.aircraft", "flights.features:leg_age_hours"}
    assert caught.value.count == report.later.max() > 2000


def test_tuned_is_never_worse_than_the_defaults_and_every_trial_is_a_nested_run(candidate: TrainedVersion) -> None:
    run = MlflowClient().get_run(candidate.run_id)
    assert run.data.metrics["fold_auc"] >= run.data.metrics["defaults_fold_auc"]
    nested = MlflowClient().search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{candidate.run_id}'")
    assert len(nested) == len(candidate.trials) == 3 + len(baselines())


def test_the_share_and_the_timetable_are_trials_that_the_model_beats(candidate: TrainedVersion) -> None:
    run = MlflowClient().get_run(candidate.run_id)
    nested = MlflowClient().search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{candidate.run_id}' AND tags.baseline = 'true'"
    )
    found = {n.data.tags["trial"]: n.data.metrics["mean_auc"] for n in nested}
    assert found["the prior"] == 0.5 < found["the timetable"] < run.data.metrics["fold_auc"]
    assert run.data.metrics["defaults_fold_auc"] > found["the timetable"]
    assert not candidate.best.baseline


def test_the_timetables_trial_is_the_baseline_that_is_trained_beside_the_candidate(learned: TrainingRows) -> None:
    trial, beside, few = recipe(7), recipe(7, baseline=True), {"n_estimators": 20}
    one, two = fit(trial, learned.frame, {**baselines()["the timetable"], **few}), fit(beside, learned.frame, {**TIMETABLE, **few})
    assert (probabilities(one, trial, learned.frame) == probabilities(two, beside, learned.frame)).all()


def test_the_search_proposes_no_baseline() -> None:
    drawn = [sample(space(), np.random.default_rng(seed)) for seed in range(300)]
    assert {p["learner"] for p in drawn} == set(LEARNERS)
    assert not any("columns" in p or p["learner"] == PRIOR for p in drawn)


def test_a_retraining_tries_the_champions_parameters_too(airport: Lakehouse, candidate: TrainedVersion, version: int) -> None:
    assert champion_parameters(airport, MODEL, dt.date(2013, 9, 30)) is None
    assert list(known_points(None)) == ["defaults", "a line"]
    promote(airport, MODEL, version, dt.datetime(2013, 9, 30), "test")
    found = champion_parameters(airport, MODEL, dt.date(2013, 10, 1))
    assert found == candidate.best.parameters
    assert champion_parameters(airport, MODEL, dt.date(2013, 9, 29)) is None
    assert list(known_points({**found, "num_leaves": 9.0})) == ["defaults", "a line", "champion"]
