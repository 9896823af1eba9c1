"""From a command to a cluster and back: run a job, or one SQL statement, and say how it went."""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from boathouse.workspace.asjson import run_json
from boathouse.workspace.bundle import Bundle
from boathouse.workspace.catalogs import named_catalogs
from boathouse.workspace.checks import Finding, refuse_unrunnable
from boathouse.workspace.cluster import Cluster, ClusterError
from boathouse.workspace.deploy import deploy
from boathouse.workspace.dialect import catalog_settings
from boathouse.workspace.display import Display, console
from boathouse.workspace.errors import BundleError
from boathouse.workspace.graph import SUCCEEDED
from boathouse.workspace.history import History
from boathouse.workspace.jobs import all_jobs, find_job, reachable
from boathouse.workspace.packages import prepare
from boathouse.workspace.parameters import run_parameters
from boathouse.workspace.runner import Runner, selected
from boathouse.workspace.session import JarsError, SessionError, WorkspaceLocked


def run_job(
    bundle: Bundle,
    key: str,
    given: Mapping[str, str],
    *,
    only: tuple[str, ...] = (),
    as_json: bool = False,
    master: str | None = None,
    spawn: bool = False,
    wheel: bool = False,
) -> int:
    "Runs a job of the bundle and returns the exit code: 0 if it succeeded, with or without failures on the way, else 1."
    jobs = all_jobs(bundle)
    job = find_job(jobs, key, bundle.file.name)
    noted = refuse_unrunnable(jobs, job)
    run_parameters(job, given)
    selected(job, only)
    screen = console(stderr=as_json)
    _header(screen, bundle, noted)
    preparation = prepare(bundle, reachable(jobs, job), lambda line: _say(screen, line), wheel=wheel)
    begun = time.monotonic()
    with cluster_of(bundle, master, spawn) as cluster, History(bundle.state) as history:
        for closed in history.close_abandoned():
            screen.print(f"run {closed} had been left unfinished by a process that is gone; it is marked as failed.")
        deploy(bundle, cluster)
        screen.print(f"cluster ready in {time.monotonic() - begun:.1f} s")
        with Display(screen) as display:
            runner = Runner(cluster, bundle, jobs, history, [display], preparation=preparation)
            signal.signal(signal.SIGTERM, lambda *_: runner.stop.set())
            run_id, result = runner.run(job, given, only)
        if as_json:
            click.echo(json.dumps(run_json(history, run_id)))
    return 0 if result in SUCCEEDED else 1


@contextmanager
def cluster_of(bundle: Bundle, master: str | None = None, spawn: bool = False) -> Iterator[Cluster]:
    "The cluster of the bundle's target, stopped afterwards; a state folder in use, or a JVM that does not start, is a refusal."
    options: dict[str, Any] = {"conf": catalog_settings(named_catalogs(bundle)), **({"master": master} if master else {})}
    try:
        cluster = Cluster.start(bundle.state, bundle.root, spawn=spawn, catalog=bundle.catalog, **options)
    except (WorkspaceLocked, SessionError, JarsError, ClusterError) as e:
        raise BundleError(str(e)) from e
    with cluster:
        yield cluster


def run_sql(bundle: Bundle, query: str, as_json: bool) -> int:
    "Runs one statement on the target's tables and prints its rows."
    from pyspark.errors import PySparkException

    # No task will run, so nothing needs to be imported for one: that is what `spawn` leaves out.
    with cluster_of(bundle, spawn=True) as cluster:
        try:
            columns, rows = cluster.sql(query, bundle.catalog)
        except PySparkException as e:
            message = str(e).split("\n\nJVM stacktrace")[0].strip()
            if as_json:
                click.echo(json.dumps({"error": {"message": message}}))
            click.echo(message, err=True)
            return 1
    if as_json:
        click.echo(json.dumps([dict(zip(columns, map(jsonable, row), strict=True)) for row in rows]))
        return 0
    table = Table()
    for column in columns:
        table.add_column(Text(column))
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console().print(table)
    return 0


def _cell(value: Any) -> str:
    plain = jsonable(value)
    return "NULL" if plain is None else plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def jsonable(value: Any) -> Any:
    "A value of Spark in JSON's types: instants and dates as ISO text, decimals and bytes as text, rows as objects."
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if hasattr(value, "asDict"):
        return {k: jsonable(v) for k, v in value.asDict().items()}
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _header(screen: Console, bundle: Bundle, noted: list[Finding]) -> None:
    for line in bundle.notes:
        _say(screen, f"note: {line}")
    # One line a kind of remark, however many jobs it is about.
    said = dict.fromkeys(f.problem.message for f in noted)
    for message in said:
        _say(screen, f"note: {message}")
    if len(several := named_catalogs(bundle)) > 1:
        _say(screen, f"note: the catalogs {', '.join(several)} are one on this machine: a schema of one is the schema of that name in all.")


def _say(screen: Console, line: str) -> None:
    screen.print(line, soft_wrap=True, markup=False, highlight=False)
