"""Run commands of installed packages: an entry point of the group `boathouse.commands` has the name of the command.

    [project.entry-points."boathouse.commands"]
    trace = "flights.trace:trace_command"

boathouse calls it as `command(spark, catalog, words)`: a session on the target's cluster, the target's catalog and the words of the
command line. It returns sections of a title, a sentence and rows, alone or with the exit code. It raises `LookupError` for a request that fails.
The `help` is read from the source of the module, without importing it.

A command that needs no Spark is an entry point of the group `boathouse.programs`. boathouse calls it as `program(settings, words)`, without a
cluster: MLflow's stores are those of the target, and `settings` has the `catalog`, the `resources` of the bundle by kind and key, and `json`. It
runs until it ends, and returns the exit code.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from boathouse.workspace.bundle.load import Bundle

GROUP = "boathouse.commands"
PROGRAMS = "boathouse.programs"
Section = tuple[str, str, list[dict[str, Any]]]


@cache
def points() -> dict[str, importlib.metadata.EntryPoint]:
    "Return the commands of this environment's packages, by name."
    return {point.name: point for group in (GROUP, PROGRAMS) for point in importlib.metadata.entry_points(group=group)}


def needs_cluster(name: str) -> bool:
    "Return whether a command gets a session on the target's cluster."
    return points()[name].group == GROUP


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
    if not needs_cluster(name):
        return run_program(bundle, name, words, as_json)
    from boathouse.workspace.cli.run import cluster_of, session_of, wants_own
    from boathouse.workspace.cluster.query import to_json_value

    command = points()[name].load()
    own = wants_own(foreground)
    with cluster_of(bundle, lambda text: click.echo(text, err=True), spawn=own, foreground=foreground) as cluster:
        try:
            result = command(session_of(cluster, bundle), bundle.catalog, list(words))
        except LookupError as e:
            return _print_failure(e, as_json)
    found: list[Section]
    found, code = result if isinstance(result, tuple) else (result, 0)
    if as_json:
        sections = [{"title": title, "text": text, "rows": to_json_value(rows)} for title, text, rows in found]
        click.echo(json.dumps({"sections": sections}))
    else:
        print_sections(found)
    return code


def run_program(bundle: Bundle, name: str, words: Sequence[str], as_json: bool) -> int:
    "Run a command that needs no Spark, in this process; return its exit code, or 1 for a LookupError."
    from boathouse.workspace.spark.session import state_environment

    os.environ.update(state_environment(bundle.state))
    kinds = bundle.data.get("resources") or {}
    settings = {"catalog": bundle.catalog, "resources": {kind: dict(bundle.resources(kind)) for kind in kinds}, "json": as_json}
    try:
        return int(points()[name].load()(settings, list(words)))
    except LookupError as e:
        return _print_failure(e, as_json)


def _print_failure(error: LookupError, as_json: bool) -> int:
    message = str(error.args[0] if error.args else error)
    if as_json:
        click.echo(json.dumps({"error": {"message": message}}))
    click.echo(message, err=True)
    return 1


def print_sections(found: Sequence[Section]) -> None:
    "Print the sections, each with its rows as a table."
    from rich.text import Text

    from boathouse.workspace.cli.display import console, plain_table

    screen = console()
    for title, text, rows in found:
        screen.print(Text(title, style="bold"), Text(text))
        if rows:
            table = plain_table()
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
