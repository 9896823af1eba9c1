"""What becomes of a gate's answer: policies, exceptions, what was not asked, and what is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession

from boathouse.tables.table import Lakehouse, drop_all, read
from boathouse.validation.gate import GATES, Answer, Asked, Evidence, Gate, answer, judge, record, surely, table_of

ROWS = pd.DataFrame({"late": [True, False], "at": pd.to_datetime(["2013-06-01", "2013-06-02"]), "day": [1, 2]})
EVIDENCE = Evidence("m", 1, ROWS, {"candidate": np.array([0.7, 0.3])}, "late", "at", "day")


def gate(name: str, within: bool | None, action: str = "blocks", unsure: str = "refuse") -> Gate:
    return Gate(name, action, lambda e: answer(within, 1.0, 2.0, "so it is"), unsure)


@pytest.mark.parametrize(
    ("within", "unsure", "accepted"), [(True, "refuse", True), (False, "pass", False), (None, "pass", True), (None, "refuse", False)]
)
def test_only_cannot_tell_is_settled_by_the_policy(within: bool | None, unsure: str, accepted: bool) -> None:
    verdict = judge([gate("a", within, unsure=unsure)], EVIDENCE)
    assert verdict.accepted is accepted
    assert ("cannot tell" in verdict.answers[0].reason) is (within is None)


def test_a_gate_that_raises_refuses_and_says_what_it_raised() -> None:
    verdict = judge([gate("fine", True), Gate("broken", "blocks", lambda e: answer(True, 1 / 0, 0, "never"), "pass")], EVIDENCE)
    assert verdict.refusals == ("broken",)
    assert "ZeroDivisionError" in verdict.answers[1].reason


def test_what_is_no_answer_refuses_even_if_it_is_true() -> None:
    assert judge([Gate("yes", "blocks", lambda e: True)], EVIDENCE).refusals == ("yes",)


def test_nothing_passes_on_a_value_that_is_not_a_number() -> None:
    assert judge([Gate("a", "blocks", lambda e: answer(True, float("nan"), 0.5, "AUC"))], EVIDENCE).refusals == ("a",)
    with pytest.raises(ValueError, match="no answer of a gate"):
        Answer("passed", 1, 0, "a verdict that is none")


def test_a_gate_that_warns_refuses_nothing_and_one_that_was_not_asked_has_not_passed() -> None:
    gates = [gate("a", True), gate("b", False, action="warns"), gate("c", True)]
    assert judge(gates, EVIDENCE).accepted
    assert judge(gates, EVIDENCE).warnings == ("b",)
    assert judge(gates, EVIDENCE, asking=["a", "b"]).refusals == ("c",)


def test_no_gate_and_gates_that_only_warn_accept_nobody() -> None:
    assert not judge([], EVIDENCE).accepted
    assert not judge([gate("a", True, action="warns")], EVIDENCE).accepted


def test_gates_of_one_name_and_names_of_no_gate_are_errors() -> None:
    with pytest.raises(ValueError, match="see a"):
        judge([gate("a", True), gate("a", False)], EVIDENCE)
    with pytest.raises(ValueError, match="see b"):
        judge([gate("a", True)], EVIDENCE, asking=["b"])
    for words in ({"action": "block"}, {"unsure": "maybe"}):
        with pytest.raises(ValueError, match="gate 'a'"):
            gate("a", True, **words)


@pytest.mark.parametrize(
    ("low", "high", "within"),
    [
        (0.7, 0.8, True),
        (0.6, 0.7, True),
        (0.5, 0.7, None),
        (0.4, 0.5, False),
        (0.7, 1.2, None),
        (1.1, 1.2, False),
        (np.nan, 1, None),
        (np.nan, 0.4, None),
    ],
)
def test_an_interval_is_inside_its_limits_outside_of_them_or_on_one(low: float, high: float, within: bool | None) -> None:
    assert surely(low, high, 0.6, 1.0) is within


def test_evidence_holds_one_score_per_row_and_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="'candidate': 1"):
        Evidence("m", 1, ROWS, {"candidate": np.array([0.7])}, "late", "at", "day")
    with pytest.raises(ValueError, match="have no ferry"):
        Evidence("m", 1, ROWS, {}, "late", "at", "day", key=("ferry",))
    with pytest.raises(ValueError, match="training of m version 1 were not measured"):
        EVIDENCE.known("training")


def test_what_one_gate_works_out_the_next_finds() -> None:
    asked: list[int] = []
    evidence = Evidence("m", 1, ROWS, {}, "late", "at", "day")
    for _ in range(2):
        assert evidence.once("sorted", lambda: asked.append(1) or 5) == 5
    assert asked == [1]


@pytest.fixture
def judged(spark: SparkSession) -> Iterator[tuple[Lakehouse, str, str]]:
    client, name, lake = MlflowClient(), "spark_catalog.test_ml.judged", Lakehouse(spark, prefix="test_validation_")
    mlflow.set_experiment("/test_validation")
    with mlflow.start_run() as run:
        pass
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, source=f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
    yield lake, name, run.info.run_id
    client.delete_registered_model(name)
    drop_all(lake)


def test_a_verdict_stays_with_table_run_and_version(judged: tuple[Lakehouse, str, str]) -> None:
    lake, name, run = judged
    refusing = [
        Asked("a", True, 1, 0, "fine", "pass"),
        Asked("b", False, None, 1, "too slow", "refuse"),
        Asked("c", False, 0, 1, "odd", "refuse", "warns"),
    ]
    at = dt.datetime(2013, 6, 1)
    assert record(run, name, 1, refusing, {"rows": 5}, lake, at) is False
    assert record(run, name, 2, [refusing[0], refusing[2]], {"rows": 5}, lake, at) is True
    tags = [MlflowClient().get_model_version(name, str(v)).tags for v in (1, 2)]
    assert [(t["validation"], t["refused_because"], t["warned_of"]) for t in tags] == [
        ("refused", "b: too slow", "c: odd"),
        ("accepted", "", "c: odd"),
    ]
    stored = mlflow.artifacts.load_dict(f"runs:/{run}/validation.json")
    assert (stored["accepted"], stored["rows"], stored["gates"][1]["name"]) == (True, 5, "c")
    assert record(run, name, 1, refusing[:2], {}, lake, at) is False  # judged again: no row more
    rows = read(lake, GATES).orderBy("version", "gate").collect()
    assert [(r.version, r.gate, r.passed, r.value) for r in rows] == [
        (1, "a", True, 1.0), (1, "b", False, None), (1, "c", False, 0.0), (2, "a", True, 1.0), (2, "c", False, 0.0)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="needs its instant"):
        record(run, name, 1, refusing, {}, lake)


def test_the_table_of_gates_tells_a_warning_from_a_refusal() -> None:
    text = table_of(judge([gate("a", True), gate("b", False), gate("c", False, action="warns")], EVIDENCE).answers)
    assert [line.split()[0] for line in text.splitlines()] == ["pass", "REFUSE", "warn"]
