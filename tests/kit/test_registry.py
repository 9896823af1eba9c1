"""Promotion is a decision first and an alias second; history answers for any instant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession

import boathouse.registry as registry
from boathouse.registry import alias_version, champion_as_of, promote, register, rollback
from boathouse.tables import Lakehouse, drop_all, read
from flights.tables import OPS_PROMOTIONS

MODEL = "spark_catalog.test_ml.registered"
FEBRUARY, MARCH, APRIL = (dt.datetime(2013, m, 1) for m in (2, 3, 4))


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    "A lake without promotions, and a model with three versions."
    lake, client = Lakehouse(spark, prefix="test_registry_"), MlflowClient()
    drop_all(lake)
    mlflow.set_experiment("/test_registry")
    with mlflow.start_run() as run:
        pass
    assert [register(MODEL, f"runs:/{run.info.run_id}/model", run.info.run_id) for _ in range(3)] == [1, 2, 3]
    yield lake
    client.delete_registered_model(MODEL)
    drop_all(lake)


def test_nobody_is_champion_before_the_first_promotion_and_each_one_until_the_next(lake: Lakehouse) -> None:
    assert champion_as_of(lake, OPS_PROMOTIONS, MODEL, APRIL) is None
    promote(lake, OPS_PROMOTIONS, MODEL, 1, FEBRUARY, "first")
    promote(lake, OPS_PROMOTIONS, MODEL, 3, APRIL, "better")
    second = dt.timedelta(seconds=1)
    assert [champion_as_of(lake, OPS_PROMOTIONS, MODEL, t) for t in (FEBRUARY - second, FEBRUARY, APRIL - second, APRIL)] == [None, 1, 1, 3]
    assert champion_as_of(lake, OPS_PROMOTIONS, "another.ml.model", APRIL) is None


def test_repeating_a_decision_writes_nothing_and_leaves_the_alias(lake: Lakehouse) -> None:
    assert promote(lake, OPS_PROMOTIONS, MODEL, 2, FEBRUARY, "first", {"auc": 0.7}) is True
    assert promote(lake, OPS_PROMOTIONS, MODEL, 2, FEBRUARY, "first", {"auc": 0.7}) is False
    row = read(lake, OPS_PROMOTIONS).collect()
    assert len(row) == 1
    assert (row[0].previous_version, row[0].evidence, row[0].promoted_at) == (None, '{"auc": 0.7}', FEBRUARY)
    assert alias_version(MlflowClient(), MODEL) == 2


def test_a_decision_about_the_past_leaves_todays_champion_alone(lake: Lakehouse) -> None:
    promote(lake, OPS_PROMOTIONS, MODEL, 1, FEBRUARY, "first")
    promote(lake, OPS_PROMOTIONS, MODEL, 3, APRIL, "better")
    promote(lake, OPS_PROMOTIONS, MODEL, 2, MARCH, "a re-run of March")
    assert alias_version(MlflowClient(), MODEL) == 3 == champion_as_of(lake, OPS_PROMOTIONS, MODEL, APRIL)
    assert champion_as_of(lake, OPS_PROMOTIONS, MODEL, MARCH) == 2


def test_a_crash_between_row_and_alias_is_finished_by_the_next_call(lake: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(lake, OPS_PROMOTIONS, MODEL, 1, FEBRUARY, "first")
    with monkeypatch.context() as crash:
        crash.setattr(registry, "alias_version", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            promote(lake, OPS_PROMOTIONS, MODEL, 2, MARCH, "better")
    assert alias_version(MlflowClient(), MODEL) == 1
    assert promote(lake, OPS_PROMOTIONS, MODEL, 2, MARCH, "better") is False
    assert alias_version(MlflowClient(), MODEL) == 2
    assert read(lake, OPS_PROMOTIONS).count() == 2


def test_an_unknown_version_is_refused_before_anything_is_written(lake: Lakehouse) -> None:
    promote(lake, OPS_PROMOTIONS, MODEL, 1, FEBRUARY, "first")
    with pytest.raises(mlflow.exceptions.MlflowException):
        promote(lake, OPS_PROMOTIONS, MODEL, 99, MARCH, "typing mistake")
    assert read(lake, OPS_PROMOTIONS).count() == 1
    assert alias_version(MlflowClient(), MODEL) == 1


def test_a_rollback_is_a_new_decision_also_in_the_instant_of_the_promotion(lake: Lakehouse) -> None:
    with pytest.raises(ValueError, match="nothing to go back to"):
        rollback(lake, OPS_PROMOTIONS, MODEL, FEBRUARY, "?")
    promote(lake, OPS_PROMOTIONS, MODEL, 1, FEBRUARY, "first")
    promote(lake, OPS_PROMOTIONS, MODEL, 2, MARCH, "better")
    assert rollback(lake, OPS_PROMOTIONS, MODEL, MARCH, "it was not") == 1
    assert alias_version(MlflowClient(), MODEL) == 1 == champion_as_of(lake, OPS_PROMOTIONS, MODEL, MARCH)
    assert read(lake, OPS_PROMOTIONS).count() == 3
