"The SQLite file of a target's history: its tables, and the migration of files that earlier versions created."

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

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
CREATE TABLE IF NOT EXISTS repairs (
    run_id INTEGER NOT NULL REFERENCES runs, number INTEGER NOT NULL, life_cycle_state TEXT NOT NULL, result_state TEXT, state_message TEXT NOT NULL,
    start_time INTEGER NOT NULL, end_time INTEGER, PRIMARY KEY (run_id, number));
CREATE INDEX IF NOT EXISTS task_runs_of_run ON task_runs (job_run);
CREATE TABLE IF NOT EXISTS trigger_clocks (
    clock INTEGER PRIMARY KEY, begins REAL NOT NULL, position REAL NOT NULL, ended INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS trigger_states (clock INTEGER NOT NULL, job_key TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (clock, job_key));
CREATE TABLE IF NOT EXISTS trigger_starts (
    start_id INTEGER PRIMARY KEY, clock INTEGER NOT NULL, job_key TEXT NOT NULL, type TEXT NOT NULL, key TEXT NOT NULL, planned REAL NOT NULL,
    recorded REAL NOT NULL, details TEXT NOT NULL, launches INTEGER NOT NULL DEFAULT 0, pid INTEGER, pid_started REAL, failed TEXT,
    settled INTEGER NOT NULL DEFAULT 0, UNIQUE (clock, job_key, type, key));
CREATE INDEX IF NOT EXISTS open_starts ON trigger_starts (clock) WHERE NOT settled;
"""
LATER = "CREATE UNIQUE INDEX IF NOT EXISTS run_of_start ON runs (trigger_start)"  # a start has at most one run
ADDED = {
    ("runs", "repair_count"): "INTEGER NOT NULL DEFAULT 0",
    ("runs", "cancel_requested"): "INTEGER NOT NULL DEFAULT 0",
    ("runs", "wheel"): "INTEGER NOT NULL DEFAULT 0",
    ("runs", "trigger_start"): "INTEGER",
    ("task_runs", "repair"): "INTEGER NOT NULL DEFAULT 0",
    ("trigger_starts", "outcome"): "TEXT",  # of an alert, which has no run
}


def connect(path: Path) -> sqlite3.Connection:
    "Return the database at `path`, created or migrated if needed; statements commit by themselves."
    made = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
    made.row_factory = sqlite3.Row
    made.execute("PRAGMA journal_mode = WAL")
    made.executescript(SCHEMA)
    with begin_transaction(made):
        for (table, column), kind in ADDED.items():
            if column not in {row["name"] for row in made.execute(f"PRAGMA table_info({table})")}:
                made.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        made.execute(LATER)
    return made


def open_read_only(file: Path) -> sqlite3.Connection:
    "Return an existing SQLite file for reading: the history, or the store of MLflow."
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=30)


@contextmanager
def begin_transaction(database: sqlite3.Connection) -> Iterator[None]:
    "Run all statements of the block, or none. Other processes wait; after an error, the next transaction can begin."
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")
