"The clocks of `boathouse up`: the real one, and a simulated one that runs faster or jumps from start to start."

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

from boathouse.workspace.durations import SECONDS
from boathouse.workspace.errors import BundleError, Where

AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|days?|d|weeks?|w)")
JUMPING = float("inf")


class Clock:
    """Show the time in seconds since 1970; without `speed` it is the machine's.

    With a speed, it goes on from `position`, so many seconds a second. With the speed `JUMPING` it stands still until `jump`.
    """

    def __init__(self, position: float = 0.0, speed: float | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.speed, self._monotonic = speed, monotonic
        self._position, self._since = position, monotonic()

    @property
    def is_simulated(self) -> bool:
        "Return whether it is another clock than the machine's."
        return self.speed is not None

    @property
    def jumps(self) -> bool:
        "Return whether it stands still until `jump`."
        return self.speed == JUMPING

    def now(self) -> float:
        "Return the present time."
        if self.speed is None:
            return time.time()
        return self._position if self.jumps else self._position + (self._monotonic() - self._since) * self.speed

    def jump(self, to: float) -> None:
        "Set a clock that stands still to a later time."
        self._position = max(self._position, to)


def parse_speed(text: str) -> float:
    "Return the speed of `max`, or of `1day/10s`: the simulated time that passes in a real time. Raises BundleError for another text."
    if text == "max":
        return JUMPING
    amounts = [AMOUNT.fullmatch(part.strip()) for part in text.split("/")]
    seconds = [float(found[1]) * SECONDS[found[2][0]] for found in amounts if found]
    if len(amounts) != 2 or len(seconds) != 2 or not all(seconds):
        raise BundleError(
            f"'{text}' is not a speed.", Where("--speed"), "Write `max`, or simulated time per real time: `1day/10s`, `1h/1s`."
        )
    return seconds[0] / seconds[1]


def time_from_text(text: str, option: str) -> float:
    "Return a date or time as seconds since 1970; without an offset it is UTC. Raises BundleError for another text."
    try:
        found = datetime.fromisoformat(text) if len(text) > 10 else datetime.combine(date.fromisoformat(text), datetime.min.time())
    except ValueError:
        raise BundleError(f"'{text}' is not a date or time.", Where(option), "Write 2013-10-01 or 2013-10-01T06:00.") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def format_time(seconds: float) -> str:
    "Return a time in UTC as text."
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
