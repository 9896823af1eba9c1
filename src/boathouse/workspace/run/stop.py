"""A request to stop that spreads from a run to its tasks, their iterations and the jobs they run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from boathouse.workspace.graph.state_machine import Result


class StopRequest:
    "Set at most once, with the result that whatever is stopped by it gets: CANCELED or TIMEDOUT."

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._calls: list[Callable[[Result], None]] = []
        self._timers: list[threading.Timer] = []
        self.reason: Result | None = None

    def set(self, reason: Result = Result.CANCELED) -> None:
        "Asks to stop."
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            calls = list(self._calls)
        self._event.set()
        for call in calls:
            call(reason)

    def then(self, call: Callable[[Result], None]) -> None:
        "Calls back when stopping is asked for, at once if it has been."
        with self._lock:
            if self.reason is None:
                self._calls.append(call)
                return
        call(self.reason)

    def child(self) -> StopRequest:
        "A request of its own, set by this one too. What is stopped from above is cancelled, whatever the reason there."
        below = StopRequest()
        self.then(lambda _: below.set())
        return below

    def after(self, seconds: float | None) -> None:
        "Sets itself as timed out after so many seconds; None and 0 mean never."
        if seconds:
            timer = threading.Timer(seconds, self.set, [Result.TIMEDOUT])
            timer.daemon = True
            timer.start()
            self._timers.append(timer)

    def over(self) -> None:
        "What it would have stopped is over."
        for timer in self._timers:
            timer.cancel()

    def wait(self, seconds: float) -> bool:
        "Sleeps; true, and early, if stopping is asked for."
        return self._event.wait(seconds)
