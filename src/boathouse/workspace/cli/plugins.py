"""Run commands of installed packages: an entry point of the group `boathouse.commands` has the name of the command.

    [project.entry-points."boathouse.commands"]
    trace = "flights.trace:trace_command"

boathouse calls it as `command(spark, catalog, words)`: a session on the target's cluster, the target's catalog and the words of the
command line. It returns sections of a title, a sentence and rows, alone or with the exit code. It raises `LookupError` for a request that fails.
The `help` is read from the source of the module, without importing it.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from boathouse.workspace.bundle.load import Bundle

GROUP = "boathouse.commands"
Section = tuple[str, str, list[dict[str, Any]]]


@cache
def points() -> dict[str, importlib.metadata.EntryPoint]:
    "Return the commands of this environment's packages, by name."
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def help_of(name: str) -> str:
    "Return the docstring of the command's function, read from the source without importing it."
    point = points()[name]
    source = _source_of(point.module)
    module = ast.parse(source.read_text(encoding="utf-8") if source else "")
    functions = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == point.attr)
    return next((ast.get_docstring(node) or "" for node in functions), "")


def _source_of(module: str) -> Path | None:
    "Return the file of a module. Imports nothing: `find_spec` of a module inside a package would import the package."
    top, *steps = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not steps:
        return Path(spec.origin) if spec.origin else None
    files = (Path(folder, *steps).with_suffix(".py") for folder in spec.submodule_search_locations or ())
    return next((file for file in files if file.is_file()), None)


def run(bundle: Bundle, name: str, words: Sequence[str], as_json: bool, foreground: bool | None = None) -> int:
    "Run the command on the target's cluster and print its sections; return its exit code, or 1 for a LookupError."
    from boathouse.workspace.cli.run import cluster_of, session_of, wants_own
    from boathouse.workspace.cluster.query import to_json_value

    command = points()[name].load()
    own = wants_own(foreground)
    with cluster_of(bundle, lambda text: click.echo(text, err=True), spawn=own, foreground=foreground) as cluster:
        try:
            result = command(session_of(cluster, bundle), bundle.catalog, list(words))
        except LookupError as e:
            message = str(e.args[0] if e.args else e)
            if as_json:
                click.echo(json.dumps({"error": {"message": message}}))
            click.echo(message, err=True)
            return 1
    found: list[Section]
    found, code = result if isinstance(result, tuple) else (result, 0)
    if as_json:
        sections = [{"title": title, "text": text, "rows": to_json_value(rows)} for title, text, rows in found]
        click.echo(json.dumps({"sections": sections}))
    else:
        print_sections(found)
    return code


def print_sections(found: Sequence[Section]) -> None:
    "Print the sections, each with its rows as a table."
    from rich.table import Table
    from rich.text import Text

    from boathouse.workspace.cli.display import console

    screen = console()
    for title, text, rows in found:
        screen.print(Text(title, style="bold"), Text(text))
        if rows:
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for column in rows[0]:
                table.add_column(Text(column), overflow="fold")
            for row in rows:
                table.add_row(*(Text(_cell(value)) for value in row.values()))
            screen.print(table)
        screen.print()


def _cell(value: Any) -> str:
    from boathouse.workspace.cluster.query import to_json_value

    plain = to_json_value(value)
    return "" if plain is None else plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
