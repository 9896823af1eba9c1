"""The loop of `boathouse up`: observe, evaluate, record the starts that are due, launch them.

A start is recorded in the same transaction as the state of its trigger, and before its process. So a kill at any moment loses none and doubles none.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace

from boathouse.workspace.triggers.clock import Clock, format_time
from boathouse.workspace.triggers.evaluate import GRACE, DueStart, TriggerState, arm, evaluate, next_time
from boathouse.workspace.triggers.launch import Launcher
from boathouse.workspace.triggers.observe import Observer
from boathouse.workspace.triggers.settings import TriggeredJobs
from boathouse.workspace.triggers.store import REAL, TriggerStore

POLL = 1.0  # seconds between two observations
QUICK = 0.05  # the same while a clock that jumps waits for a run
BEFORE = 1e-3  # the last moment before the end


class Service:
    "Start the armed jobs until the clock shows `until`, or a stop is requested."

    def __init__(
        self,
        triggers: TriggeredJobs,
        clock: Clock,
        store: TriggerStore,
        launcher: Launcher,
        say: Callable[[str], None],
        until: float | None = None,
    ) -> None:
        self.triggers, self.clock, self.store, self.launcher, self._say, self.until = triggers, clock, store, launcher, say, until
        self.observer = Observer(store.history.path.parent, store.history, store.clock)
        earlier = store.states()
        self.states = {job: arm(trigger, clock.now(), earlier.get(job)) for job, trigger in triggers.armed.items()}
        self._written: dict[str, TriggerState] = {}
        self._position = 0.0
        self._trouble = ""
        self._over = False

    def run(self, stop: threading.Event) -> bool:
        "Work until the end of the clock, or until `stop` is set; return whether the end was reached."
        while not stop.is_set():
            try:
                pause = self.step()
                self._trouble = ""
            except (OSError, sqlite3.Error) as e:  # a full disk, a locked database: the next step may succeed
                pause = POLL
                if str(e) != self._trouble:
                    self._trouble = str(e)
                    self._say(f"{type(e).__name__}: {e}; the next attempt follows")
            if pause is None:
                if self.store.clock != REAL:
                    self.store.end_clock()
                return True
            stop.wait(pause)
        return False

    def step(self) -> float | None:
        "Do what is due; return the seconds until the next step, None at the end."
        for run_id in self.store.history.close_abandoned():
            from boathouse.workspace.run.page import try_write_page  # takes memory that most of these processes never need

            try_write_page(self.store.history, run_id)
        left = self.launcher.step()
        if self._over:
            return POLL / 5 if left else None
        if self.clock.jumps and left:
            return QUICK
        shown = self.clock.now()
        self._over = self.until is not None and shown >= self.until  # the triggers are evaluated for the last time
        if self._evaluate(min(shown, self.until - BEFORE) if self.until is not None else shown):
            left = self.launcher.step()
            return QUICK if self.clock.is_simulated else POLL
        if self._over:
            return POLL / 5 if left else None
        return self._jump() if self.clock.jumps else POLL / 5 if self.clock.is_simulated else POLL

    def _jump(self) -> float | None:
        "Set the clock to the next planned start, or to the end; return None if there is neither."
        planned = [time for job, trigger in self.triggers.armed.items() if (time := next_time(trigger, self.states[job])) is not None]
        to = min([*planned, *([self.until] if self.until is not None else [])], default=None)
        if to is None:
            return None
        self.clock.jump(to)
        return 0.0

    def _evaluate(self, now: float) -> bool:
        "Evaluate every trigger and record what has changed; return whether a start was recorded."
        due, changed, states = list[tuple[str, str, DueStart]](), dict[str, TriggerState](), dict[str, TriggerState]()
        for job, trigger in self.triggers.armed.items():
            observed = self.observer.observe(job, trigger)
            decision = evaluate(trigger, self.states[job], observed, now, None if self.clock.is_simulated else GRACE)
            if decision.missed is not None:
                self._say(
                    f"{job}: missed its start of {format_time(decision.missed)} UTC, and later ones: `up` did not run, or the machine slept"
                )
            due += [(job, trigger.type, start) for start in decision.starts]
            states[job] = decision.state
            if decision.starts or replace(decision.state, seen=0.0) != self._written.get(job):
                changed[job] = decision.state
        made = []
        if due or changed or (self.clock.is_simulated and now != self._position):
            made = self.store.record(now, changed, sorted(due, key=lambda one: one[2].planned))
        self.states, self._position = states, now  # only what is recorded counts
        self._written |= {job: replace(state, seen=0.0) for job, state in changed.items()}
        return bool(made)
