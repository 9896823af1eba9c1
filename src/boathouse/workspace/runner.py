"""Runs a job: takes the decisions of `graph` and turns them into processes, waits and entries of the history."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from boathouse.workspace import graph as g
from boathouse.workspace import references
from boathouse.workspace.attempt import perform
from boathouse.workspace.bundle import Bundle
from boathouse.workspace.cluster import Cluster
from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.graph import Ended, Finish, Launch, Result, Settle, Stop
from boathouse.workspace.history import History, JobRun, TaskEnd, TaskRun
from boathouse.workspace.jobs import COMPUTE, Job, TaskSource
from boathouse.workspace.packages import AS_IT_IS, Preparation
from boathouse.workspace.parameters import run_parameters
from boathouse.workspace.references import Context, Upstream
from boathouse.workspace.selection import select
from boathouse.workspace.stop import StopRequest

SLOTS = 4


class Watcher(Protocol):
    "Whoever is told what happens in a run: the history, the display."

    def run_started(self, run: JobRun) -> None: ...
    def task_waiting(self, task: TaskRun) -> None: ...
    def task_started(self, task: TaskRun) -> None: ...
    def task_ended(self, task: TaskRun, end: TaskEnd) -> None: ...
    def run_ended(self, run: JobRun, result: Result, message: str) -> None: ...


class Runner:
    "Runs one job of a bundle, and the jobs it runs, on one cluster; at most `slots` tasks compute at a time."

    def __init__(
        self,
        cluster: Cluster,
        bundle: Bundle,
        jobs: Mapping[str, Job],
        history: History,
        watchers: Sequence[Watcher] = (),
        slots: int = SLOTS,
        preparation: Preparation = AS_IT_IS,
    ) -> None:
        self.cluster, self.bundle, self.jobs, self.history, self.preparation = cluster, bundle, jobs, history, preparation
        self.slots = threading.BoundedSemaphore(slots)
        self.stop = StopRequest()
        self._watchers: tuple[Watcher, ...] = (history, *watchers)

    def run(self, job: Job, given: Mapping[str, str] | None = None, only: Iterable[str] = ()) -> tuple[int, Result]:
        "Runs a job to its end; the id of the run and its result."
        return JobRunner(self, job, run_parameters(job, given or {}), self.stop, only=tuple(only)).run()

    def tell(self, event: str, *details: Any) -> None:
        "Tells every watcher."
        for watcher in self._watchers:
            getattr(watcher, event)(*details)

    def take_slot(self, stop: StopRequest) -> bool:
        "Waits until a task may compute; false if it was stopped while waiting."
        while not self.slots.acquire(timeout=0.2):
            if stop.reason is not None:
                return False
        return True


class JobRunner:
    "One run of one job."

    def __init__(
        self,
        runner: Runner,
        job: Job,
        parameters: Mapping[str, str],
        stop: StopRequest,
        *,
        parent: TaskRun | None = None,
        only: tuple[str, ...] = (),
    ) -> None:
        self.runner, self.job, self.stop = runner, job, stop
        self.graph = selected(job, only)
        self.started = references.utc_now()
        run_id = runner.history.new_id()
        folder = parent.folder if parent else runner.bundle.state / "runs" / str(run_id)
        context = Context(job.id, job.name, run_id, self.started, {})
        filled = {k: references.render(v, context) for k, v in parameters.items()}
        path = parent.path if parent else ()
        parent_id = parent.run_id if parent else None
        self.this = JobRun(run_id, job.id, job.key, job.name, runner.bundle.target, filled, folder, parent_id, path)
        self._upstream: dict[str, Upstream] = {}
        self._events: queue.SimpleQueue[g.Event] = queue.SimpleQueue()
        self._tasks: dict[str, TaskRun] = {}
        self._stops: dict[str, StopRequest] = {}
        self._begun: dict[tuple[int | None, str, int], float] = {}
        self._failures: list[str] = []

    def run(self) -> tuple[int, Result]:
        "Runs every task that is to run, and returns when nothing of it is left."
        self.runner.tell("run_started", self.this)
        for position, key in enumerate(self.job.tasks):
            self._tasks[key] = self._task_run(key, position)
            self.runner.tell("task_waiting", self._tasks[key])
        self.stop.after(self.job.settings.timeout_seconds)
        self.stop.then(lambda reason: self._events.put(g.Stopped(reason)))
        progress, decisions = g.start(self.graph)
        while (result := self._carry_out(decisions)) is None:
            progress, decisions = g.after(self.graph, progress, self._next_event())
        self.stop.over()
        self.runner.tell("run_ended", self.this, result, self._message(result))
        return self.this.run_id, result

    def _next_event(self) -> g.Event:
        while True:
            try:
                return self._events.get()
            except KeyboardInterrupt:
                # The first Ctrl-C ends the run in order; a second one while it ends leaves at once.
                if self.stop.reason is not None:
                    raise
                self.stop.set()

    def _carry_out(self, decisions: list[g.Decision]) -> Result | None:
        for decision in decisions:
            match decision:
                case Launch(key, attempt):
                    self._launch(key, attempt)
                case Settle(key, result):
                    self._upstream[key] = Upstream(self._tasks[key].run_id, result.value.lower())
                    self.runner.tell("task_ended", self._tasks[key], TaskEnd(result))
                case Stop(key):
                    self._stops[key].set()
                case Finish(result):
                    return result
        return None

    def _launch(self, key: str, attempt: int) -> None:
        if attempt:
            self._tasks[key] = self._task_run(key, self._tasks[key].position, attempt)
            self.runner.tell("task_waiting", self._tasks[key])
        self._stops[key] = self.stop.child()
        upstream = {k: self._upstream[k] for k in self.job.graph.upstream(key) if k in self._upstream}
        work = threading.Thread(target=self._work, args=(self._tasks[key], upstream), name=f"{self.job.key}.{key}", daemon=True)
        work.start()

    def _work(self, task: TaskRun, upstream: dict[str, Upstream]) -> None:
        try:
            self._work_on(task, upstream)
        except BaseException as e:
            # The loop waits for this event; a fault in the bookkeeping itself must end the run, not hang it.
            self._failures.append(f"Task {task.key}: {type(e).__name__}: {e}")
            self._events.put(Ended(task.key, Result.FAILED))
            raise

    def _work_on(self, task: TaskRun, upstream: dict[str, Upstream]) -> None:
        source = self.job.tasks[task.key]
        end = self.attempt(task, source, self.context(task, upstream), self._stops[task.key])
        self._upstream[task.key] = Upstream(task.run_id, end.result.value.lower(), end.values, "RunExecutionError" if end.message else "")
        if end.result in g.FAILED and end.message:
            self._failures.append(
                f"Task {task.key} failed: {end.message}" if end.result == Result.FAILED else f"Task {task.key}: {end.message}"
            )
        self._events.put(Ended(task.key, end.result, end.outcome))

    def attempt(self, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
        "One attempt of one task from its wait for a slot to its last entry in the history."
        interval = (source.task.min_retry_interval_millis or 0) / 1000
        begun = self._begun.get((task.loop, task.key, task.position))
        if task.attempt and begun is not None:
            stop.wait(max(0.0, begun + interval - time.monotonic()))
        computes = source.kind in COMPUTE
        if stop.reason is not None or (computes and not self.runner.take_slot(stop)):
            end = TaskEnd(stop.reason or Result.CANCELED, "Cancelled before it started.")
        else:
            self._begun[task.loop, task.key, task.position] = time.monotonic()
            stop.after(source.task.timeout_seconds)
            self.runner.tell("task_started", task)
            try:
                end = perform(self, task, source, context, stop)
            finally:
                stop.over()
                if computes:
                    self.runner.slots.release()
        self.runner.tell("task_ended", task, end)
        return end

    def context(self, task: TaskRun, upstream: Mapping[str, Upstream]) -> Context:
        "What the references of a task can read."
        return Context(
            self.job.id,
            self.job.name,
            self.this.run_id,
            self.started,
            self.this.parameters,
            task=task.key,
            task_run_id=task.run_id,
            execution=task.attempt + 1,
            tasks=upstream,
        )

    def _task_run(self, key: str, position: int, attempt: int = 0) -> TaskRun:
        source = self.job.tasks[key]
        edges = tuple((d.task_key, d.outcome) for d in source.task.depends_on or [])
        folder = attempt_folder(self.this.folder / key, attempt)
        return TaskRun(self.runner.history.new_id(), self.this, key, position, source.kind, folder, attempt, edges)

    def _message(self, result: Result) -> str:
        if result == Result.TIMEDOUT:
            return f"The run took longer than {self.job.settings.timeout_seconds} s."
        if result == Result.CANCELED:
            return "The run was cancelled."
        return " ".join(self._failures)


def attempt_folder(task_folder: Path, attempt: int) -> Path:
    "Where an attempt keeps its log: the first one in the task's own folder, later ones below it."
    return task_folder / f"attempt-{attempt}" if attempt else task_folder


def selected(job: Job, only: tuple[str, ...]) -> g.Graph:
    "The job's graph, reduced to the tasks of `--only` if there are any."
    try:
        return select(job.graph, only) if only else job.graph
    except KeyError as e:
        key = str(e.args[0])
        raise BundleError(f"job '{job.key}' has no task '{key}'.", hint=did_you_mean(key, job.tasks)) from e
