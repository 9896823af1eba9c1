"""A version goes into service a step at a time; each step refuses what it should, and the way back leads to what was served before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import DataFrame, SparkSession
from support.histories import Histories

from boathouse.models.learners import Recipe, fit, log_pipeline, probabilities
from boathouse.models.scoring import load_packed, pack_model, positive_probability
from boathouse.registry.promotions import CHAMPION, alias_version, champion_as_of, promote, read_events, register, reject
from boathouse.serving.deployment import (
    EXPECTED,
    GOLDEN_FILE,
    DeploymentFailed,
    check_approval,
    check_champion_alias,
    check_reference_rows,
    check_reference_rows_as_served,
    list_refusals,
    log_reference_rows,
    read_reference_rows,
    record_or_fail,
    score_shadow,
    select_candidate,
    select_reference_rows,
    undo_promotion,
)
from boathouse.tables.table import Lakehouse, read
from boathouse.validation.gate import GATES, GateResult

MODEL = "spark_catalog.test_ml.deployed"
RECIPE = Recipe(("pier",), ("wind",), "late")
MAY, JUNE, JULY = (dt.datetime(2013, m, 1) for m in (5, 6, 7))


def boats(limit: float, rows: int = 300) -> pd.DataFrame:
    "Boats that are late in a wind above `limit`; one wind is missing."
    n = np.arange(rows)
    wind = np.where(n == 5, np.nan, n % 23.0)
    return pd.DataFrame({"pier": np.where(n % 3 > 0, "east", "west"), "wind": wind, "late": np.nan_to_num(wind) > limit})


def logged(limit: float, golden: bool = True, shift: float = 0.0) -> tuple[str, str]:
    "A logged model, its URI and run; its stored predictions are off by `shift`."
    rows = boats(limit)
    mlflow.set_experiment("/test_deployment")
    with mlflow.start_run() as run:
        fitted = fit(RECIPE, rows, {"n_estimators": 10, "min_child_samples": 5})
        uri = log_pipeline(fitted, RECIPE, rows, "model")
        if golden:
            some = select_reference_rows(RECIPE, rows, at_most=20)
            log_reference_rows(uri.removeprefix("models:/"), some, probabilities(fitted, RECIPE, some) + shift)
    return uri, run.info.run_id


@pytest.fixture(scope="module")
def models(spark: SparkSession) -> dict[str, tuple[str, str]]:
    "Logged models by name: two good ones, one without reference rows, one whose reference rows have other predictions."
    return {"calm": logged(15), "rough": logged(9), "bare": logged(15, golden=False), "wrong": logged(15, shift=0.01)}


HISTORIES = Histories("test_deployment")
history, model_of = HISTORIES.history, HISTORIES.model_of


@pytest.fixture(scope="module")
def lake(spark: SparkSession, models: dict[str, tuple[str, str]], write_history: Callable) -> Iterator[Lakehouse]:
    "The histories, and models with versions 1 to 4: calm, rough, bare, wrong; the gates have accepted all but the last."
    lake, client = Lakehouse(spark, prefix="test_deployment_"), MlflowClient()
    for name, (uri, run) in models.items():
        register(MODEL, uri, run, {"validation": "refused" if name == "wrong" else "accepted", "asked_by": name})
    for model in HISTORIES:
        client.create_registered_model(model)
        for version, (uri, run) in enumerate(models.values(), 1):
            client.create_model_version(model, uri, run, client.get_model_version(MODEL, str(version)).tags)
    write_history(lake, HISTORIES)
    yield lake
    for model in (MODEL, *HISTORIES):
        client.delete_registered_model(model)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    return model_of(request.function.__name__)


@pytest.fixture(scope="module")
def smoked(lake: Lakehouse) -> dict[str, GateResult]:
    "What the smoke test says of each version."
    return {name: check_reference_rows(MODEL, version) for name, version in (("calm", 1), ("bare", 3), ("wrong", 4))}


def file_of(version: int, name: str) -> Path:
    "A file of a version, where it lies."
    source = MlflowClient().get_model_version(MODEL, str(version)).source.removeprefix("models:/")
    return Path(mlflow.get_logged_model(source).artifact_location.removeprefix("file://"), name)


def answers(version: int) -> list[float]:
    return positive_probability(load_packed(pack_model(MODEL, version)).predict(boats(15)[RECIPE.inputs])).tolist()


@pytest.fixture(scope="module")
def today(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(boats(15).reset_index(names="boat"))


def test_golden_rows_come_back_as_they_were_missing_values_and_all(lake: Lakehouse, models: dict[str, tuple[str, str]]) -> None:
    files = Path(mlflow.artifacts.download_artifacts(models["calm"][0]))
    rows, expected = read_reference_rows(files, "calm")
    pd.testing.assert_frame_equal(rows, select_reference_rows(RECIPE, boats(15), at_most=20))
    assert len(expected) == 20
    assert rows.wind.isna().any()


def test_the_smoke_test_passes_the_trainings_answers_and_refuses_others_none_and_no_golden_rows(smoked: dict[str, GateResult]) -> None:
    good, bare, wrong = smoked.values()
    assert (good.passed, good.reason) == (True, "20 reference rows have the stored predictions")
    assert not bare.passed
    assert "has no reference rows: log them" in bare.reason
    assert not wrong.passed
    assert "20 of 20 reference rows differ from the stored predictions, by up to 0.01" in wrong.reason


def test_a_file_that_was_changed_is_refused_before_it_is_loaded(lake: Lakehouse) -> None:
    file = file_of(1, GOLDEN_FILE)
    before = file.read_bytes()
    pd.read_parquet(file).assign(**{EXPECTED: 0.5}).to_parquet(file, index=False)
    try:
        for answer in (check_reference_rows(MODEL, 1), check_reference_rows_as_served(MODEL, 1)):
            assert not answer.passed
            assert "has other files than when it was registered" in answer.reason
    finally:
        file.write_bytes(before)
    assert check_reference_rows_as_served(MODEL, 1).passed


def test_both_models_score_every_row_once_in_the_shadow(today: DataFrame, lake: Lakehouse) -> None:
    both = score_shadow(today, pack_model(MODEL, 1), pack_model(MODEL, 2), ["boat"]).toPandas().sort_values("boat", ignore_index=True)
    assert both.boat.tolist() == list(range(300))
    assert both.probability.tolist() == answers(1)
    assert both.champion_probability.tolist() == answers(2)
    alone = score_shadow(today, pack_model(MODEL, 1), None, ["boat"])
    assert alone.where("champion_probability IS NOT NULL").count() == 0


@history(("promoted", 1, MAY))
def test_table_and_alias_must_both_name_the_version(lake: Lakehouse, model: str) -> None:
    assert check_champion_alias(lake, model, 1, MAY).passed
    assert not check_champion_alias(lake, model, 2, MAY).passed
    MlflowClient().set_registered_model_alias(model, CHAMPION, "2")  # somebody moved it by hand
    moved = check_champion_alias(lake, model, 1, MAY)
    assert not moved.passed
    assert moved.reason == "champion of 2013-05-01 is version 1, the alias points to version 2"


@history(("promoted", 2, JULY), ("promoted", 1, MAY))
def test_a_promotion_for_the_past_is_in_order_while_a_later_champion_keeps_the_alias(lake: Lakehouse, model: str) -> None:
    assert alias_version(MlflowClient(), model) == 2
    assert check_champion_alias(lake, model, 1, MAY).passed


@history()
def test_a_step_keeps_its_answers_and_ends_with_the_reasons_if_one_refuses(
    lake: Lakehouse, model: str, smoked: dict[str, GateResult]
) -> None:
    with pytest.raises(DeploymentFailed, match=r"version 3 is not deployed\. champion_alias: .*; smoke_test: .* has no reference rows"):
        record_or_fail(lake, model, 3, MAY, [check_champion_alias(lake, model, 1, MAY), smoked["bare"]])
    kept = {row.gate: (row.verdict, row.passed) for row in read(lake, GATES).collect()}
    assert kept == {"champion_alias": ("refuse", False), "smoke_test": ("refuse", False)}
    assert list_refusals(lake, model, 3, MAY).startswith("champion_alias: ")
    assert "smoke_test: " in list_refusals(lake, model, 3, MAY)
    assert list_refusals(lake, model, 3, JUNE) == list_refusals(lake, model, 1, MAY) == ""
    record_or_fail(lake, model, 1, MAY, [smoked["calm"]])
    assert read(lake, GATES).where("version = 1 AND passed").count() == 1


@history(("promoted", 1, MAY), ("promoted", 2, JUNE))
def test_promoted_degraded_and_taken_back_the_predictions_are_those_of_before(lake: Lakehouse, model: str) -> None:
    assert (champion_as_of(lake, model, MAY), champion_as_of(lake, model, JUNE)) == (1, 2)
    assert answers(1) != answers(2)
    file = file_of(2, "MLmodel")
    whole = file.read_bytes()
    file.write_bytes(whole + b"\n")
    try:
        assert not check_reference_rows_as_served(model, 2).passed
        said = undo_promotion(lake, model, 2, JUNE, "degraded")
        assert "version 1 is champion again instead of version 2; 20 reference rows have the stored predictions" in said
    finally:
        file.write_bytes(whole)
    assert champion_as_of(lake, model, JUNE) == 1 == alias_version(MlflowClient(), model)
    assert "rolled back: degraded" in MlflowClient().get_model_version(model, "2").tags["deployment"]
    assert "nothing to undo" in undo_promotion(lake, model, 2, JUNE, "again")
    assert [row["move"] for row in read_events(lake, model)] == ["promoted", "promoted", "rolled back"]


@history(("promoted", 1, MAY), ("promoted", 2, JUNE), ("rolled back", 1, JUNE))
def test_a_rollback_that_died_before_it_moved_the_alias_is_ended_by_the_next_one(lake: Lakehouse, model: str) -> None:
    MlflowClient().set_registered_model_alias(model, CHAMPION, "2")  # where it was when the rollback died
    undo_promotion(lake, model, 2, JUNE, "degraded")
    assert alias_version(MlflowClient(), model) == 1


@history(("promoted", 1, MAY))
def test_what_never_became_champion_is_not_taken_back(lake: Lakehouse, model: str) -> None:
    assert "found version 1; nothing to undo" in undo_promotion(lake, model, 2, JUNE, "its smoke test failed")
    assert champion_as_of(lake, model, JUNE) == 1


@history(("promoted", 1, MAY))
def test_a_first_champion_that_fails_leaves_none_and_the_next_one_is_a_first_again(lake: Lakehouse, model: str) -> None:
    assert "the model has no champion now" in undo_promotion(lake, model, 1, MAY, "degraded")
    assert champion_as_of(lake, model, JULY) is None
    assert alias_version(MlflowClient(), model) is None
    promote(lake, model, 2, JUNE, "another", expects=None)
    assert champion_as_of(lake, model, JULY) == 2 == alias_version(MlflowClient(), model)


@history(("promoted", 1, MAY), ("withdrawn", 1, MAY), ("promoted", 2, JUNE))
def test_a_withdrawn_champion_is_no_place_to_go_back_to(lake: Lakehouse, model: str) -> None:
    assert "no champion now" in undo_promotion(lake, model, 2, JUNE, "degraded as well")
    assert champion_as_of(lake, model, JULY) is None


@history(("promoted", 1, MAY), ("promoted", 2, JUNE), ("retired", 1, JUNE, "Omar"))
def test_where_the_only_champion_before_was_retired_none_is_left(lake: Lakehouse, model: str) -> None:
    assert "no champion now" in undo_promotion(lake, model, 2, JUNE, "degraded")


@history(("promoted", 4, MAY), ("promoted", 2, JUNE))
def test_going_back_to_a_champion_that_fails_as_well_is_no_rescue(lake: Lakehouse, model: str) -> None:
    with pytest.raises(DeploymentFailed, match="rolled back from version 2 to version 4, which fails too"):
        undo_promotion(lake, model, 2, JUNE, "degraded")
    assert champion_as_of(lake, model, JUNE) == 4


def test_the_version_to_deploy_is_the_one_named_or_that_of_the_run_that_asks_or_the_newest(lake: Lakehouse) -> None:
    assert select_candidate(MODEL, [], MAY, version=1).version == 1
    assert select_candidate(MODEL, [], MAY, asked_by="rough").version == 2
    newest = select_candidate(MODEL, [], MAY)
    assert (newest.version, newest.accepted) == (4, False)
    assert "the gates did not accept it" in newest.why
    with pytest.raises(LookupError, match="has no version 9"):
        select_candidate(MODEL, [], MAY, version=9)
    with pytest.raises(LookupError, match="has no version that was trained for run 17"):
        select_candidate(MODEL, [], MAY, asked_by="17")
    with pytest.raises(LookupError, match="has no version: train one first"):
        select_candidate("spark_catalog.test_ml.nobody", [], MAY)


@history(("promoted", 1, MAY), ("promoted", 2, JUNE), ("rolled back", 1, JUNE))
def test_what_was_taken_back_is_not_deployed_again_for_the_same_day(lake: Lakehouse, model: str) -> None:
    known = read_events(lake, model)
    assert select_candidate(model, known[:2], JUNE, 2).accepted
    again = select_candidate(model, known, JUNE, 2)
    assert not again.accepted
    assert "its promotion for 2013-06-01 was undone" in again.why
    assert select_candidate(model, known, JULY, 2).accepted
    assert select_candidate(model, known, JUNE, 1).accepted


@history(("approved", 1, MAY, "Omar"))
def test_a_guarded_target_waits_for_a_person_and_says_what_to_type(lake: Lakehouse, model: str) -> None:
    assert "requires no approval" in check_approval(lake, model, 2, needed=False)
    with pytest.raises(DeploymentFailed, match=f"boathouse models approve {model} 2 --by NAME --why REASON, then boathouse repair RUN"):
        check_approval(lake, model, 2, needed=True)
    assert check_approval(lake, model, 1, needed=True).endswith("approved by Omar, better.")
    reject(lake, model, 1, "Eve", "the west pier is worse", MAY)
    with pytest.raises(DeploymentFailed, match="was rejected by Eve: the west pier is worse"):
        check_approval(lake, model, 1, needed=True)
