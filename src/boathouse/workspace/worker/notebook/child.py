"""`dbutils.notebook.run`: run another notebook in a separate process and Spark session, as on Databricks."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boathouse.workspace.notebooks.source import find_notebook
from boathouse.workspace.spark.schema_owners import SETTING
from boathouse.workspace.spark.session import state_environment
from boathouse.workspace.task.session import OWNER
from boathouse.workspace.task.spec import TAG, TaskResult, TaskSpec, interpreter_environment

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class WorkflowException(Exception):
    "Signal that a notebook started by another one failed or took too long."


class ChildNotebooks:
    "Run the notebooks that one notebook starts, in sequence or from several threads."

    def __init__(self, spec: TaskSpec, spark: SparkSession, state: Path) -> None:
        self._spec, self._spark, self._state = spec, spark, state
        self._numbers, self._opening = itertools.count(1), threading.Lock()

    def run(self, path: str, timeout_seconds: int, arguments: Mapping[str, str]) -> str:
        "Run the notebook at `path` until it ends; return its exit value, or an empty string if it has none."
        file = find_notebook(path, Path(str(self._spec.file)).parent, self._spec.project)
        folder = self._spec.folder / f"notebook-{next(self._numbers)}-{file.stem}"
        folder.mkdir(parents=True, exist_ok=True)
        spec = replace(self._spec, file=file, folder=folder, widgets=dict(arguments))
        with self._line() as (port, token):
            result = self._perform(spec, port, token, timeout_seconds or None)
        if result is None:
            raise WorkflowException(f"notebook {path} took longer than {timeout_seconds} s")
        if result.state != "SUCCESS":
            raise WorkflowException(f"notebook {path} failed: {result.error}")
        return result.exit_value or ""

    def _perform(self, spec: TaskSpec, port: int, token: str, timeout: float | None) -> TaskResult | None:
        own = {**state_environment(self._state), "BOATHOUSE_TASK": "1", "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
        request = {"spec": spec.as_dict(), "port": port, "token": token, "state": str(self._state), "environment": own,
                   "environ": dict(os.environ), "tag": {}}  # fmt: skip
        command = [sys.executable, "-m", "boathouse.workspace.worker.main"]
        # Its input stays open as long as this process lives: if this one is killed, the other ends too. `-m` adds the working directory
        # to the path: this directory has no modules.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, process_group=0, cwd=spec.folder, env=interpreter_environment(spec.paths)
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)
        return TaskResult.read(spec.folder) or TaskResult(
            "FAILED", error=f"its process ended with code {process.returncode}; see {spec.folder / 'log.txt'}"
        )

    @contextmanager
    def _line(self) -> Iterator[tuple[int, str]]:
        "Yield port and token of a new session in this task's JVM; afterwards end everything of it there."
        spark, tag, token = self._spark, f"notebook-{secrets.token_hex(8)}", secrets.token_hex(32)
        with self._opening:
            session = spark._jsparkSession.newSession()
            for key, value in spark.conf.getAll.items():
                if key.startswith("spark.sql.catalog."):
                    session.conf().set(key, value)
            session.conf().set(OWNER, os.environ.get(TAG, ""))
            server = _server(spark, session, tag, token)
        try:
            yield server.getJavaServer().getListeningPort(), token
        finally:
            server.shutdown()
            for query in session.streams().active():
                query.stop()
            spark.sparkContext.cancelJobsWithTag(tag)
            session.interruptAll()


def _server(spark: SparkSession, session: Any, tag: str, token: str) -> Any:
    """Start a Py4J server for the session.

    Its threads inherit the job group and tags of this thread. So ending the jobs of this task also ends those of the session.
    """
    jvm: Any = spark._jvm
    spark.sparkContext.addJobTag(tag)
    try:
        jvm.SparkSession.setActiveSession(session)
        catalog = jvm.boathouse.Schemas.current(spark._jsparkSession)  # Spark's own call returns the same name for all
        session.conf().set(SETTING, catalog)
        if catalog != session.catalog().currentCatalog():
            session.catalog().setCurrentCatalog(catalog)
        loopback = jvm.java.net.InetAddress.getByName("127.0.0.1")
        builder = getattr(jvm.py4j, "ClientServer$ClientServerBuilder")(session)
        return builder.authToken(token).javaPort(0).javaAddress(loopback).build()
    finally:
        spark.sparkContext.removeJobTag(tag)
        jvm.SparkSession.setActiveSession(spark._jsparkSession)


def _end(process: subprocess.Popen[bytes]) -> None:
    "Kill the process and everything that it started."
    with suppress(ProcessLookupError):  # nothing of it is left
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
