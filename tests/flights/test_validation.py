"""The gates of the flights: planted failures are refused, a first model needs no champion, and nothing refused is promoted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from boathouse.models.integrity import UntrustedModel
from boathouse.models.scoring import pack_model
from boathouse.registry.manifest import read_manifest
from boathouse.registry.promotions import RegistryError, alias_version, promote
from boathouse.registry.reproduce import reproduce
from boathouse.serving.deployment import DeploymentFailed
from boathouse.tables.table import Lakehouse, read
from boathouse.training.search import parameters_from_run
from boathouse.training.splits import split_from_json
from boathouse.validation.gate import CANDIDATE, CHAMPION, GATES, Evidence, Verdict, run_gates
from boathouse.validation.policy import gates_of
from flights import training, validation
from flights.deployment import promote_accepted
from flights.tables import OPS_HOLDOUT_OPENINGS, OPS_PROMOTIONS
from flights.training import TrainedVersion, TrainingRequest, baselines, train
from flights.validation import BASELINE, POLICY, SLICES, evidence_of, held_out, unseen_by, validate_candidate

MODEL = "spark_catalog.test_ml.validated_flights"
AS_OF = dt.date(2013, 9, 30)


@dataclass(frozen=True)
class First:
    "The candidate as the first version of a model: its number, what the gates saw of it, and what they said."

    version: int
    evidence: Evidence
    verdict: Verdict


@pytest.fixture(scope="module")
def first(airport: Lakehouse, candidate: TrainedVersion, registered: Callable[[str, TrainedVersion], int]) -> Iterator[First]:
    version, seen = registered(MODEL, candidate), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "evidence_of", lambda *given: seen.append(evidence_of(*given)) or seen[-1])
        verdict = validate_candidate(airport, MODEL, version, AS_OF)
    yield First(version, *seen, verdict)
    MlflowClient().delete_registered_model(MODEL)


@pytest.fixture(scope="module")
def good(first: First) -> Evidence:
    return first.evidence


def refusals(evidence: Evidence, **changed: object) -> set[str]:
    "The gates that refuse the evidence, with some of it changed."
    return set(run_gates(gates_of(POLICY), replace(evidence, **changed, _cache={})).refusals)  # type: ignore[arg-type]


def test_held_out_rows_are_the_days_that_training_left_out(candidate: TrainedVersion, good: Evidence) -> None:
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
    assert refusals(good, scores=mixed, unseen=everything) >= {"beats_baseline", "beats_champion", "auc_floor"}
    assert refusals(good, scores={**good.scores, CHAMPION: scores}, unseen=everything) == {"beats_champion"}
    assert "valid_probabilities" in refusals(good, scores={**good.scores, CANDIDATE: np.full(len(scores), 0.3)})
    assert "leaking_feature" in refusals(good, sample=good.sample.assign(leg_delay=late * 60.0))
    later = good.times.assign(**{good.times.columns[0]: good.rows.predict_at + dt.timedelta(minutes=1)})
    assert refusals(good, times=later) == {"future_features"}
    assert refusals(good, open_failures=("silver.weather: temperature_in_range (12.9%)",)) == {"open_quality_failures"}
    assert refusals(good, training=replace(good.training, days=good.training.days | set(good.rows.flight_date))) == {"test_after_training"}


def test_days_that_the_champion_was_trained_on_do_not_count(candidate: TrainedVersion, first: First, good: Evidence) -> None:
    days = good.rows.flight_date
    assert unseen_by(MODEL, first.version, days).all()
    assert not unseen_by(MODEL, first.version, [candidate.split.first] * 3).any()
    known = {**good.scores, CHAMPION: good.scores[BASELINE]}
    assert refusals(good, scores=known, unseen=np.full(len(days), True)) == set()
    verdict = run_gates(gates_of(POLICY), replace(good, scores=known, unseen=np.full(len(days), False), _cache={}))
    assert verdict.refusals == ("beats_champion",)


def test_a_first_model_is_accepted_promoted_once_and_explained(airport: Lakehouse, candidate: TrainedVersion, first: First) -> None:
    verdict = first.verdict
    assert verdict.accepted, verdict.refusals
    assert {r.name: r.reason for r in verdict.results}["beats_champion"] == "there is no champion yet"
    assert "the first" in promote_accepted(airport, MODEL, first.version, AS_OF)
    assert "nothing new" in promote_accepted(airport, MODEL, first.version, AS_OF)
    row = read(airport, OPS_PROMOTIONS).where(f"model_name = '{MODEL}'").collect()
    assert len(row) == 1
    assert row[0].moved_at == dt.datetime(2013, 9, 30)
    assert "beats_baseline" in row[0].evidence
    report = mlflow.artifacts.load_dict(f"runs:/{candidate.run_id}/validation.json")
    assert {"gates", "metrics", "calibration", "slices", "importances", "roc", "held_out"} <= set(report)
    assert report["accepted"]
    kept = read(airport, GATES).where(f"model_name = '{MODEL}'").collect()
    assert len(kept) == len(verdict.results)
    assert {"card.html", "explanation.png"} <= {found.path for found in MlflowClient().list_artifacts(candidate.run_id)}
    told = mlflow.artifacts.load_dict(f"runs:/{candidate.run_id}/explanation.json")
    assert told["unit"] == "log-odds"
    assert {found["input"] for found in told["inputs"]} == set(read_manifest(candidate.run_id).recipe["categorical"]) | set(
        read_manifest(candidate.run_id).recipe["numeric"]
    )
    dropped = {one["group"]: one for one in mlflow.artifacts.load_dict(f"runs:/{candidate.run_id}/ablation.json")["groups"]}
    assert sum(one["inputs"] for one in dropped.values()) == len(told["inputs"])  # each input is in one group
    assert dropped["weather"]["helps"], dropped  # gusts make the late flights of the airport
    sliced = {(found["slice"], found["value"]) for found in report["slices"]}
    assert {(found["slice"], found["value"]) for found in told["slices"]} == sliced  # every slice of the report, under its name
    assert {column for column, _ in sliced} == set(SLICES)
    card = Path(MlflowClient().download_artifacts(candidate.run_id, "card.html")).read_text()
    assert card.count('alt="Explanation"') == 1


def test_each_version_that_is_judged_has_looked_at_its_held_out_rows_once_however_often_it_is_judged(
    airport: Lakehouse, candidate: TrainedVersion, first: First
) -> None:
    again = held_out(airport, read_manifest(candidate.run_id), {CANDIDATE: pack_model(MODEL, first.version)}, dt.datetime(2013, 9, 30))
    assert len(again.rows) == len(first.evidence.rows)
    assert first.version in first.evidence.shown
    looks = read(airport, OPS_HOLDOUT_OPENINGS).where(f"model_name = '{MODEL}' AND version = {first.version} AND why = 'validation'")
    (look,) = looks.collect()
    assert (look.first_day, look.end_day) == (candidate.split.holdout, candidate.split.end)
    assert look.opened_at == dt.datetime(2013, 9, 30)
    assert split_from_json(look.split) == candidate.split


def test_the_candidate_is_made_again_from_its_manifest_to_the_last_bit(airport: Lakehouse, candidate: TrainedVersion, first: First) -> None:
    done = reproduce(airport, MODEL, first.version)
    assert (done.verdict, done.differences) == ("same", ())
    assert [found["rows_of"] for found in done.sets] == ["training", "held out"]
    manifest = read_manifest(candidate.run_id)
    assert done.sets[0]["rows"] == manifest.rows == candidate.train_rows
    assert manifest.run["target"] == "interactive"
    assert {"flights.training", "boathouse.models.learners"} <= set(manifest.code.modules)


def test_a_refused_candidate_stays_registered_with_its_reasons_and_is_not_promoted(
    airport: Lakehouse, candidate: TrainedVersion, first: First, registered: Callable[[str, TrainedVersion], int]
) -> None:
    promote(airport, MODEL, first.version, dt.datetime(2013, 9, 30), "test")
    again = registered(MODEL, candidate)  # the champion itself, once more
    verdict = validate_candidate(airport, MODEL, again, AS_OF)
    tags = MlflowClient().get_model_version(MODEL, str(again)).tags
    assert not verdict.accepted
    assert verdict.refusals == ("beats_champion",)
    assert tags["validation"] == "refused"
    assert "beats_champion" in tags["refused_because"]
    with pytest.raises(DeploymentFailed, match="was not accepted"):
        promote_accepted(airport, MODEL, again, AS_OF)
    assert alias_version(MlflowClient(), MODEL) == first.version


def test_a_baseline_that_nothing_beats_is_said_to_be_one_refused_and_made_again(
    airport: Lakehouse, first: First, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    poor = {**quick, "min_child_samples": 10**6}  # no leaf is large enough: nothing is learned
    monkeypatch.setattr(training, "DEFAULTS", quick)
    monkeypatch.setattr(training, "known_points", lambda *_: {"defaults": poor, "more trees": poor | {"n_estimators": 200}, "fewer": poor})
    found = train(TrainingRequest(airport, MODEL, AS_OF, max_evals=1), "/test_flights", tell=said.append)
    assert (found.best.name, found.best.baseline) == ("the timetable", True)
    assert said[-1].startswith("The best trial is the timetable, a baseline")
    client = MlflowClient()
    assert client.get_model_version(MODEL, str(found.version)).tags["baseline"] == "the timetable"
    assert "beats_baseline" in refusals(evidence_of(airport, MODEL, found.version, AS_OF))
    assert parameters_from_run(client.get_run(found.run_id).data.params) == found.best.parameters == baselines()["the timetable"]
    assert reproduce(airport, MODEL, found.version).verdict == "same"


def test_an_accepted_candidate_whose_champion_is_another_by_now_is_not_promoted(
    airport: Lakehouse, first: First, earlier: TrainedVersion, registered: Callable[[str, TrainedVersion], int]
) -> None:
    later, client = registered(MODEL, earlier), MlflowClient()
    client.set_model_version_tag(MODEL, str(later), "validation", "accepted")
    told = {"champion_version": None, "metrics": {}, "gates": [{"name": "beats_baseline", "reason": "better"}]}
    client.log_dict(earlier.run_id, told, "validation.json")
    old = told | {"gates": [{"name": "better than the timetable", "reason": "better"}]}
    promote(airport, MODEL, first.version, dt.datetime(2013, 9, 30), "test")
    with pytest.raises(RegistryError, match=f"compared with no champion, found version {first.version} at 2013-09-30"):
        promote_accepted(airport, MODEL, later, AS_OF)
    client.log_dict(earlier.run_id, old, "validation.json")  # as boathouse wrote it before gates had ids
    with pytest.raises(
        DeploymentFailed, match=r"has no gate beats_baseline, only better than the timetable: .* Validate the version again"
    ):
        promote_accepted(airport, MODEL, later, AS_OF)


def test_a_version_whose_files_were_changed_is_not_judged_and_not_scored_with(airport: Lakehouse, first: First) -> None:
    uri = MlflowClient().get_model_version(MODEL, str(first.version)).source
    folder = Path(mlflow.get_logged_model(uri.removeprefix("models:/")).artifact_location.removeprefix("file://"))
    file = folder / "feature_spec.json"
    before = file.read_bytes()
    file.write_bytes(before + b" ")
    try:
        for call in (lambda: evidence_of(airport, MODEL, first.version, AS_OF), lambda: pack_model(MODEL, first.version)):
            with pytest.raises(UntrustedModel, match="has other files than when it was registered"):
                call()
    finally:
        file.write_bytes(before)
