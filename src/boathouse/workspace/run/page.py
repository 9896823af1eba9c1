"""Write the page of a run: `index.html` in its folder, with the graph of its tasks, logs, reports and published values.

The page is one file that needs no network and no script. It links to other files of the state folder by relative paths.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from boathouse.workspace import pages
from boathouse.workspace.durations import format_duration
from boathouse.workspace.graph.layout import Drawing, place_tasks, smooth_path
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.mlflow_runs import MlflowRun, browsable, mlflow_runs
from boathouse.workspace.history.run_tree import PAGE, RunRecord, TaskRecord, read_run
from boathouse.workspace.history.store import History, JobRun, TaskEnd, TaskRun
from boathouse.workspace.task.log import last_lines

REFRESH = 5.0  # seconds between two checks whether the page of an active run is out of date
OWN_FILES = {"result.json", "notebook.html", PAGE}
LONGEST_REPORT = 8 << 20  # bytes of a report's page that is put into the run's page
CLASSES = {
    "SUCCESS": "ok", "SUCCESS_WITH_FAILURES": "warn", "FAILED": "bad", "TIMEDOUT": "bad", "MAXIMUM_CONCURRENT_RUNS_REACHED": "bad",
    "UPSTREAM_FAILED": "bad", "CANCELED": "warn", "UPSTREAM_CANCELED": "warn", "RUNNING": "now", "WAITING_FOR_RETRY": "now",
}  # fmt: skip
FAILED_ITSELF = {"FAILED", "TIMEDOUT"}
KIND_NAMES = {"run_job_task": "job", "for_each_task": "loop", "condition_task": "condition", "alert_task": "alert"}
HEIGHT, DOT = 62.0, 11


@dataclass(frozen=True)
class DrawnTask:
    "Hold one task of the drawn graph; `dots` are the tasks of its nested run, or the iterations of its loop."

    task: TaskRecord
    link: str
    notes: str
    dots: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ReportLink:
    "Hold the executed notebook of one task: its address and, for the results of this run, its cells."

    path: str
    link: str
    state: str
    cells: str = ""


@dataclass(frozen=True)
class Published:
    "Hold the outputs of one task: task values, an exit value, files and MLflow runs."

    path: str
    values: tuple[tuple[str, Any], ...]
    exit_value: str
    files: tuple[Path, ...]
    runs: tuple[MlflowRun, ...]


def write_page(history: History, run_id: int) -> Path:
    "Write the page of a run in its present state, and return the file."
    run = read_run(history, run_id)
    run.folder.mkdir(parents=True, exist_ok=True)
    file = run.folder / PAGE
    scratch = file.with_name(f".{PAGE}.{threading.get_ident()}")
    scratch.write_text(page_text(run, history.path.with_name("mlflow.db")), encoding="utf-8", errors="replace")
    os.replace(scratch, file)
    return file


def try_write_page(history: History, run_id: int) -> None:
    "Write the page of a run; print an error instead of raising it, because the run itself is not affected."
    try:
        write_page(history, run_id)
    except Exception as e:
        print(f"The page of run {run_id} could not be written: {type(e).__name__}: {e}", file=sys.stderr)


def page_text(run: RunRecord, store: Path) -> str:
    "Return the page of a run as HTML; `store` is the SQLite file of the target's MLflow runs."
    every = list(run.every_task())
    return template().render(
        run=run,
        nodes=(nodes := [_node(run, task) for task in run.tasks]),
        drawing=_draw(nodes),
        failures=[(" / ".join(path), task.last) for path, task in every if _failed_itself(task)],
        reports=list(_reports(run, every)),
        published=list(_published(run, every, store)),
        link=lambda file: link(file, run.folder),
        written=int(time.time() * 1000),
    )


@cache
def template() -> Template:
    "Return the template of the page, with its filters for times and states."
    environment = Environment(
        loader=FileSystemLoader(pages.FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "clock": clock,
        "duration": format_duration,
        "badge": lambda state: CLASSES.get(state, "off"),
        "smooth": smooth_path,
    }
    environment.filters |= {"as_json": lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
    environment.globals |= {"log_lines": lambda attempt: last_lines(attempt.folder / "log.txt"), "kinds": KIND_NAMES, "page": PAGE}
    return environment.get_template("run.html.j2")


def clock(at: int | None) -> str:
    "Return milliseconds since 1970 as local date and time."
    return "" if at is None else datetime.fromtimestamp(at / 1000).isoformat(" ", "seconds")


def link(file: Path, folder: Path) -> str:
    "Return the address of a file relative to the page in `folder`; empty if there is no such file."
    return quote(os.path.relpath(file, folder)) if file.is_file() else ""


def _node(run: RunRecord, task: TaskRecord) -> DrawnTask:
    last = task.last
    begun = sum(attempt.period.start is not None for attempt in task.attempts)
    notes = [format_duration(last.period.seconds), f"{begun} attempts" if begun > 1 else "", f"is {last.outcome}" if last.outcome else ""]
    parts = last.child.tasks if last.child else last.iterations
    dots = tuple((part.last.period.state, part.name) for part in parts)
    target = link(last.child.folder / PAGE, run.folder) if last.child else ""
    return DrawnTask(task, target or f"#task-{quote(task.key)}", ", ".join(filter(None, notes)), dots)


def _draw(nodes: list[DrawnTask]) -> Drawing:
    needs = {node.task.key: [key for key, _ in node.task.depends_on] for node in nodes}
    widths = {
        node.task.key: max(124.0, 30 + 7.9 * len(node.task.key), 26 + 6.4 * len(node.notes or node.task.last.period.state))
        for node in nodes
    }
    return place_tasks(needs, widths, HEIGHT)


def _failed_itself(task: TaskRecord) -> bool:
    "Return whether a task failed by its own work, and not because a nested run or an iteration failed."
    inside = task.last.iterations or (task.last.child.tasks if task.last.child else ())
    return task.last.period.state in FAILED_ITSELF and not any(part.last.period.state in FAILED_ITSELF for part in inside)


def _reports(run: RunRecord, every: list[tuple[tuple[str, ...], TaskRecord]]) -> Iterator[ReportLink]:
    "Yield the pages of all executed notebooks; those of tasks that no other task depends on come first, with their cells."
    needed = {key for task in run.tasks for key, _ in task.depends_on}
    found = [(path, task, task.last.folder / "notebook.html") for path, task in every]
    found = [(path, task, file) for path, task, file in found if file.is_file()]
    for path, task, file in sorted(found, key=lambda one: len(one[0]) > 1 or one[0][0] in needed):
        own = len(path) == 1 and path[0] not in needed and file.stat().st_size <= LONGEST_REPORT
        cells = Markup(pages.report_of(file.read_text(encoding="utf-8"))) if own else ""
        yield ReportLink(" / ".join(path), link(file, run.folder), task.last.period.state, cells)


def _published(run: RunRecord, every: list[tuple[tuple[str, ...], TaskRecord]], store: Path) -> Iterator[Published]:
    attempts = {str(attempt.run_id): task.last.run_id for _, task in every for attempt in task.attempts}
    named = {value: task.last.run_id for _, task in every for value in task.last.values.values() if isinstance(value, str)}
    runs: dict[int, list[MlflowRun]] = {}
    for found in mlflow_runs(store, attempts, named):
        runs.setdefault(attempts.get(found.task_run) or named[found.run_id], []).append(found)
    for path, task in every:
        last = task.last
        files = () if last.child or last.iterations else tuple(_files(last.folder))
        one = Published(" / ".join(path), tuple(last.values.items()), last.exit_value or "", files, tuple(runs.get(last.run_id, ())))
        if one.values or one.exit_value or one.files or one.runs:
            yield one


def _files(folder: Path) -> list[Path]:
    "Return the files of a task that a browser shows, and the pages of notebooks that its notebook ran."
    own = [file for file in browsable(folder.glob("*")) if file.name not in OWN_FILES and not file.name.startswith(".")]
    return [*own, *sorted(folder.glob("notebook-*/notebook.html"))]


class RunPages:
    "Write the page of every run: at its end, and every few seconds during the run if something has changed."

    def __init__(self, history: History) -> None:
        self.history = history
        self._changed: dict[int, bool] = {}  # active runs, and whether something has changed since their page was written
        self._lock, self._writing = threading.Lock(), threading.Lock()

    def run_started(self, run: JobRun) -> None:
        "Request the first version of the page."
        self._note(run)

    def run_queued(self, run: JobRun, behind: int) -> None:
        "Request a new version of the page."
        self._note(run)

    def task_waiting(self, task: TaskRun) -> None:
        "Request a new version of the page."
        self._note(task.run)

    def task_started(self, task: TaskRun) -> None:
        "Request a new version of the page."
        self._note(task.run)

    def task_ended(self, task: TaskRun, end: TaskEnd) -> None:
        "Request a new version of the page."
        self._note(task.run)

    def run_ended(self, run: JobRun, result: Result, message: str) -> None:
        "Write the page for the last time."
        with self._lock:
            self._changed.pop(run.run_id, None)
        with self._writing:
            try_write_page(self.history, run.run_id)

    def refresh(self, over: threading.Event) -> None:
        "Write the pages that are out of date every few seconds, until `over` is set."
        while not over.wait(REFRESH):
            for run_id in [run_id for run_id, changed in self._changed.copy().items() if changed]:
                with self._writing:
                    if self._take(run_id):
                        try_write_page(self.history, run_id)

    def _note(self, run: JobRun) -> None:
        with self._lock:
            self._changed = dict.fromkeys((*self._changed, run.run_id), True)  # the page of a run shows the runs below it too

    def _take(self, run_id: int) -> bool:
        "Mark the page as up to date; return False if the run has ended meanwhile."
        with self._lock:
            if run_id in self._changed:
                self._changed[run_id] = False
            return run_id in self._changed
