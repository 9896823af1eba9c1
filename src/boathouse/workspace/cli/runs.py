"""Print the history: the runs of a target, or one run with its tasks and logs; and open the page of a run."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.display import console, plain_table
from boathouse.workspace.cli.options import shorten_path
from boathouse.workspace.durations import format_duration
from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.history.as_json import run_json, run_summary
from boathouse.workspace.history.store import History
from boathouse.workspace.notifications.outbox import Outbox
from boathouse.workspace.notifications.sender import Sender
from boathouse.workspace.notifications.settings import read_settings

PAGE = "index.html"


def show_runs(history: History, bundle: Bundle, as_json: bool, job: str | None = None, limit: int | None = None) -> None:
    "Print the runs, newest first; of one job, and at most `limit` of them."
    found = list(history.runs())
    if job is not None:
        known = {*bundle.jobs, *(row["job_key"] for row in found)}
        if job not in known:
            raise BundleError(f"there is no job '{job}', in the bundle or in the history.", hint=did_you_mean(job, known))
        found = [row for row in found if row["job_key"] == job]
    runs = [run_summary(row) for row in found[:limit]]
    if as_json:
        click.echo(json.dumps({"runs": runs}))
        return
    table = _table("run", "job", "result", "started", "time", "message")
    for run in runs:
        started = datetime.fromtimestamp(run["start_time"] / 1000).isoformat(" ", "seconds")
        table.add_row(str(run["run_id"]), run["job_key"], _result(run), started, _duration(run), _message(run))
    console().print(table)


def show_run(history: History, run_id: int, as_json: bool) -> None:
    "Print one run with its tasks, logs and notifications; the tasks of nested runs are indented below them."
    with Outbox(history.path.parent) as outbox:
        run = with_notifications(run_json(history, run_id), outbox)
    if as_json:
        click.echo(json.dumps(run))
        return
    given = ", ".join(f"{p['name']}={p['value']}" for p in run["job_parameters"])
    click.echo(
        f"run {run_id} of job '{run['run_name']}' (target {run['target']}): {_result(run)}  {given}\n{run['state']['state_message']}".rstrip()
    )
    table = _table("task", "result", "attempt", "time", "message", "log")
    _add_tasks(table, run["tasks"], 0)
    console().print(table)
    print_notifications(_notifications(run))


def resend_notifications(bundle: Bundle, run: dict[str, Any]) -> None:
    "Send the notifications of a run, and of the runs below it, that could not be sent; print those that fail again."
    with Sender(bundle.state, read_settings(bundle.root, bundle.target)) as sender:
        for run_id in _run_ids(run):
            sender.submit(sender.outbox.retry_failed(run_id))
    for line in sender.report():
        click.echo(line, err=True)


def _run_ids(run: dict[str, Any]) -> Iterator[int]:
    yield run["run_id"]
    for task in run["tasks"]:
        if "run" in task:
            yield from _run_ids(task["run"])


def print_notifications(found: Iterable[tuple[dict[str, Any], str]]) -> None:
    "Print notifications as a table, each with the name of what it is about; print nothing if there are none."
    table = _table("notification", "of", "to", "state", "tries", "message")
    for row, name in found:
        table.add_row(row["event"], Text(name), Text(row["destination"]), row["state"], str(row["tries"]), Text(row["error"]))
    if table.row_count:
        console().print("\n", table)


def with_notifications(run: dict[str, Any], outbox: Outbox) -> dict[str, Any]:
    "Return a run as JSON with the notifications of it and of the runs below it."
    tasks = [task | ({"run": with_notifications(task["run"], outbox)} if "run" in task else {}) for task in run["tasks"]]
    return run | {"tasks": tasks, "notifications": outbox.of_run(run["run_id"])}


def _notifications(run: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[dict[str, Any], str]]:
    "Yield the notifications of a run and those below it, each with the name of what it is about."
    for row in run["notifications"]:
        yield row, "/".join([*path, *([row["task_key"]] if row["task_key"] else [])]) or "run"
    for task in run["tasks"]:
        if "run" in task:
            yield from _notifications(task["run"], (*path, task["task_key"]))


def open_page(history: History, state: Path, run_id: int | None, as_json: bool, browse: bool) -> None:
    "Print the address of a run's page (the latest run by default) and open it in the browser. Raises BundleError if there is none."
    if run_id is None:
        latest = next(iter(history.runs()), None)
        if latest is None:
            raise BundleError(f"no run is recorded in {state}.", hint="Start one: boathouse run JOB")
        run_id = int(latest["run_id"])
    ended = bool(run_json(history, run_id)["end_time"])
    top = top_run(history, run_id)
    page = state / "runs" / str(top) / PAGE
    if not page.is_file():
        hint = "Runs of an earlier version have no page: run the job again." if ended else "The page is written when the run has ended."
        raise BundleError(f"run {run_id} has no page: there is no {page}.", hint=f"{hint} `boathouse runs {run_id}` prints the run.")
    address = page.resolve().as_uri()
    click.echo(json.dumps({"run_id": run_id, "page": address}) if as_json else address)
    if browse and not webbrowser.open(address):
        raise BundleError("no browser could be started.", hint=f"Open {address} in one.")


def top_run(history: History, run_id: int) -> int:
    "Return the run that a command started: `run_id`, or the outermost run around it."
    above = "SELECT t.job_run FROM runs r JOIN task_runs t ON t.run_id = r.parent_task_run WHERE r.run_id = ?"
    while rows := history.rows(above, run_id):
        run_id = int(rows[0]["job_run"])
    return run_id


def _add_tasks(table: Table, tasks: list[dict[str, Any]], depth: int) -> None:
    for task in tasks:
        name = task["task_key"] if "input" not in task else f"{task['input']} ({task['task_key']})"
        log = Text(shorten_path(task["log"]) if Path(task["log"]).is_file() else "")
        attempt = str(task["attempt_number"] + 1)  # the API counts from 0, the page and the tree of a run from 1
        table.add_row(Text("  " * depth + name), _result(task), attempt, _duration(task), _message(task), log)
        _add_tasks(table, task.get("for_each_task", {}).get("iterations", []), depth + 1)
        _add_tasks(table, task.get("run", {}).get("tasks", []), depth + 1)


def _result(thing: dict[str, Any]) -> str:
    return thing["state"].get("result_state") or thing["state"]["life_cycle_state"]


def _message(thing: dict[str, Any]) -> Text:
    line = thing["state"]["state_message"].split("\n")[0]
    return Text(line if len(line) <= 120 else f"{line[:117]}...")


def _duration(thing: dict[str, Any]) -> str:
    return format_duration(thing["execution_duration"] / 1000) if thing["end_time"] and thing["start_time"] else ""


def _table(*columns: str) -> Table:
    table = plain_table()
    for column in columns:
        right, folds = column in ("run", "time", "attempt", "tries"), column in ("message", "log")
        table.add_column(column, justify="right" if right else "left", no_wrap=not folds, overflow="fold" if folds else "ellipsis")
    return table
