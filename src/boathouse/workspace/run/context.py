"State that the parts of a run share: cluster, bundle, history, watchers, and the slots in which tasks compute."

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.store import History, JobRun, TaskEnd, TaskRun
from boathouse.workspace.history.trigger_starts import TriggerStart
from boathouse.workspace.packages.prepare import Preparation
from boathouse.workspace.parameters.references import Context
from boathouse.workspace.run.stop import StopRequest
from boathouse.workspace.task.spec import AnyCluster


class Watcher(Protocol):
    "Receive the events of a run, as the history and the display do."

    def run_started(self, run: JobRun) -> None: ...
    def run_queued(self, run: JobRun, behind: int) -> None: ...
    def task_waiting(self, task: TaskRun) -> None: ...
    def task_started(self, task: TaskRun) -> None: ...
    def task_ended(self, task: TaskRun, end: TaskEnd) -> None: ...
    def run_ended(self, run: JobRun, result: Result, message: str) -> None: ...


class RunContext:
    "Hold the state that a run shares with its nested runs; at most `slots` of their tasks compute at a time."

    def __init__(
        self,
        cluster: AnyCluster,
        bundle: Bundle,
        jobs: Mapping[str, Job],
        history: History,
        watchers: Sequence[Watcher],
        slots: int,
        preparation: Preparation,
    ) -> None:
        self.start: TriggerStart | None = None  # the planned start that the run carries out
        self.cluster, self.bundle, self.jobs, self.history, self.preparation = cluster, bundle, jobs, history, preparation
        self.slots = threading.BoundedSemaphore(slots)
        self.stops: dict[int, StopRequest] = {}
        self._watchers: tuple[Watcher, ...] = (history, *watchers)

    def tell(self, event: str, *details: Any) -> None:
        "Send an event to every watcher."
        for watcher in self._watchers:
            getattr(watcher, event)(*details)

    def take_slot(self, stop: StopRequest) -> bool:
        "Wait until a task may compute; return False if it was stopped during the wait."
        while not self.slots.acquire(timeout=0.2):
            if stop.reason is not None:
                return False
        return True


class RunningJob(Protocol):
    "The interface of a job run that the attempts of its tasks use."

    shared: RunContext
    job: Job
    this: JobRun

    def attempt(self, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
        "Run one attempt of a task that a loop repeats."
        ...

    def start_child(self, job: Job, given: Mapping[str, str], stop: StopRequest, parent: TaskRun) -> tuple[int, Result]:
        "Run another job for the task `parent` until it ends; return the id and the result of the run."
        ...
