"""The command line. Everything heavy is imported by the command that needs it, so that `--help` is quick."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boathouse.workspace.errors import BundleError, Where

if TYPE_CHECKING:
    from boathouse.workspace.bundle.load import Bundle

Command = Callable[..., Any]


def _bundle_options(command: Command) -> Command:
    options = [
        click.option("--bundle", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Folder of the bundle."),
        click.option("-t", "--target", help="Target of the bundle; else its default target."),
        click.option("--var", "variables", multiple=True, metavar="K=V", help="Value of a bundle variable."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout; progress on stderr."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _refusing(command: Command) -> Command:
    "Prints a refusal as `file:line:col: message` (or as JSON) and ends with 2."

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BundleError as e:
            if kwargs.get("as_json"):
                click.echo(json.dumps(e.as_json()))
            click.echo(str(e), err=True)
            sys.exit(2)

    return wrapped


_foreground = click.option(
    "--foreground", is_flag=True, default=None, help="Use a cluster of this command's own, ended with it, instead of the background one."
)


class _Commands(click.Group):
    """The commands below, and those that installed packages bring.

    A command line that cannot be read is a refusal too: with --json it is one object on stdout.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["as_json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as e:
            if ctx.meta["as_json"]:
                click.echo(json.dumps(BundleError(e.format_message()).as_json()))
            raise

    def list_commands(self, context: click.Context) -> list[str]:
        from boathouse.workspace.cli import plugins

        return [*super().list_commands(context), *sorted(plugins.points())]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return super().get_command(context, name) or _brought(name)


def _brought(name: str) -> click.Command | None:
    from boathouse.workspace.cli import plugins

    if name not in plugins.points():
        return None

    @click.command(name, help=plugins.help_of(name), context_settings={"ignore_unknown_options": True})
    @click.argument("words", nargs=-1)
    @_bundle_options
    @_foreground
    @_refusing
    def command(
        words: Sequence[str], folder: Path, target: str | None, variables: Sequence[str], as_json: bool, foreground: bool | None
    ) -> None:
        sys.exit(plugins.run(_load(folder, target, variables), name, words, as_json, foreground))

    return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    "Run the jobs of a Databricks bundle on this machine, with real Spark, Delta and MLflow."


@main.command()
@click.argument("job", required=False)
@_bundle_options
@click.option(
    "--param", "params", multiple=True, metavar="K=V", help="Value of a job parameter; the rest of the text after the first '=' is kept."
)
@click.option(
    "--only", default="", metavar="TASKS", help="Only these tasks, by comma; '+a' with all upstream of a, 'a+' with all downstream."
)
@click.option("--master", help="A Spark master other than this machine's cores.")
@click.option("--spawn", is_flag=True, help="Start a fresh interpreter for each task instead of a fork.")
@click.option("--wheel", is_flag=True, help="Build the bundle's wheels and run from them, with nothing of the checkout importable.")
@_foreground
@_refusing
def run(
    job: str | None,
    folder: Path,
    target: str | None,
    variables: Sequence[str],
    as_json: bool,
    params: Sequence[str],
    only: str,
    master: str | None,
    spawn: bool,
    wheel: bool,
    foreground: bool | None,
) -> None:
    "Run JOB; without JOB, list the jobs."
    bundle = _load(folder, target, variables)
    if job is None:
        _list_jobs(bundle, as_json)
        return
    from boathouse.workspace.cli import run as start

    keys = tuple(word for word in (w.strip() for w in only.split(",")) if word)
    how = start.How(as_json, master, spawn, foreground, wheel)
    sys.exit(start.run_job(bundle, job, _pairs(params, "--param"), keys, how))


@main.command()
@_bundle_options
@_refusing
def validate(folder: Path, target: str | None, variables: Sequence[str], as_json: bool) -> None:
    "Check every job of the bundle, in one target or all, without running anything."
    from boathouse.workspace.validate import report as validator

    sys.exit(validator.show(validator.check(folder, target, _pairs(variables, "--var")), folder, as_json))


@main.command()
@click.argument("run_id", type=int, required=False)
@_bundle_options
@_refusing
def runs(run_id: int | None, folder: Path, target: str | None, variables: Sequence[str], as_json: bool) -> None:
    "List the runs of the target, or show one of them."
    from boathouse.workspace.cli import runs as listing
    from boathouse.workspace.history.store import History

    bundle = _load(folder, target, variables)
    with History(bundle.state) as history:
        history.close_abandoned()
        listing.show_run(history, run_id, as_json) if run_id is not None else listing.show_runs(history, as_json)


@main.command()
@click.argument("run_id", type=int)
@_bundle_options
@click.option("--task", "rerun", multiple=True, metavar="KEY", help="Run this task again too, though it succeeded.")
@click.option("--rerun-dependents", is_flag=True, help="Run again what succeeded below a task that runs again.")
@click.option("--param", "params", multiple=True, metavar="K=V", help="Value of a job parameter, instead of the one the run had.")
@click.option("--wheel", is_flag=True, help="Run from built wheels, as `run --wheel` does; a run that was started so is repaired so.")
@_foreground
@_refusing
def repair(
    run_id: int,
    folder: Path,
    target: str | None,
    variables: Sequence[str],
    as_json: bool,
    rerun: Sequence[str],
    rerun_dependents: bool,
    params: Sequence[str],
    wheel: bool,
    foreground: bool | None,
) -> None:
    "Run again what failed or was skipped in run RUN_ID, under the same id; what succeeded stays, with its task values."
    from boathouse.workspace.cli import run as start

    how = start.How(as_json, foreground=foreground, wheel=wheel)
    sys.exit(start.repair_run(_load(folder, target, variables), run_id, _pairs(params, "--param"), tuple(rerun), rerun_dependents, how))


@main.command()
@click.argument("run_id", type=int)
@_bundle_options
@_refusing
def cancel(run_id: int, folder: Path, target: str | None, variables: Sequence[str], as_json: bool) -> None:
    "Cancel run RUN_ID, and wait until nothing of it is left."
    from boathouse.workspace.cli import run as start

    sys.exit(start.cancel_run(_load(folder, target, variables), run_id, as_json))


@main.command()
@click.argument("query")
@_bundle_options
@_foreground
@_refusing
def sql(query: str, folder: Path, target: str | None, variables: Sequence[str], as_json: bool, foreground: bool | None) -> None:
    "Run one SQL statement on the target's tables; with --json, an array of objects."
    from boathouse.workspace.cli import run as start

    sys.exit(start.run_sql(_load(folder, target, variables), query, as_json, foreground))


@main.group()
def cluster() -> None:
    "The background cluster of a target: one JVM that runs, queries and notebooks share."


@cluster.command("start")
@_bundle_options
@click.option("--master", help="A Spark master other than this machine's cores.")
@click.option("--foreground", is_flag=True, help="Stay here and serve until Ctrl-C, or until nobody has used it for a while.")
@_refusing
def cluster_start(folder: Path, target: str | None, variables: Sequence[str], as_json: bool, master: str | None, foreground: bool) -> None:
    "Start it, if it does not run. Whoever needs it starts it too."
    from boathouse.workspace.cli import cluster as manage

    sys.exit(manage.start(_load(folder, target, variables), as_json, master, foreground))


@cluster.command("stop")
@_bundle_options
@click.option("--force", is_flag=True, help="Even if runs, queries or notebooks use it.")
@_refusing
def cluster_stop(folder: Path, target: str | None, variables: Sequence[str], as_json: bool, force: bool) -> None:
    "End it, and wait until it has ended."
    from boathouse.workspace.cli import cluster as manage

    sys.exit(manage.stop(_load(folder, target, variables), as_json, force))


@cluster.command("status")
@_bundle_options
@_refusing
def cluster_status(folder: Path, target: str | None, variables: Sequence[str], as_json: bool) -> None:
    "Show its processes, memory, sessions and age."
    from boathouse.workspace.cli import cluster as manage

    sys.exit(manage.status(_load(folder, target, variables), as_json))


@main.command()
@_bundle_options
@_refusing
def doctor(folder: Path, target: str | None, variables: Sequence[str], as_json: bool) -> None:
    "Look at Python, Java, the jars, the state folder and its lock."
    from boathouse.workspace.cli import doctor as physician

    report = physician.examine(_load(folder, target, variables))
    if as_json:
        click.echo(json.dumps([r.as_json() for r in report]))
    else:
        for r in report:
            click.echo(f"{'ok  ' if r.well else 'FAIL'}  {r.what}: {r.found}" + (f"\n      {r.fix}" if not r.well else ""))
    sys.exit(0 if all(r.well for r in report) else 1)


def _load(folder: Path, target: str | None, variables: Sequence[str]) -> Bundle:
    from boathouse.workspace.bundle.load import load

    return load(folder, target, _pairs(variables, "--var"))


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BundleError(f"'{word}' is not of the form NAME=VALUE.", Where(option))
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise BundleError(f"{word!a} is not text in UTF-8.", Where(option))
        pairs[name] = value
    return pairs


def _list_jobs(bundle: Bundle, as_json: bool) -> None:
    jobs = {key: str(job.get("description") or job.get("name") or "") for key, job in bundle.jobs.items()}
    if as_json:
        click.echo(json.dumps({"jobs": [{"job_key": k, "description": d} for k, d in jobs.items()]}))
        return
    width = max((len(k) for k in jobs), default=0)
    for key, description in jobs.items():
        click.echo(f"{key:<{width}}  {description}")
