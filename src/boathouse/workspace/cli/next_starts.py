"`boathouse next`: list when which job starts, and when which alert is evaluated."

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import click
from rich.text import Text

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.display import console, plain_table
from boathouse.workspace.cli.up import explain_pause, subject_json
from boathouse.workspace.history.store import History
from boathouse.workspace.triggers.clock import format_time, time_from_text
from boathouse.workspace.triggers.evaluate import TriggerState, arm, next_time
from boathouse.workspace.triggers.settings import JobTrigger, read_triggers
from boathouse.workspace.triggers.store import TriggerStore


def list_next(bundle: Bundle, begin: str | None, count: int, unpause: bool, as_json: bool) -> None:
    "Print the next planned starts of the target's jobs and alerts, and what the other jobs wait for."
    after = time_from_text(begin, "--from") if begin is not None else time.time()
    triggers = read_triggers(bundle, all_jobs(bundle), unpause=unpause)
    states: dict[str, TriggerState] = {}
    if (bundle.state / "workspace.db").is_file():
        with History(bundle.state) as history:
            states = TriggerStore(history).states()
    starts = list(islice(heapq.merge(*(_planned(j, t, arm(t, after, states.get(j)), after) for j, t in triggers.armed.items())), count))
    waiting = {job: str(t) for job, t in triggers.armed.items() if t.kind not in ("cron", "periodic")}
    refused = {job: str(error) for job, error in triggers.refused.items()}
    if as_json:
        listed = [
            {**subject_json(job), "planned_time": int(at * 1000), "utc": format_time(at), "trigger": triggers.armed[job].type}
            for at, job in starts
        ]
        click.echo(json.dumps({"starts": listed, "waiting": waiting, "paused": list(triggers.paused), "refused": refused}))
        return
    table = plain_table()
    for column in ("start (UTC)", "name", "because"):
        table.add_column(column, no_wrap=True)
    for at, job in starts:
        table.add_row(format_time(at), job, Text(str(triggers.armed[job])))
    if starts:
        console().print(table)
    for job, text in waiting.items():
        click.echo(f"waiting  {job}: {text}")
    for job in triggers.paused:
        click.echo(f"paused   {job}{explain_pause(bundle, [job])}")
    for job, text in refused.items():
        click.echo(f"refused  {job}: {text}")
    if not (starts or waiting or triggers.paused or refused):
        click.echo(f"no job or alert of target '{bundle.target}' has a schedule or trigger")


def _planned(job: str, trigger: JobTrigger, state: TriggerState, after: float) -> Iterator[tuple[float, str]]:
    "Yield the planned times of a job after a time; none if only a change starts it."
    state = replace(state, seen=after)
    while trigger.kind in ("cron", "periodic") and (at := next_time(trigger, state)) is not None:
        yield at, job
        state = replace(state, seen=at)
