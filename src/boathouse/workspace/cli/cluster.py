"`boathouse cluster`: start, stop and inspect the background cluster of a target."

from __future__ import annotations

import json
import time
from typing import Any

import click

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.run import cluster_wanted
from boathouse.workspace.cluster import client
from boathouse.workspace.durations import format_duration
from boathouse.workspace.errors import BundleError, ClusterError


def start_cluster(bundle: Bundle, as_json: bool, master: str | None, foreground: bool) -> int:
    "Start the cluster, in the background or in this process."
    if foreground:
        return _serve(bundle, master)
    try:
        client.BackgroundCluster.reach(cluster_wanted(bundle, master), lambda text: click.echo(text, err=True)).close()
    except ClusterError as e:
        raise BundleError(str(e)) from e
    return print_status(bundle, as_json)


def _serve(bundle: Bundle, master: str | None) -> int:
    from boathouse.workspace.cluster.server import serve
    from boathouse.workspace.spark.lock import WorkspaceLocked
    from boathouse.workspace.spark.session import JarsError, SessionError

    click.echo(f"serving {bundle.state}; Ctrl-C ends it", err=True)
    try:
        click.echo(f"the cluster has ended: {serve(cluster_wanted(bundle, master))}", err=True)
    except (WorkspaceLocked, SessionError, JarsError, ClusterError) as e:
        raise BundleError(str(e)) from e
    return 0


def stop_cluster(bundle: Bundle, as_json: bool, force: bool) -> int:
    "Stop the cluster; 0 also when there was none."
    try:
        was = client.stop_background(bundle.state, force=force)
    except ClusterError as e:
        raise BundleError(str(e)) from e
    if as_json:
        click.echo(json.dumps({"stopped": was}))
    else:
        click.echo("stopped" if was else f"no cluster runs on {bundle.state}")
    return 0


def print_status(bundle: Bundle, as_json: bool) -> int:
    "Print the state of the cluster; 0 if it runs, else 1."
    found = client.cluster_status(bundle.state)
    if as_json:
        click.echo(json.dumps({"running": found is not None, "state": str(bundle.state)} | (found or {})))
    elif found is None:
        click.echo(f"no cluster runs on {bundle.state}")
    else:
        _print(bundle, found)
    return 0 if found else 1


def _print(bundle: Bundle, found: dict[str, Any]) -> None:
    memory = found["memory_bytes"]
    rows = {
        "state": str(bundle.state),
        "process": f"{found['pid']}, {format_duration(time.time() - found['started'])} old",
        "master": found["master"],
        "in use by": f"{found['clients']} runs or queries, {found['sessions']} notebooks",
        "tasks": ", ".join(found["tasks"]) or "none",
        "memory": f"{sum(memory.values()) / 2**20:.0f} MiB: " + ", ".join(f"{k} {v / 2**20:.0f}" for k, v in memory.items()),
        "ends": f"after {format_duration(found['ends_after_seconds'])} without use, or with: boathouse cluster stop",
    }
    for name, value in rows.items():
        click.echo(f"{name:<10} {value}")
