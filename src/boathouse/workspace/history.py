"""Every run, task attempt, parameter and task value of a target, in SQLite, written as it happens."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from boathouse.workspace.graph import Result

SCHEMA = """
CREATE TABLE IF NOT EXISTS ids (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS runs (
    run_id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL, job_key TEXT NOT NULL, job_name TEXT NOT NULL, target TEXT NOT NULL,
    parent_task_run INTEGER, parameters TEXT NOT NULL, life_cycle_state TEXT NOT NULL, result_state TEXT, state_message TEXT NOT NULL DEFAULT '',
    start_time INTEGER NOT NULL, end_time INTEGER, pid INTEGER NOT NULL, pid_started REAL NOT NULL);
CREATE TABLE IF NOT EXISTS task_runs (
    run_id INTEGER PRIMARY KEY, job_run INTEGER NOT NULL REFERENCES runs, task_key TEXT NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL,
    attempt_number INTEGER NOT NULL, loop_run INTEGER, item TEXT, depends_on TEXT NOT NULL, life_cycle_state TEXT NOT NULL, result_state TEXT,
    state_message TEXT NOT NULL DEFAULT '', start_time INTEGER, end_time INTEGER, folder TEXT NOT NULL, outcome TEXT, exit_value TEXT, child_run INTEGER);
CREATE TABLE IF NOT EXISTS task_values (run_id INTEGER NOT NULL REFERENCES task_runs, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run_id, key));
CREATE INDEX IF NOT EXISTS task_runs_of_run ON task_runs (job_run);
"""


@dataclass(frozen=True)
class JobRun:
    "One run of one job; `path` are the names above it on the screen, empty for the run that was asked for."

    run_id: int
    job_id: int
    key: str
    name: str
    target: str
    parameters: Mapping[str, str]
    folder: Path
    parent: int | None = None
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskRun:
    "One attempt of one task; `loop` is the run of the for_each around it and `item` its item there."

    run_id: int
    run: JobRun
    key: str
    position: int
    kind: str
    folder: Path
    attempt: int = 0
    depends_on: tuple[tuple[str, str | None], ...] = ()
    loop: int | None = None
    item: str | None = None

    @property
    def path(self) -> tuple[str, ...]:
        "Its name on the screen, below that of its run."
        return (*self.run.path, self.key) if self.item is None else (*self.run.path, self.key, self.item)


@dataclass(frozen=True)
class TaskEnd:
    "How an attempt ended and what it left behind."

    result: Result
    message: str = ""
    outcome: str | None = None
    exit_value: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    child: int | None = None
    internal: bool = False


def now_ms() -> int:
    "Milliseconds since 1970, as the Jobs API counts."
    return int(time.time() * 1000)


class History:
    "The history of one target; safe to use from several threads."

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.path = state / "workspace.db"
        self._lock = threading.Lock()
        self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def new_id(self) -> int:
        "A number no run or task run has had."
        with self._lock:
            return int(self._db.execute("INSERT INTO ids DEFAULT VALUES").lastrowid or 0)

    def run_started(self, run: JobRun) -> None:
        "A run begins, by this process."
        me = psutil.Process()
        self._write(
            "INSERT INTO runs (run_id, job_id, job_key, job_name, target, parent_task_run, parameters, life_cycle_state, start_time, pid, pid_started)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'RUNNING', ?, ?, ?)",
            (
                run.run_id,
                run.job_id,
                run.key,
                run.name,
                run.target,
                run.parent,
                json.dumps(dict(run.parameters)),
                now_ms(),
                me.pid,
                me.create_time(),
            ),
        )

    def task_waiting(self, task: TaskRun) -> None:
        "A task (or its next attempt) is known and has not started."
        depends_on = [{"task_key": k} | ({"outcome": o} if o else {}) for k, o in task.depends_on]
        self._write(
            "INSERT INTO task_runs (run_id, job_run, task_key, position, kind, attempt_number, loop_run, item, depends_on, life_cycle_state, folder)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(task.run_id, task.run.run_id, task.key, task.position, task.kind, task.attempt, task.loop, task.item),
                *(
                    json.dumps(depends_on),
                    "WAITING_FOR_RETRY" if task.attempt else "BLOCKED" if depends_on else "PENDING",
                    str(task.folder),
                ),
            ),
        )

    def task_started(self, task: TaskRun) -> None:
        "An attempt begins."
        self._write("UPDATE task_runs SET life_cycle_state = 'RUNNING', start_time = ? WHERE run_id = ?", (now_ms(), task.run_id))

    def task_ended(self, task: TaskRun, end: TaskEnd) -> None:
        "An attempt is over, or the task was settled without one."
        ran = end.result in (Result.SUCCESS, Result.FAILED, Result.TIMEDOUT, Result.CANCELED, Result.SUCCESS_WITH_FAILURES)
        life = "INTERNAL_ERROR" if end.internal else "TERMINATED" if ran else "SKIPPED"
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "UPDATE task_runs SET life_cycle_state = ?, result_state = ?, state_message = ?, end_time = ?, outcome = ?, exit_value = ?, child_run = ?"
                " WHERE run_id = ?",
                (life, end.result.value, end.message, now_ms(), end.outcome, end.exit_value, end.child, task.run_id),
            )
            values = [(task.run_id, key, json.dumps(value)) for key, value in end.values.items()]
            self._db.executemany("INSERT OR REPLACE INTO task_values VALUES (?, ?, ?)", values)
            self._db.execute("COMMIT")

    def run_ended(self, run: JobRun, result: Result, message: str) -> None:
        "A run is over."
        self._write(
            "UPDATE runs SET life_cycle_state = 'TERMINATED', result_state = ?, state_message = ?, end_time = ? WHERE run_id = ?",
            (result.value, message, now_ms(), run.run_id),
        )

    def close_abandoned(self) -> list[int]:
        "Marks as failed every run whose process no longer lives; their ids."
        closed = []
        for row in self.rows("SELECT run_id, pid, pid_started FROM runs WHERE end_time IS NULL ORDER BY run_id"):
            if not _alive(row["pid"], row["pid_started"]):
                self._close(row["run_id"], f"The process that ran it (pid {row['pid']}) ended before the run did.")
                closed.append(row["run_id"])
        return closed

    def _close(self, run_id: int, why: str) -> None:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            ended = (why, now_ms(), run_id)
            self._db.execute(
                "UPDATE runs SET life_cycle_state = 'INTERNAL_ERROR', result_state = 'FAILED', state_message = ?, end_time = ? WHERE run_id = ?",
                ended,
            )
            self._db.execute(
                "UPDATE task_runs SET result_state = CASE life_cycle_state WHEN 'RUNNING' THEN 'FAILED' ELSE 'CANCELED' END,"
                " life_cycle_state = CASE life_cycle_state WHEN 'RUNNING' THEN 'INTERNAL_ERROR' ELSE 'SKIPPED' END, state_message = ?, end_time = ?"
                " WHERE job_run = ? AND result_state IS NULL",
                ended,
            )
            self._db.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        "The rows of a query."
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def runs(self) -> Iterator[sqlite3.Row]:
        "The runs that were asked for (not those other runs started), newest first."
        yield from self.rows("SELECT * FROM runs WHERE parent_task_run IS NULL ORDER BY run_id DESC")

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._lock:
            self._db.execute(statement, values)


def _alive(pid: int, started: float) -> bool:
    if pid == os.getpid():
        return abs(psutil.Process().create_time() - started) < 1
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
