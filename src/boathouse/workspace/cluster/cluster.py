"The local counterpart of a job cluster: one JVM, and one Python process per task with its own session."

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
from boathouse.workspace.spark.lock import lock, unlock
from boathouse.workspace.spark.session import clear_cut_off, start_session, state_environment
from boathouse.workspace.task.log import TaskLog, keep_relieving, limit
from boathouse.workspace.task.session import TaskSession, close_session, open_session
from boathouse.workspace.task.spec import TAG, TaskResult, TaskSpec, ended_without_result

__all__ = ["Cluster", "ClusterError", "QueryFailed", "TaskProcess", "TaskResult", "TaskSpec"]

POOLS = 8
PATIENCE = 60  # seconds that the next task waits at most for a command of an ended task
SETTLED = 1.0  # seconds without a write after which the creation of a table counts as over


class TaskProcess:
    "One running attempt."

    def __init__(self, id: str, spec: TaskSpec, line: TaskSession, log: TaskLog, kill: Callable[[str], None]) -> None:
        self.id, self.spec, self.line, self.log, self._kill = id, spec, line, log, kill
        self.started: Future[int] = Future()
        self.ended: Future[TaskResult] = Future()
        self.canceled = False

    @property
    def pid(self) -> int:
        "Return the id of the process, which leads its own process group."
        return self.started.result()

    def poll(self) -> TaskResult | None:
        "Return the result, or None while the task runs."
        return self.ended.result() if self.ended.done() else None

    def wait(self, timeout: float | None = None) -> TaskResult | None:
        "Wait for the result; return None after `timeout` seconds. With the result, the task holds nothing in the JVM any more."
        try:
            return self.ended.result(timeout)
        except TimeoutError:
            return None

    def cancel(self) -> None:
        "Kill the process group, jobs and streaming queries of the task; return when all have ended. Do nothing if the task has ended."
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
        self._ending: list[Any] = []  # threads of the JVM that worked for ended tasks
        self._cut_off = False  # whether a task was killed whose remains are not yet removed
        self._clearing = threading.Lock()
        # Only these threads call the JVM, because each Python thread that calls it costs a thread there.
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
        """Start the JVM and the zygote; return when the JVM is ready. The first task waits for the zygote's imports if needed.

        If this process already has a session on `state`, it is used, and `stop` leaves it running. `spawn` starts a new interpreter per task
        instead of a fork. macOS always spawns, because forking after such imports is not safe there.
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
        "End every task when the JVM has ended; a task that does not call the JVM would not notice."
        jvm.wait()
        for task in list(self._tasks.values()):
            if task.started.done():
                self._say(op="kill", id=task.id)

    def launch(self, spec: TaskSpec, environ: Mapping[str, str] | None = None) -> TaskProcess:
        """Start one attempt in the environment `environ`, else in that of this process.

        `spec.folder` is created, and files of an earlier attempt are removed from it.
        """
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
        if self.failure():  # the JVM may have ended after its tasks were notified
            self._say(op="kill", id=task.id)
        return task

    @property
    def environment(self) -> dict[str, str]:
        "Return the environment variables of a process that works on this cluster."
        return {**state_environment(self.state), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}

    def _request(self, task: TaskProcess, environ: Mapping[str, str] | None) -> dict[str, Any]:
        return {"spec": task.spec.as_dict(), "port": task.line.port, "token": task.line.token, "state": str(self.state),
                "environ": dict(os.environ if environ is None else environ), "environment": {**self.environment, "BOATHOUSE_TASK": "1"},
                "tag": {TAG: task.id}}  # fmt: skip

    def open(self, catalog: str | None = None, catalogs: Iterable[str] = ()) -> TaskSession:
        "Open a separate session with a server, for a task or another process. `catalog` is current in it, and SQL can name `catalogs`."
        if gone := self.failure():
            raise ClusterError(gone)
        id = f"boathouse-{secrets.token_hex(8)}"  # never reused in a JVM: Spark refuses its job group once the task has ended
        pool = f"tasks-{next(self._ids) % POOLS}"
        try:
            return self._calls.submit(open_session, self.spark, id, pool, catalog or self.catalog, tuple(catalogs)).result()
        except (Py4JError, OSError) as e:
            raise ClusterError(self.failure(wait=5) or f"the cluster's JVM does not answer: {e}") from e

    def close(self, line: TaskSession) -> None:
        "End everything that the session left in the JVM."
        self._calls.submit(self._close, line).result()

    def query(self, text: str, catalog: str | None = None, catalogs: Iterable[str] = ()) -> Query:
        "Start one statement in a separate session. `catalog` is current in it, and SQL can name `catalogs`."
        query = Query(self.spark, text, catalog or self.catalog, tuple(catalogs))
        query.start(self._calls)
        return query

    def sql(self, query: str, catalog: str | None = None, catalogs: Iterable[str] = ()) -> tuple[list[str], list[list[Any]]]:
        "Return column names and rows of a statement, in JSON types. Raises QueryFailed with Spark's message."
        return self.query(query, catalog, catalogs).result()

    def tasks(self) -> list[TaskProcess]:
        "Return the running tasks."
        return list(self._tasks.values())

    def wait_for_tasks(self) -> None:
        "Wait until the running tasks have ended."
        for task in self.tasks():
            task.ended.exception()

    def memory(self) -> dict[str, int]:
        "Return the bytes of memory per part: unshared memory (USS) if the system reports it, else the resident set."
        jvm = jvm_of(self.spark)
        parts = {"cluster": os.getpid(), "zygote": self._zygote.pid, "jvm": jvm.pid if jvm else None}
        return {name: bytes_of(pid) for name, pid in parts.items() if pid} | {"tasks": sum(bytes_of(task.pid) for task in self.tasks())}

    def tidy(self) -> None:
        "Release memory that is not in use."
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
        "Read the zygote's messages; if it dies, end the tasks that it leaves."
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
            # If the JVM has ended, that is the reason, whatever error the task reported.
            task.ended.set_result(TaskResult("FAILED", error=gone) if gone and result.state == "FAILED" else result)
        except BaseException as error:
            task.ended.set_exception(error)

    def _release(self, task: TaskProcess) -> str | None:
        "End everything that the task left in the JVM; return the reason if the JVM has ended."
        del self._tasks[task.id]
        return self._close(task.line)

    def _close(self, line: TaskSession) -> str | None:
        try:
            self._ending += close_session(line)
            if not self._tasks:
                self.spark.catalog.clearCache()  # removes caches that tasks did not release; while a task runs, a cache may belong to it
        except (Py4JError, OSError):
            if (gone := self.failure(wait=5)) is None:
                raise
            return gone
        return None

    def _wait_for_commands(self) -> None:
        "Wait until no command of an ended task runs in the JVM, because it could write at the same time as the next attempt."
        threads, self._ending = self._ending, []
        deadline = time.monotonic() + PATIENCE
        try:
            for thread in threads:
                thread.join(max(1, int((deadline - time.monotonic()) * 1000)))
        except (Py4JError, OSError):
            if self.failure(wait=5) is None:
                raise

    def _clear_cut_off(self) -> None:
        "Remove partly created tables of a killed task, if no other task runs."
        with self._clearing:
            if self._cut_off and not self._tasks and not self.failure():
                self._cut_off = False
                time.sleep(SETTLED)
                self._calls.submit(clear_cut_off, self.spark, self.state / "warehouse", SETTLED).result()

    def failure(self, wait: float = 0) -> str | None:
        "Return a sentence about the end of the JVM; None while it lives."
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
        "End the tasks, the zygote and, if this cluster started it, the JVM; release the state folder. Do nothing if called again."
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
