"Commands about data: tables, show, sql, shell."

from __future__ import annotations

import sys
from typing import IO

import click

from boathouse.workspace.cli.options import BundleOptions, bundle_options, examples, foreground_option


@click.command(epilog=examples("tables", "tables silver", "tables -o json"))
@click.argument("schema", required=False)
@bundle_options
def tables(options: BundleOptions, schema: str | None) -> None:
    """List the Delta tables of the target, or of one SCHEMA: rows, size, version and last change.

    The figures come from the tables' logs, so no cluster is started. Views are not listed: use `boathouse sql "show views in SCHEMA"`.
    """
    from boathouse.workspace.cli.tables import list_tables

    list_tables(options.load(), schema, options.as_json)


@click.command(epilog=examples("show silver.flights", "show silver.flights --rows 20", "show dev.silver.flights -t dev -o json"))
@click.argument("table")
@click.option("--rows", type=click.IntRange(min=0), default=5, show_default=True, help="Number of rows to print.")
@foreground_option
@bundle_options
def show(options: BundleOptions, table: str, rows: int, foreground: bool | None) -> None:
    "Show one TABLE or view: columns with types and comments, keys, history and first rows."
    from boathouse.workspace.cli.tables import show_table

    sys.exit(show_table(options.load(), table, rows, options.as_json, foreground))


@click.command(
    epilog=examples(
        'sql "select * from silver.flights limit 5"',
        "sql -f report.sql",
        "sql - < report.sql  # from standard input",
        'sql "select count(*) from silver.flights" -o json',
    )
)
@click.argument("query", required=False)
@click.option("-f", "--file", "file", type=click.File(encoding="utf-8"), help="Read the statements from a file; - is standard input.")
@foreground_option
@bundle_options
def sql(options: BundleOptions, query: str | None, file: IO[str] | None, foreground: bool | None) -> None:
    """Run SQL on the target's tables. QUERY is one or more statements, separated by semicolons; - reads standard input.

    Several statements run in one session, and stop at the first error.
    With --json, one statement prints an array of objects; several print an array of such arrays.
    """
    from boathouse.workspace.cli.query import run_sql

    if (query is None) == (file is None):
        raise click.UsageError("Give either QUERY or --file. `boathouse sql -` reads standard input.")
    text = file.read() if file is not None else sys.stdin.read() if query == "-" else str(query)
    sys.exit(run_sql(options.load(), text, options.as_json, foreground))


@click.command(epilog=examples("shell", "shell -t dev", "shell < script.py  # run a script with the same names"))
@foreground_option
@bundle_options
def shell(options: BundleOptions, foreground: bool | None) -> None:
    """Start Python with `spark`, `dbutils`, `sql`, `table` and `display` on the target, in its catalog.

    It is IPython if that is installed. Modules of the bundle's src folder and root can be imported.
    """
    from boathouse.workspace.cli.shell import start_shell

    if options.as_json:
        raise click.UsageError("The shell is interactive; it has no JSON form.")
    sys.exit(start_shell(options.load(), foreground))
