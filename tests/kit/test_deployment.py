"""A version goes into service a step at a time; each step refuses what it should, and the way back leads to what was served before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from pyspark.sql import DataFrame, SparkSession

from boathouse.deployment import (
    EXPECTED,
    GOLDEN_FILE,
    Agreement,
    DeploymentFailed,
    agreement,
    approval,
    as_tried,
    chosen,
    golden_again,
    golden_of,
    golden_rows,
    in_shadow,
    log_golden,
    named,
    passed,
    refusals,
    shadow,
    smoke,
    taken_back,
)
from boathouse.registry import CHAMPION, alias_version, approve, champion_as_of, move, moves, promote, register, reject, retire, rollback
from boathouse.scoring import pack, positive, unpack
from boathouse.tables import Lakehouse, drop_all, read
from boathouse.training import Recipe, fit, log_pipeline, probabilities
from boathouse.validation import GATES

MODEL = "spark_catalog.test_ml.deployed"
RECIPE = Recipe(("pier",), ("wind",), "late")
MAY, JUNE, JULY = (dt.datetime(2013, m, 1) for m in (5, 6, 7))


def boats(limit: float, rows: int = 300) -> pd.DataFrame:
    "Boats that are late in a wind above `limit`; one wind is missing."
    n = np.arange(rows)
    wind = np.where(n == 5, np.nan, n % 23.0)
    return pd.DataFrame({"pier": np.where(n % 3 > 0, "east", "west"), "wind": wind, "late": np.nan_to_num(wind) > limit})


def logged(limit: float, golden: bool = True, shift: float = 0.0) -> tuple[str, str]:
    "A logged model, its URI and run; its golden answers are off by `shift`."
    rows = boats(limit)
    mlflow.set_experiment("/test_deployment")
    with mlflow.start_run() as run:
        fitted = fit(RECIPE, rows, {"n_estimators": 10, "min_child_samples": 5})
        uri = log_pipeline(fitted, RECIPE, rows, "model")
        if golden:
            some = golden_rows(RECIPE, rows, at_most=20)
            log_golden(uri.removeprefix("models:/"), some, probabilities(fitted, RECIPE, some) + shift)
    return uri, run.info.run_id


@pytest.fixture(scope="module")
def models(spark: SparkSession) -> dict[str, tuple[str, str]]:
    "Logged models by name: two good ones, one without golden rows, one whose golden rows expect other answers."
    return {"calm": logged(15), "rough": logged(9), "bare": logged(15, golden=False), "wrong": logged(15, shift=0.01)}


@pytest.fixture
def lake(spark: SparkSession, models: dict[str, tuple[str, str]]) -> Iterator[Lakehouse]:
    "A lake without moves, and versions 1 to 4: calm, rough, bare, wrong; the gates have accepted all but the last."
    lake, client = Lakehouse(spark, prefix="test_deployment_"), MlflowClient()
    drop_all(lake)
    for name, (uri, run) in models.items():
        register(MODEL, uri, run, {"validation": "refused" if name == "wrong" else "accepted", "asked_by": name})
    yield lake
    client.delete_registered_model(MODEL)
    drop_all(lake)


def file_of(version: int, name: str) -> Path:
    "A file of a version, where it lies."
    source = MlflowClient().get_model_version(MODEL, str(version)).source.removeprefix("models:/")
    return Path(mlflow.get_logged_model(source).artifact_location.removeprefix("file://"), name)


def answers(version: int) -> list[float]:
    return positive(unpack(pack(MODEL, version)).predict(boats(15)[RECIPE.inputs])).tolist()


@pytest.fixture
def today(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(boats(15).reset_index(names="boat"))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.one_of(st.none(), st.floats(-1e6, 1e6))), min_size=1, max_size=40),
    st.integers(1, 60),
)
def test_golden_rows_hold_each_inputs_edges_and_no_more_rows_than_asked(rows: list[tuple], at_most: int) -> None:
    frame = pd.DataFrame(rows, columns=["pier", "wind"]).astype({"pier": object, "wind": float}).assign(late=True)
    golden = golden_rows(RECIPE, frame, at_most)
    assert list(golden.columns) == ["pier", "wind"]
    assert len(golden) == min(at_most, len(frame))
    pd.testing.assert_frame_equal(golden, golden_rows(RECIPE, frame, at_most))
    if at_most >= 9:  # three piers, a missing one, two extremes and a missing wind
        assert set(golden.pier.dropna()) == set(frame.pier.dropna())
        assert golden.pier.isna().any() == frame.pier.isna().any()
        assert golden.wind.isna().any() == frame.wind.isna().any()
        if frame.wind.notna().any():
            assert (golden.wind.min(), golden.wind.max()) == (frame.wind.min(), frame.wind.max())


def test_golden_rows_come_back_as_they_were_missing_values_and_all(lake: Lakehouse, models: dict[str, tuple[str, str]]) -> None:
    files = Path(mlflow.artifacts.download_artifacts(models["calm"][0]))
    rows, expected = golden_of(files, "calm")
    pd.testing.assert_frame_equal(rows, golden_rows(RECIPE, boats(15), at_most=20))
    assert len(expected) == 20
    assert rows.wind.isna().any()


def test_the_smoke_test_passes_the_trainings_answers_and_refuses_others_none_and_no_golden_rows(lake: Lakehouse) -> None:
    good, bare, wrong = (smoke(MODEL, version) for version in (1, 3, 4))
    assert (good.passed, good.reason) == (True, "20 golden rows, answers as in the training")
    assert not bare.passed
    assert "has no golden rows: log them" in bare.reason
    assert not wrong.passed
    assert "20 of 20 golden rows have other answers than in the training, by up to 0.01" in wrong.reason


def test_a_file_that_was_changed_is_refused_before_it_is_loaded(lake: Lakehouse) -> None:
    file = file_of(1, GOLDEN_FILE)
    before = file.read_bytes()
    pd.read_parquet(file).assign(**{EXPECTED: 0.5}).to_parquet(file, index=False)
    try:
        for answer in (smoke(MODEL, 1), golden_again(MODEL, 1)):
            assert not answer.passed
            assert "has other files than when it was registered" in answer.reason
    finally:
        file.write_bytes(before)
    assert golden_again(MODEL, 1).passed


def test_both_models_score_every_row_once_in_the_shadow(today: DataFrame, lake: Lakehouse) -> None:
    both = shadow(today, pack(MODEL, 1), pack(MODEL, 2), ["boat"]).toPandas().sort_values("boat", ignore_index=True)
    assert both.boat.tolist() == list(range(300))
    assert both.probability.tolist() == answers(1)
    assert both.champion_probability.tolist() == answers(2)
    alone = shadow(today, pack(MODEL, 1), None, ["boat"])
    assert alone.where("champion_probability IS NOT NULL").count() == 0


def test_a_version_that_leaves_rows_out_moves_the_mean_or_turns_decisions_over_does_not_follow(spark: SparkSession) -> None:
    def scored(rows: list[tuple[float | None, float | None]]) -> DataFrame:
        return spark.createDataFrame(rows, "probability double, champion_probability double")

    good = scored([(0.2, 0.25), (0.6, 0.55), (0.4, 0.4), (0.9, 0.9)])
    assert agreement(good) == Agreement(4, 0, 0.525, 0.525, 0.0)
    assert in_shadow(agreement(good)).passed
    cases = {
        "1 of 2 rows got no probability": [(None, 0.3), (0.2, 0.2)],
        "2 of 3 rows got no probability": [(float("nan"), 0.3), (1.5, 0.2), (0.1, 0.1)],
        "means more than 0.15 apart": [(0.4, 0.2), (0.4, 0.2)],
        "more than 25% turned over": [(0.49, 0.51), (0.51, 0.49), (0.1, 0.1)],
        "there was no row to score": [],
    }
    for reason, rows in cases.items():
        found = in_shadow(agreement(scored(rows)))
        assert not found.passed
        assert reason in found.reason
    first = in_shadow(agreement(scored([(0.3, None)]), champion=False))
    assert first.passed
    assert "no champion to compare with" in first.reason


def test_what_is_served_must_be_what_was_tried_on_every_row_and_on_no_other(spark: SparkSession) -> None:
    def rows(found: list[tuple[int, float | None]]) -> DataFrame:
        return spark.createDataFrame(found, "boat long, probability double")

    tried = rows([(1, 0.25), (2, 0.5)])
    assert as_tried(rows([(2, 0.5), (1, 0.25 + 1e-12)]), tried, "boat").passed
    for served in ([(1, 0.25)], [(1, 0.25), (2, 0.5), (3, 0.5)], [(1, 0.25), (2, 0.500001)], [(1, 0.25), (2, None)]):
        found = as_tried(rows(served), tried, "boat")
        assert not found.passed
        assert found.reason.startswith("1 of ")
    assert not as_tried(rows([]), rows([]), "boat").passed


def test_table_and_alias_must_both_name_the_version(lake: Lakehouse) -> None:
    promote(lake, MODEL, 1, MAY, "first")
    assert named(lake, MODEL, 1, MAY).passed
    assert not named(lake, MODEL, 2, MAY).passed
    MlflowClient().set_registered_model_alias(MODEL, CHAMPION, "2")  # somebody moved it by hand
    moved = named(lake, MODEL, 1, MAY)
    assert not moved.passed
    assert moved.reason == "champion of 2013-05-01 is version 1, the alias points to version 2"


def test_a_promotion_for_the_past_is_in_order_while_a_later_champion_keeps_the_alias(lake: Lakehouse) -> None:
    promote(lake, MODEL, 2, JULY, "later")
    promote(lake, MODEL, 1, MAY, "a re-run of May")
    assert named(lake, MODEL, 1, MAY).passed


def test_a_step_keeps_its_answers_and_ends_with_the_reasons_if_one_refuses(lake: Lakehouse) -> None:
    good, bad = named(lake, MODEL, 1, MAY), smoke(MODEL, 3)
    with pytest.raises(DeploymentFailed, match=r"version 3 is not deployed\. champion by name: .*; smoke test: .* has no golden rows"):
        passed(lake, MODEL, 3, MAY, [good, bad])
    kept = {row.gate: (row.verdict, row.passed) for row in read(lake, GATES).collect()}
    assert kept == {"champion by name": ("refuse", False), "smoke test": ("refuse", False)}
    assert refusals(lake, MODEL, 3, MAY).startswith("champion by name: ")
    assert "smoke test: " in refusals(lake, MODEL, 3, MAY)
    assert refusals(lake, MODEL, 3, JUNE) == refusals(lake, MODEL, 1, MAY) == ""
    passed(lake, MODEL, 1, MAY, [smoke(MODEL, 1)])
    assert read(lake, GATES).where("version = 1 AND passed").count() == 1


def test_promoted_degraded_and_taken_back_the_predictions_are_those_of_before(lake: Lakehouse) -> None:
    promote(lake, MODEL, 1, MAY, "first")
    before = answers(champion_as_of(lake, MODEL, JUNE))
    promote(lake, MODEL, 2, JUNE, "better")
    assert answers(champion_as_of(lake, MODEL, JUNE)) != before
    file = file_of(2, "MLmodel")
    whole = file.read_bytes()
    file.write_bytes(whole + b"\n")
    try:
        assert not golden_again(MODEL, 2).passed
        said = taken_back(lake, MODEL, 2, JUNE, "degraded")
        assert "version 1 is champion again, instead of version 2; 20 golden rows, answers as in the training" in said
    finally:
        file.write_bytes(whole)
    assert answers(champion_as_of(lake, MODEL, JUNE)) == before
    assert alias_version(MlflowClient(), MODEL) == 1
    assert "rolled back: degraded" in MlflowClient().get_model_version(MODEL, "2").tags["deployment"]
    assert "nothing to take back" in taken_back(lake, MODEL, 2, JUNE, "again")
    assert [row["move"] for row in moves(lake, MODEL)] == ["promoted", "promoted", "rolled back"]


def test_a_rollback_that_died_before_it_moved_the_alias_is_ended_by_the_next_one(lake: Lakehouse) -> None:
    promote(lake, MODEL, 1, MAY, "first")
    promote(lake, MODEL, 2, JUNE, "better")
    move(lake, MODEL, 1, "rolled back", JUNE, "degraded", "deployment", CHAMPION)  # and no alias moved
    assert alias_version(MlflowClient(), MODEL) == 2
    taken_back(lake, MODEL, 2, JUNE, "degraded")
    assert alias_version(MlflowClient(), MODEL) == 1


def test_what_never_became_champion_is_not_taken_back(lake: Lakehouse) -> None:
    promote(lake, MODEL, 1, MAY, "first")
    assert "version 1 is; nothing to take back" in taken_back(lake, MODEL, 2, JUNE, "its smoke test failed")
    assert champion_as_of(lake, MODEL, JUNE) == 1


def test_a_first_champion_that_fails_leaves_none_and_the_next_one_is_a_first_again(lake: Lakehouse) -> None:
    promote(lake, MODEL, 1, MAY, "first", expects=None)
    assert "late has none now".replace("late", MODEL) in taken_back(lake, MODEL, 1, MAY, "degraded")
    assert champion_as_of(lake, MODEL, JULY) is None
    assert alias_version(MlflowClient(), MODEL) is None
    promote(lake, MODEL, 2, JUNE, "another", expects=None)
    assert champion_as_of(lake, MODEL, JULY) == 2 == alias_version(MlflowClient(), MODEL)


def test_a_withdrawn_champion_is_no_place_to_go_back_to(lake: Lakehouse) -> None:
    promote(lake, MODEL, 1, MAY, "first")
    taken_back(lake, MODEL, 1, MAY, "degraded")
    promote(lake, MODEL, 2, JUNE, "another")
    assert "none now" in taken_back(lake, MODEL, 2, JUNE, "degraded as well")
    assert champion_as_of(lake, MODEL, JULY) is None


def test_where_the_only_champion_before_was_retired_none_is_left(lake: Lakehouse) -> None:
    promote(lake, MODEL, 1, MAY, "first")
    promote(lake, MODEL, 2, JUNE, "better")
    retire(lake, MODEL, 1, JUNE, "trained on a year that is gone", "Omar")
    assert "none now" in taken_back(lake, MODEL, 2, JUNE, "degraded")


def test_going_back_to_a_champion_that_fails_as_well_is_no_rescue(lake: Lakehouse) -> None:
    promote(lake, MODEL, 4, MAY, "first")
    promote(lake, MODEL, 2, JUNE, "better")
    with pytest.raises(DeploymentFailed, match="went back from version 2 to version 4, and that one fails too"):
        taken_back(lake, MODEL, 2, JUNE, "degraded")
    assert champion_as_of(lake, MODEL, JUNE) == 4


def test_the_version_to_deploy_is_the_one_named_or_that_of_the_run_that_asks_or_the_newest(lake: Lakehouse) -> None:
    assert chosen(MODEL, [], MAY, version=1).version == 1
    assert chosen(MODEL, [], MAY, asked_by="rough").version == 2
    newest = chosen(MODEL, [], MAY)
    assert (newest.version, newest.accepted) == (4, False)
    assert "the gates did not accept it" in newest.why
    with pytest.raises(LookupError, match="has no version 9"):
        chosen(MODEL, [], MAY, version=9)
    with pytest.raises(LookupError, match="has no version that was trained for run 17"):
        chosen(MODEL, [], MAY, asked_by="17")
    with pytest.raises(LookupError, match="has no version: train one first"):
        chosen("spark_catalog.test_ml.nobody", [], MAY)


def test_what_was_taken_back_is_not_deployed_again_for_the_same_day(lake: Lakehouse) -> None:
    promote(lake, MODEL, 1, MAY, "first")
    promote(lake, MODEL, 2, JUNE, "better")
    assert chosen(MODEL, moves(lake, MODEL), JUNE, 2).accepted
    rollback(lake, MODEL, JUNE, "degraded")
    again = chosen(MODEL, moves(lake, MODEL), JUNE, 2)
    assert not again.accepted
    assert "taken back for 2013-06-01 already" in again.why
    assert chosen(MODEL, moves(lake, MODEL), JULY, 2).accepted
    assert chosen(MODEL, moves(lake, MODEL), JUNE, 1).accepted


def test_a_guarded_target_waits_for_a_person_and_says_what_to_type(lake: Lakehouse) -> None:
    assert "no approval is asked for" in approval(lake, MODEL, 1, needed=False)
    with pytest.raises(DeploymentFailed, match=f"boathouse models approve {MODEL} 1 --by NAME --why REASON, then boathouse repair RUN"):
        approval(lake, MODEL, 1, needed=True)
    approve(lake, MODEL, 1, "Omar", "the slices are fine", MAY)
    assert approval(lake, MODEL, 1, needed=True).endswith("approved by Omar, the slices are fine.")
    reject(lake, MODEL, 1, "Eve", "the west pier is worse", MAY)
    with pytest.raises(DeploymentFailed, match="was rejected by Eve: the west pier is worse"):
        approval(lake, MODEL, 1, needed=True)
