"""A model made again is the same, and each way in which it is not is noticed and named."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from pyspark import cloudpickle
from pyspark.sql import SparkSession

from boathouse.features.lookups import FeatureLookup
from boathouse.features.training_sets import FeatureFunction, Labels, create_training_set, import_function
from boathouse.models.integrity import UntrustedModel
from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.registry.manifest import LineageError, Manifest, collect_training_rows, current_code, log_manifest, read_tables, settings_of
from boathouse.registry.promotions import register
from boathouse.registry.reproduce import max_difference, reproduce, reproduce_command
from boathouse.serving.client import FeatureEngineeringClient
from boathouse.tables.table import Lakehouse, read
from boathouse.tables.versions import fingerprint, version_of
from boathouse.training.holdout import HOLDOUT_OPENINGS

MODEL = "spark_catalog.test_ml.reproduced"
RECIPE = Recipe(("pier",), ("gusts",), "late")
TRAINER = """
import numpy as np
from boathouse.models.learners import fit

def gusts(knots):
    return knots * 1.5

def train(recipe, rows, parameters):
    return fit(recipe, rows, parameters)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    "The module in which the features' function and the trainer are."
    folder = tmp_path_factory.mktemp("project")
    package = folder / "sailing"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "code.py").write_text(TRAINER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        module = importlib.import_module("sailing.code")
        cloudpickle.register_pickle_by_value(module)  # Spark's workers have another path
        yield package / "code.py"
        cloudpickle.unregister_pickle_by_value(module)
        forget()


@pytest.fixture
def own_code(written: Path) -> Iterator[Path]:
    "The same for a test that edits it: writing to it is editing the project's code."
    yield written
    written.write_text(TRAINER)
    forget()


def forget() -> None:
    "Let the project's code be imported anew."
    for name in [name for name in sys.modules if name.startswith("sailing")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_reproduce_")
    tables = FeatureEngineeringClient(spark=spark, prefix="test_reproduce_")
    wind = spark.sql(
        "SELECT 'east' AS pier, timestamp_seconds(1370044800 + 3600 * id) AS at, double(id * 7919 % 31) AS knots FROM range(300)"
    )
    trips = spark.sql(
        "SELECT int(id) AS trip, 'east' AS pier, timestamp_seconds(1370044800 + 3600 * id + 1800) AS planned, id * 7919 % 31 + id % 5 > 20 AS late FROM range(250)"
    )
    tables.create_table("features.wind", "pier", wind, timeseries_column="at")
    tables.create_table("gold.trips", "trip", trips)
    yield lake
    for found in MlflowClient().search_registered_models(f"name = '{MODEL}'"):
        MlflowClient().delete_registered_model(found.name)


class Made(NamedTuple):
    "A logged model, what it was made from, and the version that it was registered as."

    uri: str
    manifest: Manifest
    version: int


@pytest.fixture(scope="module")
def made(lake: Lakehouse, written: Path) -> Made:
    "A registered version with its manifest; a row that it learned from was corrected since."
    versions = {name: version_of(lake, name) for name in ("features.wind", "gold.trips")}
    lookups = [
        FeatureLookup("features.wind", "pier", feature_names=["knots"], timestamp_lookup_key="planned"),
        FeatureFunction("sailing.code:gusts", {"knots": "knots"}, "gusts"),
    ]
    labels = Labels("gold.trips", versions["gold.trips"], "trip < 150")
    made = create_training_set(lake, labels, lookups, label="late", versions=versions)
    rows, parameters = collect_training_rows(made.load_df(), RECIPE, ["trip"]), {"n_estimators": 10, "min_child_samples": 5}
    manifest = Manifest(
        as_of="2013-06-10", tables=read_tables(lake, versions), features=replace(made.spec, fingerprint=fingerprint(made.load_df())),
        label={"column": "late", "definition": "d", "maturity": "m"}, split={}, holdout="trip >= 150", recipe=vars(RECIPE), trainer="sailing.code:train",
        order=("trip",), parameters=parameters, search={}, settings=settings_of(lake.spark), code=current_code(["sailing", "boathouse"]), run={}, rows=len(rows),
    )  # fmt: skip
    mlflow.set_experiment("/test_reproduce")
    with mlflow.start_run() as run:
        pipeline = import_function("sailing.code:train")(RECIPE, rows, parameters)
        log_manifest(lake, run.info.run_id, manifest)
        uri = log_pipeline(pipeline, RECIPE, rows, "model")
    version = register(MODEL, uri, run.info.run_id)
    again = lake.spark.sql("SELECT 'east' AS pier, timestamp_seconds(1370044800) AS at, 99D AS knots")
    FeatureEngineeringClient(spark=lake.spark, prefix=lake.prefix).write_table("features.wind", again)
    return Made(uri, manifest, version)


def registered_with(lake: Lakehouse, made: Made, **changed: object) -> int:
    "Another version of the same model, in whose manifest something else is told."
    mlflow.set_experiment("/test_reproduce")
    with mlflow.start_run() as run:
        log_manifest(lake, run.info.run_id, replace(made.manifest, **changed))
    return register(MODEL, made.uri, run.info.run_id)


def edited(own_code: Path, old: str, new: str) -> None:
    "Change the project's code, as by an editor, for whoever imports it next."
    text = own_code.read_text()
    assert old in text
    own_code.write_text(text.replace(old, new))
    forget()


def test_nothing_changed_gives_the_same_predictions_to_the_last_bit_on_rows_learned_and_held_out_whatever_was_corrected_since(
    lake: Lakehouse, made: Made
) -> None:
    heard: list[str] = []
    done = reproduce(lake, MODEL, made.version, say=heard.append)
    assert (done.verdict, done.distance, done.differences) == ("same", 0.0, ())
    assert [(found["rows_of"], found["rows"], found["differ"]) for found in done.sets] == [("training", 150, 0), ("held out", 100, 0)]
    assert all(found["auc_was"] == found["auc_now"] > 0.6 for found in done.sets)
    looks = read(lake, HOLDOUT_OPENINGS).where(f"version = {made.version}").collect()
    assert [(look.model_name, look.why, look.condition, look.opened_at) for look in looks] == [
        (MODEL, "reproduction", "trip >= 150", datetime(2013, 6, 10))
    ]
    assert "rebuilding the training rows" in heard


def test_code_that_changed_without_effect_another_library_and_another_time_zone_are_named_beside_the_same_predictions(
    lake: Lakehouse, made: Made, own_code: Path
) -> None:
    code = made.manifest.code
    version = registered_with(lake, made, code=replace(code, libraries={**code.libraries, "lightgbm": "3.0.0"}))
    edited(own_code, "import numpy as np", "import numpy as np  # arrays")
    before = lake.spark.conf.get("spark.sql.session.timeZone")
    lake.spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        done = reproduce(lake, MODEL, version)
        assert lake.spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
    finally:
        lake.spark.conf.set("spark.sql.session.timeZone", before)
    assert done.verdict == "same"
    module, library, zone = done.differences
    assert (module.kind, module.what) == ("code", "sailing.code")
    assert (library.kind, library.what, library.was, library.now) == ("library", "lightgbm", "3.0.0", code.libraries["lightgbm"])
    assert (zone.kind, zone.what, zone.now) == ("setting", "spark.sql.session.timeZone", "Asia/Tokyo")
    assert str(done).endswith("same; changed: code, library, setting")


def test_a_features_function_that_changed_is_seen_in_the_rows_and_in_the_predictions(lake: Lakehouse, made: Made, own_code: Path) -> None:
    edited(own_code, "knots * 1.5", "(knots * 7) % 3")
    done = reproduce(lake, MODEL, made.version)
    assert done.verdict == "different"
    assert [(d.kind, d.what) for d in done.differences] == [("code", "sailing.code"), ("rows", "training set")]
    assert done.sets[0]["differ"] > 0


def test_a_trainer_that_changed_gives_another_model_and_its_module_is_named(lake: Lakehouse, made: Made, own_code: Path) -> None:
    edited(own_code, "fit(recipe, rows, parameters)", "fit(recipe, rows, {**parameters, 'n_estimators': 3})")
    done = reproduce(lake, MODEL, made.version)
    assert done.verdict == "different"
    assert {d.kind for d in done.differences} == {"code"}
    assert done.distance > 0.01


def test_predictions_within_the_tolerance_are_close_and_beyond_it_different(lake: Lakehouse, made: Made, own_code: Path) -> None:
    edited(
        own_code,
        "    return fit(recipe, rows, parameters)",
        "    made = fit(recipe, rows, parameters)\n    ask = made.predict_proba\n    made.predict_proba = lambda x: ask(x) + 1e-9\n    return made",
    )
    assert reproduce(lake, MODEL, made.version).verdict == "close"
    assert reproduce(lake, MODEL, made.version, tolerance=1e-12).verdict == "different"


def test_a_version_that_cannot_be_read_any_more_ends_it_with_the_reason(lake: Lakehouse, made: Made) -> None:
    (file,) = lake.spark.read.format("delta").option("versionAsOf", 1).table(lake.name("gold.trips")).inputFiles()[:1]
    path = Path(file.removeprefix("file://").removeprefix("file:"))
    shutil.move(path, f"{path}.away")
    try:
        done = reproduce(lake, MODEL, made.version)
    finally:
        shutil.move(f"{path}.away", path)
    assert (done.verdict, done.sets, done.distance) == ("cannot", (), None)
    (gone,) = done.differences
    assert (gone.kind, gone.what) == ("data", "gold.trips")
    assert "files that it needs were deleted" in gone.now


def test_rows_that_were_changed_under_their_version_are_noticed(lake: Lakehouse, made: Made) -> None:
    wind, trips = made.manifest.tables
    version = registered_with(lake, made, tables=(wind, replace(trips, fingerprint="0" * 32)))
    done = reproduce(lake, MODEL, version)
    assert done.verdict == "cannot"
    assert "other rows under this version" in done.differences[0].now


def test_a_table_that_was_dropped_or_made_anew_is_not_the_table(lake: Lakehouse, made: Made) -> None:
    wind, trips = made.manifest.tables
    version = registered_with(lake, made, tables=(replace(wind, name="features.sunk"), replace(trips, id="another")))
    done = reproduce(lake, MODEL, version)
    assert done.verdict == "cannot"
    assert [d.now for d in done.differences] == ["the table was dropped", "another table with this name and another id"]


def test_a_model_whose_files_changed_is_not_compared_with(lake: Lakehouse, made: Made) -> None:
    version = registered_with(lake, made)
    MlflowClient().set_model_version_tag(MODEL, str(version), "boathouse.content", "0" * 64)
    with pytest.raises(UntrustedModel, match="has other files"):
        reproduce(lake, MODEL, version)


def test_a_run_without_a_manifest_cannot_be_made_again(lake: Lakehouse, harbour_model) -> None:
    version = register(MODEL, harbour_model.uri, harbour_model.run_id)
    with pytest.raises(LineageError, match=r"has no manifest.json, so its model cannot be reproduced"):
        reproduce(lake, MODEL, version)


def test_predictions_that_are_missing_on_one_side_are_infinitely_far() -> None:
    assert max_difference(np.array([0.5, np.nan]), np.array([0.5, 0.1])) == float("inf")
    assert max_difference(np.array([]), np.array([])) == 0.0
    with pytest.raises(ValueError, match="must predict the same rows"):
        max_difference(np.array([0.5]), np.array([0.5, 0.1]))


def test_the_learner_that_a_manifest_names_by_the_module_of_before_is_found() -> None:
    assert import_function("boathouse.training:fit") is fit


def test_the_command_says_how_it_is_called_and_which_models_there_are(spark: SparkSession, made: Made) -> None:
    with pytest.raises(LookupError, match="expected a model and a version"):
        reproduce_command(spark, "spark_catalog", ["reproduced"])
    with pytest.raises(LookupError, match="expected one model named sunk"):
        reproduce_command(spark, "spark_catalog", ["sunk", "1"])
    with pytest.raises(LookupError, match="has no version 999"):
        reproduce_command(spark, "spark_catalog", ["reproduced", "999"])
