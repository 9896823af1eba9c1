"The starts that `boathouse up` has planned, each recorded before its run; and the check that a start gets one run or one evaluation."

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from boathouse.workspace.errors import BundleError

ALERT = "alert "
START = "SELECT * FROM trigger_starts WHERE start_id = ? AND job_key = ?"


@dataclass(frozen=True)
class TriggerStart:
    """Hold a planned start. `job_key` is the key of a job or the `alert_name` of an alert, `type` is a TriggerType of the Jobs API, `key` names it among the starts of its job.

    `planned` is the time at which it was due, `recorded` the time at which that was noticed: seconds since 1970, simulated if `clock` is not 0.
    `outcome` is the result of the evaluation, as text, if the start is an alert's.
    """

    start_id: int
    clock: int
    job_key: str
    type: str
    key: str
    planned: float
    recorded: float
    details: Mapping[str, Any]
    launches: int = 0
    pid: int | None = None
    pid_started: float | None = None
    failed: str | None = None
    outcome: str | None = None

    @classmethod
    def of(cls, row: sqlite3.Row) -> TriggerStart:
        "Return the start of a row of `trigger_starts`."
        names = cls.__dataclass_fields__
        return cls(**{name: json.loads(row[name]) if name == "details" else row[name] for name in names})


def alert_name(key: str) -> str:
    "Return the name of an alert among the keys of jobs."
    return f"{ALERT}{key}"


def alert_key(name: str) -> str | None:
    "Return the key of the alert that a name stands for; None if it is the key of a job."
    return name.removeprefix(ALERT) if name.startswith(ALERT) else None


def refuse_closed_start(row: sqlite3.Row | None, start_id: int, owner: str) -> None:
    "Raise BundleError unless the row of a start is there, was not given up, and has no outcome."
    if row is None:
        raise BundleError(f"there is no planned start {start_id} of {owner}.")
    if row["failed"] is not None:
        raise BundleError(f"the planned start {start_id} was given up: {row['failed']}")
    if row["outcome"] is not None:
        raise BundleError(f"another process has evaluated the planned start {start_id} of {owner}.")


def refuse_taken_start(database: sqlite3.Connection, start_id: int, job_key: str) -> None:
    "Raise BundleError unless the start exists, belongs to the job, was not given up, and has no run."
    row = database.execute(START, (start_id, job_key)).fetchone()
    refuse_closed_start(row, start_id, f"job '{job_key}'")
    if run := database.execute("SELECT run_id FROM runs WHERE trigger_start = ?", (start_id,)).fetchone():
        raise BundleError(f"run {run['run_id']} has taken the planned start {start_id}.")
