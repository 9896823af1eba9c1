"""Types of one's own are declared once, at registration, and every later load follows the declaration, and nothing beyond it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest
import skops.io
from mlflow.tracking import MlflowClient
from pyspark.sql import DataFrame, SparkSession
from sklearn.ensemble import HistGradientBoostingClassifier

from boathouse.features.training_sets import create_training_set
from boathouse.models.integrity import DEFAULT_ALLOWED, AllowedTypes, UntrustedModel, fetch_files
from boathouse.models.scoring import pack_model
from boathouse.registry.promotions import approve_version, challenge, champion_as_of, promote, register
from boathouse.serving.deployment import check_reference_rows, check_reference_rows_as_served, log_reference_rows
from boathouse.serving.feature_models import log_model, score_batch
from boathouse.tables.table import Lakehouse
from boathouse.validation.artifact import inspect_artifact

MODEL, JUNE = "spark_catalog.test_ml.own_types", dt.datetime(2013, 6, 1)
DECLARED = "boathouse.declared"


class Own(NamedTuple):
    "A lake, rows to score, a logged model of a learner that is on no list, its types, and its version 1."

    lake: Lakehouse
    rows: DataFrame
    uri: str
    run: str
    types: frozenset[str]

    def register(self, allowed: AllowedTypes, name: str = MODEL, tags: dict[str, str] | None = None) -> int:
        return register(name, self.uri, self.run, tags, allowed)


@pytest.fixture(scope="module")
def own(spark: SparkSession) -> Iterator[Own]:
    lake = Lakehouse(spark, prefix="test_own_types_")
    rows = spark.range(100).selectExpr("id", "double(id % 13) AS knots", "id % 13 > 6 AS late")
    made = create_training_set(lake, rows, [], "late", exclude_columns=["id"])
    frame = made.load_df().toPandas()
    trees = HistGradientBoostingClassifier(max_iter=3).fit(frame[["knots"]], frame["late"])
    types = skops.io.get_untrusted_types(data=skops.io.dumps(trees))
    mlflow.set_experiment("/test_own_types")
    with mlflow.start_run() as run:
        logged = log_model(
            trees, "own", flavor=mlflow.sklearn, training_set=made, serialization_format="skops", skops_trusted_types=types,
            pyfunc_predict_fn="predict_proba", pip_requirements=["scikit-learn"],
        )  # fmt: skip
    some = frame[["knots"]].head(20)
    log_reference_rows(logged.model_id, some, trees.predict_proba(some)[:, 1])
    made_of = Own(lake, rows.drop("late"), logged.model_uri, run.info.run_id, frozenset(types))
    assert made_of.register(AllowedTypes(types=DEFAULT_ALLOWED.types | made_of.types)) == 1
    yield made_of
    MlflowClient().delete_registered_model(MODEL)


LOADS: dict[str, Callable[[Own, Path], Any]] = {
    "fetch_files": lambda own, folder: fetch_files(MODEL, 1, folder).is_dir(),
    "pack_model": lambda own, folder: pack_model(MODEL, 1).inputs == ("knots",),
    "the smoke test in a new process": lambda own, folder: check_reference_rows(MODEL, 1).passed,
    "the reference rows as served": lambda own, folder: check_reference_rows_as_served(MODEL, 1).passed,
    "challenge": lambda own, folder: challenge(own.lake, MODEL, 1, JUNE, "accepted", "job") is not None,
    "approve": lambda own, folder: approve_version(own.lake, MODEL, 1, "Omar", "fine", JUNE),
    "the gate on files": lambda own, folder: inspect_artifact(MODEL, 1, folder)[1].code == (),
    "promote": lambda own, folder: promote(own.lake, MODEL, 1, JUNE, "first") and champion_as_of(own.lake, MODEL, JUNE) == 1,
    "score_batch": lambda own, folder: score_batch(own.lake, f"models:/{MODEL}/1", own.rows).where("prediction BETWEEN 0 AND 1").count() == 100,
}  # fmt: skip


def test_every_load_follows_what_was_declared_at_registration(own: Own, tmp_path: Path) -> None:
    assert {name for name, load in LOADS.items() if not load(own, tmp_path)} == set()


def test_types_that_nobody_declared_are_refused_and_the_message_is_the_declaration_to_type(own: Own) -> None:
    with pytest.raises(UntrustedModel, match="contains types that are not allowed: sklearn") as refused:
        own.register(DEFAULT_ALLOWED, "spark_catalog.test_ml.undeclared")
    with pytest.raises(UntrustedModel) as some:
        own.register(AllowedTypes(types=DEFAULT_ALLOWED.types | {"harbour.Boat"}), "spark_catalog.test_ml.undeclared")
    assert not MlflowClient().search_registered_models("name = 'spark_catalog.test_ml.undeclared'")
    for caught in (refused, some):  # also if others were declared
        advice = str(caught.value).partition("register it once with allowed=")[2]
        assert eval(advice) == AllowedTypes(types=DEFAULT_ALLOWED.types | own.types)
    with pytest.raises(ValueError, match=r"types must be a set of names, got the text 'sklearn.x'"):
        AllowedTypes(types="sklearn.x")  # type: ignore[arg-type]


def test_a_declaration_that_was_edited_copied_or_removed_does_not_count(own: Own, harbour_model) -> None:
    client, allowed = MlflowClient(), AllowedTypes(types=DEFAULT_ALLOWED.types | own.types)
    version = own.register(allowed)
    written = client.get_model_version(MODEL, str(version)).tags[DECLARED]
    for text in (written.replace(min(own.types), "posix.system"), "{}", "[1]", "all", written.replace('"hash": "', '"hash": "0')):
        client.set_model_version_tag(MODEL, str(version), DECLARED, text)
        with pytest.raises(UntrustedModel, match=rf"version {version} has a tag {DECLARED} that was not written for its files"):
            pack_model(MODEL, version)
    client.delete_model_version_tag(MODEL, str(version), DECLARED)
    with pytest.raises(UntrustedModel, match="contains types that are not allowed"):
        pack_model(MODEL, version)
    other = register(MODEL, harbour_model.uri, harbour_model.run_id, {DECLARED: written})  # register takes no declaration from its caller
    assert DECLARED not in client.get_model_version(MODEL, str(other)).tags
    client.set_model_version_tag(MODEL, str(other), DECLARED, written)
    with pytest.raises(UntrustedModel, match="was not written for its files"):
        pack_model(MODEL, other)


def test_a_process_that_trusts_no_declaration_says_so(own: Own) -> None:
    with pytest.raises(UntrustedModel, match="contains types that are not allowed"):
        pack_model(MODEL, 1, DEFAULT_ALLOWED)


def test_a_model_that_log_model_registers_can_declare_its_types(own: Own) -> None:
    made = create_training_set(own.lake, own.lake.spark.sql("SELECT 1D AS knots, true AS late UNION SELECT 2D, false"), [], "late")
    frame = made.load_df().toPandas()
    trees = HistGradientBoostingClassifier(max_iter=1).fit(frame[["knots"]], frame["late"])
    with mlflow.start_run():
        log_model(
            trees, "m", flavor=mlflow.sklearn, training_set=made, registered_model_name=MODEL, serialization_format="skops",
            allowed=AllowedTypes(types=DEFAULT_ALLOWED.types | own.types), skops_trusted_types=sorted(own.types), pip_requirements=["scikit-learn"],
        )  # fmt: skip
    latest = max(int(found.version) for found in MlflowClient().search_model_versions(f"name = '{MODEL}'"))
    assert pack_model(MODEL, latest).inputs == ("knots",)
