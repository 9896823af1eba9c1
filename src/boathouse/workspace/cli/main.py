"""The command line. The commands are in `commands` and import heavy libraries only when they run, so that `--help` is fast."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from boathouse.workspace.cli import plugins
from boathouse.workspace.cli.commands import alerts, jobs, machine, project, runs, tables, triggers
from boathouse.workspace.cli.options import DEBUG, BundleOptions, bundle_options, debug_option, examples, foreground_option
from boathouse.workspace.cli.refusals import missing_extra, print_refusal, wants_json
from boathouse.workspace.errors import BundleError

SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Jobs": (jobs.run, jobs.validate, jobs.graph, jobs.repair, jobs.cancel),
    "Schedules and triggers": (triggers.up, triggers.down, triggers.next_starts),
    "Runs": (runs.runs, runs.logs, runs.open_run, runs.ui),
    "Data": (tables.tables, tables.show, tables.sql, tables.shell, alerts.alerts),
    "Project": (project.score,),
    "This machine": (machine.cluster, machine.doctor, machine.completion),
}
BROUGHT = "From installed packages"
JSON = "boathouse.json"


class Commands(click.Group):
    """Hold the commands of this package, and those of installed packages.

    Every refusal ends with exit code 2. With --json it is also one object on stdout, even if the command line cannot be parsed.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[JSON] = wants_json(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        as_json = bool(ctx.meta[JSON])
        try:
            return super().invoke(ctx)
        except click.UsageError as e:
            if as_json:
                click.echo(json.dumps(BundleError(e.format_message()).as_json()))
            raise
        except BundleError as e:
            sys.exit(print_refusal(e, as_json))
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as e:
            refusal = missing_extra(e) if isinstance(e, ModuleNotFoundError) else None
            if refusal is not None:
                sys.exit(print_refusal(refusal, as_json))
            if ctx.meta.get(DEBUG):
                raise
            hint = "Repeat the command with --debug for the traceback."
            print_refusal(BundleError(f"unexpected error: {type(e).__name__}: {str(e).rstrip('.')}.", hint=hint), as_json)
            sys.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *sorted(plugins.points())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _brought_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        brought = tuple(command for name in sorted(plugins.points()) if (command := self.get_command(ctx, name)))
        for title, commands in {**SECTIONS, BROUGHT: brought}.items():
            if commands:
                with formatter.section(title):
                    formatter.write_dl([(command.name or "", _summary(command)) for command in commands])


def _summary(command: click.Command) -> str:
    "Return the whole first sentence of a command's help."
    return re.split(r"(?<=[.]) (?=[A-Z])", " ".join((command.help or "").split("\n\n")[0].split()))[0]


def _brought_command(name: str) -> click.Command | None:
    if name not in plugins.points():
        return None

    @click.command(name, help=plugins.help_of(name), context_settings={"ignore_unknown_options": True})
    @click.argument("words", nargs=-1)
    @foreground_option
    @bundle_options
    def command(options: BundleOptions, words: Sequence[str], foreground: bool | None) -> None:
        sys.exit(plugins.run(options.load(), name, words, options.as_json, foreground))

    return command


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"boathouse {importlib.metadata.version('boathouse')}")
        context.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "run  # list the jobs of the bundle",
        "run my_job -t dev",
        "runs 12  # a run with its tasks and logs",
        'sql "show tables in silver"',
        "run --help  # options and examples of a command",
    ),
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version.")
@debug_option
def main() -> None:
    """Run the jobs of a Databricks bundle on this machine, with real Spark, Delta and MLflow.

    The commands work in any folder of a bundle; options follow the command.
    """


for _section in SECTIONS.values():
    for _command in _section:
        main.add_command(_command)
