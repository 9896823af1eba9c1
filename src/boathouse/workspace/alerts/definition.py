"""The alerts of a bundle (`resources.alerts`): the query, what is compared with what, and who is notified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from boathouse.workspace.bundle.interpolation import alert_id
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.yaml_tree import Map, where
from boathouse.workspace.errors import BundleError, Where, did_you_mean
from boathouse.workspace.notifications.transport import DESTINATION, EMAIL


@dataclass(frozen=True)
class Operand:
    "Hold one side of the comparison: a column, with the aggregation over its rows (none: the first row), or a value."

    column: str | None = None
    aggregation: str | None = None
    value: float | str | bool | None = None


@dataclass(frozen=True)
class Recipients:
    """Hold who is notified of an evaluation instead of the alert's own recipients.

    `name` is the key under which the store keeps which states they were notified of.
    """

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class AlertDefinition:
    """Hold one alert. It is triggered if `source` `operator` `threshold` holds on the rows of `query`.

    `retrigger` is the number of seconds after which a lasting trigger is notified again; 0 is never.
    """

    key: str
    name: str
    query: str
    source: Operand
    operator: str
    threshold: Operand = field(default_factory=Operand)
    if_empty: str = "UNKNOWN"
    recipients: tuple[str, ...] = ()
    retrigger: int = 0
    notify_on_ok: bool = False


def all_alerts(bundle: Bundle) -> dict[str, AlertDefinition]:
    "Return the alerts of a bundle by key. Raises BundleError for one that lacks what its evaluation needs."
    return {key: _alert(key, body) for key, body in bundle.resources("alerts").items()}


def find_alert(bundle: Bundle, wanted: str) -> AlertDefinition:
    "Return the alert of that key or display name, whatever is wrong with the others. Raises BundleError if there is none."
    alerts = bundle.resources("alerts")
    for key, body in alerts.items():
        if wanted in (key, str(body.get("display_name"))):
            return _alert(key, body)
    hint = did_you_mean(wanted, alerts) or (f"The alerts are {', '.join(alerts)}." if alerts else "It has no alerts at all.")
    raise BundleError(f"the bundle has no alert '{wanted}'.", Where(bundle.file.name), hint)


def find_alert_key(bundle: Bundle, number: str | None) -> str | None:
    "Return the key of the alert that an alert_task names by its alert_id; None if it is not one of this bundle."
    return next((key for key in bundle.resources("alerts") if alert_id(bundle.name, key) == number), None)


def alert_by_id(bundle: Bundle, number: str | None) -> AlertDefinition:
    "Return the alert that an alert_task names by its alert_id. Raises BundleError if it is not one of this bundle."
    key = find_alert_key(bundle, number)
    if key is None:
        raise BundleError(f"the bundle has no alert with the id '{number}'.", Where(bundle.file.name))
    return _alert(key, bundle.resources("alerts")[key])


def task_recipients(body: Any) -> tuple[str, ...]:
    "Return the subscribers of an alert_task (its SDK dataclass) as recipients."
    named = body.subscribers or ()
    return (
        *(EMAIL + one.user_name for one in named if one.user_name),
        *(DESTINATION + one.destination_id for one in named if one.destination_id),
    )


def _alert(key: str, body: Map) -> AlertDefinition:
    try:
        evaluation = body["evaluation"]
        return AlertDefinition(
            key,
            str(body.get("display_name") or key),
            str(body["query_text"]),
            _column(evaluation["source"]),
            str(evaluation["comparison_operator"]),
            _operand(evaluation.get("threshold") or {}),
            str(evaluation.get("empty_result_state") or "UNKNOWN"),
            *_notification(evaluation.get("notification") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        missing = f" lacks {e}" if isinstance(e, KeyError) else " cannot be read"
        raise BundleError(f"alert '{key}'{missing}.", where(body), "`boathouse validate` names everything that is wrong with it.") from e


def _column(body: Map) -> Operand:
    return Operand(str(body["name"]), str(body["aggregation"]) if body.get("aggregation") else None)


def _operand(body: Any) -> Operand:
    if body.get("column"):
        return _column(body["column"])
    value = body.get("value") or {}
    if value.get("double_value") is not None:
        return Operand(value=float(value["double_value"]))
    if value.get("bool_value") is not None:
        return Operand(value=str(value["bool_value"]).lower() == "true")
    return Operand(value=None if value.get("string_value") is None else str(value["string_value"]))


def _notification(body: Any) -> tuple[tuple[str, ...], int, bool]:
    named = body.get("subscriptions") or ()
    mails = [EMAIL + str(one["user_email"]) for one in named if one.get("user_email")]
    others = [DESTINATION + str(one["destination_id"]) for one in named if one.get("destination_id")]
    return (*mails, *others), int(body.get("retrigger_seconds") or 0), str(body.get("notify_on_ok")).lower() == "true"
