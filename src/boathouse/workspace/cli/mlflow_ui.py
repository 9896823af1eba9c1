"""`boathouse ui`: serve MLflow's web page on the state of a target."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import psutil

from boathouse.workspace.errors import BundleError
from boathouse.workspace.spark.session import state_environment

STARTS_WITHIN = 120.0
ENDS_WITHIN = 10.0


def serve_ui(state: Path, port: int, as_json: bool) -> int:
    "Serve MLflow on the state until Ctrl-C or SIGTERM; all its processes have ended when this returns."
    database = state / "mlflow.db"
    if not database.is_file():
        raise BundleError(f"there is nothing to show: MLflow has no data in {state}.", hint="Run a job that logs to MLflow first.")
    port = _claim_port(port)
    words = ["server", "--backend-store-uri", f"sqlite:///{database}", "--default-artifact-root", str(state / "mlartifacts")]
    words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    log = state / "mlflow-ui.log"
    with log.open("wb") as output:
        # In a separate session, so that Ctrl-C reaches this process alone, which then ends the server with all its workers.
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **state_environment(state), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
    try:
        _await_port(server, port, log)
        address = f"http://127.0.0.1:{port}"
        click.echo(json.dumps({"address": address, "pid": server.pid}) if as_json else f"MLflow on {state}: {address}  (Ctrl-C ends it)")
        server.wait()
        raise BundleError(f"MLflow ended with exit code {server.returncode}; see {log}.")
    except KeyboardInterrupt:
        return 0
    finally:
        _end_group(server)


def _claim_port(port: int) -> int:
    "Return the port, or a free one for 0. Raises BundleError if another process listens on it."
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a port that was just released is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as e:
            raise BundleError(f"port {port} of 127.0.0.1 is in use.", hint="Choose another one with --port; 0 takes a free one.") from e
        return int(probe.getsockname()[1])


def _await_port(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        if server.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text(errors="replace").strip().splitlines()[-5:])
            raise BundleError(f"MLflow did not start:\n{last}\nIts whole output is in {log}.")
        time.sleep(0.1)


def _end_group(server: subprocess.Popen[bytes]) -> None:
    "End the server and its workers; kill those that do not end in time."
    group = [p for p in psutil.process_iter() if _group_of(p.pid) == server.pid]
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    _, left = psutil.wait_procs(group, ENDS_WITHIN)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, ENDS_WITHIN)
    server.wait()


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None
