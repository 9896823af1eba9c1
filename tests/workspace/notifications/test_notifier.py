"""Who is notified of what: jobs and tasks that start, succeed, fail, are skipped, cancelled, tried again, or take too long."""

from __future__ import annotations

import mailbox
import time
from typing import Any

import pytest

from boathouse.workspace.graph.state_machine import Result

CONDITION = "condition_task: {op: EQUAL_TO, left: a, right: a}"
NOTEBOOK = "notebook_task: {notebook_path: n.py}"
ALL = "{on_start: [me@example.com], on_success: [me@example.com], on_failure: [me@example.com]}"
MUTED = "notification_settings: {no_alert_for_skipped_runs: true, no_alert_for_canceled_runs: true}"
LAST = "notification_settings: {alert_on_last_attempt: true}"
SLOW = "health: {rules: [{metric: RUN_DURATION_SECONDS, op: GREATER_THAN, value: 1}]}"


def test_a_job_and_its_tasks_notify_of_start_success_and_failure(scene: Any) -> None:
    made = scene(f"""
    a:
      email_notifications: {ALL}
      tasks:
        - {{task_key: t, {CONDITION}, email_notifications: {ALL}}}
        - {{task_key: u, {NOTEBOOK}, email_notifications: {{on_failure: [you@example.com, me@example.com]}}}}
    """)
    with made.notifier:
        run = made.start()
        assert made.events() == []  # it may have to wait for another run
        made.task(run, "t", Result.SUCCESS)
        made.task(run, "u", Result.FAILED)
        made.end(run, Result.FAILED, "Task u failed: no disk")
    assert made.events() == ["on_start", "t: on_start", "t: on_success", "u: on_failure", "u: on_failure", "on_failure"]
    assert {row["state"] for row in made.rows()} == {"sent"}
    assert made.notifier.lines == [f"6 notifications are in {made.bundle.state / 'mailbox'}, because no mail server is set."]
    mails = {mail["Subject"]: mail for mail in mailbox.mbox(made.bundle.state / "mailbox", create=False)}
    assert sorted(mails) == [
        f"[demo default] job 'Untitled' failed (run {run.run_id})",
        f"[demo default] job 'Untitled' started (run {run.run_id})",
        f"[demo default] task 't' of job 'Untitled' started (run {run.run_id})",
        f"[demo default] task 't' of job 'Untitled' succeeded (run {run.run_id})",
        f"[demo default] task 'u' of job 'Untitled' failed (run {run.run_id})",
    ]
    text = str(mails[f"[demo default] job 'Untitled' failed (run {run.run_id})"].get_payload())
    assert "message: Task u failed: no disk\n" in text
    assert "parameters: day=3Dmonday\n" in text or "parameters: day=monday\n" in text


@pytest.mark.parametrize(
    ("result", "event"),
    [
        (Result.SUCCESS_WITH_FAILURES, ["on_success"]),
        (Result.TIMEDOUT, ["on_failure"]),
        (Result.CANCELED, ["on_failure"]),
        (Result.MAXIMUM_CONCURRENT_RUNS_REACHED, ["on_failure"]),
    ],
)
def test_the_end_of_a_run_is_success_or_failure_and_the_settings_mute_skips_and_cancellations(
    scene: Any, result: Result, event: list[str]
) -> None:
    ends = "{on_success: [me@example.com], on_failure: [me@example.com]}"
    made = scene(f"""
    a: {{email_notifications: {ends}, tasks: [{{task_key: t, {CONDITION}}}]}}
    muted: {{{MUTED}, email_notifications: {ends}, tasks: [{{task_key: t, {CONDITION}}}]}}
    """)
    with made.notifier:
        made.end(made.start("a"), result)
        assert made.events() == event
        made.end(made.start("muted"), result)
    muted = [] if result in (Result.CANCELED, Result.MAXIMUM_CONCURRENT_RUNS_REACHED) else event
    assert made.events() == event + muted


def test_a_task_that_is_skipped_or_cancelled_is_a_failure_unless_muted_and_one_that_is_excluded_is_nothing(scene: Any) -> None:
    failure = "email_notifications: {on_failure: [me@example.com], on_success: [me@example.com]}"
    old = "email_notifications: {on_failure: [me@example.com], no_alert_for_skipped_runs: true}"
    made = scene(f"""
    a:
      tasks:
        - {{task_key: t, {NOTEBOOK}, {failure}}}
        - {{task_key: muted, {NOTEBOOK}, {failure}, {MUTED}}}
        - {{task_key: old, {NOTEBOOK}, {old}, webhook_notifications: {{on_failure: [{{id: gone}}]}}}}
    """)
    with made.notifier:
        run = made.start()
        for key in ("t", "muted", "old"):
            for result in (Result.EXCLUDED, Result.DISABLED, Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED, Result.CANCELED):
                made.task(run, key, result)
    sent = [(row["task_key"], row["destination"]) for row in made.rows()]
    assert sent == [("t", "email:me@example.com")] * 3 + [("old", "destination:gone")] * 2 + [
        ("old", "email:me@example.com"),
        ("old", "destination:gone"),
    ]


def test_each_attempt_is_reported_or_the_last_one_only(scene: Any) -> None:
    failure = f"email_notifications: {ALL}, max_retries: 2"
    made = scene(f"""
    a:
      tasks:
        - {{task_key: each, {NOTEBOOK}, {failure}}}
        - {{task_key: last, {NOTEBOOK}, {failure}, {LAST}}}
        - {{task_key: stopped, {NOTEBOOK}, {failure}, {LAST}}}
    """)

    def attempts(key: str) -> list[tuple[str, int]]:
        return [(row["event"], row["attempt"]) for row in made.rows() if row["task_key"] == key]

    failed = [Result.FAILED] * 3
    with made.notifier:
        run = made.start()
        made.task(run, "each", *failed)
        assert attempts("each") == [(event, n) for n in range(3) for event in ("on_start", "on_failure")]
        made.task(run, "last", *failed)
        assert attempts("last") == [("on_start", 0), ("on_failure", 2)]
        made.task(run, "stopped", Result.FAILED)
        assert attempts("stopped") == [("on_start", 0)]  # two more attempts would follow
        made.end(run, Result.CANCELED)
        assert attempts("stopped") == [("on_start", 0), ("on_failure", 0)]


def test_a_repair_notifies_again_and_counts_its_own_attempts(scene: Any) -> None:
    from dataclasses import replace

    made = scene(f"""
    a:
      email_notifications: {ALL}
      tasks: [{{task_key: t, {NOTEBOOK}, max_retries: 1, email_notifications: {{on_failure: [me@example.com]}}, {LAST}}}]
    """)
    with made.notifier:
        run = made.start()
        made.task(run, "t", Result.FAILED, Result.FAILED)
        made.end(run, Result.FAILED)
        before = made.events()
        assert before == ["on_start", "t: on_failure", "on_failure"]
        again = replace(run, repair=1)
        made.tell("run_started", again)
        made.task(again, "t", Result.FAILED, first=2)
        assert made.events() == [*before, "on_start"]
        made.task(again, "t", Result.FAILED, first=3)
        made.end(again, Result.FAILED)
    assert made.events() == [*before, "on_start", "t: on_failure", "on_failure"]


def test_a_nested_run_and_the_items_of_a_loop_notify_by_their_own_settings(scene: Any) -> None:
    inner = f"{{task_key: t, {NOTEBOOK}, email_notifications: {{on_failure: [item@example.com]}}}}"
    made = scene(f"""
    a:
      email_notifications: {{on_success: [outer@example.com]}}
      tasks:
        - {{task_key: month, run_job_task: {{job_id: "${{resources.jobs.b.id}}"}}}}
        - {{task_key: t, for_each_task: {{inputs: "[1]", task: {inner}}}, email_notifications: {{on_failure: [loop@example.com]}}}}
    b: {{email_notifications: {{on_failure: [inner@example.com]}}, tasks: [{{task_key: t, {NOTEBOOK}}}]}}
    """)
    with made.notifier:
        run = made.start("a")
        month = made.task(run, "month")
        below = made.start("b", month)
        made.task(below, "t", Result.FAILED)
        made.end(below, Result.FAILED)
        loop = made.task(run, "t")
        made.task(run, "t", Result.FAILED, loop=loop, item="1")
        made.end(run, Result.SUCCESS_WITH_FAILURES)
    assert [row["destination"].removeprefix("email:") for row in made.rows()] == [
        *("item@example.com", "outer@example.com", "inner@example.com"),
    ]


def test_a_run_and_a_task_that_take_too_long_are_reported_once_while_they_run(scene: Any, until: Any) -> None:
    slow = f"email_notifications: {{on_duration_warning_threshold_exceeded: [me@example.com]}}, {SLOW}"
    made = scene(f"a: {{{slow}, tasks: [{{task_key: t, {NOTEBOOK}, {slow}}}, {{task_key: quick, {NOTEBOOK}, {slow}}}]}}")
    with made.notifier:
        run = made.start()
        made.task(run, "quick", Result.SUCCESS)
        made.task(run, "t")
        assert until(lambda: len(made.events()) == 2, 20)
        time.sleep(0.3)
        made.end(run, Result.SUCCESS)
    warning = "on_duration_warning_threshold_exceeded"
    assert sorted(made.events()) == [warning, f"t: {warning}"]


def test_a_fault_in_the_notifier_is_reported_and_changes_no_run(scene: Any) -> None:
    made = scene(f"a: {{email_notifications: {ALL}, tasks: [{{task_key: t, {CONDITION}}}]}}")
    with made.notifier:
        made.notifier._sender.outbox.close()
        run = made.start()
        made.task(run, "t", Result.SUCCESS)
        made.end(run, Result.SUCCESS)
    assert made.history.find_run(run.run_id)["result_state"] == "SUCCESS"
    assert made.notifier.lines == ["a notification could not be recorded: ProgrammingError: Cannot operate on a closed database."] * 2
