"Commands about jobs: run, validate, graph, repair, cancel."

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click

from boathouse.workspace.cli.options import (
    BundleOptions,
    bundle_options,
    complete_jobs,
    examples,
    foreground_option,
    parameter_options,
)

WHEEL = "Build the bundle's wheels and run from them; the source checkout is not importable."


@click.command(
    epilog=examples(
        "run  # list the jobs",
        "run training --param as_of=2013-10-01",
        "run training --params as_of=2013-10-01,trees=50 -t dev",
        "run training --only validate+  # a task and everything downstream",
    )
)
@click.argument("job", required=False, shell_complete=complete_jobs)
@parameter_options("Value of a job parameter. Everything after the first '=' is the value.")
@click.option(
    "--only",
    default="",
    metavar="TASKS",
    help="Run only these tasks, comma-separated. '+a' adds everything upstream of a, 'a+' everything downstream.",
)
@click.option("--master", metavar="URL", help="Spark master, such as spark://host:7077. Default: the cores of this machine.")
@click.option("--spawn", is_flag=True, help="Start a fresh interpreter per task instead of a fork.")
@click.option("--wheel", is_flag=True, help=WHEEL)
@click.option("--trigger-start", type=int, hidden=True, help="The planned start of `boathouse up` that this run carries out.")
@foreground_option
@bundle_options
def run(
    options: BundleOptions,
    job: str | None,
    given: Mapping[str, str],
    only: str,
    master: str | None,
    spawn: bool,
    wheel: bool,
    trigger_start: int | None,
    foreground: bool | None,
) -> None:
    """Run JOB on this machine. Without JOB, list the jobs of the bundle.

    The exit code is 0 if the run succeeded, 1 if it did not, and 2 if it was refused before it started.
    """
    bundle = options.load()
    if job is None:
        from boathouse.workspace.cli.graph import list_jobs

        list_jobs(bundle, options.as_json)
        return
    from boathouse.workspace.cli.run import RunOptions, run_job

    keys = tuple(word for word in (w.strip() for w in only.split(",")) if word)
    sys.exit(run_job(bundle, job, given, keys, RunOptions(options.as_json, master, spawn, foreground, wheel, trigger_start)))


@click.command(epilog=examples("validate  # every target", "validate -t prod --json"))
@bundle_options
def validate(options: BundleOptions) -> None:
    """Check every job of the bundle, in one target or in all, without running anything.

    The exit code is 2 if there is an error, else 0.
    """
    from boathouse.workspace.validate import report

    root = options.root
    sys.exit(report.print_report(report.check_bundle(root, options.target, options.overrides), root, options.as_json))


@click.command(
    epilog=examples(
        "graph  # every job of the bundle", "graph lifecycle", "graph lifecycle --mermaid > lifecycle.mmd  # for Markdown and mermaid.live"
    )
)
@click.argument("job", required=False, shell_complete=complete_jobs)
@click.option("--mermaid", is_flag=True, help="Print the graph as mermaid text.")
@bundle_options
def graph(options: BundleOptions, job: str | None, mermaid: bool) -> None:
    """Show the tasks of JOB and what they wait for: conditions, run_if, loops and jobs that it runs. Without JOB, show all jobs.

    A task is drawn below the last task that it waits for; the others follow its name.
    """
    from boathouse.workspace.cli.graph import show_graphs

    show_graphs(options.load(), job, mermaid, options.as_json)


@click.command(epilog=examples("repair 12", "repair 12 --task train --rerun-dependents", "repair 12 --param as_of=2013-11-01"))
@click.argument("run_id", type=int)
@click.option("--task", "rerun", multiple=True, metavar="KEY", help="Run this task again too, although it succeeded.")
@click.option("--rerun-dependents", is_flag=True, help="Run the succeeded tasks again that depend on a task that runs again.")
@parameter_options("Value of a job parameter instead of the run's.")
@click.option("--wheel", is_flag=True, help=f"{WHEEL} A run started by `run --wheel` is always repaired so.")
@foreground_option
@bundle_options
def repair(
    options: BundleOptions,
    run_id: int,
    rerun: Sequence[str],
    rerun_dependents: bool,
    given: Mapping[str, str],
    wheel: bool,
    foreground: bool | None,
) -> None:
    """Run the failed and skipped tasks of run RUN_ID again, under the same run id.

    Tasks that succeeded keep their results and task values.
    """
    from boathouse.workspace.cli.run import RunOptions, repair_run

    how = RunOptions(options.as_json, foreground=foreground, wheel=wheel)
    sys.exit(repair_run(options.load(), run_id, given, tuple(rerun), rerun_dependents, how))


@click.command(epilog=examples("cancel 12"))
@click.argument("run_id", type=int)
@bundle_options
def cancel(options: BundleOptions, run_id: int) -> None:
    "Cancel run RUN_ID and wait until all its processes have ended."
    from boathouse.workspace.cli.run import cancel_run

    sys.exit(cancel_run(options.load(), run_id, options.as_json))
