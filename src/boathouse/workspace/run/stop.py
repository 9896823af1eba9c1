"""Stop requests, which spread from a run to its tasks, their iterations and the jobs that they run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from boathouse.workspace.graph.state_machine import Result


class StopRequest:
    "A request to stop. It is set at most once, with the result of everything that it stops: CANCELED or TIMEDOUT."

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._calls: list[Callable[[Result], None]] = []
        self._timers: list[threading.Timer] = []
        self.reason: Result | None = None

    def set(self, reason: Result = Result.CANCELED) -> None:
        "Request the stop."
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            calls = list(self._calls)
        self._event.set()
        for call in calls:
            call(reason)

    def then(self, call: Callable[[Result], None]) -> None:
        "Call a function when the stop is requested; at once if it already was."
        with self._lock:
            if self.reason is None:
                self._calls.append(call)
                return
        call(self.reason)

    def child(self) -> StopRequest:
        "Return a separate request that this one also sets. Everything below it is then canceled, whatever the reason here."
        below = StopRequest()
        self.then(lambda _: below.set())
        return below

    def after(self, seconds: float | None) -> None:
        "Request a stop with TIMEDOUT after `seconds`; None and 0 mean never."
        if seconds:
            timer = threading.Timer(seconds, self.set, [Result.TIMEDOUT])
            timer.daemon = True
            timer.start()
            self._timers.append(timer)

    def over(self) -> None:
        "Mark the work as ended, so that there is nothing left to stop."
        for timer in self._timers:
            timer.cancel()

    def wait(self, seconds: float) -> bool:
        "Sleep; return True early if the stop is requested."
        return self._event.wait(seconds)
