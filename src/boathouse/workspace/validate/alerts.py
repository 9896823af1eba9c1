"""Check the alerts of a bundle. A value that only a workspace knows (`${...}`) is not checked."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.schema import MissingKey, schema_problems
from boathouse.workspace.bundle.sdk import alert_settings
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.notifications.settings import FILE, read_settings
from boathouse.workspace.problems import Problem, problem
from boathouse.workspace.validate.schedules import expression_problems, zone_problems

WITHOUT_THRESHOLD = ("IS_NULL", "IS_NOT_NULL")
VALUES = ("double_value", "string_value", "bool_value")
NOT_EVALUATED = {"parameters": "the query has no parameters here", "file_path": "the alert's file is not read"}


def problems(bundle: Bundle) -> Iterator[Problem]:
    "Yield what is wrong with the alerts of a bundle, and what they expect in vain."
    for key, alert in bundle.resources("alerts").items():
        if isinstance(alert, Map):
            yield from of_alert(bundle, key, alert)


def of_alert(bundle: Bundle, key: str, alert: Map) -> Iterator[Problem]:
    "Yield what is wrong with one alert, and what it expects in vain."
    for name, why in NOT_EVALUATED.items():
        if alert.get(name) is not None:
            yield problem("alert-not-evaluated", f"alert '{key}' is not evaluated here: {why}.", where(alert, name, key=True))
    if alert.get("file_path") is None:
        yield from _schema(alert)
        yield from _comparison(key, alert)
        yield from _schedule(key, alert)
        yield from _recipients(bundle, alert)


def _schema(alert: Map) -> Iterator[Problem]:
    for found in schema_problems(alert, alert_settings(), "an alert"):
        unknown = not isinstance(found, MissingKey) and "is not a key of" in found.message
        yield problem("alert-key" if unknown else "alert", found.message, found.where, found.hint)
    if isinstance(query := alert.get("query_text"), str) and not query.strip():
        yield problem("alert", "the query of the alert is empty.", where(alert, "query_text"))


def _comparison(key: str, alert: Map) -> Iterator[Problem]:
    evaluation = alert.get("evaluation")
    if not isinstance(evaluation, Map) or evaluation.get("comparison_operator") in (None, *WITHOUT_THRESHOLD):
        return
    threshold = evaluation.get("threshold")
    threshold = threshold if isinstance(threshold, Map) else Map(where(evaluation, "threshold"))
    sides = [side for side in ("value", "column") if threshold.get(side) is not None]
    if len(sides) != 1:
        message = f"the threshold of alert '{key}' must be one of value and column, got {' and '.join(sides) or 'neither'}."
        yield problem("alert-threshold", message, threshold.at)
    elif sides == ["value"] and isinstance(value := threshold["value"], Map):
        given = [name for name in VALUES if value.get(name) is not None]
        if len(given) != 1:
            message = f"the threshold of alert '{key}' must have one of {', '.join(VALUES)}, got {' and '.join(given) or 'none'}."
            yield problem("alert-threshold", message, value.at)


def _schedule(key: str, alert: Map) -> Iterator[Problem]:
    schedule = alert.get("schedule")
    if not isinstance(schedule, Map):
        return
    expression, zone = str(schedule.get("quartz_cron_schedule")), str(schedule.get("timezone_id"))
    if "quartz_cron_schedule" in schedule and "${" not in expression:
        yield from expression_problems(expression, where(schedule, "quartz_cron_schedule"))
    if "timezone_id" in schedule and "${" not in zone:
        yield from zone_problems(zone, where(schedule, "timezone_id"))
    message = f"alert '{key}' is evaluated by its schedule on this machine only while `boathouse up` runs."
    yield problem("alert-schedule", message, where(alert, "schedule", key=True))


def _recipients(bundle: Bundle, alert: Map) -> Iterator[Problem]:
    named = ((alert.get("evaluation") or {}).get("notification") or {}).get("subscriptions")
    try:
        known = list(read_settings(bundle.root, bundle.target).destinations)
    except BundleError:
        return  # reported by the rule for these settings
    for one in (one for one in named if isinstance(one, Map)) if isinstance(named, List) else ():
        given = [name for name in ("user_email", "destination_id") if one.get(name)]
        if len(given) != 1:
            message = f"a subscription has one of user_email and destination_id; this one has {' and '.join(given) or 'neither'}."
            yield problem("alert", message, one.at)
        elif given == ["destination_id"] and str(one["destination_id"]) not in known and "${" not in str(one["destination_id"]):
            name = str(one["destination_id"])
            message = f"{FILE} has no destination '{name}' for target '{bundle.target}': an alert could not notify it."
            yield problem("destination", message, where(one, "destination_id"), did_you_mean(name, known))
