"""Watch runs and notify by the settings of their jobs and tasks. A fault in here is reported and never changes a run."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from boathouse.workspace.bundle.jobs import Job, TaskSource, node_of
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.sdk import JobSettings, Task
from boathouse.workspace.graph.state_machine import Result, is_retried
from boathouse.workspace.history.run_tree import PAGE, run_folder
from boathouse.workspace.history.store import History, JobRun, TaskEnd, TaskRun, now_ms
from boathouse.workspace.notifications import events
from boathouse.workspace.notifications.events import FAILURE, SLOW, START
from boathouse.workspace.notifications.outbox import Occasion
from boathouse.workspace.notifications.sender import Sender
from boathouse.workspace.notifications.settings import read_settings

REPORTED_FOR = 24 * 3600 * 1000  # milliseconds for which the end of a run whose process was killed is news


class Notifier:
    "Notify of the runs of a bundle while its `with` block runs; the block ends when every notification has been tried."

    def __init__(self, bundle: Bundle, jobs: Mapping[str, Job], history: History) -> None:
        self.bundle, self.jobs, self.history = bundle, jobs, history
        self.lines: list[str] = []  # what could not be sent, for the person who started the run
        self._settings = read_settings(bundle.root, bundle.target)
        self._sender: Sender | None = None
        self._lock = threading.RLock()
        self._begun = set[tuple[int, int]]()
        self._first: dict[tuple[object, ...], int] = {}
        self._withheld: dict[tuple[object, ...], Callable[[], None]] = {}
        self._timers: dict[int, threading.Timer] = {}

    def __enter__(self) -> Self:
        with self._guard():
            self._sender = Sender(self.history.path.parent, self._settings)
            self._sender.resume()
            self._report_abandoned()
        return self

    def __exit__(self, *_: object) -> None:
        for timer in list(self._timers.values()):
            timer.cancel()
        with self._guard():
            if self._sender is not None:
                self._sender.close()
                self.lines += self._sender.report()

    def run_started(self, run: JobRun) -> None:
        "Do nothing: the run may have to wait in its queue."

    def run_queued(self, run: JobRun, behind: int) -> None:
        "Do nothing: nobody is notified of a wait."

    def task_waiting(self, task: TaskRun) -> None:
        "Notify that the run has begun, when the first of its tasks waits."
        with self._guard(), self._lock:
            slot = _slot(task)
            if task.attempt > self._first.setdefault(slot, task.attempt):
                self._withheld.pop(slot, None)  # another attempt follows after all
            if (begun := (task.run.run_id, task.run.repair)) not in self._begun:
                self._begun.add(begun)
                self._of_run(task.run, START)
                self._watch(task.run.run_id, self.jobs[task.run.key].settings, partial(self._of_run, task.run, SLOW))

    def task_started(self, task: TaskRun) -> None:
        "Notify that an attempt has begun."
        with self._guard():
            if (source := self._source(task)) is not None:
                if not (task.attempt > self._first.get(_slot(task), 0) and events.is_last_attempt_only(source.task)):
                    self._of_task(task, source.task, START)
                self._watch(task.run_id, source.task, partial(self._of_task, task, source.task, SLOW))

    def task_ended(self, task: TaskRun, end: TaskEnd) -> None:
        "Notify how an attempt has ended."
        with self._guard(), self._lock:
            self._unwatch(task.run_id)
            source, event = self._source(task), events.event_of(end.result)
            if source is None or event is None:
                return
            send = partial(self._of_task, task, source.task, event, now_ms(), end.result, end.message)
            if event == FAILURE and events.is_last_attempt_only(source.task) and self._has_next(task, source, end.result):
                self._withheld[_slot(task)] = send  # unless the run is stopped before the next attempt
            else:
                send()

    def run_ended(self, run: JobRun, result: Result, message: str) -> None:
        "Notify how the run has ended."
        with self._guard(), self._lock:
            self._unwatch(run.run_id)
            for slot in [slot for slot in self._withheld if slot[:2] == (run.run_id, run.repair)]:
                self._withheld.pop(slot)()
            if (event := events.event_of(result)) is not None:
                self._of_run(run, event, now_ms(), result, message)

    def _of_run(self, run: JobRun, event: str, at: int | None = None, result: Result | None = None, why: str = "") -> None:
        wanted = events.recipients(self.jobs[run.key].settings, event, result)
        if wanted and self._sender is not None:
            message = events.run_message(self.bundle.name, run, event, at or now_ms(), result, why, _page(run))
            self._sender.post(Occasion(event, run.run_id, run.repair), message, wanted)

    def _of_task(
        self, task: TaskRun, settings: Task, event: str, at: int | None = None, result: Result | None = None, why: str = ""
    ) -> None:
        wanted = events.recipients(settings, event, result)
        if wanted and self._sender is not None:
            message = events.task_message(self.bundle.name, task, event, at or now_ms(), result, why, _page(task.run))
            self._sender.post(Occasion(event, task.run.run_id, task.attempt, task.run_id, task.key), message, wanted)

    def _source(self, task: TaskRun) -> TaskSource | None:
        job = self.jobs.get(task.run.key)
        return events.task_source(job, task) if job is not None else None

    def _has_next(self, task: TaskRun, source: TaskSource, result: Result) -> bool:
        return is_retried(node_of(source.task), result, task.attempt - self._first.get(_slot(task), 0))

    def _watch(self, number: int, holder: JobSettings | Task, warn: Callable[[], None]) -> None:
        limit = events.duration_limit(holder)
        if limit is not None and events.recipients(holder, SLOW):
            self._timers[number] = timer = threading.Timer(limit, self._warn, [number, warn])
            timer.daemon = True
            timer.start()

    def _warn(self, number: int, warn: Callable[[], None]) -> None:
        with self._guard(), self._lock:
            if self._timers.pop(number, None) is not None:  # it may have ended just now
                warn()

    def _unwatch(self, number: int) -> None:
        if (timer := self._timers.pop(number, None)) is not None:
            timer.cancel()

    def _report_abandoned(self) -> None:
        "Notify of the runs whose process was killed, and of the tasks that it was running."
        since = now_ms() - REPORTED_FOR
        for row in self.history.rows(
            "SELECT * FROM runs WHERE life_cycle_state = 'INTERNAL_ERROR' AND end_time > ? ORDER BY run_id", since
        ):
            if row["job_key"] not in self.jobs:
                continue
            run, result = _job_run(self.history, row), Result(row["result_state"])
            broken = (
                "SELECT * FROM task_runs WHERE job_run = ? AND life_cycle_state = 'INTERNAL_ERROR' AND state_message = ? ORDER BY run_id"
            )
            for task_row in self.history.rows(broken, run.run_id, row["state_message"]):
                task = _task_run(run, task_row)
                if (source := self._source(task)) is not None:
                    self._of_task(task, source.task, FAILURE, task_row["end_time"], Result(task_row["result_state"]), row["state_message"])
            self._of_run(run, FAILURE, row["end_time"], result, row["state_message"])

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except Exception as e:
            self.lines.append(f"a notification could not be recorded: {type(e).__name__}: {e}")


def _slot(task: TaskRun) -> tuple[object, ...]:
    "Return what the attempts of a task, or of an item of a loop, have in common."
    return (task.run.run_id, task.run.repair, task.loop, task.key, task.position)


def _page(run: JobRun) -> str:
    return (run.folder / PAGE).resolve().as_uri()


def _job_run(history: History, row: sqlite3.Row) -> JobRun:
    names = (row["job_id"], row["job_key"], row["job_name"], row["target"])
    folder, given = run_folder(history, row), json.loads(row["parameters"])
    return JobRun(row["run_id"], *names, given, folder, row["parent_task_run"], repair=row["repair_count"])


def _task_run(run: JobRun, row: sqlite3.Row) -> TaskRun:
    where = (row["task_key"], row["position"], row["kind"], Path(row["folder"]))
    return TaskRun(row["run_id"], run, *where, row["attempt_number"], loop=row["loop_run"], item=row["item"])
