"""Carry out the commands run, repair and cancel on a cluster, and return their exit codes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from boathouse.workspace.bundle.catalogs import named_catalogs
from boathouse.workspace.bundle.jobs import Job, all_jobs, find_job, reachable_jobs
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.display import Display, console
from boathouse.workspace.cli.runs import with_notifications
from boathouse.workspace.cluster.address import ClusterSpec
from boathouse.workspace.cluster.client import BackgroundCluster
from boathouse.workspace.durations import format_duration
from boathouse.workspace.errors import BundleError, ClusterError
from boathouse.workspace.graph.state_machine import SUCCEEDED, Result
from boathouse.workspace.history.as_json import run_json
from boathouse.workspace.history.store import History
from boathouse.workspace.notifications.outbox import Outbox
from boathouse.workspace.packages.prepare import prepare
from boathouse.workspace.parameters.arguments import run_parameters
from boathouse.workspace.run.deploy import deploy
from boathouse.workspace.run.job_run import select_tasks
from boathouse.workspace.run.page import try_write_page
from boathouse.workspace.run.repair import plan_repair, run_to_repair
from boathouse.workspace.run.runner import Runner
from boathouse.workspace.task.spec import AnyCluster
from boathouse.workspace.validate.check import Finding, refuse_unrunnable
from boathouse.workspace.validate.schemas import refuse_parameters

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class RunOptions:
    "Hold how a run is carried out; with `foreground` None, the environment decides. `trigger_start` is the start that `boathouse up` planned."

    as_json: bool = False
    master: str | None = None
    spawn: bool = False
    foreground: bool | None = None
    wheel: bool = False
    trigger_start: int | None = None


def run_job(bundle: Bundle, key: str, given: Mapping[str, str], only: tuple[str, ...] = (), how: RunOptions = RunOptions()) -> int:
    "Run a job of the bundle and return the exit code: 0 for SUCCESS and SUCCESS_WITH_FAILURES, else 1."
    jobs = all_jobs(bundle)
    job = find_job(jobs, key, bundle.file.name)
    noted = refuse_unrunnable(jobs, job)
    refuse_parameters(job, run_parameters(job, given))
    select_tasks(job, only)
    return _carry_out(bundle, jobs, job, noted, how, lambda runner: runner.run(job, given, only, how.trigger_start))


def repair_run(
    bundle: Bundle, run_id: int, given: Mapping[str, str], rerun: tuple[str, ...], rerun_dependents: bool, how: RunOptions
) -> int:
    "Run the failed and skipped tasks of a run again, under the same id; return the exit code of the new result."
    jobs = all_jobs(bundle)
    with History(bundle.state) as history:
        history.close_abandoned()
        row = run_to_repair(history, run_id, bundle)
        job = jobs[row["job_key"]]
        noted = refuse_unrunnable(jobs, job)
        refuse_parameters(job, plan_repair(history, row, job, given, rerun, rerun_dependents).parameters)
        how = replace(how, wheel=how.wheel or bool(row["wheel"]))

    def again(runner: Runner) -> tuple[int, Result]:
        row = run_to_repair(runner.history, run_id, bundle)
        return runner.repair(job, plan_repair(runner.history, row, job, given, rerun, rerun_dependents))

    return _carry_out(bundle, jobs, job, noted, how, again)


def _carry_out(
    bundle: Bundle, jobs: Mapping[str, Job], job: Job, noted: list[Finding], how: RunOptions, work: Callable[[Runner], tuple[int, Result]]
) -> int:
    screen = console(stderr=how.as_json)
    _header(screen, bundle, noted)
    preparation = prepare(bundle, reachable_jobs(jobs, job), lambda line: _say(screen, line), wheel=how.wheel)
    begun = time.monotonic()
    with cluster_of(bundle, screen.print, how.master, how.spawn, how.foreground) as cluster, History(bundle.state) as history:
        for closed in history.close_abandoned():
            screen.print(f"run {closed} was left unfinished by a process that has ended; it is marked as failed.")
            try_write_page(history, closed)
        deploy(bundle, cluster)
        screen.print(f"cluster ready in {format_duration(time.monotonic() - begun)}")
        with Display(screen) as display:
            runner = Runner(cluster, bundle, jobs, history, [display], preparation=preparation)
            signal.signal(signal.SIGTERM, lambda *_: runner.stop.set())
            run_id, result = work(runner)
        for line in runner.notifier.lines:
            _say(screen, line)
        if how.as_json:
            with Outbox(bundle.state) as outbox:
                click.echo(json.dumps(with_notifications(run_json(history, run_id), outbox)))
    return 0 if result in SUCCEEDED else 1


def cancel_run(bundle: Bundle, run_id: int, as_json: bool) -> int:
    "Request that the process of a run cancels it, and wait until the run has ended."
    with History(bundle.state) as history:
        history.close_abandoned()
        if (run := run_json(history, run_id))["end_time"]:
            state = run["state"].get("result_state", run["state"]["life_cycle_state"])
            raise BundleError(f"run {run_id} has ended: {state}.")
        history.request_cancel(run_id)
        click.echo(f"cancelling run {run_id}", err=True)
        while not (run := run_json(history, run_id))["end_time"]:
            time.sleep(0.1)
            history.close_abandoned()
        click.echo(json.dumps(run) if as_json else f"run {run_id}: {run['state']['result_state']}")
    return 0


@contextmanager
def cluster_of(
    bundle: Bundle, say: Callable[[str], None], master: str | None = None, spawn: bool = False, foreground: bool | None = None
) -> Iterator[AnyCluster]:
    """Return the background cluster of the bundle's target, started if necessary.

    In the foreground, return a separate cluster that ends afterwards. With `foreground` None, BOATHOUSE_CLUSTER=own in the environment means True.
    Raises BundleError if the state folder is in use or the JVM does not start.
    """
    try:
        wanted = cluster_wanted(bundle, master, spawn)
        cluster = _own(wanted) if wants_own(foreground) else BackgroundCluster.reach(wanted, say)
    except ClusterError as e:
        raise BundleError(str(e)) from e
    with cluster:
        yield cluster


def session_of(cluster: AnyCluster, bundle: Bundle) -> SparkSession:
    "Return a session on the cluster for this process, in the target's catalog."
    from boathouse.workspace.cluster.cluster import Cluster
    from boathouse.workspace.cluster.query import use_catalog

    if isinstance(cluster, BackgroundCluster):
        session = cluster.attach()
    else:
        assert isinstance(cluster, Cluster)
        session = cluster.spark.newSession()
    use_catalog(session, bundle.catalog, named_catalogs(bundle))
    return session


def wants_own(foreground: bool | None) -> bool:
    "Return whether a command starts a separate cluster for itself."
    return os.environ.get("BOATHOUSE_CLUSTER") == "own" if foreground is None else foreground


def cluster_wanted(bundle: Bundle, master: str | None = None, spawn: bool = False) -> ClusterSpec:
    "Return the spec of the cluster on which the target's tasks and queries run."
    return ClusterSpec(bundle.state, bundle.root, bundle.catalog, named_catalogs(bundle), master, spawn)


def _own(wanted: ClusterSpec) -> AnyCluster:
    from boathouse.workspace.cluster.cluster import Cluster
    from boathouse.workspace.spark.dialect import catalog_settings
    from boathouse.workspace.spark.lock import WorkspaceLocked
    from boathouse.workspace.spark.session import JarsError, SessionError

    options: dict[str, Any] = {"master": wanted.master or "local[*]", "spawn": wanted.spawn, "catalog": wanted.catalog}
    try:
        return Cluster.start(wanted.state, wanted.project, **options, conf=catalog_settings(wanted.catalogs))
    except (WorkspaceLocked, SessionError, JarsError) as e:
        raise ClusterError(str(e)) from e


def _header(screen: Console, bundle: Bundle, noted: list[Finding]) -> None:
    for line in bundle.notes:
        _say(screen, f"note: {line}")
    # One line per kind of remark, however many jobs it concerns.
    messages = dict.fromkeys(f.problem.message for f in noted)
    for message in messages:
        _say(screen, f"note: {message}")
    if len(several := named_catalogs(bundle)) > 1:
        _say(
            screen,
            f"note: the catalogs {', '.join(several)} share their schemas on this machine: a schema may be used in one of them only.",
        )


def _say(screen: Console, line: str) -> None:
    screen.print(line, soft_wrap=True, markup=False, highlight=False)
