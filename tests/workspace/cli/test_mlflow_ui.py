"""`boathouse ui`: MLflow's server on a target's state, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from support.environment import clean_environment

from boathouse.workspace.cli.main import main
from boathouse.workspace.spark.session import state_environment

CODE = "from boathouse.workspace.cli.entry import main; main()"
LOG_A_RUN = """
import mlflow
mlflow.set_experiment("/boats")
with mlflow.start_run() as run:
    mlflow.log_text("hello", "greeting.txt")
print(run.info.run_id)
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "databricks.yml").write_text("bundle: {name: tiny}\n")
    (tmp_path / ".boathouse" / "default").mkdir(parents=True)
    return tmp_path


def ask(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"{address}{path}", timeout=60) as reply:
        return reply.read()


def test_the_page_shows_the_targets_experiments_and_artifacts_and_ctrl_c_ends_every_process(bundle: Path) -> None:
    state = bundle / ".boathouse" / "default"
    environ = {**clean_environment(), **state_environment(state)}
    run_id = subprocess.run([sys.executable, "-c", LOG_A_RUN], env=environ, capture_output=True, text=True, check=True).stdout.strip()

    command = [sys.executable, "-u", "-c", CODE, "ui", "--port", "0", "--json"]
    ui = subprocess.Popen(command, cwd=bundle, env=clean_environment(), stdout=subprocess.PIPE, text=True)
    assert ui.stdout is not None
    address = json.loads(ui.stdout.readline())["address"]
    family = psutil.Process(ui.pid).children(recursive=True)
    assert family
    assert b"<html" in ask(address, "/").lower()
    found = json.loads(ask(address, "/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=/boats"))
    assert found["experiment"]["name"] == "/boats"
    assert ask(address, f"/get-artifact?path=greeting.txt&run_uuid={run_id}") == b"hello"

    os.kill(ui.pid, signal.SIGINT)
    assert ui.wait(60) == 0
    assert [process for process in family if process.is_running()] == []


def test_without_mlflow_data_there_is_nothing_to_serve(bundle: Path) -> None:
    done = CliRunner().invoke(main, ["ui", "--bundle", str(bundle)])
    assert done.exit_code == 2
    assert "Run a job that logs to MLflow first." in done.stderr


def test_a_port_that_is_in_use_is_refused_before_anything_starts(bundle: Path) -> None:
    (bundle / ".boathouse" / "default" / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = CliRunner().invoke(main, ["ui", "--bundle", str(bundle), "--port", port])
    assert (done.exit_code, done.stderr) == (
        2,
        f"port {port} of 127.0.0.1 is in use. Choose another one with --port; 0 takes a free one.\n",
    )
    assert not (bundle / ".boathouse" / "default" / "mlflow-ui.log").exists()


def test_a_server_that_does_not_start_is_refused_with_its_last_lines(bundle: Path) -> None:
    (bundle / ".boathouse" / "default" / "mlflow.db").write_bytes(b"no database" * 1000)
    done = CliRunner().invoke(main, ["ui", "--bundle", str(bundle), "--port", "0"])
    assert done.exit_code == 2
    assert done.stderr.startswith("MLflow did not start:\n")
    assert "mlflow-ui.log" in done.stderr
