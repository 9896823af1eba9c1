"""Decide which starts are due: a pure function of a trigger, its state, what was observed, and the time. It has no effects and reads no clock.

Times are seconds since 1970. An observation maps names to fingerprints: tables to versions, files to sizes and times, events of models to versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from boathouse.workspace.triggers.settings import JobTrigger

GRACE = 60.0  # a schedule that is later than this has been missed, as in Quartz
SET_BACK = 3600.0  # a clock that goes back further than this was wrong before
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 3600.0
MOST = 10_000  # starts of one evaluation
Observation = Mapping[str, str]


@dataclass(frozen=True)
class TriggerState:
    """Hold what a trigger remembers. `seen` is the time up to which it was evaluated, and `anchor` that at which it was armed.

    `known` are the things of which every change has led to a start, None before the first observation. `pending` are changes that wait for one.
    """

    armed: str
    anchor: float
    seen: float
    number: int = 0
    last_start: float | None = None
    known: Observation | None = None
    pending: Observation = field(default_factory=dict)
    changed: float | None = None
    failures: int = 0

    def to_json(self) -> str:
        "Return the state as text."
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TriggerState:
        "Return the state that `to_json` wrote."
        return cls(**json.loads(text))


@dataclass(frozen=True)
class DueStart:
    "Describe one start: `key` names it among those of its job, and `planned` is the time at which it was due."

    key: str
    planned: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    "Hold the next state and the starts that are due; `missed` is the first scheduled time that passed without one."

    state: TriggerState
    starts: tuple[DueStart, ...] = ()
    missed: float | None = None


def arm(trigger: JobTrigger, now: float, earlier: TriggerState | None = None) -> TriggerState:
    "Return the state in which a trigger begins: the earlier one, unless the trigger was changed."
    text = repr(trigger)
    if earlier is not None and earlier.armed == text:
        return earlier
    number = earlier.number if earlier is not None else 0  # it is part of the keys, which are never used twice
    return TriggerState(text, float(int(now)), now, number)  # whole seconds keep the sums of a period exact


def evaluate(trigger: JobTrigger, state: TriggerState, observed: Observation, now: float, grace: float | None = GRACE) -> Decision:
    "Return what a trigger does at `now`. Scheduled times later than `grace` seconds are missed; with None, none is."
    if now < state.seen - SET_BACK:
        state = replace(state, seen=now)
    state = replace(state, last_start=_not_after(now, state.last_start), changed=_not_after(now, state.changed))
    if trigger.kind in ("cron", "periodic"):
        return _by_clock(trigger, state, now, grace)
    if trigger.kind == "continuous":
        return _continuous(state, observed, now)
    return _by_change(trigger, state, observed, now)


def next_time(trigger: JobTrigger, state: TriggerState) -> float | None:
    "Return the time at which a trigger starts its job next if nothing else changes, None if it waits for a change."
    if trigger.kind == "periodic":
        return state.anchor + ((state.seen - state.anchor) // trigger.interval + 1) * trigger.interval
    if trigger.kind == "cron":
        found = trigger.quartz.next_start(datetime.fromtimestamp(state.seen, UTC))
        return None if found is None else found.timestamp()
    if trigger.kind == "continuous":
        return (state.changed or 0.0) + _pause(state.failures) if state.failures else None
    return _earliest(trigger, state) if _is_complete(trigger, state.pending) else None


def _not_after(now: float, time: float | None) -> float | None:
    return None if time is None else min(now, time)


def _by_clock(trigger: JobTrigger, state: TriggerState, now: float, grace: float | None) -> Decision:
    starts, missed = list[DueStart](), None
    while len(starts) < MOST and (planned := next_time(trigger, state)) is not None and planned <= now:
        if grace is None or planned >= now - grace:
            starts.append(DueStart(time_key(planned), planned))
            state = replace(state, seen=planned, number=state.number + 1, last_start=now)
        else:
            missed = planned if missed is None else missed
            state = replace(state, seen=max(planned, now - grace - 1))
    if len(starts) < MOST:
        state = replace(state, seen=max(state.seen, now))
    return Decision(state, tuple(starts), missed)


def time_key(time: float) -> str:
    "Return a time as text in UTC, by which a planned start is known."
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _by_change(trigger: JobTrigger, state: TriggerState, observed: Observation, now: float) -> Decision:
    if state.known is None:  # only what changes from here on counts
        return Decision(replace(state, known=dict(observed), seen=now))
    if trigger.kind == "model":
        pending, known = dict(state.pending) | {n: f for n, f in observed.items() if n not in state.known}, dict(observed)
    elif trigger.kind == "file_arrival":
        known = {name: old for name, old in state.known.items() if name in observed}
        pending = {name: found for name, found in observed.items() if name not in known}
    else:
        known, pending = dict(state.known), {name: found for name, found in observed.items() if found != state.known.get(name)}
    changed = now if pending != state.pending else state.changed
    state = replace(state, known=known, pending=pending, changed=changed, seen=now)
    if not _is_complete(trigger, pending) or now < _earliest(trigger, state):
        return Decision(state)
    number = state.number + 1
    named = ", ".join(f"{name}@{found}" if found else name for name, found in sorted(pending.items()))
    key = f"{number}: {named}" if len(named) <= 200 else f"{number}: {len(pending)} changes"
    details: dict[str, Any] = {"changes": dict(sorted(pending.items())[:MOST])} | ({"tables": dict(observed)} if trigger.tables else {})
    if trigger.url:
        details["location"] = trigger.url
    start = DueStart(key, now, details)
    return Decision(replace(state, known=dict(observed), pending={}, changed=None, number=number, last_start=now), (start,))


def _is_complete(trigger: JobTrigger, pending: Observation) -> bool:
    return all(table in pending for table in trigger.tables) if trigger.every_table else bool(pending)


def _earliest(trigger: JobTrigger, state: TriggerState) -> float:
    "Return the time before which the timers of a trigger hold its start back."
    after = -float("inf") if state.last_start is None else state.last_start + trigger.min_time
    return max(after, (state.changed or 0.0) + trigger.wait)


def _continuous(state: TriggerState, observed: Observation, now: float) -> Decision:
    "Start a job whenever no run of it is active; after each failure in a row, the pause before that doubles."
    (last, result) = next(iter(observed.items()), ("", ""))
    if state.known != observed and result in ("failed", "succeeded"):
        failures = state.failures + 1 if result == "failed" else 0
        state = replace(state, failures=failures, changed=now)
    state = replace(state, known=dict(observed), seen=now)
    if result == "active" or (state.failures and now < (state.changed or 0.0) + _pause(state.failures)):
        return Decision(state)
    number = state.number + 1
    return Decision(replace(state, number=number, last_start=now), (DueStart(str(number), now, {"after": last}),))


def _pause(failures: int) -> float:
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30))
