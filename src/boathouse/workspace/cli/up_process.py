"The process of `boathouse up`: its options, its status for other commands, its start in the background, and its end."

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import psutil

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.durations import format_duration
from boathouse.workspace.errors import BundleError
from boathouse.workspace.history.store import is_process_alive
from boathouse.workspace.triggers.clock import parse_speed, time_from_text
from boathouse.workspace.triggers.settings import TriggeredJobs

STATUS, LOG = "up.json", "up.log"
STARTS_WITHIN, ENDS_WITHIN = 60.0, 30.0


@dataclass(frozen=True)
class UpOptions:
    "Hold how `boathouse up` works: its clock, its end, and whether paused jobs are armed; the texts are those of the command line."

    clock: str | None = None
    speed: str | None = None
    until: str | None = None
    restart: bool = False
    unpause: bool = False
    variables: tuple[str, ...] = ()

    def begins(self) -> float | None:
        "Return the time at which a simulated clock begins; None for the machine's clock."
        if self.clock is None and (self.speed is not None or self.restart):
            raise BundleError("--speed and --restart-clock belong to a simulated clock.", hint="Give its begin: --clock 2013-10-01")
        return time_from_text(self.clock, "--clock") if self.clock is not None else None

    @property
    def rate(self) -> float:
        "Return the speed of a simulated clock."
        return parse_speed(self.speed or "max")

    def bundle_words(self, bundle: Bundle) -> list[str]:
        "Return the options that name the bundle, its target and its variables on a command line."
        return ["--bundle", str(bundle.root), "-t", bundle.target, *(w for pair in self.variables for w in ("--var", pair))]

    def words(self, bundle: Bundle) -> list[str]:
        "Return the command line of `boathouse up` with these options."
        words = ["up", *self.bundle_words(bundle)]
        for option, value in (("--clock", self.clock), ("--speed", self.speed), ("--until", self.until)):
            words += [option, value] if value is not None else []
        return [*words, *(["--restart-clock"] if self.restart else []), *(["--unpause"] if self.unpause else [])]


@contextmanager
def showing_status(bundle: Bundle, triggers: TriggeredJobs, how: UpOptions) -> Iterator[None]:
    "Let other commands read what is armed while the block runs."
    me = psutil.Process()
    found = {
        "pid": me.pid,
        "pid_started": me.create_time(),
        "clock": how.clock,
        "armed": {job: str(t) for job, t in triggers.armed.items()},
    }
    found |= {"paused": list(triggers.paused), "refused": {job: str(e) for job, e in triggers.refused.items()}}
    scratch = bundle.state / f".{STATUS}"
    scratch.write_text(json.dumps(found))
    os.replace(scratch, bundle.state / STATUS)
    try:
        yield
    finally:
        (bundle.state / STATUS).unlink(missing_ok=True)


def read_status(bundle: Bundle) -> dict[str, Any] | None:
    "Return what the running `boathouse up` of the target has written; None without one."
    try:
        found: dict[str, Any] = json.loads((bundle.state / STATUS).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if is_process_alive(found["pid"], found["pid_started"]) else None


def start_background(bundle: Bundle, how: UpOptions, as_json: bool) -> int:
    "Start `boathouse up` as a process of its own, and wait until its jobs and alerts are armed; its lines go to `up.log`."
    how.begins()  # a wrong option is refused here
    bundle.state.mkdir(parents=True, exist_ok=True)
    log = bundle.state / LOG
    command = [sys.executable, "-P", "-m", "boathouse.workspace.cli.entry", *how.words(bundle)]
    begun = log.stat().st_size if log.is_file() else 0
    with log.open("ab") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=bundle.root, start_new_session=True)
    deadline = time.monotonic() + STARTS_WITHIN
    while (found := read_status(bundle)) is None or found["pid"] != child.pid:
        if (code := child.poll()) is not None or time.monotonic() > deadline:
            click.echo(log.read_bytes()[begun:].decode(errors="replace").strip(), err=True)
            return code or 0
        time.sleep(0.05)
    if as_json:
        click.echo(json.dumps({"running": True, "log": str(log)} | found))
    else:
        click.echo(
            f"up: process {child.pid}, {len(found['armed'])} jobs and alerts armed; its lines are in {log}. End it with: boathouse down"
        )
    return 0


def stop_up(bundle: Bundle, as_json: bool) -> int:
    "End the `boathouse up` of the target; runs go on. Return 0, also if there was none."
    found = read_status(bundle)
    if found is not None:
        os.kill(found["pid"], signal.SIGTERM)
        deadline = time.monotonic() + ENDS_WITHIN
        while is_process_alive(found["pid"], found["pid_started"]):
            if time.monotonic() > deadline:
                raise BundleError(f"process {found['pid']} does not end.", hint=f"End it: kill -9 {found['pid']}")
            time.sleep(0.05)
    if as_json:
        click.echo(json.dumps({"stopped": found is not None}))
    else:
        click.echo("stopped; runs go on" if found else f"`boathouse up` does not run on target '{bundle.target}'")
    return 0


def print_up_status(bundle: Bundle, as_json: bool) -> int:
    "Print whether `boathouse up` runs on the target and what is armed; return 0 if it does, else 1."
    found = read_status(bundle)
    if as_json:
        click.echo(json.dumps({"running": found is not None} | (found or {})))
    elif found is None:
        click.echo(f"`boathouse up` does not run on target '{bundle.target}'")
    else:
        age = format_duration(time.time() - found["pid_started"])
        click.echo(f"up: process {found['pid']}, {age} old" + (f", simulated clock from {found['clock']}" if found["clock"] else ""))
        for name in ("armed", "refused"):
            for job, text in found[name].items():
                click.echo(f"{name:<8} {job}: {text}")
        for job in found["paused"]:
            click.echo(f"paused   {job}")
    return 0 if found else 1
