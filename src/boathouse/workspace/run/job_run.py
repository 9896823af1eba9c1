"""Run one job: turn the decisions of `graph` into processes, waits and entries of the history."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from boathouse.workspace.bundle.jobs import COMPUTE, Job, TaskSource
from boathouse.workspace.bundle.yaml_tree import where
from boathouse.workspace.errors import BundleError, CannotStart, Where, did_you_mean
from boathouse.workspace.graph import state_machine as g
from boathouse.workspace.graph.selection import select
from boathouse.workspace.graph.state_machine import Ended, Finish, Launch, Result, Settle, Stop
from boathouse.workspace.history.store import JobRun, TaskEnd, TaskRun
from boathouse.workspace.parameters import references
from boathouse.workspace.parameters.references import Context, TriggerFacts, Upstream
from boathouse.workspace.run.attempt import run_attempt
from boathouse.workspace.run.context import RunContext
from boathouse.workspace.run.stop import StopRequest
from boathouse.workspace.run.trigger import run_time, trigger_facts

QUEUE_SECONDS = 48 * 3600.0
POLL = 0.3


@dataclass(frozen=True)
class Repair:
    """Hold the start of a run: nothing for a new run, or the `number`-th repair of run `run_id`.

    `kept` holds the kept tasks for the graph, and `upstream` their values for the references. `attempts` counts the attempts that each task has had.
    """

    run_id: int = 0
    number: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, g.Settled] = field(default_factory=dict)
    upstream: Mapping[str, Upstream] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)


class JobRunner:
    "Run one job once."

    def __init__(
        self,
        shared: RunContext,
        job: Job,
        parameters: Mapping[str, str],
        stop: StopRequest,
        *,
        parent: TaskRun | None = None,
        only: tuple[str, ...] = (),
        repair: Repair | None = None,
    ) -> None:
        self.shared, self.job, self.stop = shared, job, stop
        self.graph = select_tasks(job, only)
        self.started = run_time(shared.start)
        self.trigger = trigger_facts(shared.start) if parent is None else TriggerFacts("run_job_task")
        self.repair = repair or Repair()
        run_id = self.repair.run_id or shared.history.new_id()
        shared.stops[run_id] = stop
        folder = parent.folder if parent else shared.bundle.state / "runs" / str(run_id)
        context = Context(job.id, job.name, run_id, self.started, {}, repair_count=self.repair.number, trigger=self.trigger)
        try:
            filled = {k: references.render(v, context) for k, v in parameters.items()}
        except CannotStart as e:
            raise BundleError(str(e), where(job.source, "parameters")) from e
        path = parent.path if parent else ()
        parent_id = parent.run_id if parent else None
        names = (job.id, job.key, job.name, shared.bundle.target)
        start = shared.start.start_id if shared.start is not None and parent is None and not self.repair.number else None
        self.this = JobRun(run_id, *names, filled, folder, parent_id, path, self.repair.number, shared.preparation.wheel, start)
        self._upstream: dict[str, Upstream] = dict(self.repair.upstream)
        self._events: queue.SimpleQueue[g.Event] = queue.SimpleQueue()
        self._tasks: dict[str, TaskRun] = {}
        self._stops: dict[str, StopRequest] = {}
        self._begun: dict[tuple[int | None, str, int], float] = {}
        self._failures: dict[str, str] = {}

    def run(self) -> tuple[int, Result]:
        "Run every task that is to run, and return the run's id and result when all have ended."
        self.shared.tell("run_started", self.this)
        refused = self._queue()
        result = refused or self._run_tasks()
        self.stop.over()
        self.shared.tell("run_ended", self.this, result, self._message(result))
        return self.this.run_id, result

    def _queue(self) -> Result | None:
        "Wait until the job may run once more, if its queue is on; return the result of the run if it never starts."
        settings, behind = self.job.settings, None
        limit = 1 if settings.max_concurrent_runs is None else settings.max_concurrent_runs
        queues = limit > 0 and (settings.queue is None or settings.queue.enabled)
        deadline = time.monotonic() + QUEUE_SECONDS
        while (ahead := self.shared.history.admit(self.this, limit)) is not None:
            if not queues or time.monotonic() > deadline:
                return Result.MAXIMUM_CONCURRENT_RUNS_REACHED
            if ahead != behind:
                self.shared.tell("run_queued", self.this, ahead)
                behind = ahead
            if self._patience(POLL):
                return Result.CANCELED
            self.shared.history.close_abandoned()
        return None

    def _patience(self, seconds: float) -> bool:
        "Wait; return True early if the run must stop."
        try:
            return self.stop.wait(seconds)
        except KeyboardInterrupt:
            self.stop.set()
            return True

    def _run_tasks(self) -> Result:
        for position, key in enumerate(self.job.tasks):
            self._tasks[key] = self._task_run(key, position)
            if key not in self.repair.kept:
                self.shared.tell("task_waiting", self._tasks[key])
        self.stop.after(self.job.settings.timeout_seconds)
        self.stop.then(lambda reason: self._events.put(g.Stopped(reason)))
        progress, decisions = g.start_run(self.graph, self.repair.kept)
        while (result := self._carry_out(decisions)) is None:
            progress, decisions = g.apply_event(self.graph, progress, self._next_event())
        return result

    def _next_event(self) -> g.Event:
        while True:
            try:
                return self._events.get()
            except KeyboardInterrupt:
                # The first Ctrl-C ends the run in order; a second one exits at once.
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
                    self.shared.tell("task_ended", self._tasks[key], TaskEnd(result))
                case Stop(key):
                    self._stops[key].set()
                case Finish(result):
                    return result
        return None

    def _launch(self, key: str, attempt: int) -> None:
        if attempt:
            self._tasks[key] = self._task_run(key, self._tasks[key].position, attempt)
            self.shared.tell("task_waiting", self._tasks[key])
        self._stops[key] = self.stop.child()
        upstream = {k: self._upstream[k] for k in self.job.graph.upstream(key) if k in self._upstream}
        work = threading.Thread(target=self._work, args=(self._tasks[key], upstream), name=f"{self.job.key}.{key}", daemon=True)
        work.start()

    def _work(self, task: TaskRun, upstream: dict[str, Upstream]) -> None:
        try:
            self._work_on(task, upstream)
        except BaseException as e:
            # The loop waits for this event. An error in this bookkeeping must end the run, not block it.
            self._failures[task.key] = f"Task {task.key}: {type(e).__name__}: {e}"
            self._events.put(Ended(task.key, Result.FAILED))
            raise

    def _work_on(self, task: TaskRun, upstream: dict[str, Upstream]) -> None:
        source = self.job.tasks[task.key]
        end = self.attempt(task, source, self.references(task, upstream), self._stops[task.key])
        error = "RunExecutionError" if end.message else ""
        self._upstream[task.key] = Upstream(task.run_id, end.result.value.lower(), end.values, error, end.outcome)
        self._failures.pop(task.key, None)  # the message of the previous attempt
        if end.result in g.FAILED and end.message:
            subject = f"Task {task.key} failed" if end.result == Result.FAILED else f"Task {task.key}"
            self._failures[task.key] = f"{subject}: {end.message}"
        self._events.put(Ended(task.key, end.result, end.outcome))

    def attempt(self, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
        "Run one attempt of a task, from the wait for a slot to the last entry in the history."
        interval = (source.task.min_retry_interval_millis or 0) / 1000
        begun = self._begun.get((task.loop, task.key, task.position))
        if task.attempt and begun is not None:
            stop.wait(max(0.0, begun + interval - time.monotonic()))
        computes = source.kind in COMPUTE
        if stop.reason is not None or (computes and not self.shared.take_slot(stop)):
            end = TaskEnd(stop.reason or Result.CANCELED, "Cancelled before it started.")
        else:
            self._begun[task.loop, task.key, task.position] = time.monotonic()
            if not computes:
                stop.after(source.task.timeout_seconds)
            self.shared.tell("task_started", task)
            try:
                end = run_attempt(self, task, source, context, stop)
            finally:
                stop.over()
                if computes:
                    self.shared.slots.release()
        self.shared.tell("task_ended", task, end)
        return end

    def start_child(self, job: Job, given: Mapping[str, str], stop: StopRequest, parent: TaskRun) -> tuple[int, Result]:
        "Run another job for the task `parent` until it ends; return the id and the result of the run."
        return JobRunner(self.shared, job, given, stop, parent=parent).run()

    def references(self, task: TaskRun, upstream: Mapping[str, Upstream]) -> Context:
        "Return the values that the references of a task can read."
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
            repair_count=self.repair.number,
            trigger=self.trigger,
        )

    def _task_run(self, key: str, position: int, attempt: int = 0) -> TaskRun:
        source = self.job.tasks[key]
        attempt += self.repair.attempts.get(key, 0)
        edges = tuple((d.task_key, d.outcome) for d in source.task.depends_on or [])
        folder = attempt_folder(self.this.folder / key, attempt)
        return TaskRun(self.shared.history.new_id(), self.this, key, position, source.kind, folder, attempt, edges)

    def _message(self, result: Result) -> str:
        if result == Result.TIMEDOUT:
            return f"The run took longer than {self.job.settings.timeout_seconds} s."
        if result == Result.CANCELED:
            return "The run was cancelled."
        if result == Result.MAXIMUM_CONCURRENT_RUNS_REACHED:
            return f"Other runs of job '{self.job.key}' have not ended; its max_concurrent_runs is {self.job.settings.max_concurrent_runs or 0}."
        return " ".join(self._failures.values())


def attempt_folder(task_folder: Path, attempt: int) -> Path:
    "Return the folder of an attempt: the task's own folder for the first one, a folder below it for later ones."
    return task_folder / f"attempt-{attempt}" if attempt else task_folder


def select_tasks(job: Job, only: tuple[str, ...]) -> g.Graph:
    "Return the graph of the job, reduced to the tasks of `--only` if any are given."
    try:
        return select(job.graph, only) if only else job.graph
    except KeyError as e:
        key = str(e.args[0])
        raise BundleError(f"job '{job.key}' has no task '{key}'.", Where("--only"), did_you_mean(key, job.tasks)) from e
