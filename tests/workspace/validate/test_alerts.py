"""What `validate` reports about alerts, each with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.validate.check import bundle_findings, refuse_unrunnable

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


ID = "alert_id: '${resources.alerts.late.id}'"
TASKS = [
    (
        "alert-task",
        "^alert_task: {warehouse_id: w}",
        "the alert_task of task 't' must have one of alert_id and workspace_path, got neither.",
    ),
    (
        "alert-task",
        f"alert_task: {{{ID}, subscribers: [^{{user_name: a@b.c, destination_id: d}}]}}",
        "a subscriber must have one of user_name and destination_id, got user_name and destination_id.",
    ),
    (
        "alert-task",
        f"alert_task: {{{ID}, ^subscribers: [{', '.join(['{user_name: a@b.c}'] * 101)}]}}",
        "task 't' has 101 subscribers; 100 is the most.",
    ),
    (
        "other-alert",
        "alert_task: {alert_id: ^late}",
        "task 't' evaluates the alert 'late', which is not an alert of this bundle. Write `${resources.alerts.<key>.id}` as alert_id",
    ),
    (
        "other-alert",
        "alert_task: {workspace_path: ^/Workspace/late}",
        "task 't' evaluates the alert '/Workspace/late', which is not an alert of this bundle.",
    ),
    (
        "alert-not-evaluated",
        f"alert_task: {{{ID}, ^parameters: {{n: '1'}}}}",
        "the parameters of task 't' are not used here: the query of an alert has none.",
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


@pytest.mark.parametrize(("rule", "text", "message"), TASKS)
def test_a_wrong_task_of_an_alert_is_named_with_its_place(check: Any, page: Any, rule: str, text: str, message: str) -> None:
    found = check(written("display_name", "display_name: late") + f"  jobs: {{j: {{tasks: [{{task_key: t, {text}}}]}}}}\n")
    assert [one.partition(" Write")[0] for one in found] == [f"{rule} ^ {message.partition(' Write')[0]}"]
    if rule != "alert-not-evaluated":
        page.shows(rule, message.partition(" Write")[0])


def test_a_task_that_notifies_an_unknown_destination_runs_with_a_note(tmp_path: Path) -> None:
    task = f"{{task_key: t, alert_task: {{{ID}, subscribers: [{{destination_id: nobody}}]}}}}"
    (tmp_path / "databricks.yml").write_text(written("display_name", "display_name: late") + f"  jobs: {{j: {{tasks: [{task}]}}}}\n")
    jobs = all_jobs(load(tmp_path, environ={}))
    assert [(f.rule, f.problem.message) for f in refuse_unrunnable(jobs, jobs["j"])] == [
        ("destination", "boathouse.yml has no destination 'nobody' for target 'default': the task could not notify it.")
    ]


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
