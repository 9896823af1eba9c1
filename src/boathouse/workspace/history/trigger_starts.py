"The starts that `boathouse up` has planned, each recorded before its run; and the check that a start gets one run."

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from boathouse.workspace.errors import BundleError


@dataclass(frozen=True)
class TriggerStart:
    """Hold a planned start. `type` is a TriggerType of the Jobs API, `key` names it among the starts of its job.

    `planned` is the time at which it was due, `recorded` the time at which that was noticed: seconds since 1970, simulated if `clock` is not 0.
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

    @classmethod
    def of(cls, row: sqlite3.Row) -> TriggerStart:
        "Return the start of a row of `trigger_starts`."
        names = cls.__dataclass_fields__
        return cls(**{name: json.loads(row[name]) if name == "details" else row[name] for name in names})


def refuse_taken_start(database: sqlite3.Connection, start_id: int, job_key: str) -> None:
    "Raise BundleError unless the start exists, belongs to the job, was not given up, and has no run."
    row = database.execute("SELECT * FROM trigger_starts WHERE start_id = ? AND job_key = ?", (start_id, job_key)).fetchone()
    if row is None:
        raise BundleError(f"there is no planned start {start_id} of job '{job_key}'.")
    if row["failed"] is not None:
        raise BundleError(f"the planned start {start_id} was given up: {row['failed']}")
    if run := database.execute("SELECT run_id FROM runs WHERE trigger_start = ?", (start_id,)).fetchone():
        raise BundleError(f"run {run['run_id']} has taken the planned start {start_id}.")
