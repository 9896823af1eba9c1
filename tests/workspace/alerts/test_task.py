"Tasks of a job that evaluate an alert, with a query that is answered here instead of by a cluster."

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from boathouse.workspace.alerts.definition import find_alert
from boathouse.workspace.alerts.store import AlertStore
from boathouse.workspace.alerts.watch import evaluate_alert
from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.cli.main import main
from boathouse.workspace.errors import BundleError, QueryFailed
from boathouse.workspace.history.as_json import run_json
from boathouse.workspace.history.store import History
from boathouse.workspace.notifications.outbox import Outbox
from boathouse.workspace.notifications.sender import Sender
from boathouse.workspace.notifications.settings import read_settings
from boathouse.workspace.run.repair import plan_repair, run_to_repair
from boathouse.workspace.run.runner import Runner
from boathouse.workspace.validate.check import refuse_unrunnable

BUNDLE = """
bundle: {name: demo}
variables: {warehouse: {lookup: {warehouse: the small one}}}
resources:
  jobs:
    nightly:
      tasks:
        - {task_key: watch, timeout_seconds: 0, alert_task: &task {alert_id: "${resources.alerts.late.id}", warehouse_id: "${var.warehouse}"}}
        - {task_key: bad, depends_on: [{task_key: watch}], condition_task: {op: EQUAL_TO, left: "{{tasks.watch.output.alert_state}}", right: TRIGGERED}}
    told: {tasks: [{task_key: watch, alert_task: {<<: *task, subscribers: [{user_name: you@example.com}]}}]}
    other: {tasks: [{task_key: c, condition_task: {op: EQUAL_TO, left: a, right: a}}]}
  alerts:
    late:
      display_name: Late flights
      warehouse_id: w
      query_text: select share from late
      schedule: {quartz_cron_schedule: "0 0 8 * * ?", timezone_id: UTC}
      evaluation:
        source: {name: share}
        comparison_operator: GREATER_THAN
        threshold: {value: {double_value: 0.5}}
        notification: {subscriptions: [{user_email: me@example.com}]}
"""
Answer = Callable[[], float]


class Answers:
    "Stands for a cluster that runs the queries of alerts."

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def sql(self, text: str, *_: Any) -> tuple[list[str], list[list[Any]]]:
        assert text == "select share from late"
        return ["share"], [[self.answer()]]


def runner_of(place: Path, history: History, answer: Answer, text: str = BUNDLE) -> Runner:
    (place / "databricks.yml").write_text(text)
    bundle = load(place, environ={})
    return Runner(Answers(answer), bundle, all_jobs(bundle), history)  # type: ignore[arg-type]


def run(place: Path, answer: Answer, job: str = "nightly", text: str = BUNDLE) -> dict[str, Any]:
    "The tasks of a run by key."
    with History(place / ".boathouse/default") as history:
        runner = runner_of(place, history, answer, text)
        jobs = dict(runner.shared.jobs)
        refuse_unrunnable(jobs, jobs[job])
        run_id, _ = runner.run(jobs[job])
        return {task["task_key"]: task for task in run_json(history, run_id)["tasks"]}


def mails(place: Path) -> list[str]:
    with Outbox(place / ".boathouse/default") as outbox:
        return [f"{row['event']} to {row['destination']}" for row in outbox.of_run(0)]


def test_a_task_evaluates_its_alert_and_succeeds_although_it_is_triggered(tmp_path: Path) -> None:
    tasks = run(tmp_path, lambda: 0.75)
    assert tasks["watch"]["state"]["result_state"] == "SUCCESS"
    assert tasks["watch"]["alert_output"] == {"alert_state": "TRIGGERED"}
    assert tasks["bad"]["condition_task"] == {"outcome": "true"}
    assert "alert late: TRIGGERED\nvalue: 0.75\n" in Path(tasks["watch"]["log"]).read_text()
    assert run(tmp_path, lambda: 0.25)["bad"]["condition_task"] == {"outcome": "false"}
    assert mails(tmp_path) == ["alert late TRIGGERED to email:me@example.com"]


def test_a_task_whose_alert_cannot_be_evaluated_fails_with_the_reason(tmp_path: Path) -> None:
    def fail() -> float:
        raise QueryFailed("[TABLE_OR_VIEW_NOT_FOUND] late")

    task = run(tmp_path, fail)["watch"]
    watch = task["state"]
    assert (watch["result_state"], watch["state_message"]) == (
        "FAILED",
        "alert 'late' could not be evaluated: [TABLE_OR_VIEW_NOT_FOUND] late",
    )
    assert mails(tmp_path) == ["alert late ERROR to email:me@example.com"]
    log = Path(task["log"]).read_text().splitlines()
    assert log[:3] == ["alert late: ERROR", "[TABLE_OR_VIEW_NOT_FOUND] late", "notified: ERROR"]


def test_the_subscribers_of_a_task_are_notified_instead_and_the_others_by_the_schedule_as_ever(tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path, lambda: 0.75, "told")
    assert mails(tmp_path) == ["alert late TRIGGERED to email:you@example.com"]
    bundle = load(tmp_path, environ={})
    with Sender(bundle.state, read_settings(tmp_path, bundle.target)) as sender:
        assert AlertStore(sender.outbox).state("late").state == "TRIGGERED"
        scheduled = evaluate_alert(bundle, find_alert(bundle, "late"), lambda _: (["share"], [[0.75]]), sender, lambda: 5)
    assert scheduled.notified == "TRIGGERED"
    run(tmp_path, lambda: 0.75, "told")
    assert mails(tmp_path)[1:] == ["alert late TRIGGERED to email:me@example.com"]


def test_the_subscribers_of_a_task_are_not_notified_while_its_alert_is_snoozed(tmp_path: Path) -> None:
    (tmp_path / "databricks.yml").write_text(BUNDLE)
    for duration in ("2d", "off"):
        assert mails(tmp_path) == []
        snoozed = CliRunner().invoke(main, ["alerts", "snooze", "late", duration, "--bundle", str(tmp_path)])
        assert snoozed.exit_code == 0, snoozed.output
        run(tmp_path, lambda: 0.75, "told")
    assert mails(tmp_path) == ["alert late TRIGGERED to email:you@example.com"]


def test_a_task_that_takes_too_long_ends_and_records_no_evaluation(tmp_path: Path) -> None:
    over = threading.Event()
    tasks = run(tmp_path, lambda: float(over.wait(60)), text=BUNDLE.replace("timeout_seconds: 0", "timeout_seconds: 1"))
    over.set()
    assert tasks["watch"]["state"]["result_state"] == "TIMEDOUT"
    assert tasks["watch"]["state"]["state_message"] == "It took longer than 1 s."
    with Outbox(tmp_path / ".boathouse/default") as outbox:
        assert AlertStore(outbox).evaluations("late", 9) == []


def test_a_repair_reads_the_state_that_the_alert_had_in_the_run(tmp_path: Path) -> None:
    with History(tmp_path / ".boathouse/default") as history:
        wrong = BUNDLE.replace("right: TRIGGERED}", 'right: "{{tasks.watch.values.none}}"}')
        runner = runner_of(tmp_path, history, lambda: 0.75, wrong)
        run_id, result = runner.run(runner.shared.jobs["nightly"])
        assert result == "FAILED"
        again = runner_of(tmp_path, history, lambda: 0.25)
        job = again.shared.jobs["nightly"]
        row = run_to_repair(history, run_id, again.shared.bundle)
        again.repair(job, plan_repair(history, row, job, {}, (), False))
        tasks = {task["task_key"]: task for task in run_json(history, run_id)["tasks"]}
        assert tasks["bad"]["condition_task"] == {"outcome": "true"}


def test_an_alert_with_an_error_keeps_the_jobs_that_evaluate_it_from_running_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "databricks.yml").write_text(BUNDLE.replace("GREATER_THAN", "GREATER"))
    jobs = all_jobs(load(tmp_path, environ={}))
    with pytest.raises(BundleError, match=r"databricks.yml:20:\d+: 'comparison_operator' is 'GREATER', not one of"):
        refuse_unrunnable(jobs, jobs["nightly"])
    refuse_unrunnable(jobs, jobs["other"])
