"""The gates of the flights: planted failures are refused, a first model needs no champion, and nothing refused is promoted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession

from boathouse.deployment import DeploymentFailed
from boathouse.gates import gates_of
from boathouse.lineage import manifest_of
from boathouse.registry import RegistryError, alias_version, promote
from boathouse.reproduce import reproduce
from boathouse.scoring import pack
from boathouse.search import chosen_parameters
from boathouse.splits import split_of
from boathouse.tables import Lakehouse, read
from boathouse.trust import Untrusted
from boathouse.validation import CANDIDATE, CHAMPION, GATES, Evidence, judge
from flights import training
from flights.deployment import promote_accepted
from flights.features import rehearsal
from flights.tables import OPS_HOLDOUT_OPENINGS, OPS_PROMOTIONS
from flights.training import DEFAULTS, Candidate, baselines, train
from flights.validation import BASELINE, POLICY, SLICES, evidence_of, held_out, unseen_by, validate

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
    for table in (OPS_PROMOTIONS, OPS_HOLDOUT_OPENINGS, GATES):
        if lake.spark.catalog.tableExists(lake.name(table)):
            lake.spark.sql(f"DELETE FROM {lake.name(table)} WHERE model_name = '{MODEL}'")
    MlflowClient().delete_registered_model(MODEL)


@pytest.fixture(scope="module")
def good(lake: Lakehouse, candidate: Candidate) -> Evidence:
    "What the gates see of the candidate."
    return evidence_of(lake, MODEL, candidate.version, AS_OF)


def refusals(evidence: Evidence, **changed: object) -> set[str]:
    "The gates that refuse the evidence, with some of it changed."
    return set(judge(gates_of(POLICY), replace(evidence, **changed, _found={})).refusals)  # type: ignore[arg-type]


def test_held_out_rows_are_the_days_that_training_left_out(candidate: Candidate, good: Evidence) -> None:
    days = good.rows.flight_date
    assert (days.min(), days.max()) == (candidate.split.holdout, candidate.split.end - dt.timedelta(days=1))
    assert good.rows.flight_id.is_unique
    assert len(good.times) == len(good.rows) == len(good.sample)
    assert good.times.shape[1] == 7
    assert (good.rows.flight_id == good.sample.flight_id).all()
    assert max(good.training.days) < days.min()


def test_the_good_candidate_passes_and_its_bad_twins_do_not(good: Evidence) -> None:
    everything = np.full(len(good.rows), True)
    scores, late = good.scores[CANDIDATE], good.truth
    assert refusals(good) == set()
    mixed = {**good.scores, CANDIDATE: np.random.default_rng(1).permutation(scores), CHAMPION: scores}
    assert refusals(good, scores=mixed, unseen=everything) >= {f"better than {BASELINE}", "better than the champion", "good enough"}
    assert refusals(good, scores={**good.scores, CHAMPION: scores}, unseen=everything) == {"better than the champion"}
    assert "predicts probabilities" in refusals(good, scores={**good.scores, CANDIDATE: np.full(len(scores), 0.3)})
    assert "no feature too good alone" in refusals(good, sample=good.sample.assign(leg_delay=late * 60.0))
    later = good.times.assign(**{good.times.columns[0]: good.rows.predict_at + dt.timedelta(minutes=1)})
    assert refusals(good, times=later) == {"no feature from the future"}
    assert refusals(good, open_failures=("silver.weather: temperature_in_range (12.9%)",)) == {"no data failure open"}
    assert refusals(good, training=replace(good.training, days=good.training.days | set(good.rows.flight_date))) == {"tested on later days"}


def test_days_that_the_champion_was_trained_on_do_not_count(candidate: Candidate, good: Evidence) -> None:
    days = good.rows.flight_date
    assert unseen_by(MODEL, candidate.version, days).all()
    assert not unseen_by(MODEL, candidate.version, [candidate.split.first] * 3).any()
    known = {**good.scores, CHAMPION: good.scores[BASELINE]}
    assert refusals(good, scores=known, unseen=np.full(len(days), True)) == set()
    verdict = judge(gates_of(POLICY), replace(good, scores=known, unseen=np.full(len(days), False), _found={}))
    assert verdict.refusals == ("better than the champion",)


def test_a_first_model_is_accepted_promoted_once_and_explained(lake: Lakehouse, candidate: Candidate) -> None:
    verdict = validate(lake, MODEL, candidate.version, AS_OF)
    assert verdict.accepted, verdict.refusals
    assert verdict.answers[-1].reason == "there is no champion yet"
    assert "the first" in promote_accepted(lake, MODEL, candidate.version, AS_OF)
    assert "nothing new" in promote_accepted(lake, MODEL, candidate.version, AS_OF)
    row = read(lake, OPS_PROMOTIONS).where(f"model_name = '{MODEL}'").collect()
    assert len(row) == 1
    assert row[0].moved_at == dt.datetime(2013, 9, 30)
    assert "better than the timetable" in row[0].evidence
    report = mlflow.artifacts.load_dict(f"runs:/{candidate.run_id}/validation.json")
    assert {"gates", "metrics", "calibration", "slices", "importances", "roc", "held_out"} <= set(report)
    assert report["accepted"]
    kept = read(lake, GATES).where(f"model_name = '{MODEL}'").collect()
    assert len(kept) == len(verdict.answers)
    assert {"card.html", "explanation.png"} <= {found.path for found in MlflowClient().list_artifacts(candidate.run_id)}
    told = mlflow.artifacts.load_dict(f"runs:/{candidate.run_id}/explanation.json")
    assert told["unit"] == "log-odds"
    assert {found["input"] for found in told["inputs"]} == set(manifest_of(candidate.run_id).recipe["categorical"]) | set(
        manifest_of(candidate.run_id).recipe["numeric"]
    )
    sliced = {(found["slice"], found["value"]) for found in report["slices"]}
    assert {(found["slice"], found["value"]) for found in told["slices"]} == sliced  # every slice of the report, under its name
    assert {column for column, _ in sliced} == set(SLICES)
    card = Path(MlflowClient().download_artifacts(candidate.run_id, "card.html")).read_text()
    assert card.count('alt="Explanation"') == 1


def test_each_version_that_is_judged_has_looked_at_its_held_out_rows_once_however_often_it_is_judged(
    lake: Lakehouse, candidate: Candidate, good: Evidence
) -> None:
    again = held_out(lake, manifest_of(candidate.run_id), {CANDIDATE: pack(MODEL, candidate.version)}, dt.datetime.fromisoformat(AS_OF))
    assert len(again.rows) == len(good.rows)
    assert candidate.version in good.shown
    looks = read(lake, OPS_HOLDOUT_OPENINGS).where(f"model_name = '{MODEL}' AND version = {candidate.version} AND why = 'validation'")
    (look,) = looks.collect()
    assert (look.first_day, look.end_day) == (candidate.split.holdout, candidate.split.end)
    assert look.opened_at == dt.datetime(2013, 9, 30)
    assert split_of(look.split) == candidate.split


def test_the_candidate_is_made_again_from_its_manifest_to_the_last_bit(lake: Lakehouse, candidate: Candidate) -> None:
    done = reproduce(lake, MODEL, candidate.version)
    assert (done.verdict, done.differences) == ("same", ())
    assert [found["rows_of"] for found in done.sets] == ["training", "held out"]
    manifest = manifest_of(candidate.run_id)
    assert done.sets[0]["rows"] == manifest.rows == candidate.train_rows
    assert manifest.run["target"] == "interactive"
    assert {"flights.training", "boathouse.training"} <= set(manifest.code.modules)


def test_a_refused_candidate_stays_registered_with_its_reasons_and_is_not_promoted(lake: Lakehouse, candidate: Candidate) -> None:
    promote(lake, MODEL, candidate.version, dt.datetime(2013, 9, 30), "test")
    again = train(lake, MODEL, "/test_flights_validation", as_of=AS_OF, max_evals=1, seed=7)  # the champion itself, once more
    verdict = validate(lake, MODEL, again.version, AS_OF)
    tags = MlflowClient().get_model_version(MODEL, str(again.version)).tags
    assert not verdict.accepted
    assert verdict.refusals == ("better than the champion",)
    assert tags["validation"] == "refused"
    assert "better than the champion" in tags["refused_because"]
    with pytest.raises(DeploymentFailed, match="was not accepted"):
        promote_accepted(lake, MODEL, again.version, AS_OF)
    assert alias_version(MlflowClient(), MODEL) == candidate.version


def test_a_baseline_that_nothing_beats_is_said_to_be_one_refused_and_made_again(lake: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    poor = {**DEFAULTS, "min_child_samples": 10**6}  # no leaf is large enough: nothing is learned
    monkeypatch.setattr(training, "known_points", lambda _: {"defaults": poor, "more trees": poor | {"n_estimators": 200}, "fewer": poor})
    found = train(lake, MODEL, "/test_flights_validation", as_of=AS_OF, max_evals=1, seed=7, tell=said.append)
    assert (found.best.name, found.best.baseline) == ("the timetable", True)
    assert said[-1].startswith("Nothing beats the timetable, a baseline")
    client = MlflowClient()
    assert client.get_model_version(MODEL, str(found.version)).tags["baseline"] == "the timetable"
    assert f"better than {BASELINE}" in refusals(evidence_of(lake, MODEL, found.version, AS_OF))
    assert chosen_parameters(client.get_run(found.run_id).data.params) == found.best.parameters == baselines()["the timetable"]
    assert reproduce(lake, MODEL, found.version).verdict == "same"


def test_an_accepted_candidate_whose_champion_is_another_by_now_is_not_promoted(lake: Lakehouse, candidate: Candidate) -> None:
    later = train(lake, MODEL, "/test_flights_validation", as_of=AS_OF, max_evals=1, seed=8)
    client = MlflowClient()
    client.set_model_version_tag(MODEL, str(later.version), "validation", "accepted")
    told = {"champion_version": None, "metrics": {}, "gates": [{"name": f"better than {BASELINE}", "reason": "better"}]}
    client.log_dict(later.run_id, told, "validation.json")
    promote(lake, MODEL, candidate.version, dt.datetime(2013, 9, 30), "test")
    with pytest.raises(RegistryError, match=f"compared with no champion, and the champion is version {candidate.version} now"):
        promote_accepted(lake, MODEL, later.version, AS_OF)


def test_a_version_whose_files_were_changed_is_not_judged_and_not_scored_with(lake: Lakehouse, candidate: Candidate) -> None:
    uri = MlflowClient().get_model_version(MODEL, str(candidate.version)).source
    folder = Path(mlflow.get_logged_model(uri.removeprefix("models:/")).artifact_location.removeprefix("file://"))
    file = folder / "feature_spec.json"
    before = file.read_bytes()
    file.write_bytes(before + b" ")
    try:
        for call in (lambda: evidence_of(lake, MODEL, candidate.version, AS_OF), lambda: pack(MODEL, candidate.version)):
            with pytest.raises(Untrusted, match="has other files than when it was registered"):
                call()
    finally:
        file.write_bytes(before)
