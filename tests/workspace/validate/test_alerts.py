"""What `validate` reports about alerts, each with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from boathouse.workspace.bundle.load import load
from boathouse.workspace.validate.check import bundle_findings

HEAD = "bundle: {name: demo}\nresources:\n  alerts:\n    late:\n"
REST = {
    "display_name": "display_name: late",
    "warehouse_id": "warehouse_id: w",
    "query_text": "query_text: select 1 as n",
    "schedule": 'schedule: {quartz_cron_schedule: "0 0 8 * * ?", timezone_id: UTC}',
    "evaluation": "evaluation: {source: {name: n}, comparison_operator: GREATER_THAN, threshold: {value: {double_value: 1}}}",
}
VALUES = "double_value, string_value, bool_value"
CASES = [
    ("alert", "query_text", "", "an alert lacks 'query_text'."),
    ("alert", "query_text", "query_text: ^' '", "the query of the alert is empty."),
    (
        "alert",
        "evaluation",
        "evaluation: {source: {name: n}, comparison_operator: ^GREATER, threshold: {value: {double_value: 1}}}",
        "'comparison_operator' is 'GREATER', not one of EQUAL, GREATER_THAN, GREATER_THAN_OR_EQUAL, IS_NOT_NULL, IS_NULL, LESS_THAN, LESS_THAN_OR_EQUAL, NOT_EQUAL."
        " Did you mean 'GREATER_THAN'?",
    ),
    (
        "alert",
        "evaluation",
        "evaluation: {source: {name: n}, comparison_operator: IS_NULL, notification: {subscriptions: [^{user_email: a@b.c, destination_id: d}]}}",
        "a subscription has one of user_email and destination_id; this one has user_email and destination_id.",
    ),
    ("alert-key", "query_text", "query_text: select 1 as n\n      ^querry: x", "'querry' is not a key of an alert."),
    (
        "alert-threshold",
        "evaluation",
        "evaluation: ^{source: {name: n}, comparison_operator: GREATER_THAN}",
        "the threshold of alert 'late' must be one of value and column, got neither.",
    ),
    (
        "alert-threshold",
        "evaluation",
        "evaluation: {source: {name: n}, comparison_operator: EQUAL, threshold: {value: ^{double_value: 1, string_value: a}}}",
        f"the threshold of alert 'late' must have one of {VALUES}, got double_value and string_value.",
    ),
    (
        "alert-not-evaluated",
        "query_text",
        "query_text: select :n as n\n      ^parameters: [{name: n}]",
        "alert 'late' is not evaluated here: the query has no parameters here.",
    ),
    (
        "cron",
        "schedule",
        'schedule: {quartz_cron_schedule: ^"0 8 * * *", timezone_id: UTC}',
        "'0 8 * * *' is not a Quartz expression: it has 5 fields",
    ),
    (
        "timezone",
        "schedule",
        'schedule: {quartz_cron_schedule: "0 0 8 * * ?", timezone_id: ^Europe/Berln}',
        "'Europe/Berln' is not a time zone.",
    ),
]


def written(key: str, text: str) -> str:
    return HEAD + "".join(f"      {line}\n" for line in (REST | {key: text}).values() if line)


@pytest.mark.parametrize(("rule", "key", "text", "message"), CASES)
def test_a_wrong_alert_is_named_with_its_place(check: Any, page: Any, rule: str, key: str, text: str, message: str) -> None:
    found = check(written(key, text))
    assert len(found) == 1, found
    place = "^" if "^" in text else "databricks.yml:5:7:"
    assert found[0].startswith(f"{rule} {place} {message}")
    if rule not in ("cron", "timezone"):
        page.shows(rule, message)


def test_a_right_alert_has_notes_about_its_schedule_and_an_unknown_destination(tmp_path: Path, page: Any) -> None:
    subscriptions = "notification: {subscriptions: [{destination_id: nobody}]}"
    evaluation = f"evaluation: {{source: {{name: n}}, comparison_operator: IS_NULL, {subscriptions}}}"
    (tmp_path / "databricks.yml").write_text(written("evaluation", evaluation))
    found = [(f.rule, f.level, f.problem.message) for f in bundle_findings(load(tmp_path, environ={}))]
    message = "alert 'late' is evaluated by its schedule on this machine only while `boathouse up` runs."
    assert found == [
        ("alert-schedule", "note", message),
        ("destination", "note", "boathouse.yml has no destination 'nobody' for target 'default': an alert could not notify it."),
    ]
    page.shows("alert-schedule", message)
