"Run jobs on one cluster, and cancel them on request of other processes."

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from boathouse.workspace.bundle.jobs import Job
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.store import History
from boathouse.workspace.notifications.notifier import Notifier
from boathouse.workspace.packages.prepare import AS_IT_IS, Preparation
from boathouse.workspace.parameters.arguments import run_parameters
from boathouse.workspace.run.context import RunContext, Watcher
from boathouse.workspace.run.job_run import POLL, JobRunner, Repair
from boathouse.workspace.run.page import RunPages
from boathouse.workspace.run.stop import StopRequest
from boathouse.workspace.task.spec import AnyCluster

SLOTS = 4


class Runner:
    "Run one job of a bundle, and the jobs that it starts, on one cluster; at most `slots` tasks compute at a time."

    def __init__(
        self,
        cluster: AnyCluster,
        bundle: Bundle,
        jobs: Mapping[str, Job],
        history: History,
        watchers: Sequence[Watcher] = (),
        slots: int = SLOTS,
        preparation: Preparation = AS_IT_IS,
    ) -> None:
        self.history, self.stop, self.pages = history, StopRequest(), RunPages(history)
        self.notifier = Notifier(bundle, jobs, history)
        self.shared = RunContext(cluster, bundle, jobs, history, (self.pages, *watchers, self.notifier), slots, preparation)

    def run(
        self, job: Job, given: Mapping[str, str] | None = None, only: Iterable[str] = (), start: int | None = None
    ) -> tuple[int, Result]:
        "Run a job until it ends, for a planned start if one is given; return the id and the result of the run."
        self.shared.start = self.history.find_start(start) if start is not None else None
        return self._run(JobRunner(self.shared, job, run_parameters(job, given or {}), self.stop, only=tuple(only)))

    def repair(self, job: Job, repair: Repair) -> tuple[int, Result]:
        "Repair an earlier run; return its id and its new result."
        start = self.history.find_run(repair.run_id)["trigger_start"]
        self.shared.start = self.history.find_start(start) if start is not None else None
        return self._run(JobRunner(self.shared, job, repair.parameters, self.stop, repair=repair))

    def _run(self, run: JobRunner) -> tuple[int, Result]:
        over = threading.Event()
        threads = [
            threading.Thread(target=self._heed_cancels, args=(over,), name="cancels", daemon=True),
            threading.Thread(target=self.pages.refresh, args=(over,), name="pages", daemon=True),
        ]
        for thread in threads:
            thread.start()
        with self.notifier:
            try:
                return run.run()
            finally:
                over.set()
                for thread in threads:
                    thread.join()

    def _heed_cancels(self, over: threading.Event) -> None:
        "Stop the runs, and nested runs, whose cancellation another process has requested."
        while not over.wait(POLL):
            for run_id in self.history.cancel_requests():
                if (stop := self.shared.stops.get(run_id)) is not None:
                    stop.set()
