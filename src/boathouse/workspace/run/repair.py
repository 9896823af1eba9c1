"Plan the repair of a run from the history: which tasks are kept, and which run again."

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from boathouse.workspace.bundle.jobs import Job
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.graph import state_machine as g
from boathouse.workspace.graph.state_machine import Result, Settled
from boathouse.workspace.history.store import History
from boathouse.workspace.parameters.arguments import run_parameters
from boathouse.workspace.parameters.references import Upstream
from boathouse.workspace.run.job_run import Repair


def run_to_repair(history: History, run_id: int, bundle: Bundle) -> sqlite3.Row:
    "Return the run. Raises BundleError if it cannot be repaired."
    run = history.find_run(run_id)
    if run["parent_task_run"] is not None:
        above = history.rows("SELECT job_run FROM task_runs WHERE run_id = ?", run["parent_task_run"])[0]["job_run"]
        raise BundleError(f"run {run_id} was started by run {above}.", hint=f"Repair that one: boathouse repair {above}")
    if run["end_time"] is None:
        raise BundleError(f"run {run_id} has not ended.", hint=f"Wait for it, or cancel it: boathouse cancel {run_id}")
    if run["job_key"] not in bundle.jobs:
        raise BundleError(
            f"the job '{run['job_key']}' of run {run_id} is not in the bundle any more.", hint=did_you_mean(run["job_key"], bundle.jobs)
        )
    return run


def plan_repair(
    history: History, run: sqlite3.Row, job: Job, given: Mapping[str, str], rerun: Iterable[str] = (), rerun_dependents: bool = False
) -> Repair:
    "Return the next repair of a run, by the present definition of the job. Raises BundleError for an unknown task, and if nothing is to run again."
    rerun = tuple(rerun)
    for key in rerun:
        if key not in job.tasks:
            raise BundleError(f"job '{job.key}' has no task '{key}'.", job.source.at, did_you_mean(key, job.tasks))
    last = _last_attempts(history, run["run_id"])
    before = {key: Settled(Result(row["result_state"]), row["outcome"]) for key, row in last.items()}
    kept = g.kept_tasks(job.graph, before, rerun, rerun_dependents)
    if run["result_state"] in g.SUCCEEDED and not rerun and all(before[k].result not in g.FAILED for k in job.tasks if k in before):
        raise BundleError(f"run {run['run_id']} succeeded: there is nothing to repair.", hint="Name a task to run again: --task KEY")
    old = {name: value for name, value in json.loads(run["parameters"]).items() if name in job.parameters}
    return Repair(
        run["run_id"],
        run["repair_count"] + 1,
        run_parameters(job, old | dict(given)),
        kept,
        {key: _upstream(history, last[key]) for key in kept},
        _attempts(history, run["run_id"]),
    )


def _last_attempts(history: History, run_id: int) -> dict[str, sqlite3.Row]:
    rows = history.rows(
        "SELECT * FROM task_runs WHERE job_run = ? AND loop_run IS NULL AND result_state IS NOT NULL ORDER BY run_id", run_id
    )
    return {row["task_key"]: row for row in rows}


def _attempts(history: History, run_id: int) -> dict[str, int]:
    "Return the number of started attempts of each task, because their folders and numbers are taken."
    rows = history.rows(
        "SELECT task_key, max(attempt_number) + 1 AS count FROM task_runs WHERE job_run = ? AND loop_run IS NULL AND start_time IS NOT NULL GROUP BY task_key",
        run_id,
    )
    return {row["task_key"]: row["count"] for row in rows}


def _upstream(history: History, row: sqlite3.Row) -> Upstream:
    values: dict[str, Any] = {
        v["key"]: json.loads(v["value"]) for v in history.rows("SELECT key, value FROM task_values WHERE run_id = ?", row["run_id"])
    }
    return Upstream(row["run_id"], row["result_state"].lower(), values, outcome=row["outcome"])
