"A small model of the harbour, logged once for the tests that need something to register."

from __future__ import annotations

from typing import NamedTuple

import mlflow
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from boathouse.training import Recipe, fit, log_pipeline


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
