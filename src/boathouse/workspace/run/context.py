"What the parts of a run share: the cluster, the bundle, the history, the slots in which tasks compute, and who is told what happens."

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.store import History, JobRun, TaskEnd, TaskRun
from boathouse.workspace.packages.prepare import Preparation
from boathouse.workspace.parameters.references import Context
from boathouse.workspace.run.stop import StopRequest
from boathouse.workspace.task.spec import AnyCluster


class Watcher(Protocol):
    "Whoever is told what happens in a run: the history, the display."

    def run_started(self, run: JobRun) -> None: ...
    def run_queued(self, run: JobRun, behind: int) -> None: ...
    def task_waiting(self, task: TaskRun) -> None: ...
    def task_started(self, task: TaskRun) -> None: ...
    def task_ended(self, task: TaskRun, end: TaskEnd) -> None: ...
    def run_ended(self, run: JobRun, result: Result, message: str) -> None: ...


class RunContext:
    "Shared by a run and the runs nested in it; at most `slots` of their tasks compute at a time."

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
        self.cluster, self.bundle, self.jobs, self.history, self.preparation = cluster, bundle, jobs, history, preparation
        self.slots = threading.BoundedSemaphore(slots)
        self.stops: dict[int, StopRequest] = {}
        self._watchers: tuple[Watcher, ...] = (history, *watchers)

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


class RunningJob(Protocol):
    "The run of a job as an attempt of one of its tasks sees it."

    shared: RunContext
    job: Job
    this: JobRun

    def attempt(self, task: TaskRun, source: TaskSource, context: Context, stop: StopRequest) -> TaskEnd:
        "One attempt of a task that a loop repeats."
        ...

    def start_child(self, job: Job, given: Mapping[str, str], stop: StopRequest, parent: TaskRun) -> tuple[int, Result]:
        "Runs another job to its end, as the task `parent`; the id of the run and its result."
        ...
