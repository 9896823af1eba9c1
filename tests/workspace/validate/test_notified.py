"""What `validate` reports about notifications: settings that cannot be read, unknown destinations, and what is not watched here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.validate.check import findings

TASK = "tasks: [{task_key: t, notebook_task: {notebook_path: n.py}}]\n"
JOB = """
bundle: {name: demo}
resources:
  jobs:
    a:
      webhook_notifications: {on_start: [{id: team}], on_failure: [{id: tema}, {id: "${var.hook}"}]}
      email_notifications: {on_streaming_backlog_exceeded: [me@example.com], on_failure: [me@example.com]}
      health: {rules: [{metric: STREAMING_BACKLOG_RECORDS, op: GREATER_THAN, value: 9}]}
      tasks:
        - task_key: t
          notebook_task: {notebook_path: n.py}
          webhook_notifications: {on_success: [{id: team}]}
          health: {rules: [{metric: STREAMING_BACKLOG_FILES, op: GREATER_THAN, value: 9}]}
variables: {hook: {lookup: {notification_destination: hook}}}
"""


def test_settings_that_cannot_be_read_are_refused_for_every_job(check: Any, page: Any) -> None:
    wrong = {"boathouse.yml": "destinations: {team: {kind: slack}}\n"}
    found = check(TASK, wrong)
    hint = "A URL that is a secret, such as Slack's, belongs in an environment variable: `url_env`."
    assert found == [f"notification-settings boathouse.yml:1:22: destination 'team' of kind slack needs one of 'url' and 'url_env'. {hint}"]
    page.shows("notification-settings", "destination 'team' of kind slack needs one of 'url' and 'url_env'.")


def test_recipients_of_a_duration_warning_need_a_rule(check: Any, page: Any) -> None:
    warning = "email_notifications: {^on_duration_warning_threshold_exceeded: [me@example.com]}\n"
    found = check(warning + TASK)
    message = "'on_duration_warning_threshold_exceeded' sends nothing without a health rule."
    assert found == [f"no-duration-rule ^ {message} Add one for the metric RUN_DURATION_SECONDS beside it."]
    page.shows("no-duration-rule", message)
    rule = "health: {rules: [{metric: RUN_DURATION_SECONDS, op: GREATER_THAN, value: 9}]}\n"
    assert check(warning.replace("^", "") + rule + TASK) == []


def test_an_unknown_destination_and_an_unwatched_metric_are_notes(tmp_path: Path, page: Any) -> None:
    (tmp_path / "databricks.yml").write_text(JOB)
    (tmp_path / "n.py").write_text("# Databricks notebook source\n")
    (tmp_path / "boathouse.yml").write_text("destinations: {team: {kind: webhook, url: 'https://example.com'}}\n")
    jobs = all_jobs(load(tmp_path, environ={}))
    notes = [(f.rule, str(f.problem.where), f.problem.message) for f in findings(jobs, jobs["a"]) if f.level == "note"]
    unknown = "boathouse.yml has no destination 'tema' for target 'default': a run records that it could not be notified."
    backlog = "'on_streaming_backlog_exceeded' sends nothing on this machine: the backlog of streams is not watched."
    assert sorted(notes) == [
        ("destination", "databricks.yml:6:73", unknown),
        ("no-effect", "databricks.yml:13:37", "the metric STREAMING_BACKLOG_FILES is not watched on this machine."),
        ("no-effect", "databricks.yml:7:29", backlog),
        ("no-effect", "databricks.yml:8:33", "the metric STREAMING_BACKLOG_RECORDS is not watched on this machine."),
    ]
    page.shows("destination", unknown)
