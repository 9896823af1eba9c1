"""What must not be loaded is not, and nothing of it runs while that is found out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import sklearn.pipeline
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from sklearn.base import BaseEstimator

from boathouse.models.integrity import CONTENT, REGISTERED, AllowedTypes, UntrustedModel, content_hash, refuse_code
from boathouse.models.scoring import pack_model
from boathouse.registry.promotions import register

MODEL = "spark_catalog.test_ml.trusted"
names = st.text("abc/", min_size=1, max_size=5).map(lambda name: name.strip("/").replace("//", "/")).filter(bool)


class Bomb:
    "Leaves a file behind where it is unpickled."

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(self.marker),)


class Foreign(BaseEstimator):
    "An estimator of nobody's list."

    def fit(self, x: object, y: object = None) -> Foreign:
        return self

    def predict(self, x: pd.DataFrame) -> list[int]:
        return [0] * len(x)


@pytest.fixture
def files(harbour_model, tmp_path: Path) -> Path:
    "A copy of a good model's files."
    return Path(mlflow.artifacts.download_artifacts(harbour_model.uri, dst_path=str(tmp_path / "model")))


@pytest.fixture
def registered(harbour_model) -> Iterator[int]:
    "A registered version."
    yield register(MODEL, harbour_model.uri, harbour_model.run_id)
    MlflowClient().delete_registered_model(MODEL)


@given(
    files=st.dictionaries(names, st.binary(max_size=4), min_size=1, max_size=4),
    other=st.dictionaries(names, st.binary(max_size=4), min_size=1, max_size=4),
)
def test_two_folders_have_one_hash_if_and_only_if_they_have_the_same_files(files: dict, other: dict, tmp_path_factory) -> None:
    def laid(content: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
        folder, kept = tmp_path_factory.mktemp("files"), {}
        for name, data in content.items():
            path = folder / name
            if any(name.startswith(f"{k}/") or k.startswith(f"{name}/") for k in kept):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            kept[name] = data
        return kept, content_hash(folder)

    (one, first), (two, second) = laid(files), laid(other)
    assert (one == two) == (first == second)
    assert laid(files)[1] == first


def test_a_good_pipeline_may_be_loaded(files: Path) -> None:
    refuse_code(files, "the model")


def test_a_pickle_is_refused_and_what_is_in_it_is_not_run(files: Path, tmp_path: Path) -> None:
    import cloudpickle

    marker = tmp_path / "it ran"
    (files / "model.pkl").write_bytes(cloudpickle.dumps(Bomb(str(marker))))
    with pytest.raises(UntrustedModel, match=r"contains model.pkl, which runs code when it is loaded"):
        refuse_code(files, "the model")
    assert not marker.exists()
    cloudpickle.loads((files / "model.pkl").read_bytes())  # it would have
    assert marker.exists()


def test_a_model_logged_as_a_pickle_cannot_be_registered(harbour_model) -> None:
    mlflow.set_experiment("/test_trust")
    with mlflow.start_run() as run:
        pipeline = sklearn.pipeline.make_pipeline(Foreign())
        logged = mlflow.sklearn.log_model(pipeline, name="pickled", serialization_format="cloudpickle", pip_requirements=["scikit-learn"])
    with pytest.raises(UntrustedModel, match="which runs code when it is loaded"):
        register("spark_catalog.test_ml.pickled", logged.model_uri, run.info.run_id)
    assert not MlflowClient().search_registered_models("name = 'spark_catalog.test_ml.pickled'")


def test_a_type_that_is_on_no_list_is_refused_whatever_the_model_says_of_itself(harbour_model) -> None:
    kind = f"{Foreign.__module__}.Foreign"
    mlflow.set_experiment("/test_trust")
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            Foreign(), name="foreign", serialization_format="skops", skops_trusted_types=[kind], pip_requirements=["scikit-learn"]
        )
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    with pytest.raises(UntrustedModel, match=f"types that are not allowed: {kind}"):
        refuse_code(folder, "the model")
    refuse_code(folder, "the model", AllowedTypes(types=frozenset({kind})))


def test_a_model_with_a_loader_or_a_folder_of_its_own_code_is_refused(files: Path) -> None:
    told = files / "MLmodel"
    good = told.read_text()
    told.write_text(good.replace("loader_module: mlflow.sklearn", "loader_module: mine.loader"))
    with pytest.raises(UntrustedModel, match=r"needs the loader mine.loader"):
        refuse_code(files, "the model")
    told.write_text(good.replace("loader_module: mlflow.sklearn", "loader_module: mlflow.sklearn\n    code: code"))
    with pytest.raises(UntrustedModel, match="adds a folder of code"):
        refuse_code(files, "the model")


def test_a_registered_version_is_loaded_and_one_whose_files_changed_is_not(registered: int, harbour_model) -> None:
    assert pack_model(MODEL, registered).inputs == ("pier", "knots")
    where = Path(mlflow.get_logged_model(harbour_model.uri.removeprefix("models:/")).artifact_location.removeprefix("file://"))
    original = (where / "requirements.txt").read_bytes()
    (where / "requirements.txt").write_bytes(original + b"\nsomething-else")
    try:
        with pytest.raises(UntrustedModel, match="has other files than when it was registered"):
            pack_model(MODEL, registered)
    finally:
        (where / "requirements.txt").write_bytes(original)
    assert pack_model(MODEL, registered).inputs == ("pier", "knots")


def test_a_version_that_somebody_registered_elsewhere_is_not_loaded(harbour_model) -> None:
    client, name = MlflowClient(), "spark_catalog.test_ml.elsewhere"
    client.create_registered_model(name)
    try:
        version = client.create_model_version(name, source=harbour_model.uri, run_id=harbour_model.run_id)
        with pytest.raises(UntrustedModel, match=r"was not registered by boathouse.registry"):
            pack_model(name, int(version.version))
    finally:
        client.delete_registered_model(name)


def test_a_version_that_carries_the_seal_of_another_is_not_loaded(registered: int, harbour_model, tmp_path: Path) -> None:
    client, name = MlflowClient(), "spark_catalog.test_ml.borrowed"
    tags = client.get_model_version(MODEL, str(registered)).tags
    copy = Path(mlflow.artifacts.download_artifacts(harbour_model.uri, dst_path=str(tmp_path)))
    (copy / "more.txt").write_text("more")
    client.create_registered_model(name)
    try:
        version = client.create_model_version(name, source=str(copy), tags={key: tags[key] for key in (CONTENT, REGISTERED)})
        with pytest.raises(UntrustedModel, match="has other files"):
            pack_model(name, int(version.version))
    finally:
        client.delete_registered_model(name)
        shutil.rmtree(copy)
