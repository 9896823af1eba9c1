"`boathouse up`: start the jobs of a target by schedule and trigger, and evaluate its alerts by schedule."

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from filelock import FileLock, Timeout
from rich.text import Text

from boathouse.workspace.alerts.evaluation import OK, TRIGGERED, UNKNOWN
from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.display import COLOURS, console
from boathouse.workspace.cli.up_process import UpOptions, read_status, showing_status
from boathouse.workspace.durations import format_duration
from boathouse.workspace.errors import BundleError
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.store import History
from boathouse.workspace.history.trigger_starts import alert_key
from boathouse.workspace.triggers.clock import JUMPING, Clock, format_time, time_from_text
from boathouse.workspace.triggers.launch import Launcher, StartEvent
from boathouse.workspace.triggers.service import Service
from boathouse.workspace.triggers.settings import TriggeredJobs, read_triggers
from boathouse.workspace.triggers.store import REAL, TriggerStore, begin_clock

LOCK = "up.lock"
ALERT_COLOURS = {OK: "green", TRIGGERED: "yellow", UNKNOWN: "bright_black"}


def run_up(bundle: Bundle, how: UpOptions, as_json: bool) -> int:
    "Start the armed jobs until Ctrl-C, SIGTERM or the end of the clock; return 0."
    begins, until = how.begins(), time_from_text(how.until, "--until") if how.until is not None else None
    jobs = all_jobs(bundle)
    triggers = read_triggers(bundle, jobs, unpause=how.unpause, standing=begins is not None and how.rate == JUMPING)
    screen = console(stderr=as_json)
    ended = list[StartEvent]()  # for --json

    def say(line: Text | str) -> None:
        screen.print(line, soft_wrap=True, markup=False, highlight=False)

    def tell(event: StartEvent) -> None:
        say(_event_line(event))
        if as_json and event.result:
            ended.append(event)

    bundle.state.mkdir(parents=True, exist_ok=True)
    with _lock(bundle), History(bundle.state) as history:
        if not triggers.armed:
            raise _nothing_armed(bundle, triggers)
        number, position = begin_clock(history, begins, restart=how.restart) if begins is not None else (REAL, 0.0)
        clock, store = Clock(position, how.rate) if begins is not None else Clock(), TriggerStore(history, number)
        for line in _header(bundle, triggers, clock, begins):
            say(line)
        launcher = Launcher(store, jobs, bundle.root, how.bundle_words(bundle), tell)
        service = Service(triggers, clock, store, launcher, say, until)
        with showing_status(bundle, triggers, how):
            over = service.run(_stop_request())
        going = sum(one.run_id is not None and one.ended is None for one in store.open_starts())
        say(
            f"the clock has reached its end at {format_time(clock.now())} UTC"
            if over
            else "stopped" + (f"; {going} runs go on" if going else "")
        )
    if as_json:
        click.echo(json.dumps({"clock": format_time(clock.now()), "starts": [_event_json(event) for event in ended]}))
    return 0


def _stop_request() -> threading.Event:
    "Return an event that Ctrl-C and SIGTERM set."
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    return stop


@contextmanager
def _lock(bundle: Bundle) -> Iterator[None]:
    "Hold the lock of the target's `boathouse up`. Raises BundleError if another process does."
    lock = FileLock(bundle.state / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        found = read_status(bundle)
        process = f" (process {found['pid']})" if found else ""
        raise BundleError(
            f"`boathouse up` runs on target '{bundle.target}' already{process}.", hint="End it with: boathouse down"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _nothing_armed(bundle: Bundle, triggers: TriggeredJobs) -> BundleError:
    if triggers.refused:
        first = next(iter(triggers.refused.values()))
        more = f"(And {len(triggers.refused) - 1} more are refused.)" if len(triggers.refused) > 1 else ""
        return BundleError(first.message, first.where, f"{first.hint} {more}".strip())
    if triggers.paused:
        why = f"every trigger of target '{bundle.target}' is paused{explain_pause(bundle, triggers.paused)}: {', '.join(triggers.paused)}."
        return BundleError(why, hint="Arm them on this machine with: boathouse up --unpause")
    return BundleError(
        f"no job or alert of target '{bundle.target}' has a schedule or trigger.", hint="`boathouse run JOB` starts one by hand."
    )


def explain_pause(bundle: Bundle, names: Sequence[str]) -> str:
    "Return why triggers of these names are paused without saying so themselves; empty text unless the mode does it, which leaves alerts as they are."
    by_mode = bundle.data.get("mode") == "development" and any(alert_key(name) is None for name in names)
    return " (mode: development pauses those that do not set pause_status)" if by_mode else ""


def _header(bundle: Bundle, triggers: TriggeredJobs, clock: Clock, begins: float | None) -> Iterator[str]:
    shown = f"the clock shows {format_time(clock.now())} UTC" + (", simulated" if clock.is_simulated else "")
    again = ", where it was interrupted" if begins is not None and clock.now() > begins + 1 else ""
    yield f"up: target {bundle.target}, process {os.getpid()}; {shown}{again}. Ctrl-C ends it; runs go on."
    for job, trigger in triggers.armed.items():
        yield f"armed    {job}: {trigger}"
    for job in triggers.paused:
        yield f"paused   {job}{explain_pause(bundle, [job])}; --unpause arms it"
    for job, error in triggers.refused.items():
        yield f"refused  {job}: {error}"


def _event_line(event: StartEvent) -> Text:
    start = event.start
    line = Text(f"{format_time(start.planned)}  {start.job_key}  ")
    if not event.result:
        return line.append(f"{start.type} start {start.start_id}" + (f": {start.key}" if start.details.get("changes") else ""))
    if alert_key(start.job_key) is not None:
        line.append(event.result, style=ALERT_COLOURS.get(event.result, "red")).append(f"  start {start.start_id}")
        return line.append(f"  {format_duration(event.seconds)}  {event.message.splitlines()[0] if event.message else ''}".rstrip())
    colour = COLOURS[Result(event.result)] if event.result in Result.__members__ and Result(event.result) in COLOURS else "red"
    line.append(event.result, style=colour)
    run = f"run {event.run_id}" if event.run_id is not None else f"start {event.start.start_id} without a run"
    return line.append(f"  {run}  {format_duration(event.seconds)}  {event.message.splitlines()[0] if event.message else ''}".rstrip())


def subject_json(name: str) -> dict[str, str]:
    "Return the job or alert that is started, as JSON."
    alert = alert_key(name)
    return {"job_key": name} if alert is None else {"alert_key": alert}


def _event_json(event: StartEvent) -> dict[str, Any]:
    s = event.start
    start = {"start_id": s.start_id, **subject_json(s.job_key), "trigger": s.type, "key": s.key, "planned_time": int(s.planned * 1000)}
    return start | {"run_id": event.run_id, "result_state": event.result, "state_message": event.message}
