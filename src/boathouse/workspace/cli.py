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
    from boathouse.workspace.bundle import Bundle

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
) -> None:
    "Run JOB; without JOB, list the jobs."
    bundle = _load(folder, target, variables)
    if job is None:
        _list_jobs(bundle, as_json)
        return
    from boathouse.workspace import start

    keys = tuple(word for word in (w.strip() for w in only.split(",")) if word)
    code = start.run_job(bundle, job, _pairs(params, "--param"), only=keys, as_json=as_json, master=master, spawn=spawn, wheel=wheel)
    sys.exit(code)


@main.command()
@_bundle_options
@_refusing
def validate(folder: Path, target: str | None, variables: Sequence[str], as_json: bool) -> None:
    "Check every job of the bundle, in one target or all, without running anything."
    from boathouse.workspace.bundle import target_names

    names = (target,) if target else target_names(folder)
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for name in names:
        for finding in _findings(_load(folder, name, variables)):
            key = (finding.level, str(finding.problem.where), str(finding.problem))
            found.setdefault(key, finding.as_json() | {"targets": []})["targets"].append(name)
    errors = sum(level == "error" for level, _, _ in found)
    if as_json:
        click.echo(json.dumps({"targets": list(names), "valid": not errors, "findings": list(found.values())}))
    else:
        _print_findings(found)
        click.echo(
            f"{errors} {'error' if errors == 1 else 'errors'} in {', '.join(names)}." if errors else f"Valid: {', '.join(names)}.",
            err=bool(errors),
        )
    sys.exit(2 if errors else 0)


def _print_findings(found: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    places: dict[str, list[str]] = {}
    for (level, where, text), finding in found.items():
        if level == "error":
            click.echo(text, err=True)
        elif level == "refused":
            click.echo(f"{text} The other jobs run.")
        else:
            places.setdefault(finding["message"], []).append(where)
    for message, first in places.items():
        more = f" ({len(first) - 1} more such places)" if len(first) > 1 else ""
        click.echo(f"{first[0]}: note: {message}{more}")


@main.command()
@click.argument("run_id", type=int, required=False)
@_bundle_options
@_refusing
def runs(run_id: int | None, folder: Path, target: str | None, variables: Sequence[str], as_json: bool) -> None:
    "List the runs of the target, or show one of them."
    from boathouse.workspace import listing
    from boathouse.workspace.history import History

    bundle = _load(folder, target, variables)
    with History(bundle.state) as history:
        history.close_abandoned()
        listing.show_run(history, run_id, as_json) if run_id is not None else listing.show_runs(history, as_json)


@main.command()
@click.argument("query")
@_bundle_options
@_refusing
def sql(query: str, folder: Path, target: str | None, variables: Sequence[str], as_json: bool) -> None:
    "Run one SQL statement on the target's tables; with --json, an array of objects."
    from boathouse.workspace import start

    sys.exit(start.run_sql(_load(folder, target, variables), query, as_json))


@main.command()
@_bundle_options
@_refusing
def doctor(folder: Path, target: str | None, variables: Sequence[str], as_json: bool) -> None:
    "Look at Python, Java, the jars, the state folder and its lock."
    from boathouse.workspace import doctor as physician

    report = physician.examine(_load(folder, target, variables))
    if as_json:
        click.echo(json.dumps([r.as_json() for r in report]))
    else:
        for r in report:
            click.echo(f"{'ok  ' if r.well else 'FAIL'}  {r.what}: {r.found}" + (f"\n      {r.fix}" if not r.well else ""))
    sys.exit(0 if all(r.well for r in report) else 1)


def _load(folder: Path, target: str | None, variables: Sequence[str]) -> Bundle:
    from boathouse.workspace.bundle import load

    return load(folder, target, _pairs(variables, "--var"))


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BundleError(f"'{word}' is not of the form NAME=VALUE.", Where(option))
        pairs[name] = value
    return pairs


def _findings(bundle: Bundle) -> list[Any]:
    from boathouse.workspace.checks import findings
    from boathouse.workspace.jobs import all_jobs

    jobs = all_jobs(bundle)
    return [finding for job in jobs.values() for finding in findings(jobs, job)]


def _list_jobs(bundle: Bundle, as_json: bool) -> None:
    jobs = {key: str(job.get("description") or job.get("name") or "") for key, job in bundle.jobs.items()}
    if as_json:
        click.echo(json.dumps({"jobs": [{"job_key": k, "description": d} for k, d in jobs.items()]}))
        return
    width = max((len(k) for k in jobs), default=0)
    for key, description in jobs.items():
        click.echo(f"{key:<{width}}  {description}")
