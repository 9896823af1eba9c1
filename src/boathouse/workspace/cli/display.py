"""Print a run: a live tree on a terminal, one line per event elsewhere, and a table of the tasks at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from boathouse.workspace.durations import format_duration
from boathouse.workspace.graph.state_machine import FAILED, SUCCEEDED, Result
from boathouse.workspace.history.run_tree import PAGE
from boathouse.workspace.history.store import JobRun, TaskEnd, TaskRun
from boathouse.workspace.task.log import last_lines

LONG = 5.0  # seconds after which a running task shows its newest line, and between two such lines without a terminal
SHOWN_VALUE = 10_000
COLOURS = {
    Result.SUCCESS: "green",
    Result.SUCCESS_WITH_FAILURES: "yellow",
    Result.EXCLUDED: "bright_black",
    Result.DISABLED: "bright_black",
}


@dataclass
class Row:
    "Hold a task attempt on the screen; the times are seconds of a monotonic clock."

    task: TaskRun
    begun: float | None = None
    ended: float | None = None
    end: TaskEnd | None = None
    shown: tuple[float, str] = (0.0, "")  # when its newest line was printed, and that line

    @property
    def seconds(self) -> float | None:
        "Return how long it has run, in seconds."
        return None if self.begun is None else (self.ended or time.monotonic()) - self.begun

    @property
    def name(self) -> str:
        "Return its name below its parent."
        name = f"{self.task.item} ({self.task.key})" if self.task.item is not None else self.task.key
        return f"{name} #{self.task.attempt + 1}" if self.task.attempt else name

    @property
    def newest(self) -> str:
        "Return the newest line of its log once it has run for a while; empty text before, without output, and after its end."
        if self.end is not None or (self.seconds or 0.0) < LONG:
            return ""
        return next((line.strip() for line in reversed(last_lines(self.task.folder / "log.txt")) if line.strip()), "")


def console(stderr: bool = False) -> Console:
    "Return a console on stdout or stderr; outside a terminal, lines have up to 200 characters."
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def plain_table(*, show_header: bool = True) -> Table:
    "Return an empty table without lines, whose columns are two blanks apart."
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=show_header)


class Display:
    "Show a run on `console`, live if that is a terminal."

    def __init__(self, console: Console) -> None:
        self.console = console
        self._lock = threading.RLock()
        self._rows: dict[int, Row] = {}
        self._top: JobRun | None = None
        self._zero = time.monotonic()
        self._live = Live(console=console, get_renderable=self._tree, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._over = threading.Event()
        self._reporter = threading.Thread(target=self._report, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            self._reporter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._live is not None:
            self._live.stop()
        else:
            self._reporter.join()

    def run_started(self, run: JobRun) -> None:
        "Print the run and its parameters."
        with self._lock:
            if self._top is not None:
                return
            self._top = run
            self._zero = time.monotonic()
            given = ", ".join(f"{k}={v}" for k, v in run.parameters.items())
            repair = f", repair {run.repair}" if run.repair else ""
            self._say(f"run {run.run_id} of job '{run.key}' (target {run.target}{repair})" + (f": {given}" if given else ""))

    def run_queued(self, run: JobRun, behind: int) -> None:
        "Print which run it waits for."
        with self._lock:
            self._say(f"run {run.run_id} of job '{run.key}' is queued: run {behind} of it has not ended.")

    def task_waiting(self, task: TaskRun) -> None:
        "Add the task to the tree."
        with self._lock:
            self._rows[task.run_id] = Row(task)

    def task_started(self, task: TaskRun) -> None:
        "Start its clock."
        with self._lock:
            self._rows[task.run_id].begun = time.monotonic()
            if self._live is None:
                self._line(task, "started")

    def task_ended(self, task: TaskRun, end: TaskEnd) -> None:
        "Print how it ended; of a failed task also the last lines."
        with self._lock:
            row = self._rows[task.run_id]
            row.ended, row.end = time.monotonic(), end
            seconds = "" if row.seconds is None else f"  {format_duration(row.seconds)}"
            if self._live is None:
                self._line(task, f"{end.result}{'' if end.outcome is None else f' ({end.outcome})'}{seconds}")
            if end.result in (Result.FAILED, Result.TIMEDOUT):
                self._failure(task, end)

    def run_ended(self, run: JobRun, result: Result, message: str) -> None:
        "Print the table of the tasks, what they returned, and the run's result."
        with self._lock:
            if run != self._top:
                return
            if self._live is not None:
                self._live.stop()
            self.console.print(self._table())
            self._outputs()
            seconds = time.monotonic() - self._zero
            colour = COLOURS.get(result, "red")
            self._say(
                Text.assemble(
                    f"run {run.run_id} of job '{run.key}': ", (str(result), colour), f" in {format_duration(seconds)}. {message}".rstrip()
                )
            )
            if result == Result.SUCCESS_WITH_FAILURES:
                self._say("warning: a task failed, but the tasks that decide the result (those nothing depends on) succeeded.")
            if (page := run.folder / PAGE).is_file():
                self._say(f"page: {page.resolve().as_uri()}")

    def _say(self, line: str | Text) -> None:
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _line(self, task: TaskRun, what: str) -> None:
        attempt = f" #{task.attempt + 1}" if task.attempt else ""
        self._say(f"{format_duration(time.monotonic() - self._zero):>7}  {'/'.join(task.path)}{attempt}  {what}")

    def _report(self) -> None:
        "Print the newest lines of running tasks until the run is over."
        while not self._over.wait(1.0):
            self.progress()

    def progress(self) -> None:
        "Print the newest line of each long task, unless it was the last one printed or a line of the task was printed just now."
        with self._lock:
            for row in self._rows.values():
                at, before = row.shown
                if time.monotonic() - at >= LONG and (line := row.newest) and line != before:
                    row.shown = (time.monotonic(), line)
                    self._line(row.task, f"... {line}")

    def _failure(self, task: TaskRun, end: TaskEnd) -> None:
        log = task.folder / "log.txt"
        lines = last_lines(log)
        self._say(Text(f"{'/'.join(task.path)} {end.result}: {end.message}", style="red"))
        if lines:
            for line in lines:
                self._say(f"    {line}")
            self._say(f"    the whole log: {log}")

    def _children(self, parent: int | None) -> list[Row]:
        rows = [r for r in self._rows.values() if (r.task.loop or r.task.run.parent) == parent]
        return sorted(rows, key=lambda r: (r.task.position, r.task.attempt))

    def _walk(self, parent: int | None = None, depth: int = 0) -> Iterator[tuple[int, Row]]:
        for row in self._children(parent):
            yield depth, row
            yield from self._walk(row.task.run_id, depth + 1)

    def _table(self) -> Table:
        table = plain_table()
        table.add_column("task", no_wrap=True)
        table.add_column("result", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        for depth, row in self._walk():
            seconds = "" if row.seconds is None else format_duration(row.seconds)
            table.add_row(Text("  " * depth + row.name), _state(row), seconds)
        return table

    def _tree(self) -> Tree:
        with self._lock:
            tree = Tree(Text("" if self._top is None else f"{self._top.key} (run {self._top.run_id})"))
            self._branch(tree, None)
            return tree

    def _branch(self, tree: Tree, parent: int | None) -> None:
        for row in self._children(parent):
            seconds = "" if row.seconds is None else f"  {format_duration(row.seconds)}"
            newest = row.newest  # reads the end of the log
            label = Text.assemble(row.name, "  ", _state(row), seconds, Text(f"  {newest}" if newest else "", style="bright_black"))
            label.no_wrap, label.overflow = True, "ellipsis"
            branch = tree.add(label)
            # A successful task needs no details any more.
            if row.end is None or row.end.result not in SUCCEEDED:
                self._branch(branch, row.task.run_id)

    def _outputs(self) -> None:
        needed = {key for row in self._children(None) for key, _ in row.task.depends_on}
        for row in self._children(None):
            if row.end is not None and row.end.exit_value and row.task.key not in needed:
                self._say(f"\n{row.task.key}:\n{_shortened(row.end.exit_value)}\n")


def _state(row: Row) -> Text:
    if row.end is None:
        return Text("running" if row.begun is not None else "waiting", style="cyan" if row.begun is not None else "bright_black")
    outcome = f" ({row.end.outcome})" if row.end.outcome is not None else ""
    default = "red" if row.end.result in FAILED else "default"
    return Text(f"{row.end.result}{outcome}", style=COLOURS.get(row.end.result, default))


def _shortened(value: str) -> str:
    return value if len(value) <= SHOWN_VALUE else f"{value[:SHOWN_VALUE]}... ({len(value)} characters)"
