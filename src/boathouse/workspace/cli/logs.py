"""`boathouse logs`: print the logs of a run's tasks, once or as they grow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.history.as_json import run_json
from boathouse.workspace.history.store import History

POLL = 0.3
PIECE = 1 << 20


@dataclass(frozen=True)
class TaskLogFile:
    "Hold the log of a task's last attempt; `path` is the task's name below the run, such as month/train."

    path: str
    file: Path
    ended: bool

    @property
    def key(self) -> str:
        "Return the last part of its name."
        return self.path.rsplit("/", 1)[-1]


def print_logs(history: History, run_id: int, task: str | None, follow: bool, as_json: bool) -> None:
    "Print the logs of one task of a run, or of all; with `follow`, until they have ended."
    logs = find_logs(history, run_id, task)
    if as_json:
        click.echo(json.dumps({"run_id": run_id, "logs": [{"task": log.path, "log": str(log.file)} for log in logs if log.file.is_file()]}))
        return
    printer = LogPrinter(with_headers=task is None)
    while True:
        history.close_abandoned()
        logs = find_logs(history, run_id, task)  # before the logs are read: then the last output of an ended task is included
        ended = bool(run_json(history, run_id)["end_time"]) if task is None else all(log.ended for log in logs)
        for log in logs:
            printer.print_new(log)
        if ended or not follow:
            break
        time.sleep(POLL)
    if not any(printer.offsets.values()):
        what = f"task '{task}' of run {run_id}" if task is not None else f"run {run_id}"
        click.echo(f"{what} has printed nothing.", err=True)


def find_logs(history: History, run_id: int, task: str | None = None) -> list[TaskLogFile]:
    "Return the logs of a run in the order of its tasks, or of the task `task`. Raises BundleError if none or several match."
    every = list(_walk(run_json(history, run_id)["tasks"], ""))
    if task is None:
        return every
    exact = [log for log in every if log.path == task]
    found = exact or [log for log in every if log.key == task]
    if not found:
        names = [log.path for log in every]
        raise BundleError(f"run {run_id} has no task '{task}'.", hint=did_you_mean(task, names) or f"Its tasks are {', '.join(names)}.")
    if len(found) > 1:
        raise BundleError(f"run {run_id} has several tasks '{task}'.", hint=f"Name one of {', '.join(log.path for log in found)}.")
    return found


def _walk(tasks: Iterable[dict[str, Any]], above: str) -> Iterator[TaskLogFile]:
    for task in tasks:
        path = f"{above}{task['input'] if 'input' in task else task['task_key']}"
        yield TaskLogFile(path, Path(task["log"]), bool(task["end_time"]))
        yield from _walk(task.get("for_each_task", {}).get("iterations", []), f"{path}/")
        yield from _walk(task.get("run", {}).get("tasks", []), f"{path}/")


class LogPrinter:
    "Print what is new in each log; with several logs, a line names the log that follows."

    def __init__(self, with_headers: bool) -> None:
        self.offsets: dict[Path, int] = {}
        self._with_headers = with_headers
        self._last: Path | None = None
        self._line_ended = True

    def print_new(self, log: TaskLogFile) -> None:
        "Print what was written since the last call. A log whose middle is cut out at the end has been printed already."
        if not log.file.is_file():
            return
        with log.file.open("rb") as file:
            offset = self.offsets.setdefault(log.file, 0)
            if offset >= os.fstat(file.fileno()).st_size:
                return
            if self._with_headers and self._last != log.file:
                click.echo(f"{'' if self._line_ended else chr(10)}==> {log.path} <==")
            self._last = log.file
            file.seek(offset)
            while piece := file.read(PIECE):
                self._line_ended = piece.endswith(b"\n")
                click.echo(piece.replace(b"\0", b""), nl=False)  # a log that is too long has a hole instead of its middle
            self.offsets[log.file] = file.tell()
