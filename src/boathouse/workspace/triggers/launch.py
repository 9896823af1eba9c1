"""Launch the process of each planned start, and follow it: until it claims the start, and until its run or evaluation has ended.

A process is in its own session, so that a run goes on when `boathouse up` is killed. One that dies before it claims its start is launched again.
The process of an alert claims its start by the record of its evaluation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from boathouse.workspace.bundle.jobs import Job
from boathouse.workspace.history.store import is_process_alive
from boathouse.workspace.history.trigger_starts import TriggerStart, alert_key
from boathouse.workspace.triggers.store import OpenStart, TriggerStore

MOST_LAUNCHES = 5
MOST_EVALUATIONS = 4  # alerts that are due at the same time
SHOWN = 2  # lines of the log that are the reason of a start without a run


@dataclass(frozen=True)
class StartEvent:
    "Report that a start was launched, or that it has ended: with its run, or without one and the reason."

    start: TriggerStart
    run_id: int | None = None
    result: str = ""
    message: str = ""
    seconds: float | None = None


class Launcher:
    "Launch the starts of one target in the order in which they were planned; `words` name the bundle and its target on the command line."

    def __init__(
        self, store: TriggerStore, jobs: Mapping[str, Job], root: Path, words: Sequence[str], tell: Callable[[StartEvent], None]
    ) -> None:
        self.store, self.jobs, self.root, self.words, self._tell = store, jobs, root, tuple(words), tell
        self.logs = store.history.path.parent / "starts"
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def step(self) -> int:
        "Launch what can be launched and report what has ended; return the number of starts that have not."
        self._children = {pid: child for pid, child in self._children.items() if child.poll() is None}
        waiting = set[str]()  # jobs with a start that no process has claimed: their next ones keep the order
        active = dict[str, int]()
        left = 0
        for one in self.store.open_starts():
            job = one.start.job_key
            if one.ended is not None:
                self._report(one)
                continue
            left += 1
            if one.run_id is not None:
                active[job] = active.get(job, 0) + 1
            elif one.start.pid is not None and is_process_alive(one.start.pid, one.start.pid_started or 0.0):
                waiting.add(job)
            elif one.start.launches >= MOST_LAUNCHES:
                left -= self._give_up(one.start)
            elif job not in waiting and self._may_launch(job, waiting, active):
                self._launch(one.start)
                waiting.add(job)
        return left

    def _may_launch(self, job: str, waiting: set[str], active: Mapping[str, int]) -> bool:
        if alert_key(job) is not None:
            return sum(alert_key(other) is not None for other in waiting) < MOST_EVALUATIONS
        return active.get(job, 0) <= self._at_once(job)

    def _at_once(self, job: str) -> int:
        "Return how many active runs of a job let the next process start, which then waits in the queue: the others wait here."
        settings = self.jobs[job].settings if job in self.jobs else None
        if settings is None or (settings.queue is not None and not settings.queue.enabled) or settings.max_concurrent_runs == 0:
            return sys.maxsize
        return settings.max_concurrent_runs or 1

    def _launch(self, start: TriggerStart) -> None:
        self.logs.mkdir(exist_ok=True)
        alert = alert_key(start.job_key)
        task = ("run", start.job_key) if alert is None else ("alerts", "run", alert)
        words = (*task, "--trigger-start", str(start.start_id), *self.words)
        command = [sys.executable, "-P", "-m", "boathouse.workspace.cli.entry", *words]
        try:
            with self._log(start).open("ab") as log:
                child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root, start_new_session=True, env=os.environ.copy()
                )
            began = psutil.Process(child.pid).create_time()
        except (OSError, psutil.Error) as e:  # no memory, no processes: the next step tries again
            with self._log(start).open("a") as log:
                log.write(f"{type(e).__name__}: {e}\n")
            self.store.launched(start)
            return
        self._children[child.pid] = child
        self.store.launched(start, child.pid, began)
        if not start.launches:
            self._tell(StartEvent(start))

    def _give_up(self, start: TriggerStart) -> bool:
        lines = (
            [line for line in self._log(start).read_text(errors="replace").splitlines() if line.strip()]
            if self._log(start).is_file()
            else []
        )
        work = "run began" if alert_key(start.job_key) is None else "evaluation was recorded"
        why = f"{MOST_LAUNCHES} processes ended before its {work}: {' '.join(lines[-SHOWN:]) or 'they left no message'}"
        if not self.store.give_up(start, why):
            return False
        self._tell(StartEvent(start, result="FAILED", message=why))
        return True

    def _report(self, one: OpenStart) -> None:
        seconds = (one.ended - one.begun) / 1000 if one.ended is not None and one.begun is not None else None
        self.store.settle(one.start)
        self._tell(StartEvent(one.start, one.run_id, one.result or "", one.message, seconds))

    def _log(self, start: TriggerStart) -> Path:
        return self.logs / f"{start.start_id}.log"
