"""Evaluate an alert: rows and a definition give a result; a result and the state before give the next state and what to notify.

Nothing here reads a clock, a table or a file.
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from boathouse.workspace.alerts.definition import AlertDefinition, Operand

OK, TRIGGERED, ERROR, UNKNOWN = "OK", "TRIGGERED", "ERROR", "UNKNOWN"
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "GREATER_THAN": operator.gt,
    "GREATER_THAN_OR_EQUAL": operator.ge,
    "LESS_THAN": operator.lt,
    "LESS_THAN_OR_EQUAL": operator.le,
    "EQUAL": operator.eq,
    "NOT_EQUAL": operator.ne,
}
NULL_CHECKS = {"IS_NULL": True, "IS_NOT_NULL": False}
NUMERIC: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "AVG": statistics.fmean,
    "MEDIAN": statistics.median,
    "STDDEV": statistics.stdev,
    "MIN": min,
    "MAX": max,
}
NO_NUMBERS = ("NaN", "Infinity", "-Infinity")


@dataclass(frozen=True)
class AlertResult:
    "Hold the result of one evaluation: the state, the two compared values, and the reason of an error."

    state: str
    value: Any = None
    threshold: Any = None
    message: str = ""


@dataclass(frozen=True)
class AlertState:
    """Hold what is known of an alert between two evaluations; times are milliseconds since 1970.

    `notified` are the states that its recipients know of since it was last OK. `notified_at` is the time of the last notification of a trigger.
    """

    state: str = UNKNOWN
    since: int | None = None
    notified: frozenset[str] = frozenset()
    notified_at: int | None = None
    snoozed_until: int | None = None


def judge_rows(alert: AlertDefinition, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> AlertResult:
    "Return the result of an alert on the rows of its query. What cannot be compared is an ERROR with the reason."
    if not rows:
        return AlertResult(alert.if_empty, message="The query returned no rows.")
    try:
        value = _value(alert.source, columns, rows)
        if alert.operator in NULL_CHECKS:
            return AlertResult(TRIGGERED if (value is None) == NULL_CHECKS[alert.operator] else OK, value)
        threshold = _value(alert.threshold, columns, rows) if alert.threshold.column else alert.threshold.value
        if alert.operator not in COMPARISONS:
            raise ValueError(f"comparison_operator must be one of {', '.join([*COMPARISONS, *NULL_CHECKS])}, got '{alert.operator}'.")
        if value is None or threshold is None:
            return AlertResult(OK, value, threshold, "A null value meets no comparison but IS_NULL.")
        left, right = _alike(value, threshold)
        return AlertResult(TRIGGERED if COMPARISONS[alert.operator](left, right) else OK, left, right)
    except ValueError as e:
        return AlertResult(ERROR, message=str(e))


def next_state(before: AlertState, result: AlertResult, alert: AlertDefinition, now: int) -> tuple[AlertState, str | None]:
    """Return the state after a result, and the state to notify of, or None.

    A trigger is notified once, and again after `retrigger` seconds. A return to OK is notified if the trigger was, and the alert says so.
    An error is notified once. While the alert is snoozed, nothing is notified; a trigger that lasts is notified afterwards.
    """
    since = before.since if before.state == result.state else now
    after = replace(before, state=result.state, since=since)
    if result.state == OK:
        told = OK if alert.notify_on_ok and TRIGGERED in before.notified else None
        after = replace(after, notified=frozenset(), notified_at=None)
    elif result.state == TRIGGERED:
        again = alert.retrigger > 0 and now - (before.notified_at or 0) >= alert.retrigger * 1000
        told = TRIGGERED if TRIGGERED not in before.notified or again else None
    else:
        told = ERROR if result.state == ERROR and ERROR not in before.notified else None
    if told is None or (before.snoozed_until is not None and now < before.snoozed_until):
        return after, None
    if told == OK:
        return after, OK
    kept = after.notified - {ERROR} if told == TRIGGERED else after.notified
    return replace(after, notified=kept | {told}, notified_at=now if told == TRIGGERED else after.notified_at), told


def _value(operand: Operand, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    wanted = str(operand.column)
    places = [i for i, name in enumerate(columns) if name.lower() == wanted.lower()]
    if not places:
        raise ValueError(f"the query must return a column '{wanted}', got the columns {', '.join(columns)}.")
    values = [row[places[0]] for row in rows]
    if operand.aggregation is None:
        return values[0]
    present = [value for value in values if value is not None]
    if operand.aggregation == "COUNT":
        return len(present)
    if operand.aggregation == "COUNT_DISTINCT":
        return len({str(value) for value in present})
    if operand.aggregation not in NUMERIC:
        raise ValueError(f"aggregation must be one of {', '.join([*NUMERIC, 'COUNT', 'COUNT_DISTINCT'])}, got '{operand.aggregation}'.")
    if len(present) < (2 if operand.aggregation == "STDDEV" else 1):
        return None
    return NUMERIC[operand.aggregation]([_number(value, wanted) for value in present])


def _alike(value: Any, threshold: Any) -> tuple[Any, Any]:
    "Return two values of one type: the type of the threshold decides."
    if isinstance(threshold, bool):
        if not isinstance(value, bool):
            raise ValueError(f"the value must be true or false as the threshold is, got {value!r}.")
        return value, threshold
    if isinstance(threshold, int | float):
        return _number(value, "the value"), float(threshold)
    return str(value), str(threshold)


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, bool) or value in NO_NUMBERS:
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"'{name}' must be a number, got {value!r}.") from None
