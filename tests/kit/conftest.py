"What the tests of the kit share: a small model that was logged once, and histories of registered models that are written at once."

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from support.executors import ask_executors

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.registry.promotions import CHALLENGED, CHALLENGER, CHAMPION, PROMOTED, PROMOTIONS, ROLLED_BACK, WITHDRAWN, champion_among
from boathouse.tables.table import Lakehouse
from boathouse.tables.writes import append

History = Sequence[tuple[str, int, datetime, str]]


class Logged(NamedTuple):
    "A logged model: its URI, its run, and rows that it knows."

    uri: str
    run_id: str
    rows: pd.DataFrame


@pytest.fixture(scope="session")
def harbour_model(spark: SparkSession) -> Logged:
    rows = pd.DataFrame({"pier": ["east", "west"] * 50, "knots": [n % 13.0 for n in range(100)], "late": [n % 13 > 6 for n in range(100)]})
    recipe = Recipe(("pier",), ("knots",), "late")
    mlflow.set_experiment("/test_harbour")
    with mlflow.start_run() as run:
        uri = log_pipeline(fit(recipe, rows, {"n_estimators": 5, "min_child_samples": 5}), recipe, rows, "model")
    return Logged(uri, run.info.run_id, rows)


@pytest.fixture(scope="session")
def write_history() -> Callable[[Lakehouse, Mapping[str, History]], None]:
    "Write the moves (move, version, instant, by whom) of registered models in one commit, and set the aliases as they would then be."

    def write(lake: Lakehouse, histories: Mapping[str, History]) -> None:
        client, rows = MlflowClient(), []
        for model, history in histories.items():
            known: list[dict[str, Any]] = []
            for n, (move, version, at, by) in enumerate(history):
                alias = CHAMPION if move in (PROMOTED, ROLLED_BACK, WITHDRAWN) else CHALLENGER if move == CHALLENGED else None
                values = (model, n + 1, move, version, champion_among(known, at), alias, at, by, "better", "{}", "before the test")
                known = sorted([*known, dict(zip(PROMOTIONS.schema.names, values, strict=True))], key=lambda row: row["moved_at"])
                rows.append(values)
                if alias == CHALLENGER:
                    client.set_registered_model_alias(model, CHALLENGER, str(version))
            if known and (champion := champion_among(known, known[-1]["moved_at"])) is not None:
                client.set_registered_model_alias(model, CHAMPION, str(champion))
        append(lake, PROMOTIONS, lake.spark.createDataFrame(rows, PROMOTIONS.schema))

    return write


@pytest.fixture(scope="session")
def executors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    "What the files of this run said on one cluster of two executors, by the name of the file, and the folder of its driver."
    folder = tmp_path_factory.mktemp("driver")
    files = sorted({item.path for item in request.session.items if "executors" in getattr(item, "fixturenames", ())})
    return {**ask_executors(folder, files), "folder": str(folder)}
