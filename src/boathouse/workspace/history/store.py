"""Record every run, task attempt, parameter and task value of a target in SQLite, as it happens."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from boathouse.workspace.errors import BundleError
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.schema import begin_transaction, connect
from boathouse.workspace.history.trigger_starts import TriggerStart, refuse_taken_start

RUNS = "SELECT runs.*, s.type AS trigger_type, s.planned AS trigger_time FROM runs LEFT JOIN trigger_starts s ON s.start_id = runs.trigger_start"


@dataclass(frozen=True)
class JobRun:
    """Describe one run of one job. `path` holds the names above it in the display, and is empty for the requested run; `repair` counts its repairs.

    With `wheel`, its tasks import only from built wheels. `trigger_start` is the planned start that it carries out, if `boathouse up` started it.
    """

    run_id: int
    job_id: int
    key: str
    name: str
    target: str
    parameters: Mapping[str, str]
    folder: Path
    parent: int | None = None
    path: tuple[str, ...] = ()
    repair: int = 0
    wheel: bool = False
    trigger_start: int | None = None


@dataclass(frozen=True)
class TaskRun:
    "Describe one attempt of one task; `loop` is the run of the for_each around it and `item` its item there."

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
        "Return its name in the display, below that of its run."
        return (*self.run.path, self.key) if self.item is None else (*self.run.path, self.key, self.item)


@dataclass(frozen=True)
class TaskEnd:
    "Hold how an attempt ended, and its outputs."

    result: Result
    message: str = ""
    outcome: str | None = None
    exit_value: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    child: int | None = None
    internal: bool = False


def now_ms() -> int:
    "Return milliseconds since 1970, as in the Jobs API."
    return int(time.time() * 1000)


class History:
    "The history of one target; safe to use from several threads."

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.path = state / "workspace.db"
        self._lock = threading.Lock()
        self._db = connect(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def new_id(self) -> int:
        "Return a number that no run or task run has had."
        with self._lock:
            return int(self._db.execute("INSERT INTO ids DEFAULT VALUES").lastrowid or 0)

    def run_started(self, run: JobRun) -> None:
        """Record that a run begins in this process. It is PENDING until `admit` lets it start; a repair continues the ended run.

        Raises BundleError if its planned start has a run already, or was given up: of two processes, one gets the start.
        """
        me = psutil.Process()
        here = (json.dumps(dict(run.parameters)), now_ms(), me.pid, me.create_time(), run.repair, run.wheel)
        if run.repair:
            self._reopen(run.run_id, run.repair, here)
            return
        with self.transaction() as database:
            if run.trigger_start is not None:
                refuse_taken_start(database, run.trigger_start, run.key)
            database.execute(
                "INSERT INTO runs (run_id, job_id, job_key, job_name, target, parent_task_run, life_cycle_state, parameters, start_time, pid,"
                " pid_started, repair_count, wheel, trigger_start) VALUES (?, ?, ?, ?, ?, ?, 'PENDING', ?, ?, ?, ?, ?, ?, ?)",
                (run.run_id, run.job_id, run.key, run.name, run.target, run.parent, *here, run.trigger_start),
            )

    def _reopen(self, run_id: int, number: int, here: tuple[Any, ...]) -> None:
        with self.transaction():
            if not self._db.execute("SELECT repair_count FROM runs WHERE run_id = ?", (run_id,)).fetchone()[0]:
                self._note_repair(run_id, 0)
            self._db.execute(
                "UPDATE runs SET life_cycle_state = 'PENDING', result_state = NULL, state_message = '', end_time = NULL, cancel_requested = 0,"
                " parameters = ?, pid = ?, pid_started = ?, repair_count = ?, wheel = ? WHERE run_id = ?",
                (here[0], *here[2:], run_id),
            )
            self._note_repair(run_id, number, here[1])

    def _note_repair(self, run_id: int, number: int, begun: int | None = None) -> None:
        "Copy the present state of the run into its list of repairs; number 0 is the original."
        self._db.execute(
            "INSERT OR REPLACE INTO repairs SELECT run_id, ?, life_cycle_state, result_state, state_message, coalesce(?, start_time), end_time"
            " FROM runs WHERE run_id = ?",
            (number, begun, run_id),
        )

    def admit(self, run: JobRun, limit: int) -> int | None:
        "Let a run start unless `limit` others of its job run, or one waits before it. Return None if it starts, else the run it waits for."
        with self.transaction():
            others = self._db.execute(
                "SELECT run_id FROM runs WHERE job_id = ? AND target = ? AND end_time IS NULL AND run_id <> ?"
                " AND (life_cycle_state = 'RUNNING' OR run_id < ?) ORDER BY run_id",
                (run.job_id, run.target, run.run_id, run.run_id),
            ).fetchall()
            inside = len(others) < limit
            state = "RUNNING" if inside else "QUEUED"
            self._db.execute("UPDATE runs SET life_cycle_state = ? WHERE run_id = ?", (state, run.run_id))
        return None if inside else int(others[0]["run_id"]) if others else run.run_id

    def run_queued(self, run: JobRun, behind: int) -> None:
        "Do nothing when a run waits for another one, because `admit` has recorded it."

    def request_cancel(self, run_id: int) -> None:
        "Request that the process which runs it cancels it."
        self._write("UPDATE runs SET cancel_requested = 1 WHERE run_id = ? AND end_time IS NULL", (run_id,))

    def cancel_requests(self) -> list[int]:
        "Return the unfinished runs whose cancellation is requested."
        return [int(row["run_id"]) for row in self.rows("SELECT run_id FROM runs WHERE cancel_requested AND end_time IS NULL")]

    def task_waiting(self, task: TaskRun) -> None:
        "Record a task (or its next attempt) that has not started."
        depends_on = [{"task_key": k} | ({"outcome": o} if o else {}) for k, o in task.depends_on]
        self._write(
            "INSERT INTO task_runs (run_id, job_run, task_key, position, kind, attempt_number, loop_run, item, repair, depends_on, life_cycle_state, folder)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(task.run_id, task.run.run_id, task.key, task.position, task.kind, task.attempt, task.loop, task.item, task.run.repair),
                *(
                    json.dumps(depends_on),
                    "WAITING_FOR_RETRY" if task.attempt else "BLOCKED" if depends_on else "PENDING",
                    str(task.folder),
                ),
            ),
        )

    def task_started(self, task: TaskRun) -> None:
        "Record that an attempt begins."
        self._write("UPDATE task_runs SET life_cycle_state = 'RUNNING', start_time = ? WHERE run_id = ?", (now_ms(), task.run_id))

    def task_ended(self, task: TaskRun, end: TaskEnd) -> None:
        "Record that an attempt has ended, or that the task was settled without one."
        ran = end.result in (Result.SUCCESS, Result.FAILED, Result.TIMEDOUT, Result.CANCELED, Result.SUCCESS_WITH_FAILURES)
        life = "INTERNAL_ERROR" if end.internal else "TERMINATED" if ran else "SKIPPED"
        with self.transaction():
            self._db.execute(
                "UPDATE task_runs SET life_cycle_state = ?, result_state = ?, state_message = ?, end_time = ?, outcome = ?, exit_value = ?, child_run = ?"
                " WHERE run_id = ?",
                (life, end.result.value, end.message, now_ms(), end.outcome, end.exit_value, end.child, task.run_id),
            )
            values = [(task.run_id, key, json.dumps(value)) for key, value in end.values.items()]
            self._db.executemany("INSERT OR REPLACE INTO task_values VALUES (?, ?, ?)", values)

    def run_ended(self, run: JobRun, result: Result, message: str) -> None:
        "Record that a run has ended."
        life = "SKIPPED" if result == Result.MAXIMUM_CONCURRENT_RUNS_REACHED else "TERMINATED"
        self._end(run.run_id, life, result.value, message)

    def _end(self, run_id: int, life: str, result: str, message: str) -> None:
        with self.transaction():
            self._db.execute(
                "UPDATE runs SET life_cycle_state = ?, result_state = ?, state_message = ?, end_time = ? WHERE run_id = ?",
                (life, result, message, now_ms(), run_id),
            )
            self._db.execute(
                "UPDATE repairs SET (life_cycle_state, result_state, state_message, end_time) ="
                " (SELECT life_cycle_state, result_state, state_message, end_time FROM runs WHERE runs.run_id = repairs.run_id)"
                " WHERE run_id = ? AND number = (SELECT repair_count FROM runs WHERE runs.run_id = repairs.run_id)",
                (run_id,),
            )

    def close_abandoned(self) -> list[int]:
        "Mark every run whose process no longer lives as failed, and return their ids."
        closed = []
        for row in self.rows("SELECT run_id, pid, pid_started FROM runs WHERE end_time IS NULL ORDER BY run_id"):
            if not is_process_alive(row["pid"], row["pid_started"]):
                self._close(row["run_id"], f"The process that ran it (pid {row['pid']}) ended before the run did.")
                closed.append(row["run_id"])
        return closed

    def _close(self, run_id: int, why: str) -> None:
        self._write(
            "UPDATE task_runs SET result_state = CASE life_cycle_state WHEN 'RUNNING' THEN 'FAILED' ELSE 'CANCELED' END,"
            " life_cycle_state = CASE life_cycle_state WHEN 'RUNNING' THEN 'INTERNAL_ERROR' ELSE 'SKIPPED' END, state_message = ?, end_time = ?"
            " WHERE job_run = ? AND result_state IS NULL",
            (why, now_ms(), run_id),
        )
        self._end(run_id, "INTERNAL_ERROR", "FAILED", why)

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        "Return the rows of a query."
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def find_run(self, run_id: int) -> sqlite3.Row:
        "Return the row of a run. Raises BundleError if there is none of that id."
        if not (found := self.rows(f"{RUNS} WHERE run_id = ?", run_id)):
            raise BundleError(f"there is no run {run_id}.", hint="`boathouse runs` lists the runs.")
        return found[0]

    def find_start(self, start_id: int) -> TriggerStart:
        "Return a planned start. Raises BundleError if there is none of that id."
        if not (found := self.rows("SELECT * FROM trigger_starts WHERE start_id = ?", start_id)):
            raise BundleError(f"there is no planned start {start_id}.", hint="`boathouse up` plans starts.")
        return TriggerStart.of(found[0])

    def runs(self) -> Iterator[sqlite3.Row]:
        "Yield the requested runs, newest first, without runs that other runs started."
        yield from self.rows(f"{RUNS} WHERE parent_task_run IS NULL ORDER BY run_id DESC")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        "Run all statements of the block, or none. After an error in one of them, the next transaction can begin."
        with self._lock, begin_transaction(self._db):
            yield self._db

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._lock:
            self._db.execute(statement, values)


def is_process_alive(pid: int, started: float) -> bool:
    "Return whether the process that had this number at this time still runs."
    if pid == os.getpid():
        return abs(psutil.Process().create_time() - started) < 1
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
