"""The gate of the flights: refuses planted failures, works without a champion, and nothing refused is promoted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession

from boathouse.registry import alias_version, promote
from boathouse.tables import Lakehouse, read
from flights.features import rehearsal
from flights.tables import OPS_PROMOTIONS
from flights.training import Candidate, train
from flights.validation import HeldOut, ask, ask_baseline, gates_of, held_out, promote_accepted, unseen_by, validate

MODEL = "spark_catalog.test_ml.validated_flights"
AS_OF = "2013-09-30"


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="rehearsal_")
    rehearsal(lake)
    return lake


@pytest.fixture(scope="module")
def candidate(lake: Lakehouse) -> Iterator[Candidate]:
    yield train(lake, MODEL, "/test_flights_validation", as_of=AS_OF, max_evals=1, seed=7)
    if lake.spark.catalog.tableExists(lake.name(OPS_PROMOTIONS)):
        lake.spark.sql(f"DELETE FROM {lake.name(OPS_PROMOTIONS)} WHERE model_name = '{MODEL}'")
    MlflowClient().delete_registered_model(MODEL)


@pytest.fixture(scope="module")
def test_rows(lake: Lakehouse, candidate: Candidate) -> HeldOut:
    return held_out(lake, MlflowClient().get_run(candidate.run_id).data.params)


def refusals(*args: object) -> set[str]:
    return {gate.name for gate in gates_of(*args) if not gate.passed}  # type: ignore[arg-type]


def test_held_out_rows_are_the_days_that_training_left_out(candidate: Candidate, test_rows: HeldOut) -> None:
    days = test_rows.rows.flight_date
    assert (days.min(), days.max()) == (
        candidate.split.holdout,
        candidate.split.end - dt.timedelta(days=1),
    )
    assert test_rows.rows.flight_id.is_unique
    assert len(test_rows.times) == len(test_rows.rows)
    assert test_rows.times.shape[1] == 7


def test_shuffled_predictions_a_leak_and_a_constant_are_refused_and_their_good_twin_is_not(
    candidate: Candidate, test_rows: HeldOut
) -> None:
    good, plain = ask(MODEL, candidate.version, test_rows.rows), ask_baseline(candidate.run_id, test_rows.rows)
    everything = np.full(len(good), True)
    assert refusals(test_rows, good, plain, None, None) == set()
    assert refusals(test_rows, np.random.default_rng(1).permutation(good), plain, good, everything) == {
        "better than the timetable",
        "better than the champion",
    }
    assert refusals(test_rows, good, plain, good, everything) == {"better than the champion"}
    assert "predicts probabilities" in refusals(test_rows, np.full(len(good), 0.3), plain, None, None)
    leaky = replace(test_rows, rows=test_rows.rows.assign(leg_delay=test_rows.late * 60.0))
    assert refusals(leaky, good, plain, None, None) == {"no feature too good alone"}
    future = replace(test_rows, times=test_rows.times.assign(features_weather=test_rows.rows.predict_at + dt.timedelta(minutes=1)))
    assert refusals(future, good, plain, None, None) == {"no feature from the future"}


def test_days_that_the_champion_was_trained_on_do_not_count(candidate: Candidate, test_rows: HeldOut) -> None:
    good, plain = ask(MODEL, candidate.version, test_rows.rows), ask_baseline(candidate.run_id, test_rows.rows)
    assert unseen_by(MODEL, candidate.version, test_rows.rows).all()
    earlier = test_rows.rows.assign(flight_date=candidate.split.first)
    assert not unseen_by(MODEL, candidate.version, earlier).any()
    gate = gates_of(test_rows, good, plain, plain, np.full(len(good), False))[-1]
    assert not gate.passed
    assert "was trained on these days" in gate.reason


def test_a_first_model_is_accepted_promoted_once_and_explained(lake: Lakehouse, candidate: Candidate) -> None:
    accepted, gates = validate(lake, MODEL, candidate.version, AS_OF)
    assert accepted
    assert "better than the champion" not in {gate.name for gate in gates}
    assert "the first" in promote_accepted(lake, MODEL, candidate.version, AS_OF)
    assert "nothing new" in promote_accepted(lake, MODEL, candidate.version, AS_OF)
    row = read(lake, OPS_PROMOTIONS).where(f"model_name = '{MODEL}'").collect()
    assert len(row) == 1
    assert row[0].moved_at == dt.datetime(2013, 9, 30)
    assert "better than the timetable" in row[0].evidence
    report = mlflow.artifacts.load_dict(f"runs:/{candidate.run_id}/validation.json")
    assert {"gates", "metrics", "calibration", "slices", "importances", "roc", "held_out"} <= set(report)
    assert report["accepted"]


def test_a_refused_candidate_stays_registered_with_its_reasons_and_is_not_promoted(lake: Lakehouse, candidate: Candidate) -> None:
    promote(lake, MODEL, candidate.version, dt.datetime(2013, 9, 30), "test")
    again = train(lake, MODEL, "/test_flights_validation", as_of=AS_OF, max_evals=1, seed=7)  # the champion itself, once more
    accepted, gates = validate(lake, MODEL, again.version, AS_OF)
    tags = MlflowClient().get_model_version(MODEL, str(again.version)).tags
    assert not accepted
    assert [gate.name for gate in gates if not gate.passed] == ["better than the champion"]
    assert tags["validation"] == "refused"
    assert "cannot tell them apart" in tags["refused_because"]
    with pytest.raises(ValueError, match="was not accepted"):
        promote_accepted(lake, MODEL, again.version, AS_OF)
    assert alias_version(MlflowClient(), MODEL) == candidate.version
