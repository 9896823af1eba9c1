"One JVM, and a Python process a task attached to it by a session of its own: what a job cluster is on Databricks."

from __future__ import annotations

import itertools
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from boathouse.workspace.cluster.processes import bytes_of, jvm_of, kill_group, start_zygote, stop_jvm
from boathouse.workspace.cluster.query import Query
from boathouse.workspace.errors import ClusterError, QueryFailed
from boathouse.workspace.spark.session import clear_cut_off, lock, start_session, state_environment, unlock
from boathouse.workspace.task.log import TaskLog, keep_relieving, limit
from boathouse.workspace.task.session import TaskSession, close_session, open_session
from boathouse.workspace.task.spec import TAG, TaskResult, TaskSpec, ended_without_result

__all__ = ["Cluster", "ClusterError", "QueryFailed", "TaskProcess", "TaskResult", "TaskSpec"]

POOLS = 8
PATIENCE = 60  # seconds that the next task waits at most for a command that an ended task left under way
SETTLED = 1.0  # seconds without a write, after which a table's creation is taken to be over


class TaskProcess:
    "One running attempt."

    def __init__(self, id: str, spec: TaskSpec, line: TaskSession, log: TaskLog, kill: Callable[[str], None]) -> None:
        self.id, self.spec, self.line, self.log, self._kill = id, spec, line, log, kill
        self.started: Future[int] = Future()
        self.ended: Future[TaskResult] = Future()
        self.canceled = False

    @property
    def pid(self) -> int:
        "The process, which leads a process group of its own."
        return self.started.result()

    def poll(self) -> TaskResult | None:
        "The result, None while the task runs."
        return self.ended.result() if self.ended.done() else None

    def wait(self, timeout: float | None = None) -> TaskResult | None:
        "Waits for the result; None when `timeout` seconds pass first. When it is there, the task holds nothing in the JVM any more."
        try:
            return self.ended.result(timeout)
        except TimeoutError:
            return None

    def cancel(self) -> None:
        "Kills the task's process group, and its jobs and streaming queries; returns when all are gone. Harmless once the task has ended."
        if not self.ended.done():
            self.canceled = True
            self._kill(self.id)
        self.ended.exception()


class Cluster:
    "The JVM and the zygote of one state folder; `spark` is the main session."

    def __init__(self, state: Path, project: Path, spark: SparkSession, zygote: subprocess.Popen[bytes], owns: bool, catalog: str) -> None:
        self.state, self.project, self.spark, self.catalog = state, project, spark, catalog
        self._zygote, self._owns = zygote, owns
        self._tasks: dict[str, TaskProcess] = {}
        self._ids = itertools.count(1)
        self._writing = threading.Lock()
        self._ending: list[Any] = []  # the JVM's threads that worked for tasks which have ended
        self._cut_off = False  # whether a task was killed, and not cleared up after yet
        self._clearing = threading.Lock()
        # JVM calls come from these threads only: each Python thread that makes one costs a thread in the JVM.
        self._calls = ThreadPoolExecutor(max_workers=4, thread_name_prefix="cluster")
        self._reader = threading.Thread(target=self._listen, name="zygote", daemon=True)
        self._ready, self._stopped = threading.Event(), threading.Event()

    @staticmethod
    def start(
        state: Path,
        project: Path,
        *,
        master: str = "local[*]",
        spawn: bool = False,
        catalog: str = "spark_catalog",
        conf: dict[str, str] | None = None,
    ) -> Cluster:
        """Starts both; returns when the JVM is there, and the first task waits for the zygote's imports if they take longer.

        If this process already has a session on `state`, it is used, and left running by `stop`. `spawn` starts a fresh interpreter for each task
        instead of a fork (always so on macOS, where forking after such imports is not safe).
        """
        state, project = state.resolve(), project.resolve()
        active = SparkSession.getActiveSession() or SparkSession._instantiatedSession
        owns = active is None or active.sparkContext._jsc is None
        lock(state)
        zygote = start_zygote(state, spawn or sys.platform == "darwin")
        try:
            spark = start_session(state, master, conf) if owns else active
            assert spark is not None
            cluster = Cluster(state, project, spark, zygote, owns, catalog)
            cluster._begin()
        except BaseException:
            zygote.kill()
            zygote.wait()
            if owns:
                unlock(state)
            raise
        return cluster

    def _begin(self) -> None:
        self._reader.start()
        relief = threading.Thread(target=keep_relieving, args=(lambda: [task.log for task in self.tasks()], self._stopped), daemon=True)
        relief.start()
        jvm = jvm_of(self.spark)
        if jvm is not None:
            threading.Thread(target=self._end_with, args=(jvm,), name="jvm", daemon=True).start()
            if self._owns:
                self._say(op="watch", pid=jvm.pid)

    def _end_with(self, jvm: subprocess.Popen[bytes]) -> None:
        "Ends every task when the JVM has ended: one that is not asking it anything would not notice."
        jvm.wait()
        for task in list(self._tasks.values()):
            if task.started.done():
                self._say(op="kill", id=task.id)

    def launch(self, spec: TaskSpec, environ: Mapping[str, str] | None = None) -> TaskProcess:
        "Starts one attempt, in the environment `environ` (else this process's); `spec.folder` is made, and what an earlier attempt left there removed."
        self._ready.wait()
        for task in self.tasks():
            if task.canceled:
                task.ended.exception()
        self._calls.submit(self._wait_for_commands).result()
        self._clear_cut_off()
        if self._zygote.poll() is not None:
            raise ClusterError(f"the cluster is stopped, or its zygote died; see {self.state / 'zygote.log'}")
        log = TaskLog(spec.folder, limit(os.environ if environ is None else environ))
        spec.folder.mkdir(parents=True, exist_ok=True)
        for name in ("result.json", "log.txt"):
            (spec.folder / name).unlink(missing_ok=True)
        line = self.open(spec.catalog, spec.catalogs)
        task = TaskProcess(line.tag, spec, line, log, lambda id: self._say(op="kill", id=id))
        self._tasks[task.id] = task
        self._say(op="launch", id=task.id, request=self._request(task, environ))
        task.started.result()
        if self.failure():  # it may have ended after those whom its end was told
            self._say(op="kill", id=task.id)
        return task

    @property
    def environment(self) -> dict[str, str]:
        "What a process that works on this cluster finds in its environment."
        return {**state_environment(self.state), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}

    def _request(self, task: TaskProcess, environ: Mapping[str, str] | None) -> dict[str, Any]:
        return {"spec": task.spec.as_dict(), "port": task.line.port, "token": task.line.token, "state": str(self.state),
                "environ": dict(os.environ if environ is None else environ), "environment": {**self.environment, "BOATHOUSE_TASK": "1"},
                "tag": {TAG: task.id}}  # fmt: skip

    def open(self, catalog: str | None = None, catalogs: Iterable[str] = ()) -> TaskSession:
        "A session of its own and the line to it, for a task or another process; `catalog` is current in it, and `catalogs` can be named."
        if gone := self.failure():
            raise ClusterError(gone)
        id = f"boathouse-{secrets.token_hex(8)}"  # never used twice in a JVM: its job group is barred once the task has ended
        pool = f"tasks-{next(self._ids) % POOLS}"
        try:
            return self._calls.submit(open_session, self.spark, id, pool, catalog or self.catalog, tuple(catalogs)).result()
        except (Py4JError, OSError) as e:
            raise ClusterError(self.failure(wait=5) or f"the cluster's JVM does not answer: {e}") from e

    def close(self, line: TaskSession) -> None:
        "Ends what that session left in the JVM."
        self._calls.submit(self._close, line).result()

    def query(self, text: str, catalog: str | None = None, catalogs: Iterable[str] = ()) -> Query:
        "Starts one statement in a session of its own with `catalog` current, in which `catalogs` can be named."
        query = Query(self.spark, text, catalog or self.catalog, tuple(catalogs))
        query.start(self._calls)
        return query

    def sql(self, query: str, catalog: str | None = None, catalogs: Iterable[str] = ()) -> tuple[list[str], list[list[Any]]]:
        "Column names and rows of a statement, in JSON's types; `QueryFailed` with what Spark says of it."
        return self.query(query, catalog, catalogs).result()

    def tasks(self) -> list[TaskProcess]:
        "The tasks that run."
        return list(self._tasks.values())

    def wait_for_tasks(self) -> None:
        "Waits until the tasks that run have ended."
        for task in self.tasks():
            task.ended.exception()

    def memory(self) -> dict[str, int]:
        "Bytes that the parts take: what each does not share (USS) where the system tells, else its resident set."
        jvm = jvm_of(self.spark)
        parts = {"cluster": os.getpid(), "zygote": self._zygote.pid, "jvm": jvm.pid if jvm else None}
        return {name: bytes_of(pid) for name, pid in parts.items() if pid} | {"tasks": sum(bytes_of(task.pid) for task in self.tasks())}

    def tidy(self) -> None:
        "Gives memory back that nobody needs just now."
        jvm: Any = self.spark._jvm
        self._calls.submit(jvm.System.gc).result()

    def _say(self, **message: Any) -> None:
        with self._writing:
            assert self._zygote.stdin is not None
            try:
                self._zygote.stdin.write(json.dumps(message).encode() + b"\n")
                self._zygote.stdin.flush()
            except BrokenPipeError as error:
                raise ClusterError(f"the zygote is gone; see {self.state / 'zygote.log'}") from error

    def _listen(self) -> None:
        "Follows the zygote; should it die, ends the tasks it leaves behind."
        assert self._zygote.stdout is not None
        for text in self._zygote.stdout:
            message = json.loads(text)
            if "ready" in message:
                self._ready.set()
            elif "started" in message:
                self._tasks[message["started"]].started.set_result(message["pid"])
            elif "ended" in message:
                self._calls.submit(self._finish, self._tasks[message["ended"]], message["status"])
        self._zygote.wait()
        self._ready.set()
        for task in list(self._tasks.values()):
            self._orphaned(task)

    def _finish(self, task: TaskProcess, status: int) -> None:
        try:
            task.log.close()
            found = TaskResult.read(task.spec.folder)
            self._cut_off = self._cut_off or found is None
            gone = self._release(task)
            result = found or ended_without_result(status, task.canceled)
            # Whatever the task made of it, a JVM that is gone is the reason.
            task.ended.set_result(TaskResult("FAILED", error=gone) if gone and result.state == "FAILED" else result)
        except BaseException as error:
            task.ended.set_exception(error)

    def _release(self, task: TaskProcess) -> str | None:
        "Ends what the task left in the JVM; what happened to the JVM if there is none any more."
        del self._tasks[task.id]
        return self._close(task.line)

    def _close(self, line: TaskSession) -> str | None:
        try:
            self._ending += close_session(line)
            if not self._tasks:
                self.spark.catalog.clearCache()  # what tasks cached and did not release; with one still running it may be that one's
        except (Py4JError, OSError):
            if (gone := self.failure(wait=5)) is None:
                raise
            return gone
        return None

    def _wait_for_commands(self) -> None:
        "Waits until no command of an ended task goes on in the JVM: it would write beside the next attempt."
        threads, self._ending = self._ending, []
        deadline = time.monotonic() + PATIENCE
        try:
            for thread in threads:
                thread.join(max(1, int((deadline - time.monotonic()) * 1000)))
        except (Py4JError, OSError):
            if self.failure(wait=5) is None:
                raise

    def _clear_cut_off(self) -> None:
        "After a task was killed, and with no other at work: removes what its last command may have left of a table that it was creating."
        with self._clearing:
            if self._cut_off and not self._tasks and not self.failure():
                self._cut_off = False
                time.sleep(SETTLED)
                self._calls.submit(clear_cut_off, self.spark, self.state / "warehouse", SETTLED).result()

    def failure(self, wait: float = 0) -> str | None:
        "A sentence on the JVM's end; None while it lives."
        jvm = jvm_of(self.spark)
        if jvm is None:
            return None
        try:
            code = jvm.wait(wait)
        except subprocess.TimeoutExpired:
            return None
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the cluster's JVM was ended from outside, or crashed ({how}); see {self.state / 'jvm.log'} and {self.state / 'spark.log'}, then run again"

    def _orphaned(self, task: TaskProcess) -> None:
        if not task.started.done():
            task.started.set_exception(ClusterError("the zygote died"))
        else:
            kill_group(task.pid)
        self._calls.submit(self._finish, task, 9)

    def stop(self) -> None:
        "Ends the tasks, the zygote and, if this cluster started it, the JVM; frees the state folder. Harmless when done before."
        if not self._ready.is_set():
            self._zygote.kill()  # it is still importing: there is no task yet
        elif self._zygote.poll() is None:
            self._say(op="stop")
        self._reader.join()
        self._stopped.set()
        for task in list(self._tasks.values()):
            task.ended.exception()
        self._calls.shutdown()
        if self._owns:
            self._owns = False
            stop_jvm(self.spark)
            unlock(self.state)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
