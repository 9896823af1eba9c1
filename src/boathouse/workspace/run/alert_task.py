"Carry out an `alert_task`: evaluate an alert of the bundle on the run's cluster, and notify."

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from boathouse.workspace.alerts.definition import Recipients, alert_by_id, task_recipients
from boathouse.workspace.alerts.evaluation import ERROR
from boathouse.workspace.alerts.watch import Evaluated, Query, evaluate_alert
from boathouse.workspace.bundle.catalogs import named_catalogs
from boathouse.workspace.bundle.jobs import TaskSource
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.store import TaskEnd, TaskRun, now_ms
from boathouse.workspace.notifications.sender import Sender
from boathouse.workspace.notifications.settings import read_settings
from boathouse.workspace.parameters.references import Context
from boathouse.workspace.run.context import RunningJob
from boathouse.workspace.run.stop import StopRequest

POLL = 0.1


class _Stopped(Exception):
    "The task was stopped while its query ran."


def run_alert(run: RunningJob, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
    "Evaluate the alert of a task. The task fails if the alert cannot be evaluated, and succeeds whether it is triggered or not."
    shared = run.shared
    alert = alert_by_id(shared.bundle, source.body.alert_id)
    given = task_recipients(source.body)
    recipients = Recipients(f"{alert.key} by {run.job.key}.{task.key}", given) if given else None
    catalogs = named_catalogs(shared.bundle, run.this.parameters)
    query = _interruptible(lambda text: shared.cluster.sql(text, shared.bundle.catalog, catalogs), stop)
    try:
        with Sender(shared.history.path.parent, read_settings(shared.bundle.root, shared.bundle.target)) as sender:
            one = evaluate_alert(shared.bundle, alert, query, sender, now_ms, recipients=recipients)
    except _Stopped:
        assert stop.reason is not None
        took = f"It took longer than {source.task.timeout_seconds} s." if stop.reason == Result.TIMEDOUT else "Cancelled."
        return TaskEnd(stop.reason, took)
    _write_log(task, one, sender.report())
    if one.result.state == ERROR:
        return TaskEnd(Result.FAILED, f"alert '{alert.key}' could not be evaluated: {one.result.message}", outcome=ERROR)
    return TaskEnd(Result.SUCCESS, outcome=one.result.state)


def _interruptible(query: Query, stop: StopRequest) -> Query:
    "Return the query with a wait that ends when the task is stopped; the cluster then finishes the statement for nobody."

    def wait(text: str) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        answer = Future[tuple[Sequence[str], Sequence[Sequence[Any]]]]()

        def work() -> None:
            try:
                answer.set_result(query(text))
            except BaseException as e:
                answer.set_exception(e)  # `result` raises it in the thread of the task

        threading.Thread(target=work, name="alert query", daemon=True).start()
        while not answer.done():
            if stop.wait(POLL):
                raise _Stopped
        return answer.result()

    return wait


def _write_log(task: TaskRun, one: Evaluated, faults: list[str]) -> None:
    result = one.result
    compared = {"value": result.value, "threshold": result.threshold}
    lines = [f"alert {one.alert.key}: {result.state}", *(f"{name}: {value}" for name, value in compared.items() if value is not None)]
    lines += [result.message] if result.message else []
    lines += [f"notified: {one.notified or 'nobody'}", *faults]
    task.folder.mkdir(parents=True, exist_ok=True)
    (task.folder / "log.txt").write_text("".join(f"{line}\n" for line in lines))
