"""What is written down about a model is true, complete, and of one form."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import jsonschema
import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession

from boathouse.features.lookups import FeatureLookup
from boathouse.features.training_sets import FeatureSpec, Labels
from boathouse.models.learners import Recipe
from boathouse.registry.manifest import (
    Code,
    LineageError,
    Manifest,
    collect_training_rows,
    current_code,
    dataset_inputs,
    git_state,
    hash_modules,
    log_manifest,
    manifest_from_json,
    manifest_schema,
    manifest_to_json,
    pin_versions,
    read_manifest,
    read_tables,
    require_commit,
    settings_of,
    unpin_versions,
)
from boathouse.tables.maintenance import vacuum
from boathouse.tables.pins import PINS, PinError, delta_properties, list_pins
from boathouse.tables.table import Column, Lakehouse, Table, VersionGone, exists, read
from boathouse.tables.versions import fingerprint, version_of
from boathouse.tables.writes import append

JUNE = datetime(2013, 6, 1)
BOATS = Table("harbour.boats", "One row per boat.", (Column("boat", "int", "number", False), Column("berth", "string", "where")), ("boat",))
PIERS = Table("harbour.piers", "One row per pier.", (Column("pier", "string", "name", False),), ("pier",))
CODE = Code("1f3c9ab", False, {"harbour": "0" * 16}, {"pyspark": "4.2.0"}, "3.11.7")


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    "Three boats in versions 1 (two of them) and 2, and a pier in version 1."
    lake = Lakehouse(spark, prefix="test_lineage_")
    append(lake, BOATS, spark.createDataFrame([(1, "a"), (2, "b")], BOATS.schema), unique=True)
    append(lake, BOATS, spark.createDataFrame([(3, None)], BOATS.schema), unique=True)
    append(lake, PIERS, spark.createDataFrame([("west",)], PIERS.schema), unique=True)
    return lake


@pytest.fixture(scope="module")
def made(lake: Lakehouse) -> Manifest:
    lookup = FeatureLookup("harbour.piers", "pier", feature_names=["pier"])
    spec = FeatureSpec((lookup,), {"harbour.piers": 1}, "late", (), Labels("harbour.boats", 1, "boat < 2"), "0" * 32)
    return Manifest(
        as_of="2013-06-01", tables=read_tables(lake, {"harbour.boats": 1}), features=spec, label={"column": "late", "definition": "d", "maturity": "m"},
        split={"kind": "time"}, holdout="boat >= 2", recipe={"numeric": ["knots"]}, trainer="boathouse.models.learners:fit", order=("boat",), parameters={"n": 1.5},
        search={}, settings=settings_of(lake.spark), code=CODE, run={"target": "local"}, rows=1,
    )  # fmt: skip


def test_parameters_come_back_from_a_manifest_as_the_trainer_got_them(made: Manifest) -> None:
    given = {
        "class_weight": {0: 1, 1: 5},
        "max_depth": None,
        "warm_start": True,
        "hidden": (8, 4),
        "columns": ["knots"],
        "trees": 20,
        "rate": 1.0,
    }
    found = manifest_from_json(json.loads(json.dumps(manifest_to_json(replace(made, parameters=given))))).parameters
    assert repr(sorted(found.items())) == repr(sorted(given.items()))


def test_what_was_read_is_told_by_version_id_rows_and_fingerprint_and_later_rows_do_not_count(lake: Lakehouse) -> None:
    (boats,) = read_tables(lake, {"harbour.boats": 1})
    assert (boats.name, boats.version, boats.rows) == ("harbour.boats", 1, 2)
    assert boats.fingerprint == fingerprint(read(lake, BOATS, 1)) != fingerprint(read(lake, BOATS, 2))
    anew = replace(BOATS, name="harbour.anew")
    ids = []
    for _ in range(2):
        append(lake, anew, lake.spark.createDataFrame([(1, "a"), (2, "b")], BOATS.schema), unique=True)
        (table,) = read_tables(lake, {"harbour.anew": 1})
        assert (table.fingerprint, table.rows, table.version) == (boats.fingerprint, boats.rows, boats.version)
        ids.append(table.id)
        lake.spark.sql(f"DROP TABLE {lake.name(anew)}")
    assert len({boats.id, *ids}) == 3  # the same rows under the same number, in another table


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    return subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    "A repository with the package `moored` in one commit, and the package `drifting` that Git does not know, as in a `.venv`."
    for package in ("moored", "drifting"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "knots.py").write_text("KNOTS = 1\n")
    (tmp_path / ".gitignore").write_text("drifting\n__pycache__\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "moored")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("moored", "drifting")]:
        del sys.modules[name]


def test_the_commit_is_that_of_the_tracked_package_and_any_difference_makes_it_dirty(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert git_state("moored") == (head, False)
    (repository / "new.txt").write_text("not committed")
    assert git_state("moored") == (head, True)
    (repository / "new.txt").unlink()
    (repository / "moored" / "knots.py").write_text("KNOTS = 2\n")
    assert git_state("moored") == (head, True)


def test_a_package_that_git_does_not_know_has_no_commit_though_it_lies_in_a_repository(repository: Path) -> None:
    assert git_state("drifting") == ("", None)
    assert current_code(["drifting"]).commit == ""
    assert current_code(["drifting"], commit="1f3c9ab").commit == "1f3c9ab"
    assert current_code(["moored"], commit="1f3c9ab").commit == git(repository, "rev-parse", "HEAD")


def test_each_module_has_a_hash_and_a_changed_one_has_another(repository: Path) -> None:
    before, whole = hash_modules("moored"), current_code(["moored", "drifting"])
    assert set(before) == {"moored", "moored.knots"}
    assert set(whole.modules) == {"moored", "moored.knots", "drifting", "drifting.knots"}
    (repository / "moored" / "knots.py").write_text("KNOTS = 2\n")
    after = hash_modules("moored")
    assert before["moored"] == after["moored"]
    assert before["moored.knots"] != after["moored.knots"]
    assert current_code(["moored", "drifting"]).digest != whole.digest
    with pytest.raises(ModuleNotFoundError, match="can be imported, got 'sunk'"):
        hash_modules("sunk")


def test_a_guarded_target_takes_models_of_committed_code_alone() -> None:
    require_commit(CODE, "prod")
    with pytest.raises(LineageError, match=r"target 'prod' .* files that differ from commit 1f3c9ab"):
        require_commit(replace(CODE, dirty=True), "prod")
    with pytest.raises(LineageError, match=r"found no commit"):
        require_commit(replace(CODE, commit="", dirty=None), "prod")


def test_a_manifest_comes_back_as_it_was_and_satisfies_its_own_schema(made: Manifest) -> None:
    values = json.loads(json.dumps(manifest_to_json(made)))
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    jsonschema.validate(values, manifest_schema())
    assert manifest_from_json(values) == made


@pytest.mark.parametrize(
    ("mistake", "where"),
    [
        ({"rows": -1}, r"\$\.rows"),
        ({"tables": []}, r"\$\.tables"),
        ({"code": {}}, r"\$\.code"),
        ({"trainer": "fit"}, r"\$\.trainer"),
        ({"format": 2}, r"\$\.format"),
        ({"secret": 1}, r"'secret' was unexpected"),
    ],
)
def test_what_is_not_of_the_form_is_refused_with_the_place(made: Manifest, mistake: dict, where: str) -> None:
    with pytest.raises(LineageError, match=where):
        manifest_from_json(manifest_to_json(made) | mistake)


def test_each_field_of_a_manifest_is_required(made: Manifest) -> None:
    values = manifest_to_json(made)
    for name in values:
        with pytest.raises(LineageError, match=f"'{name}' is a required property"):
            manifest_from_json({k: v for k, v in values.items() if k != name})


def test_the_run_shows_the_tables_as_datasets_and_gives_the_manifest_back(lake: Lakehouse, made: Manifest) -> None:
    mlflow.set_experiment("/test_lineage")
    with mlflow.start_run() as run:
        log_manifest(lake, run.info.run_id, made)
    with mlflow.start_run() as bare:
        pass
    assert read_manifest(run.info.run_id) == made
    found = MlflowClient().get_run(run.info.run_id)
    (data,) = [entry.dataset for entry in found.inputs.dataset_inputs]
    assert (data.name, data.digest, json.loads(data.profile)) == (lake.name(BOATS), made.tables[0].fingerprint, {"num_rows": 2})
    assert json.loads(data.source)["delta_table_version"] == 1
    assert (found.data.tags["code.commit"], found.data.tags["code.dirty"], found.data.tags["run.target"]) == ("1f3c9ab", "false", "local")
    with pytest.raises(LineageError, match=r"has no manifest.json"):
        read_manifest(bare.info.run_id)
    assert len(dataset_inputs(lake, made.tables)) == 1


def test_rows_are_learned_in_one_order_however_spark_keeps_them(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [(n % 3, n, "w" if n % 2 else None, n % 2 == 0) for n in range(20)], "day int, boat int, pier string, late boolean"
    )
    recipe = Recipe(("pier",), ("boat",), "late")
    frame = collect_training_rows(rows, recipe, ["day", "boat"])
    assert frame.columns.tolist() == ["day", "pier", "late", "boat"]
    assert frame.boat.dtype == float
    pd.testing.assert_frame_equal(frame, collect_training_rows(rows.repartition(7).orderBy("pier"), recipe, ["day", "boat"]))
    with pytest.raises(ValueError, match="at most 5 rows"):
        collect_training_rows(rows, recipe, ["day", "boat"], at_most=5)


def test_what_a_living_version_was_made_from_is_kept_from_vacuum_and_goes_with_it(lake: Lakehouse) -> None:
    read_ = read_tables(lake, {"harbour.boats": 1, "harbour.piers": 1})
    pin_versions(lake, "spark_catalog.ml.late", 1, read_, JUNE)
    assert pin_versions(lake, "spark_catalog.ml.late", 1, read_, JUNE) == pin_versions(lake, "spark_catalog.ml.late", 1, read_, JUNE)
    assert read(lake, PINS).where("name LIKE 'spark_catalog_ml_late_v1%'").count() == 2
    pin_versions(lake, "spark_catalog.ml.late", 11, read_[:1], JUNE)  # another version, whose number begins with the same digit
    with pytest.raises(PinError, match=r"is pinned by spark_catalog_ml_late_v11_harbour_boats .* spark_catalog_ml_late_v1_harbour_boats"):
        vacuum(lake, BOATS, JUNE)
    assert unpin_versions(lake, "spark_catalog.ml.late", 1, JUNE, "retired") == ["harbour.boats", "harbour.piers"]
    assert [found.name for found in list_pins(lake).values() if found.action == "pinned"] == ["spark_catalog_ml_late_v11_harbour_boats"]


def test_of_several_pins_all_are_made_or_none(lake: Lakehouse) -> None:
    read_ = read_tables(lake, {"harbour.boats": 1, "harbour.piers": 1})
    lost = replace(read_[1], version=9)
    before = delta_properties(lake, BOATS)
    with pytest.raises(VersionGone):
        pin_versions(lake, "late", 1, [read_[0], lost], JUNE)
    assert delta_properties(lake, BOATS) == before  # the table whose version is there is as it was, too
    assert not exists(lake, PINS) or read(lake, PINS).where("name LIKE 'late_v1%'").count() == 0
    assert version_of(lake, BOATS) >= 2
