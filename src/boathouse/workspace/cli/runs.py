"""The history on a terminal: the runs of a target, or one run with its tasks."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from boathouse.workspace.cli.display import console
from boathouse.workspace.history.as_json import run_json, run_summary
from boathouse.workspace.history.store import History


def show_runs(history: History, as_json: bool) -> None:
    "All runs, newest first."
    runs = [run_summary(row) for row in history.runs()]
    if as_json:
        click.echo(json.dumps({"runs": runs}))
        return
    table = _table("run", "job", "result", "started", "seconds", "message")
    for run in runs:
        started = datetime.fromtimestamp(run["start_time"] / 1000).isoformat(" ", "seconds")
        table.add_row(str(run["run_id"]), run["job_key"], _result(run), started, _seconds(run), _message(run))
    console().print(table)


def show_run(history: History, run_id: int, as_json: bool) -> None:
    "One run with its tasks, those of nested runs below them."
    run = run_json(history, run_id)
    if as_json:
        click.echo(json.dumps(run))
        return
    given = ", ".join(f"{p['name']}={p['value']}" for p in run["job_parameters"])
    click.echo(
        f"run {run_id} of job '{run['run_name']}' (target {run['target']}): {_result(run)}  {given}\n{run['state']['state_message']}".rstrip()
    )
    table = _table("task", "result", "attempt", "seconds", "message")
    _add_tasks(table, run["tasks"], 0)
    console().print(table)


def _add_tasks(table: Table, tasks: list[dict[str, Any]], depth: int) -> None:
    for task in tasks:
        name = task["task_key"] if "input" not in task else f"{task['input']} ({task['task_key']})"
        table.add_row(Text("  " * depth + name), _result(task), str(task["attempt_number"]), _seconds(task), _message(task))
        _add_tasks(table, task.get("for_each_task", {}).get("iterations", []), depth + 1)
        _add_tasks(table, task.get("run", {}).get("tasks", []), depth + 1)


def _result(thing: dict[str, Any]) -> str:
    return thing["state"].get("result_state") or thing["state"]["life_cycle_state"]


def _message(thing: dict[str, Any]) -> Text:
    line = thing["state"]["state_message"].split("\n")[0]
    return Text(line if len(line) <= 120 else f"{line[:117]}...")


def _seconds(thing: dict[str, Any]) -> str:
    return f"{thing['execution_duration'] / 1000:.1f}" if thing["end_time"] and thing["start_time"] else ""


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in ("run", "seconds", "attempt") else "left", no_wrap=column != "message")
    return table
