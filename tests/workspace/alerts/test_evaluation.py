"""An alert's result on rows, and its next state: fired once, resolved, retriggered, snoozed, in error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from boathouse.workspace.alerts.definition import AlertDefinition, Operand
from boathouse.workspace.alerts.evaluation import AlertResult, AlertState, judge_rows, next_state

LATE = AlertDefinition("late", "late", "select 1", Operand("share"), "GREATER_THAN", Operand(value=0.5))
ROWS = [[0.25, 0.5, "a", True], [None, 0.5, "b", True], [1.0, 0.75, None, False]]
COLUMNS = ["share", "limit", "name", "ok"]


def alert(
    source: str, operator: str, threshold: Operand | float | str | bool | None = None, aggregation: str | None = None
) -> AlertDefinition:
    side = threshold if isinstance(threshold, Operand) else Operand(value=threshold)
    return replace(LATE, source=Operand(source, aggregation), operator=operator, threshold=side)


CASES: list[tuple[AlertDefinition, str, Any, Any]] = [
    (alert("share", "GREATER_THAN", 0.2), "TRIGGERED", 0.25, 0.2),  # the first row
    (alert("SHARE", "GREATER_THAN", 0.25), "OK", 0.25, 0.25),
    (alert("share", "GREATER_THAN_OR_EQUAL", 0.25), "TRIGGERED", 0.25, 0.25),
    (alert("share", "LESS_THAN", 0.25), "OK", 0.25, 0.25),
    (alert("share", "LESS_THAN_OR_EQUAL", 0.25), "TRIGGERED", 0.25, 0.25),
    (alert("share", "EQUAL", 0.25), "TRIGGERED", 0.25, 0.25),
    (alert("share", "NOT_EQUAL", 0.25), "OK", 0.25, 0.25),
    (alert("share", "GREATER_THAN", 0.0, "SUM"), "TRIGGERED", 1.25, 0.0),
    (alert("share", "GREATER_THAN", 0.0, "AVG"), "TRIGGERED", 0.625, 0.0),
    (alert("share", "GREATER_THAN", 0.0, "MEDIAN"), "TRIGGERED", 0.625, 0.0),
    (alert("share", "GREATER_THAN", 0.0, "MIN"), "TRIGGERED", 0.25, 0.0),
    (alert("share", "GREATER_THAN", 0.0, "MAX"), "TRIGGERED", 1.0, 0.0),
    (alert("share", "GREATER_THAN", 0.5, "STDDEV"), "TRIGGERED", pytest.approx(0.5303, abs=1e-4), 0.5),
    (alert("share", "EQUAL", 2.0, "COUNT"), "TRIGGERED", 2.0, 2.0),
    (alert("limit", "EQUAL", 2.0, "COUNT_DISTINCT"), "TRIGGERED", 2.0, 2.0),
    (alert("share", "LESS_THAN", Operand("limit")), "TRIGGERED", 0.25, 0.5),
    (alert("share", "GREATER_THAN", Operand("limit", "MAX"), "MAX"), "TRIGGERED", 1.0, 0.75),
    (alert("name", "EQUAL", "a"), "TRIGGERED", "a", "a"),
    (alert("ok", "EQUAL", True), "TRIGGERED", True, True),
    (alert("name", "IS_NULL"), "OK", "a", None),
    (alert("name", "IS_NOT_NULL"), "TRIGGERED", "a", None),
    (alert("name", "GREATER_THAN", 1.0), "ERROR", None, None),
    (alert("nmae", "EQUAL", 1.0), "ERROR", None, None),
    (alert("share", "ABOVE", 1.0), "ERROR", None, None),
    (alert("share", "EQUAL", True), "ERROR", None, None),
    (alert("share", "EQUAL", 1.0, "MODE"), "ERROR", None, None),
]


@pytest.mark.parametrize(("definition", "state", "value", "threshold"), CASES)
def test_an_operator_compares_a_value_of_the_rows(definition: AlertDefinition, state: str, value: Any, threshold: Any) -> None:
    result = judge_rows(definition, COLUMNS, ROWS)
    assert (result.state, result.value, result.threshold) == (state, value, threshold)
    assert bool(result.message) == (state == "ERROR")


def test_the_reason_of_an_error_names_what_was_expected() -> None:
    assert (
        judge_rows(alert("nmae", "EQUAL", 1.0), COLUMNS, ROWS).message
        == "the query must return a column 'nmae', got the columns share, limit, name, ok."
    )
    assert judge_rows(alert("name", "EQUAL", 1.0), COLUMNS, ROWS).message == "'the value' must be a number, got 'a'."


def test_no_rows_have_the_state_that_the_alert_names_and_null_meets_no_comparison() -> None:
    assert judge_rows(LATE, COLUMNS, []).state == "UNKNOWN"
    assert judge_rows(replace(LATE, if_empty="OK"), COLUMNS, []).state == "OK"
    assert judge_rows(LATE, COLUMNS, [[None, 1, "", True]]).state == "OK"
    assert judge_rows(alert("share", "GREATER_THAN", 0.0, "AVG"), COLUMNS, [[None, 1, "", True]]).value is None


def told(definition: AlertDefinition, *steps: tuple[int, str], snoozed: int | None = None) -> list[str | None]:
    "What is notified of results (second, state), one after the other."
    state, out = AlertState(snoozed_until=snoozed and snoozed * 1000), []
    for second, name in steps:
        state, notified = next_state(state, AlertResult(name), definition, second * 1000)
        out.append(notified)
    return out


FIRES = (1, "TRIGGERED"), (2, "TRIGGERED"), (3, "OK"), (4, "OK"), (5, "TRIGGERED")


def test_a_trigger_is_notified_once_until_it_was_resolved() -> None:
    assert told(LATE, *FIRES) == ["TRIGGERED", None, None, None, "TRIGGERED"]
    assert told(replace(LATE, notify_on_ok=True), *FIRES) == ["TRIGGERED", None, "OK", None, "TRIGGERED"]
    assert told(replace(LATE, notify_on_ok=True), (1, "OK"), (2, "UNKNOWN"), (3, "OK")) == [None, None, None]


def test_a_trigger_that_lasts_is_notified_again_after_the_seconds_that_the_alert_names() -> None:
    steps = [(second, "TRIGGERED") for second in (10, 15, 20, 29, 30)]
    assert told(replace(LATE, retrigger=10), *steps) == ["TRIGGERED", None, "TRIGGERED", None, "TRIGGERED"]
    assert told(replace(LATE, retrigger=1), *steps) == ["TRIGGERED"] * 5


def test_an_error_is_notified_once_and_does_not_fire_a_lasting_trigger_again() -> None:
    steps = (1, "ERROR"), (2, "ERROR"), (3, "TRIGGERED"), (4, "ERROR"), (5, "TRIGGERED"), (6, "OK"), (7, "ERROR")
    assert told(LATE, *steps) == ["ERROR", None, "TRIGGERED", "ERROR", None, None, "ERROR"]


def test_a_snoozed_alert_notifies_afterwards_if_it_is_still_triggered() -> None:
    assert told(LATE, (1, "TRIGGERED"), (9, "TRIGGERED"), (10, "TRIGGERED"), (11, "TRIGGERED"), snoozed=10) == [
        None,
        None,
        "TRIGGERED",
        None,
    ]
    assert told(replace(LATE, notify_on_ok=True), (1, "TRIGGERED"), (2, "OK"), (11, "OK"), snoozed=10) == [None, None, None]


def test_the_time_of_a_state_is_that_of_its_beginning() -> None:
    first, _ = next_state(AlertState(), AlertResult("TRIGGERED"), LATE, 1000)
    second, _ = next_state(first, AlertResult("TRIGGERED"), LATE, 2000)
    third, _ = next_state(second, AlertResult("OK"), LATE, 3000)
    assert [(s.state, s.since) for s in (first, second, third)] == [("TRIGGERED", 1000), ("TRIGGERED", 1000), ("OK", 3000)]
