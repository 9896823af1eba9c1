"Units of durations, and durations as text for a reader."

from __future__ import annotations

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}  # of each unit, by its first letter


def format_duration(seconds: float | None) -> str:
    "Return seconds as text: `4.2s` below a minute, `21m56s` below an hour, else `1h02m03s`; empty for None, which has not ended."
    if seconds is None:
        return ""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{rest:02}s" if hours else f"{minutes}m{rest:02}s"
