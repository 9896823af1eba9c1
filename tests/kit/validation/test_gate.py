"""What follows from the result of a gate: policies, exceptions, and what is stored."""

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
from boathouse.validation.gate import (
    GATES,
    REGISTERED_GATES,
    Evidence,
    Gate,
    GateResult,
    Verdict,
    conclude,
    find_gate,
    format_results,
    gate,
    interval_verdict,
    record_verdict,
    run_gates,
)

ROWS = pd.DataFrame({"late": [True, False], "at": pd.to_datetime(["2013-06-01", "2013-06-02"]), "day": [1, 2]})
EVIDENCE = Evidence("m", 1, ROWS, {"candidate": np.array([0.7, 0.3])}, "late", "at", "day")


def returning(name: str, within: bool | None, blocks: bool = True, if_inconclusive: str = "refuse") -> Gate:
    "A gate whose comparison is true, false or None."

    def check(evidence: Evidence) -> GateResult:
        "Return what the test says."
        return conclude(within, 1.0, 2.0, "so it is")

    return Gate(name, check, blocks, if_inconclusive)


@pytest.mark.parametrize(
    ("within", "if_inconclusive", "accepted"),
    [(True, "refuse", True), (False, "pass", False), (None, "pass", True), (None, "refuse", False)],
)
def test_only_an_inconclusive_outcome_is_settled_by_the_policy(within: bool | None, if_inconclusive: str, accepted: bool) -> None:
    verdict = run_gates([returning("a", within, if_inconclusive=if_inconclusive)], EVIDENCE)
    assert verdict.accepted is accepted
    assert ("inconclusive, which" in verdict.results[0].full_reason) is (within is None)


def test_a_gate_that_raises_refuses_and_says_what_it_raised() -> None:
    def broken(evidence: Evidence) -> GateResult:
        "Refuse nothing."
        return conclude(True, 1 / 0, 0, "never")

    verdict = run_gates([returning("fine", True), Gate("broken", broken, if_inconclusive="pass")], EVIDENCE)
    assert verdict.refusals == ("broken",)
    assert "ZeroDivisionError" in verdict.results[1].reason


def test_a_gate_that_returns_no_result_refuses_even_if_it_returns_true() -> None:
    def yes(evidence: Evidence) -> bool:
        "Refuse nothing."
        return True

    verdict = run_gates([Gate("yes", yes)], EVIDENCE)  # type: ignore[arg-type]
    assert verdict.refusals == ("yes",)
    assert "returned True, expected a GateResult" in verdict.results[0].reason


def test_nothing_passes_on_a_value_that_is_not_a_number() -> None:
    def check(evidence: Evidence) -> GateResult:
        "Refuse nothing."
        return conclude(True, float("nan"), 0.5, "AUC")

    assert run_gates([Gate("a", check)], EVIDENCE).refusals == ("a",)
    with pytest.raises(ValueError, match="outcome of a must be one of pass, refuse, inconclusive, got 'passed'"):
        GateResult("a", "passed", 1, 0, "an outcome that is none")  # type: ignore[arg-type]


def test_a_gate_that_warns_refuses_nothing() -> None:
    gates = [returning("a", True), returning("b", False, blocks=False), returning("c", True)]
    assert run_gates(gates, EVIDENCE).accepted
    assert run_gates(gates, EVIDENCE).warnings == ("b",)


def test_no_gate_and_gates_that_only_warn_accept_nobody() -> None:
    assert not run_gates([], EVIDENCE).accepted
    assert not run_gates([returning("a", True, blocks=False)], EVIDENCE).accepted


def test_two_gates_of_one_id_and_settings_that_do_not_exist_are_errors() -> None:
    with pytest.raises(ValueError, match="must be listed once, but a is repeated"):
        run_gates([returning("a", True), returning("a", False)], EVIDENCE)
    with pytest.raises(ValueError, match="if_inconclusive of gate 'a' must be 'pass' or 'refuse', got 'maybe'"):
        returning("a", True).configure(if_inconclusive="maybe")
    with pytest.raises(ValueError, match="gate 'a' takes no setting 'block'; did you mean 'blocks'"):
        returning("a", True).configure(block=False)


def test_a_decorated_function_is_a_gate_with_its_docstring_as_description_and_its_keywords_as_limits() -> None:
    try:

        @gate("two_rows", blocks=False, if_inconclusive="pass")
        def check_two_rows(evidence: Evidence, at_least: int = 2) -> GateResult:
            """Warn of a test with fewer than `at_least` rows.

            More of no concern to the reader of a card.
            """
            return conclude(len(evidence.rows) >= at_least, len(evidence.rows), at_least, f"{len(evidence.rows)} rows")

        assert find_gate("two_rows") is check_two_rows
        assert check_two_rows(EVIDENCE).outcome == "pass"
        stricter = check_two_rows.configure(at_least=3)
        assert (stricter.limits, check_two_rows.limits) == ({"at_least": 3}, {"at_least": 2})
        (result,) = run_gates([stricter], EVIDENCE).results
        assert (result.outcome, result.passed, result.blocks, result.bound) == ("refuse", False, False, 3.0)
        assert result.description == "Warn of a test with fewer than `at_least` rows."
        with pytest.raises(ValueError, match="expected the id of a gate, got 'tow_rows'; did you mean 'two_rows'"):
            find_gate("tow_rows")
        with pytest.raises(ValueError, match=r"'two_rows' belongs to .*check_two_rows: choose another id for .*other"):

            @gate("two_rows")
            def other(evidence: Evidence) -> GateResult:
                "Another gate."
                return conclude(True, None, None, "")

        with pytest.raises(ValueError, match="gate 'undocumented' must have a description, got no docstring"):

            @gate("undocumented")
            def check_undocumented(evidence: Evidence) -> GateResult:
                return conclude(True, None, None, "")
    finally:
        REGISTERED_GATES.pop("two_rows", None)


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
    assert interval_verdict(low, high, 0.6, 1.0) is within


def test_evidence_holds_one_score_per_row_and_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="'candidate': 1"):
        Evidence("m", 1, ROWS, {"candidate": np.array([0.7])}, "late", "at", "day")
    with pytest.raises(ValueError, match="must have the columns ferry, got late, at, day"):
        Evidence("m", 1, ROWS, {}, "late", "at", "day", key=("ferry",))
    with pytest.raises(ValueError, match="needs 'training' in the evidence of m version 1, got None"):
        EVIDENCE.require("training")


def test_what_one_gate_computes_the_next_finds() -> None:
    asked: list[int] = []
    evidence = Evidence("m", 1, ROWS, {}, "late", "at", "day")
    for _ in range(2):
        assert evidence.cached("sorted", lambda: asked.append(1) or 5) == 5
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
    refusing = (
        GateResult("a", "pass", 1, 0, "fine"),
        GateResult("b", "refuse", None, 1, "too slow"),
        GateResult("c", "refuse", 0, 1, "odd", blocks=False),
        GateResult("d", "inconclusive", 0, 1, "few days", if_inconclusive="pass"),
    )
    at = dt.datetime(2013, 6, 1)
    record_verdict(run, name, 1, Verdict(refusing), {"rows": 5}, lake, at)
    record_verdict(run, name, 2, Verdict((refusing[0], refusing[2])), {"rows": 5}, lake, at)
    tags = [MlflowClient().get_model_version(name, str(v)).tags for v in (1, 2)]
    assert [(t["validation"], t["refused_because"], t["warned_of"]) for t in tags] == [
        ("refused", "b: too slow", "c: odd"),
        ("accepted", "", "c: odd"),
    ]
    stored = mlflow.artifacts.load_dict(f"runs:/{run}/validation.json")
    assert (stored["accepted"], stored["rows"], stored["gates"][1]["name"], stored["gates"][1]["passed"]) == (True, 5, "c", False)
    record_verdict(run, name, 1, Verdict(refusing), {}, lake, at)  # judged again: no row more
    rows = read(lake, GATES).orderBy("version", "gate").collect()
    assert [(r.version, r.gate, r.verdict, r.passed, r.value) for r in rows] == [
        (1, "a", "pass", True, 1.0), (1, "b", "refuse", False, None), (1, "c", "refuse", False, 0.0), (1, "d", "inconclusive", True, 0.0),
        (2, "a", "pass", True, 1.0), (2, "c", "refuse", False, 0.0),
    ]  # fmt: skip
    assert rows[3].reason == "inconclusive, which passes: few days"
    with pytest.raises(ValueError, match=r"need the time of the judgement of .* version 1, got None"):
        record_verdict(run, name, 1, Verdict(refusing), {}, lake)


def test_the_lines_of_results_tell_a_warning_from_a_refusal() -> None:
    text = format_results(run_gates([returning("a", True), returning("b", False), returning("c", False, blocks=False)], EVIDENCE).results)
    assert [line.split()[0] for line in text.splitlines()] == ["pass", "REFUSE", "warn"]


def test_a_mask_or_times_of_other_rows_are_refused_and_numbers_are_a_mask() -> None:
    rows = pd.DataFrame({"late": [True, False, True]})
    assert Evidence("m", 1, rows, {}, "late", unseen=np.array([1, 0, 1])).unseen.tolist() == [True, False, True]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="unseen must have one row per held-out row, 3, got 2"):
        Evidence("m", 1, rows, {}, "late", unseen=np.array([True, False]))
