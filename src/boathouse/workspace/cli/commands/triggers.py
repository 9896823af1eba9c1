"Commands about schedules and triggers: up, down, next."

from __future__ import annotations

import sys

import click

from boathouse.workspace.cli.options import BundleOptions, bundle_options, examples


@click.command(
    epilog=examples(
        "up  # until Ctrl-C; runs go on",
        "up --background  # boathouse down ends it",
        "up --status  # what is armed",
        "up --unpause -t dev  # arm paused jobs too",
        "up --clock 2013-10-01 --until 2014-01-01  # simulate a quarter",
        "up --clock 2013-10-01 --speed 1day/10s",
    )
)
@click.option("--background", is_flag=True, help="Work in a process of its own; its lines go to up.log in the state folder.")
@click.option("--status", is_flag=True, help="Print whether it runs and what is armed. The exit code is 0 if it runs, else 1.")
@click.option(
    "--clock", metavar="TIME", help="Begin a simulated clock at this date or time, in UTC. An interrupted one goes on where it was."
)
@click.option(
    "--speed",
    metavar="SPEED",
    help="Speed of the simulated clock: simulated per real time, or max, which jumps to the next start. Default: max.",
)
@click.option("--until", metavar="TIME", help="End before this date or time of the clock.")
@click.option(
    "--restart-clock", "restart", is_flag=True, help="Begin an interrupted simulated clock again, and start everything once more."
)
@click.option("--unpause", is_flag=True, help="Arm jobs and alerts whose pause_status is PAUSED too; mode: development sets it for jobs.")
@bundle_options
def up(
    options: BundleOptions,
    background: bool,
    status: bool,
    clock: str | None,
    speed: str | None,
    until: str | None,
    restart: bool,
    unpause: bool,
) -> None:
    """Start the jobs of the target by their schedules and triggers, and evaluate its alerts by theirs, as the platform does.

    It prints what is armed, paused and refused, and one line per start and per end. One such process runs per target.
    """
    from boathouse.workspace.cli.up import run_up
    from boathouse.workspace.cli.up_process import UpOptions, print_up_status, start_background

    how = UpOptions(clock, speed, until, restart, unpause, options.variables)
    bundle = options.load()
    if status:
        sys.exit(print_up_status(bundle, options.as_json))
    if background:
        sys.exit(start_background(bundle, how, options.as_json))
    sys.exit(run_up(bundle, how, options.as_json))


@click.command(epilog=examples("down", "down -t prod"))
@bundle_options
def down(options: BundleOptions) -> None:
    "End the `boathouse up` of the target. Its runs go on, and what was planned is started by the next one."
    from boathouse.workspace.cli.up_process import stop_up

    sys.exit(stop_up(options.load(), options.as_json))


@click.command("next", epilog=examples("next", "next --from 2013-10-01 --count 20", "next --unpause -t dev -o json"))
@click.option("--from", "begin", metavar="TIME", help="List the starts after this date or time, in UTC. Default: now.")
@click.option("--count", type=click.IntRange(min=1), default=10, show_default=True, help="Number of starts to list.")
@click.option("--unpause", is_flag=True, help="List those of paused jobs and alerts too.")
@bundle_options
def next_starts(options: BundleOptions, begin: str | None, count: int, unpause: bool) -> None:
    "List when `boathouse up` starts which job or evaluates which alert next, and what the other jobs wait for."
    from boathouse.workspace.cli.next_starts import list_next

    list_next(options.load(), begin, count, unpause, options.as_json)
