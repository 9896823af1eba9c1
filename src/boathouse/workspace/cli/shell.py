"""`boathouse shell`: start Python with the names of a Databricks notebook, on the target's cluster."""

from __future__ import annotations

import code
import importlib.util
import sys
from pathlib import Path
from typing import Any

import click

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.run import cluster_of, session_of


def start_shell(bundle: Bundle, foreground: bool | None = None) -> int:
    "Read Python from the terminal until it ends, or run what standard input holds; return the exit code."
    with cluster_of(bundle, lambda line: click.echo(line, err=True), foreground=foreground) as cluster:
        spark = session_of(cluster, bundle)
        names = shell_names(bundle, spark)
        folders = (bundle.root / "src", bundle.root)
        sys.path[:0] = [str(folder) for folder in folders if folder.is_dir() and str(folder) not in sys.path]
        if not sys.stdin.isatty():
            exec(compile(sys.stdin.read(), "<standard input>", "exec"), {"__name__": "__main__", **names})
            return 0
        banner = f"target {bundle.target}, catalog {bundle.catalog}: {', '.join(sorted(names))}"
        if importlib.util.find_spec("IPython") is None:
            code.interact(banner=banner, local=names, exitmsg="")
            return 0
        click.echo(banner)
        from IPython import start_ipython

        start_ipython(argv=["--no-banner", "--no-confirm-exit"], user_ns=names)
    return 0


def shell_names(bundle: Bundle, spark: Any) -> dict[str, Any]:
    "Return the names that the shell starts with; `from databricks.sdk.runtime import dbutils` imports the same ones."
    from boathouse.workspace.worker.dbutils.injected_names import install_names
    from boathouse.workspace.worker.dbutils.utilities import DbUtils

    made = install_names(spark, DbUtils.make(Path(bundle.state / "volumes"), project=bundle.root), _display)
    return {name: made[name] for name in ("spark", "dbutils", "sql", "table", "display")}


def _display(*things: Any, **_: Any) -> None:
    "Print tables as text."
    for thing in things:
        thing.show() if hasattr(thing, "show") and hasattr(thing, "schema") else print(thing)
