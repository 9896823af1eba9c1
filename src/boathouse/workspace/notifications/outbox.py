"""Record each notification in the history before it is sent, and how sending it ended.

The row is committed first. A process that is killed leaves `pending` rows, and the next run of the target sends them.
A process that is killed after the receiver has accepted a notification, and before this is recorded, sends it twice, with the same `key`.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from boathouse.workspace.history.schema import begin_transaction, connect
from boathouse.workspace.history.store import is_process_alive, now_ms

SCHEMA = """
CREATE TABLE IF NOT EXISTS notifications (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, run_id INTEGER NOT NULL, task_run INTEGER NOT NULL, task_key TEXT, event TEXT NOT NULL,
    attempt INTEGER NOT NULL, destination TEXT NOT NULL, message TEXT NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '', created INTEGER NOT NULL, ended INTEGER, pid INTEGER NOT NULL, pid_started REAL NOT NULL,
    UNIQUE (run_id, task_run, event, attempt, destination));
"""
SHOWN = ("event", "task_key", "attempt", "destination", "state", "tries", "error", "created", "ended", "key")


@dataclass(frozen=True)
class Message:
    "Hold what a notification says: a subject and a text for people, and a body for programs."

    subject: str
    text: str
    body: Mapping[str, Any]

    @classmethod
    def of(cls, subject: str, facts: Mapping[str, Any], body: Mapping[str, Any]) -> Message:
        "Return a message whose text is the subject and a line per fact; a fact without a value is left out."
        lines = "".join(f"{name}: {value}\n" for name, value in facts.items() if value not in (None, ""))
        return cls(subject, f"{subject}\n\n{lines}", body)


@dataclass(frozen=True)
class Occasion:
    """Identify what a notification is about. One is sent once per destination.

    `attempt` is the attempt of the task, the repair of the run, or the evaluation of an alert. An alert has no run: `run_id` is 0.
    """

    event: str
    run_id: int = 0
    attempt: int = 0
    task_run: int = 0
    task_key: str | None = None


class Outbox:
    "The notifications of one target; safe to use from several threads."

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = connect(state / "workspace.db")
        self._db.executescript(SCHEMA)
        me = psutil.Process()
        self._me = (me.pid, me.create_time())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        "Close the database."
        self._db.close()

    def add(self, occasion: Occasion, message: Message, destinations: Iterable[str]) -> list[int]:
        "Record a message as pending for each destination, and return the new rows. What is recorded already is left as it is."
        text, new = json.dumps(asdict(message), ensure_ascii=False), list[int]()
        about = (occasion.run_id, occasion.task_run, occasion.task_key, occasion.event, occasion.attempt)
        with self._lock:
            for destination in dict.fromkeys(destinations):
                done = self._db.execute(
                    "INSERT OR IGNORE INTO notifications (key, run_id, task_run, task_key, event, attempt, destination, message, state, created, pid,"
                    " pid_started) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?)",
                    (str(uuid.uuid4()), *about, destination, text, now_ms(), *self._me),
                )
                if done.rowcount:
                    new.append(int(done.lastrowid or 0))
        return new

    def adopt_pending(self) -> list[int]:
        "Take over the pending rows whose process no longer lives, and return them."
        adopted = []
        for row in self.rows("SELECT id, pid, pid_started FROM notifications WHERE state = 'pending' ORDER BY id"):
            if not is_process_alive(row["pid"], row["pid_started"]):
                with self._lock:
                    done = self._db.execute(
                        "UPDATE notifications SET pid = ?, pid_started = ? WHERE id = ? AND state = 'pending' AND pid = ? AND pid_started = ?",
                        (*self._me, row["id"], row["pid"], row["pid_started"]),
                    )
                # Of two processes that find the row at once, one changes it.
                adopted += [int(row["id"])] if done.rowcount else []
        return adopted

    def retry_failed(self, run_id: int) -> list[int]:
        "Make the failed notifications of a run pending again, in this process, and return them."
        with self.transaction():
            numbers = [
                int(row["id"])
                for row in self.rows("SELECT id FROM notifications WHERE run_id = ? AND state = 'failed' ORDER BY id", run_id)
            ]
            for number in numbers:
                self.write(
                    "UPDATE notifications SET state = 'pending', error = '', ended = NULL, pid = ?, pid_started = ? WHERE id = ?",
                    *self._me,
                    number,
                )
        return numbers

    def find(self, number: int) -> sqlite3.Row:
        "Return one row."
        return self.rows("SELECT * FROM notifications WHERE id = ?", number)[0]

    def count_try(self, number: int) -> None:
        "Record that a notification is being sent once more."
        self.write("UPDATE notifications SET tries = tries + 1 WHERE id = ?", number)

    def mark(self, number: int, state: str, error: str = "") -> None:
        "Record how sending ended: `sent` or `failed`."
        self.write("UPDATE notifications SET state = ?, error = ?, ended = ? WHERE id = ?", state, error, now_ms(), number)

    def of_run(self, run_id: int) -> list[dict[str, Any]]:
        "Return the notifications of a run, oldest first, without their messages."
        found = self.rows("SELECT * FROM notifications WHERE run_id = ? ORDER BY id", run_id)
        return [{name: row[name] for name in SHOWN} for row in found]

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        "Return the rows of a query."
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def write(self, statement: str, *values: Any) -> int:
        "Run a statement that changes rows, and return the number of the row that it added, if it did."
        with self._lock:
            return int(self._db.execute(statement, values).lastrowid or 0)

    def create_tables(self, schema: str) -> None:
        "Create the tables that are missing."
        with self._lock:
            self._db.executescript(schema)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        "Run all statements of the block, or none; other threads and processes wait."
        with self._lock, begin_transaction(self._db):
            yield


def message_of(row: sqlite3.Row) -> Message:
    "Return the message of a row."
    return Message(**json.loads(row["message"]))
