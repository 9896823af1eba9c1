"""Bad models as files: logged and registered for real, each refused by the gates that are there for it; the good one beside them is accepted."""

from __future__ import annotations

import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from harbour import INPUTS, PARAMETERS, POLICY, but, recipe_of, split
from mlflow.models import Model, infer_signature
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from boathouse.models.integrity import UntrustedModel
from boathouse.models.learners import fit, log_pipeline
from boathouse.models.scoring import load_packed, pack_folder, positive_probability
from boathouse.registry.promotions import register
from boathouse.validation.artifact import CONTENT, content_hash, describe_model, fresh_process, inspect_artifact
from boathouse.validation.gate import Evidence, FreshProcessCheck, RegisteredVersion, run_gates
from boathouse.validation.policy import Policy, gates_of

MODEL = "spark_catalog.test_ml.planted"
NUMBERS = ["wind", "waves"]
Rows = pd.DataFrame
Ask = Callable[[Evidence], set[str]]


@pytest.fixture(scope="module")
def registry(spark: SparkSession) -> Iterator[MlflowClient]:
    client = MlflowClient()
    mlflow.set_experiment("/test_planted")
    client.create_registered_model(MODEL)
    yield client
    client.delete_registered_model(MODEL)


def registered(client: MlflowClient, run: str, uri: str, folder: Path) -> tuple[Path, RegisteredVersion]:
    "A version as the training job leaves it: described, owned, and with the hash of its files."
    version = register(MODEL, uri, run, {"owner": "harbour"})
    client.update_model_version(MODEL, str(version), "Is the ferry late?")
    return inspect_artifact(MODEL, version, folder / f"version{version}")


def with_files(good: Evidence, files: Path, found: RegisteredVersion, rows: Rows | None = None) -> Evidence:
    "The evidence of the files: what runs code is not loaded at all, and has no scores."
    if found.code:
        return but(
            good,
            registered=found,
            fresh=FreshProcessCheck(error="not tried"),
            scores={n: s for n, s in good.scores.items() if n != "candidate"},
        )
    some = (good.rows if rows is None else rows).head(20)
    return but(
        good,
        registered=found,
        fresh=fresh_process(files, some[[*found.signature]], None if rows is not None else good.scores["candidate"][:20]),
    )


@pytest.fixture(scope="module")
def model(registry: MlflowClient, harbour: Rows, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RegisteredVersion]:
    "The good model, logged by the recipe that made its scores."
    train, _ = split(harbour)
    recipe = recipe_of(INPUTS)
    with mlflow.start_run() as run:
        uri = log_pipeline(fit(recipe, train, PARAMETERS), recipe, train, "model")
    return registered(registry, run.info.run_id, uri, tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def sound(good: Evidence, model: tuple[Path, RegisteredVersion]) -> Evidence:
    "The good candidate with its real files."
    return with_files(good, *model)


def copied(
    model: tuple[Path, RegisteredVersion], folder: Path, signature: mlflow.models.ModelSignature | None
) -> tuple[Path, RegisteredVersion]:
    "The good model's files with another signature, as if they had been registered so."
    files = shutil.copytree(model[0], folder / "copy")
    changed = Model.load(files)
    changed.signature = signature
    changed.save(files / "MLmodel")
    return files, describe_model(files, model[1].description, {**model[1].tags, CONTENT: content_hash(files)})


def test_the_good_model_is_accepted_with_its_real_files(sound: Evidence, refused: Ask) -> None:
    assert refused(sound) == set()
    assert sound.fresh.max_abs_diff == 0.0
    assert sound.fresh.signature_columns == INPUTS


def test_a_pickle_is_refused_and_its_code_never_runs(registry: MlflowClient, good: Evidence, tmp_path: Path, refused: Ask) -> None:
    marker = tmp_path / "marker"

    class Trap(LogisticRegression):
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(marker),)

    train, _ = split(good.rows, 5)
    with mlflow.start_run() as run:
        trap = Trap().fit(train[NUMBERS], train.late)
        logged = mlflow.sklearn.log_model(
            trap,
            name="trap",
            signature=infer_signature(train[NUMBERS], trap.predict_proba(train[NUMBERS])),
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )
    shutil.rmtree(marker, ignore_errors=True)  # logging may have looked at it; judging must not
    with pytest.raises(UntrustedModel, match=r"contains model.pkl, which runs code"):
        register(MODEL, logged.model_uri, run.info.run_id)
    version = registry.create_model_version(MODEL, logged.model_uri, run.info.run_id, {"owner": "harbour"}, description="By hand").version
    files, found = inspect_artifact(MODEL, int(version), tmp_path / "trap")
    refusals = refused(with_files(good, files, found))
    assert not marker.exists()
    assert {"loads_no_code", "loads_in_clean_process"} <= refusals
    assert found.code == ("contains model.pkl, which runs code when it is loaded",)
    fresh_process(files, train[NUMBERS])
    assert marker.exists()  # the trap is a real one


def test_files_that_changed_after_registration(
    sound: Evidence, model: tuple[Path, RegisteredVersion], tmp_path: Path, refused: Ask
) -> None:
    files = shutil.copytree(model[0], tmp_path / "changed")
    with (files / "input_example.json").open("a") as opened:
        opened.write(" ")
    changed = describe_model(files, model[1].description, dict(model[1].tags))
    assert refused(but(sound, registered=changed)) == {"files_as_registered"}


def test_files_that_were_not_hashed_at_registration(sound: Evidence, refused: Ask) -> None:
    assert refused(but(sound, registered=replace(sound.registered, promised_content=""))) == {"files_as_registered"}


def test_a_missing_signature(good: Evidence, model: tuple[Path, RegisteredVersion], tmp_path: Path, refused: Ask) -> None:
    _, found = copied(model, tmp_path, None)
    assert found.signature is None
    assert refused(but(good, registered=found)) == {"signature_matches"}


def test_a_signature_that_leaves_out_an_input_and_names_one_that_is_none(
    good: Evidence, model: tuple[Path, RegisteredVersion], tmp_path: Path, refused: Ask
) -> None:
    declared = good.rows[[c for c in INPUTS if c != "waves"]].assign(ferry=good.rows.ferry)
    files, found = copied(model, tmp_path, infer_signature(declared, np.zeros((3, 2))))
    assert refused(with_files(good, files, found)) == {"signature_matches", "loads_in_clean_process"}
    assert refused(but(good, registered=found)) == {"signature_matches"}


def test_a_signature_of_the_wrong_type(good: Evidence, model: tuple[Path, RegisteredVersion], tmp_path: Path, refused: Ask) -> None:
    _, found = copied(model, tmp_path, infer_signature(good.rows[[*INPUTS]].astype({"wind": str}), np.zeros((3, 2))))
    assert refused(but(good, registered=found)) == {"signature_matches"}


def test_a_signature_that_promises_another_shape(
    sound: Evidence, model: tuple[Path, RegisteredVersion], tmp_path: Path, refused: Ask
) -> None:
    _, found = copied(model, tmp_path, infer_signature(sound.rows[[*INPUTS]], np.zeros((3, 4))))
    assert refused(but(sound, registered=found)) == {"signature_matches"}


def test_a_model_that_needs_a_column_which_the_rows_lack(sound: Evidence, refused: Ask) -> None:
    lacking = but(sound, rows=sound.rows.drop(columns="waves"), inputs=tuple(c for c in INPUTS if c != "waves"))
    assert refused(lacking) == {"signature_matches"}


@pytest.mark.parametrize(("description", "owner"), [("", "harbour"), ("Is the ferry late?", ""), ("  ", "harbour")])
def test_no_description_or_no_owner(sound: Evidence, refused: Ask, description: str, owner: str) -> None:
    found = replace(sound.registered, description=description, tags={**sound.registered.tags, "owner": owner})
    assert refused(but(sound, registered=found)) == {"description_and_owner"}


def test_a_model_that_needs_a_function_of_the_notebook(good: Evidence, tmp_path: Path, refused: Ask) -> None:
    notebook = types.ModuleType("ferry_notebook")
    exec("def doubled(rows):\n    return rows * 2\n", notebook.__dict__)
    sys.modules["ferry_notebook"] = notebook
    train, _ = split(good.rows, 5)
    doubling = make_pipeline(FunctionTransformer(notebook.doubled), LogisticRegression()).fit(train[NUMBERS], train.late)
    signature = infer_signature(train[NUMBERS], doubling.predict_proba(train[NUMBERS]))
    trusted = ["ferry_notebook.doubled"]
    common = {"signature": signature, "pip_requirements": ["scikit-learn"], "pyfunc_predict_fn": "predict_proba"}
    mlflow.sklearn.save_model(doubling, tmp_path / "m", serialization_format="skops", skops_trusted_types=trusted, **common)
    here = positive_probability(load_packed(pack_folder(tmp_path / "m", "doubling", 1)).predict(train[NUMBERS]))
    assert here.min() < here.max()  # it works here
    fresh = fresh_process(tmp_path / "m", train[NUMBERS].head(20), here[:20])
    assert "ferry_notebook" in fresh.error
    assert refused(but(good, fresh=fresh)) == {"loads_in_clean_process"}
    del sys.modules["ferry_notebook"]


def test_a_huge_and_slow_model(good: Evidence, sound: Evidence, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    remembered = pd.DataFrame(rng.normal(size=(70_000, 2)), columns=NUMBERS)
    neighbours = KNeighborsClassifier(2_000, algorithm="brute", metric="manhattan").fit(remembered, rng.random(70_000) < 0.3)
    signature = infer_signature(remembered.head(), np.zeros((5, 2)))
    mlflow.sklearn.save_model(
        neighbours,
        tmp_path / "m",
        serialization_format="skops",
        signature=signature,
        pip_requirements=["scikit-learn"],
        pyfunc_predict_fn="predict_proba",
    )
    fresh = fresh_process(tmp_path / "m", good.rows[NUMBERS].head(20))
    found = describe_model(tmp_path / "m")
    bad = but(
        sound,
        fresh=replace(sound.fresh, seconds_1000_rows=fresh.seconds_1000_rows, seconds_1_row=fresh.seconds_1_row),
        registered=replace(sound.registered, size=found.size),
    )
    seconds = {"seconds_1000_rows": 30 * sound.fresh.seconds_1000_rows, "seconds_1_row": 1e9}
    limits = Policy({**POLICY.settings, "model_size": {"megabytes": 1}, "latency": seconds})
    assert set(run_gates(gates_of(limits), bad).refusals) == {"latency", "model_size"}
    assert run_gates(gates_of(limits), sound).accepted


@pytest.mark.parametrize("wrong", [np.nan, 1.5])
def test_what_a_fresh_process_predicts_must_be_probabilities(sound: Evidence, refused: Ask, wrong: float) -> None:
    fresh = replace(sound.fresh, predicted=(wrong, *sound.fresh.predicted[1:]))
    assert refused(but(sound, fresh=fresh)) == {"loads_in_clean_process"}


def test_other_predictions_in_a_fresh_process_than_here(sound: Evidence, model: tuple[Path, RegisteredVersion], refused: Ask) -> None:
    rows = sound.rows[[*INPUTS]].head(20)
    fresh = fresh_process(model[0], rows, sound.scores["candidate"][:20] + 1e-6)
    assert refused(but(sound, fresh=fresh)) == {"loads_in_clean_process"}
