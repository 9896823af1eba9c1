"""`boathouse sql`: run one statement, or several of a file, and print their rows as tables or JSON."""

from __future__ import annotations

import json
from typing import Any

import click
import sqlparse
from rich.table import Table
from rich.text import Text

from boathouse.workspace.bundle.catalogs import named_catalogs
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.display import console
from boathouse.workspace.cli.run import cluster_of, session_of, wants_own
from boathouse.workspace.errors import BundleError, QueryFailed

ResultRows = tuple[list[str], list[list[Any]]]


def run_sql(bundle: Bundle, text: str, as_json: bool, foreground: bool | None = None) -> int:
    "Run the statements of a text on the target's tables and print their rows; return 0, or 1 if Spark refuses one."
    statements = split_statements(text)
    if not statements:
        raise BundleError("there is no SQL statement to run.", hint='Write one, such as: boathouse sql "show schemas"')
    results: list[ResultRows] = []
    # No task will run on this separate cluster, so no task needs the imports: `spawn` skips them.
    with cluster_of(bundle, lambda line: click.echo(line, err=True), spawn=wants_own(foreground), foreground=foreground) as cluster:
        catalogs = named_catalogs(bundle)
        try:
            if len(statements) == 1:
                results.append(cluster.sql(statements[0], bundle.catalog, catalogs))
            else:
                from boathouse.workspace.cluster.query import run_statement

                session = session_of(cluster, bundle)
                for statement in statements:
                    results.append(run_statement(session, statement))
                    if not as_json:
                        print_rows(*results[-1])
        except QueryFailed as e:
            message = str(e) if len(statements) == 1 else f"statement {len(results) + 1} of {len(statements)}: {e}"
            if as_json:
                click.echo(json.dumps({"error": {"message": message}}))
            click.echo(message, err=True)
            return 1
    if as_json:
        objects = [[dict(zip(columns, row, strict=True)) for row in rows] for columns, rows in results]
        click.echo(json.dumps(objects[0] if len(statements) == 1 else objects))
    elif len(statements) == 1:
        print_rows(*results[0])
    return 0


def split_statements(text: str) -> list[str]:
    "Return the statements of a text without their semicolons; semicolons in strings and comments separate nothing."
    parts = sqlparse.split(text, strip_semicolon=True)
    return [part for part in parts if sqlparse.format(part, strip_comments=True).strip(" \t\r\n;")]


def print_rows(columns: list[str], rows: list[list[Any]]) -> None:
    "Print rows as a table; a statement without columns prints nothing."
    if not columns:
        return
    table = Table()
    for column in columns:
        table.add_column(Text(column))
    for row in rows:
        table.add_row(*(Text(format_cell(value)) for value in row))
    console().print(table)


def format_cell(value: Any) -> str:
    "Return a value in JSON types as a cell of a table."
    return "NULL" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
