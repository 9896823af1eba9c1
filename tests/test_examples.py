"""The examples in the docstrings of the kit's public functions run, and give what they show.

An example has these names, beside those of its module: `spark`, an empty `lake`, the declared table `flights` with two `rows`, the declared table `bronze`
and the folder `landing` with an empty folder `events`, the timestamp `at`, the function `append`, and a registered `model` with the versions 1 and 2.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from pyspark.sql import SparkSession

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.registry.promotions import register
from boathouse.tables.table import Column, Lakehouse, Table, drop_all
from boathouse.tables.writes import append

SRC = Path(__file__).parent.parent / "src"
MODULES = sorted(
    path.relative_to(SRC).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in (SRC / "boathouse").rglob("*.py")
    if "workspace" not in path.parts
)
EXAMPLES = {
    test.name.removeprefix("boathouse."): test
    for module in map(importlib.import_module, MODULES)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module)
    if test.examples
}
OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.REPORT_NDIFF

FLIGHTS = Table(
    "silver.flights",
    "One row per flight.",
    (
        Column("flight_id", "bigint", "Key of the flight", nullable=False),
        Column("carrier", "string", "Airline"),
        Column("arr_delay", "int", "Minutes between the scheduled and the actual arrival"),
    ),
    primary_key=("flight_id",),
)
BRONZE = Table(
    "bronze.flight_events",
    "One row per delivered line, as text.",
    tuple(Column(name, "string", f"The column {name} of the file") for name in ("flight", "state", "_raw", "_source_file", "_malformed"))
    + (Column("_ingested_at", "timestamp", "When the line was taken"),),
)


class Names(dict[str, Any]):
    "The names of an example; what takes time to make is made for the examples that use it."

    def __init__(self, spark: SparkSession, prefix: str, folder: Path, own: dict[str, Any]) -> None:
        super().__init__(own)
        self.spark, self.prefix, self.folder = spark, prefix, folder
        self |= {"spark": spark, "lake": Lakehouse(spark, prefix=prefix), "flights": FLIGHTS, "bronze": BRONZE, "at": datetime(2013, 1, 2)}
        self |= {"datetime": datetime, "landing": folder, "append": append}
        (folder / "events").mkdir()

    def add_used(self, source: str) -> None:
        "Add `rows` and `model` if the source of the example speaks of them."
        if re.search(r"\brows\b", source):
            self["rows"] = self.spark.createDataFrame([(1, "B6", 4), (2, "UA", 31)], FLIGHTS.schema)
        if re.search(r"(?<!\.)\bmodel\b", source):
            self["model"] = self.register_model()

    def register_model(self) -> str:
        "The name of a model with two versions, for one example alone."
        name = f"spark_catalog.ml.{self.prefix}late_arrival"
        assert [register(name, *logged_model()) for _ in range(2)] == [1, 2]
        return name


@cache
def logged_model() -> tuple[str, str]:
    "The URI and the run of a logged model; examples only read both, and register versions of it."
    rows = pd.DataFrame({"origin": ["EWR", "JFK"] * 50, "wind": [n % 13.0 for n in range(100)], "late": [n % 13 > 6 for n in range(100)]})
    recipe = Recipe(("origin",), ("wind",), "late")
    mlflow.set_experiment("/test_examples")
    with mlflow.start_run() as run:
        return log_pipeline(fit(recipe, rows, {"n_estimators": 5, "min_child_samples": 5}), recipe, rows, "model"), run.info.run_id


@pytest.fixture
def names(spark: SparkSession, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    test = EXAMPLES[request.node.callspec.params["name"]]
    source = " ".join(example.source for example in test.examples)
    found = Names(spark, f"examples_{test.name.rpartition('.')[2].lower()}_", tmp_path, test.globs)
    found.add_used(source)
    monkeypatch.setattr(sys, "argv", ["task"])
    yield found
    if "lake" in source:
        drop_all(found["lake"])
    if "model" in found:
        MlflowClient().delete_registered_model(found["model"])


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_gives_what_it_shows(name: str, names: Names) -> None:
    test = EXAMPLES[name]
    test.globs = dict(names)
    printed: list[str] = []
    failed = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=printed.append, clear_globs=False).failed
    assert failed == 0, "".join(printed)


def test_the_most_used_functions_have_an_example() -> None:
    tables = {
        "table.Column",
        "table.Table",
        "table.read",
        "evolution.create",
        "writes.append",
        "writes.merge",
        "writes.replace",
        "versions.fingerprint",
    }
    wanted = {f"tables.{name}" for name in tables}
    wanted |= {
        "ingest.files.ingest",
        "runtime.parameters",
        "registry.promotions.promote",
        "registry.promotions.rollback",
        "monitoring.decision.decide_action",
    }
    assert wanted - set(EXAMPLES) == set()


@pytest.mark.parametrize("name", ["tables", "point_in_time", "plots"])
def test_every_public_function_of_a_module_has_an_example(name: str) -> None:
    module = importlib.import_module(f"boathouse.{name}")
    functions = [function for function in map(vars(module).get, module.__all__) if inspect.isfunction(function)]
    assert len(functions) > 1
    assert [function.__name__ for function in functions if ">>>" not in (function.__doc__ or "")] == []
