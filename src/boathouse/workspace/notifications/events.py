"""Decide who is notified of what: the recipients of a job or task for an event, and the settings that mute it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from databricks.sdk.service.jobs import JobsHealthMetric

from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.bundle.sdk import JobSettings, Task
from boathouse.workspace.graph.state_machine import SUCCEEDED, Result
from boathouse.workspace.history.store import JobRun, TaskRun
from boathouse.workspace.notifications.outbox import Message
from boathouse.workspace.notifications.transport import DESTINATION, EMAIL

START, SUCCESS, FAILURE, SLOW = "on_start", "on_success", "on_failure", "on_duration_warning_threshold_exceeded"
WATCHED = (START, SUCCESS, FAILURE, SLOW)
SKIPPED = frozenset({Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED, Result.MAXIMUM_CONCURRENT_RUNS_REACHED})
CANCELED = frozenset({Result.CANCELED, Result.UPSTREAM_CANCELED})
VERBS = {START: "started", SUCCESS: "succeeded", FAILURE: "failed"}
ENDINGS = {
    Result.TIMEDOUT: "timed out",
    Result.CANCELED: "was cancelled",
    Result.UPSTREAM_CANCELED: "was skipped: a task before it was cancelled",
    Result.UPSTREAM_FAILED: "was skipped: a task before it failed",
    Result.MAXIMUM_CONCURRENT_RUNS_REACHED: "was skipped",
    Result.SUCCESS_WITH_FAILURES: "succeeded with failures",
}


def event_of(result: Result) -> str | None:
    "Return the event of an ending. A task that is excluded or disabled has none."
    if result in SUCCEEDED:
        return SUCCESS
    return None if result in (Result.EXCLUDED, Result.DISABLED) else FAILURE


def recipients(holder: JobSettings | Task, event: str, result: Result | None = None) -> list[str]:
    "Return the destinations that a job or task names for an event, without those that its settings mute for this result."
    mail, hooks, settings = holder.email_notifications, holder.webhook_notifications, holder.notification_settings
    skips = bool(settings and settings.no_alert_for_skipped_runs)
    muted = (result in SKIPPED and skips) or (result in CANCELED and bool(settings and settings.no_alert_for_canceled_runs))
    if event == FAILURE and muted:
        return []
    quiet_mail = event == FAILURE and result in SKIPPED and bool(mail and mail.no_alert_for_skipped_runs)  # the old key, for mail alone
    addresses = [] if quiet_mail else getattr(mail, event, None) or []
    return [*(EMAIL + one for one in addresses), *(DESTINATION + hook.id for hook in getattr(hooks, event, None) or [])]


def duration_limit(holder: JobSettings | Task) -> int | None:
    "Return the seconds after which a run of the job or task is reported as slow; None without such a rule."
    rules = (holder.health.rules if holder.health else None) or []
    limits = [rule.value for rule in rules if rule.metric == JobsHealthMetric.RUN_DURATION_SECONDS]
    return min(limits, default=None)


def is_last_attempt_only(task: Task) -> bool:
    "Return whether only the last attempt of a task is reported."
    return bool(task.notification_settings and task.notification_settings.alert_on_last_attempt)


def task_source(job: Job, task: TaskRun) -> TaskSource | None:
    "Return the definition of a task of a run, also of one in a loop; None if the job has lost it since."
    inside = task.loop is not None
    return next((source for source in job.every_task() if source.key == task.key and (source.loop is not None) == inside), None)


def run_message(bundle: str, run: JobRun, event: str, at: int, result: Result | None = None, why: str = "", page: str = "") -> Message:
    "Return the message about a run; `at` is the time of the event in milliseconds since 1970, and `page` the address of the run's page."
    subject = f"[{bundle} {run.target}] job '{run.name}' {_verb(event, result)} (run {run.run_id})"
    body = _body(bundle, run, event, at, result, why, page)
    return Message.of(subject, dict(_facts(body)), body)


def task_message(bundle: str, task: TaskRun, event: str, at: int, result: Result | None = None, why: str = "", page: str = "") -> Message:
    "Return the message about one attempt of a task, as `run_message` does."
    run, name = task.run, "/".join(task.path[len(task.run.path) :])
    attempt = f", attempt {task.attempt + 1}" if task.attempt else ""
    subject = f"[{bundle} {run.target}] task '{name}' of job '{run.name}' {_verb(event, result)} (run {run.run_id}{attempt})"
    body = _body(bundle, run, event, at, result, why, page)
    body["task"] = {"task_key": task.key, "run_id": task.run_id, "attempt_number": task.attempt, "log": str(task.folder / "log.txt")}
    return Message.of(subject, dict(_facts(body)), body)


def _verb(event: str, result: Result | None) -> str:
    if event == SLOW:
        return "takes longer than its limit"
    return ENDINGS.get(result, VERBS[event]) if result is not None else VERBS[event]


def _body(bundle: str, run: JobRun, event: str, at: int, result: Result | None, why: str, page: str) -> dict[str, Any]:
    state = {"state": {"result_state": result.value, "state_message": why}} if result is not None else {"state": {"state_message": why}}
    return {
        "event_type": f"jobs.{event}",
        "time": datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds"),
        "bundle": bundle,
        "target": run.target,
        "job": {"job_id": str(run.job_id), "job_key": run.key, "name": run.name},
        "run": {"run_id": str(run.run_id), "run_page_url": page, "job_parameters": dict(run.parameters)},
        **state,
    }


def _facts(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "job", body["job"]["name"]
    yield "run", body["run"]["run_id"]
    if "task" in body:
        yield "task", body["task"]["task_key"]
        yield "attempt", str(body["task"]["attempt_number"] + 1)
        yield "log", body["task"]["log"]
    yield "target", body["target"]
    yield "result", body["state"].get("result_state", "")
    yield "message", body["state"]["state_message"]
    yield "time", body["time"]
    yield "parameters", ", ".join(f"{name}={value}" for name, value in body["run"]["job_parameters"].items())
    yield "page", body["run"]["run_page_url"]
