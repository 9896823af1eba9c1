"Commands about alerts: list, run, show, snooze."

from __future__ import annotations

import sys

import click

from boathouse.workspace.cli.options import BundleOptions, bundle_options, examples, foreground_option


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "alerts  # each alert with its state",
        "alerts run",
        "alerts show late_share  # its last evaluations",
        "alerts snooze late_share 2d",
    ),
)
@bundle_options
@click.pass_context
def alerts(context: click.Context, options: BundleOptions) -> None:
    """Show the alerts of the bundle with their states, evaluate them, or snooze one.

    An alert runs a query and compares a value of its rows. When its state changes, the recipients that it names are notified.
    """
    if context.invoked_subcommand is not None:
        if options != BundleOptions():
            raise click.UsageError(f"Options follow the command: boathouse alerts {context.invoked_subcommand} ...")
    else:
        from boathouse.workspace.cli.alerts import list_alerts

        list_alerts(options.load(), options.as_json)


@alerts.command(epilog=examples("alerts run  # every alert", "alerts run late_share -t prod"))
@click.argument("name", required=False)
@click.option("--trigger-start", type=int, hidden=True, help="The planned start of `boathouse up` that this evaluation carries out.")
@foreground_option
@bundle_options
def run(options: BundleOptions, name: str | None, trigger_start: int | None, foreground: bool | None) -> None:
    """Evaluate the alert NAME on the target's tables, or every alert, and notify of changes.

    NAME is the key or the display name. The exit code is 1 if an alert could not be evaluated, else 0.
    """
    from boathouse.workspace.cli.alerts import run_alerts

    sys.exit(run_alerts(options.load(), name, options.as_json, foreground, trigger_start))


@alerts.command(epilog=examples("alerts show late_share", "alerts show late_share --limit 100 -o json"))
@click.argument("name")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Number of evaluations, the newest first.")
@bundle_options
def show(options: BundleOptions, name: str, limit: int) -> None:
    "Show the last evaluations of the alert NAME, and who was notified."
    from boathouse.workspace.cli.alerts import show_alert

    show_alert(options.load(), name, limit, options.as_json)


@alerts.command(epilog=examples("alerts snooze late_share 2d", "alerts snooze late_share 90m", "alerts snooze late_share off"))
@click.argument("name")
@click.argument("duration")
@bundle_options
def snooze(options: BundleOptions, name: str, duration: str) -> None:
    """Notify nobody of the alert NAME for DURATION, such as 90m, 12h or 2d; `off` ends it.

    The alert is still evaluated. A trigger that lasts until then is notified by the next evaluation.
    """
    from boathouse.workspace.cli.alerts import snooze_alert

    snooze_alert(options.load(), name, duration, options.as_json)
