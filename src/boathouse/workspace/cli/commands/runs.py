"Commands about what has run: runs, logs, open, ui."

from __future__ import annotations

import sys

import click

from boathouse.workspace.cli.options import BundleOptions, bundle_options, complete_jobs, examples


@click.command(
    epilog=examples(
        "runs  # all runs of the target",
        "runs --job training --limit 5",
        "runs 12  # one run with its tasks and logs",
        "runs 12 -o json",
        "runs 12 --resend",
    )
)
@click.argument("run_id", type=int, required=False)
@click.option("--limit", type=click.IntRange(min=1), help="Show only so many runs, the newest.")
@click.option("--job", help="Show only the runs of this job.", shell_complete=complete_jobs)
@click.option("--resend", is_flag=True, help="First send the notifications of RUN_ID that could not be sent.")
@bundle_options
def runs(options: BundleOptions, run_id: int | None, limit: int | None, job: str | None, resend: bool) -> None:
    "List the runs of the target, newest first, or show run RUN_ID with its tasks, the paths of their logs, and its notifications."
    from boathouse.workspace.cli.runs import resend_notifications, show_run, show_runs
    from boathouse.workspace.history.as_json import run_json
    from boathouse.workspace.history.store import History

    bundle = options.load()
    if run_id is not None and (limit is not None or job is not None):
        raise click.UsageError("RUN_ID shows one run; --limit and --job are for the list.")
    if resend and run_id is None:
        raise click.UsageError("--resend needs the RUN_ID of a run.")
    with History(bundle.state) as history:
        history.close_abandoned()
        if run_id is not None:
            if resend:
                resend_notifications(bundle, run_json(history, run_id))
            show_run(history, run_id, options.as_json)
        else:
            show_runs(history, bundle, options.as_json, job, limit)


@click.command(
    epilog=examples(
        "logs 12  # every task of the run", "logs 12 train", "logs 12 month/train  # a task of a job that the run ran", "logs 12 train -f"
    )
)
@click.argument("run_id", type=int)
@click.argument("task", required=False)
@click.option("-f", "--follow", is_flag=True, help="Print new lines until the task, or without TASK the run, has ended.")
@bundle_options
def logs(options: BundleOptions, run_id: int, task: str | None, follow: bool) -> None:
    """Print the log of TASK in run RUN_ID, the last attempt. Without TASK, print the logs of all tasks.

    TASK is a task key. In nested jobs and loops a path such as month/train or each/3 is unique.
    With --json, print the paths of the logs instead of their lines.
    """
    from boathouse.workspace.cli.logs import print_logs
    from boathouse.workspace.history.store import History

    if follow and options.as_json:
        raise click.UsageError("--follow prints lines; it has no JSON form.")
    with History(options.load().state) as history:
        print_logs(history, run_id, task, follow, options.as_json)


@click.command("open", epilog=examples("open 12", "open  # the latest run", "open 12 --print  # print the address only"))
@click.argument("run_id", type=int, required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address and start no browser.")
@bundle_options
def open_run(options: BundleOptions, run_id: int | None, only_print: bool) -> None:
    "Open the page of run RUN_ID in the browser, or that of the latest run."
    from boathouse.workspace.cli.runs import open_page
    from boathouse.workspace.history.store import History

    bundle = options.load()
    with History(bundle.state) as history:
        open_page(history, bundle.state, run_id, options.as_json, browse=not only_print)


@click.command(epilog=examples("ui", "ui --port 5050 -t dev"))
@click.option("--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@bundle_options
def ui(options: BundleOptions, port: int) -> None:
    "Serve MLflow's web page on the experiments and models of the target, until Ctrl-C."
    from boathouse.workspace.cli.mlflow_ui import serve_ui

    sys.exit(serve_ui(options.load().state, port, options.as_json))
