"""Return runs as JSON, in the format of the Jobs API's `runs/get`."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from boathouse.workspace.history.run_tree import PAGE, run_folder
from boathouse.workspace.history.store import History

LONGEST_EXIT_VALUE = 5 * 1024 * 1024  # the Jobs API returns only this much of a longer one


def run_json(history: History, run_id: int) -> dict[str, Any]:
    "Return one run with its tasks; a task that ran a job or a loop holds those runs."
    row = history.find_run(run_id)
    tasks = history.rows("SELECT * FROM task_runs WHERE job_run = ? AND loop_run IS NULL ORDER BY position, run_id", run_id)
    parameters = json.loads(row["parameters"])
    return {
        "job_id": row["job_id"],
        "run_id": row["run_id"],
        "run_name": row["job_name"],
        "job_key": row["job_key"],
        "target": row["target"],
        "run_type": "JOB_RUN",
        "trigger": _trigger(row),
        "state": _state(row),
        **_times(row),
        **_planned(row),
        "job_parameters": [{"name": name, "value": value} for name, value in parameters.items()],
        "tasks": [_task(history, t) for t in _latest(tasks)],
        "repair_history": _repairs(history, run_id),
    } | ({"run_page_url": page.resolve().as_uri()} if (page := run_folder(history, row) / PAGE).is_file() else {})


def run_summary(row: sqlite3.Row) -> dict[str, Any]:
    "Return one run without its tasks, as `runs/list` does."
    keys = ("run_id", "job_id", "job_key", "target")
    return {k: row[k] for k in keys} | {
        "run_name": row["job_name"],
        "trigger": _trigger(row),
        "state": _state(row),
        **_times(row),
        **_planned(row),
    }


def _trigger(row: sqlite3.Row) -> str:
    "Return what started a run, by the TriggerType of the Jobs API."
    return "RUN_JOB_TASK" if row["parent_task_run"] else row["trigger_type"] or "ONE_TIME"


def _planned(row: sqlite3.Row) -> dict[str, int]:
    "Return the planned time of a run that a trigger started, on the clock of `boathouse up`, which may be simulated."
    return {"trigger_time": int(row["trigger_time"] * 1000)} if row["trigger_time"] is not None else {}


def _latest(tasks: list[sqlite3.Row]) -> list[sqlite3.Row]:
    "Return the last attempt of each task, and of each item of a loop."
    return list({(t["task_key"], t["loop_run"] and t["position"]): t for t in sorted(tasks, key=lambda t: t["run_id"])}.values())


def _repairs(history: History, run_id: int) -> list[dict[str, Any]]:
    "Return the original run and its repairs, if it was ever repaired."
    ids: dict[int, list[int]] = {}
    for row in history.rows("SELECT run_id, repair FROM task_runs WHERE job_run = ? AND loop_run IS NULL ORDER BY run_id", run_id):
        ids.setdefault(row["repair"], []).append(row["run_id"])
    return [
        ({"type": "REPAIR", "id": r["number"]} if r["number"] else {"type": "ORIGINAL"})
        | {"start_time": r["start_time"], "end_time": r["end_time"] or 0, "state": _state(r), "task_run_ids": ids.get(r["number"], [])}
        for r in history.rows("SELECT * FROM repairs WHERE run_id = ? ORDER BY number", run_id)
    ]


def _state(row: sqlite3.Row) -> dict[str, Any]:
    state = {"life_cycle_state": row["life_cycle_state"], "state_message": row["state_message"]}
    return state | ({"result_state": row["result_state"]} if row["result_state"] else {})


def _times(row: sqlite3.Row) -> dict[str, Any]:
    start, end = row["start_time"], row["end_time"]
    return {"start_time": start or 0, "end_time": end or 0, "execution_duration": end - start if start and end else 0}


def _task(history: History, row: sqlite3.Row) -> dict[str, Any]:
    values = history.rows("SELECT key, value FROM task_values WHERE run_id = ? ORDER BY key", row["run_id"])
    earlier = history.rows(
        "SELECT * FROM task_runs WHERE job_run = ? AND task_key = ? AND loop_run IS ? AND (loop_run IS NULL OR position = ?) AND run_id < ? ORDER BY run_id",
        *(row["job_run"], row["task_key"], row["loop_run"], row["position"], row["run_id"]),
    )
    out = {
        "run_id": row["run_id"],
        "task_key": row["task_key"],
        "attempt_number": row["attempt_number"],
        "depends_on": json.loads(row["depends_on"]),
        "state": _state(row),
        **_times(row),
        "values": {v["key"]: json.loads(v["value"]) for v in values},
        "log": f"{row['folder']}/log.txt",
        **_of_kind(history, row),
    }
    if earlier:
        out["previous_attempts"] = [
            {"run_id": e["run_id"], "attempt_number": e["attempt_number"], "state": _state(e), **_times(e)} for e in earlier
        ]
    return out


def _of_kind(history: History, row: sqlite3.Row) -> dict[str, Any]:
    kind = row["kind"]
    if kind == "condition_task":
        return {kind: {"outcome": row["outcome"]}}
    if kind == "alert_task":
        return {kind: {}, "alert_output": {"alert_state": row["outcome"]}}
    if kind == "notebook_task":
        value = (row["exit_value"] or "").encode()
        output = {
            "result": row["exit_value"] and value[:LONGEST_EXIT_VALUE].decode(errors="ignore"),
            "truncated": len(value) > LONGEST_EXIT_VALUE,
        }
        return {kind: {}, "notebook_output": output}
    if kind == "run_job_task":
        child = row["child_run"]
        return {kind: {}, "run_job_output": {"run_id": child}, "run": run_json(history, child)} if child else {kind: {}}
    if kind == "for_each_task":
        rounds = history.rows("SELECT * FROM task_runs WHERE loop_run = ? ORDER BY position, attempt_number", row["run_id"])
        return {kind: {"iterations": [_task(history, r) | {"input": r["item"]} for r in _latest(rounds)]}}
    return {kind: {}}
