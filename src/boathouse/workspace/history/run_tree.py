"Read a run from the history, with all attempts, iterations and nested runs below it."

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.workspace.history.store import History

PAGE = "index.html"


@dataclass(frozen=True)
class Period:
    "Hold a state and the time in it, in milliseconds since 1970; None if it has not begun or not ended."

    state: str
    message: str
    start: int | None
    end: int | None

    @property
    def seconds(self) -> float | None:
        "Return the duration in seconds; None while it runs, and if it never ran."
        return None if self.start is None or self.end is None else (self.end - self.start) / 1000


@dataclass(frozen=True)
class AttemptRecord:
    "Hold one attempt of a task. A for_each has `iterations`, a nested job its run as `child`."

    run_id: int
    period: Period
    repair: int
    folder: Path
    outcome: str | None
    exit_value: str | None
    values: Mapping[str, Any]
    iterations: tuple[TaskRecord, ...] = ()
    child: RunRecord | None = None


@dataclass(frozen=True)
class TaskRecord:
    "Hold one task with its attempts, oldest first; `item` is the input of an iteration of a loop."

    key: str
    kind: str
    depends_on: tuple[tuple[str, str | None], ...]
    attempts: tuple[AttemptRecord, ...]
    item: str | None = None

    @property
    def last(self) -> AttemptRecord:
        "Return the last attempt, which is the one that counts."
        return self.attempts[-1]

    @property
    def name(self) -> str:
        "Return the key of the task; for an iteration, its item."
        return self.key if self.item is None else self.item


@dataclass(frozen=True)
class RunRecord:
    "Hold one run of a job; `repairs` has the original run and its repairs by number, and is empty without repairs."

    run_id: int
    key: str
    name: str
    target: str
    folder: Path
    period: Period
    parameters: Mapping[str, str]
    tasks: tuple[TaskRecord, ...]
    repairs: tuple[tuple[int, Period], ...] = ()

    def every_task(self) -> Iterator[tuple[tuple[str, ...], TaskRecord]]:
        "Yield all tasks, iterations and tasks of nested runs, each with the names from this run down to it."
        yield from _below((), self.tasks)


def _below(path: tuple[str, ...], tasks: tuple[TaskRecord, ...]) -> Iterator[tuple[tuple[str, ...], TaskRecord]]:
    for task in tasks:
        yield (*path, task.name), task
        yield from _below((*path, task.name), task.last.iterations)
        yield from _below((*path, task.name), task.last.child.tasks if task.last.child else ())


def run_folder(history: History, run: sqlite3.Row) -> Path:
    "Return the folder of a run: below `runs` of the target's state, or the folder of the task that started it."
    if run["parent_task_run"] is None:
        return history.path.parent / "runs" / str(run["run_id"])
    return Path(history.rows("SELECT folder FROM task_runs WHERE run_id = ?", run["parent_task_run"])[0]["folder"])


def read_run(history: History, run_id: int) -> RunRecord:
    "Read a run and everything below it."
    row = history.find_run(run_id)
    tasks = history.rows("SELECT * FROM task_runs WHERE job_run = ? AND loop_run IS NULL ORDER BY position, run_id", run_id)
    repairs = history.rows("SELECT * FROM repairs WHERE run_id = ? ORDER BY number", run_id)
    return RunRecord(
        run_id,
        row["job_key"],
        row["job_name"],
        row["target"],
        run_folder(history, row),
        _period(row),
        json.loads(row["parameters"]),
        _tasks(history, tasks, "task_key"),
        tuple((repair["number"], _period(repair)) for repair in repairs),
    )


def _tasks(history: History, rows: list[sqlite3.Row], by: str) -> tuple[TaskRecord, ...]:
    "Return the attempts in `rows`, grouped by the column that identifies the tasks."
    gathered: dict[Any, list[sqlite3.Row]] = {}
    for row in rows:
        gathered.setdefault(row[by], []).append(row)
    return tuple(_task(history, attempts) for attempts in gathered.values())


def _task(history: History, rows: list[sqlite3.Row]) -> TaskRecord:
    needs = tuple((need["task_key"], need.get("outcome")) for need in json.loads(rows[-1]["depends_on"]))
    return TaskRecord(rows[-1]["task_key"], rows[-1]["kind"], needs, tuple(_attempt(history, row) for row in rows), rows[-1]["item"])


def _attempt(history: History, row: sqlite3.Row) -> AttemptRecord:
    values = history.rows("SELECT key, value FROM task_values WHERE run_id = ? ORDER BY key", row["run_id"])
    rounds = history.rows("SELECT * FROM task_runs WHERE loop_run = ? ORDER BY position, run_id", row["run_id"])
    children = history.rows("SELECT run_id FROM runs WHERE parent_task_run = ? ORDER BY run_id", row["run_id"])
    return AttemptRecord(
        row["run_id"],
        _period(row),
        row["repair"],
        Path(row["folder"]),
        row["outcome"],
        row["exit_value"],
        {value["key"]: json.loads(value["value"]) for value in values},
        _tasks(history, rounds, "position"),
        read_run(history, children[-1]["run_id"]) if children else None,
    )


def _period(row: sqlite3.Row) -> Period:
    return Period(row["result_state"] or row["life_cycle_state"], row["state_message"], row["start_time"], row["end_time"])
