"Work on the background cluster of a state folder: use the running one, or start it."

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock

from boathouse.workspace.cluster.address import FILE, LOCKED, Address, ClusterSpec, Connection, version
from boathouse.workspace.errors import ClusterError, QueryFailed
from boathouse.workspace.spark.lock import lock_holder
from boathouse.workspace.task.spec import TaskResult, TaskSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SERVER = "boathouse.workspace.cluster.server"
STARTS_WITHIN = 600.0  # the first start on a machine downloads the jars
ENDS_WITHIN = 60.0
_sessions: list[Connection] = []  # sessions of this process: each lasts as long as its connection


class RemoteTask:
    "One running attempt on the background cluster."

    def __init__(self, spec: TaskSpec, talk: Connection, pid: int, log: Path) -> None:
        self.spec, self.pid, self._talk, self._log = spec, pid, talk, log
        self._ended: Future[TaskResult] = Future()
        threading.Thread(target=self._follow, name=f"task-{pid}", daemon=True).start()

    def _follow(self) -> None:
        message = self._talk.hear() or {}
        if "ended" in message:
            self._ended.set_result(TaskResult(**message["ended"]))
        elif "failed" in message:
            self._ended.set_exception(ClusterError(message["failed"]))
        else:
            self._ended.set_exception(ClusterError(f"the cluster ended under the task; see {self._log}"))
        self._talk.close()

    def poll(self) -> TaskResult | None:
        "Return the result, or None while the task runs."
        return self._ended.result() if self._ended.done() else None

    def wait(self, timeout: float | None = None) -> TaskResult | None:
        "Wait for the result; return None after `timeout` seconds."
        try:
            return self._ended.result(timeout)
        except TimeoutError:
            return None

    def cancel(self) -> None:
        "End the task and everything that it started; return when nothing is left. Do nothing if it has ended."
        if not self._ended.done():
            with suppress(OSError):  # if the cluster has ended, so has the task, and `_follow` reports it
                self._talk.say(cancel=True)
        self._ended.exception()


class BackgroundCluster:
    "The cluster of a state folder as clients use it; the cluster does not end while one is open."

    def __init__(self, wanted: ClusterSpec, say: Callable[[str], None]) -> None:
        self.wanted, self.state = wanted, wanted.state.resolve()
        self._say, self._changing = say, threading.Lock()
        self.address, self._stay = self._enter()

    @staticmethod
    def reach(wanted: ClusterSpec, say: Callable[[str], None] = print) -> BackgroundCluster:
        "Return the running cluster, or start one. Raises ClusterError if it does not start, or runs on another master than requested."
        return BackgroundCluster(wanted, say)

    def _enter(self) -> tuple[Address, Connection]:
        self.state.mkdir(parents=True, exist_ok=True)
        master = self.wanted.master
        with FileLock(self.state / "starting.lock"):
            while (found := self._running()) is None:
                self._say("starting the cluster")
                if (found := _start(self.wanted, self.state)) is not None:
                    break
            if master is not None and found.master != master:
                raise ClusterError(
                    f"the cluster of {self.state} runs on {found.master}, not on {master}. End it first: boathouse cluster stop"
                )
            stay = found.call(op="stay")
            if stay.hear() is None:
                raise ClusterError(f"the cluster hung up at once; see {self.state / 'cluster.log'}")
        return found, stay

    def _running(self) -> Address | None:
        found = Address.read(self.state)
        if found is None or found.process() is None:
            return None
        if not answers(found):
            _await_end(found, self.state)
            return None
        if found.version != version():
            self._say("the cluster runs an earlier version of boathouse: replacing it")
            stop_background(self.state)
            return None
        return found

    def launch(self, spec: TaskSpec) -> RemoteTask:
        "Start one attempt in this process's environment; a cluster that has ended meanwhile is replaced."
        talk, message = self._ask(op="launch", spec=spec.as_dict(), environ=dict(os.environ))
        return RemoteTask(spec, talk, message["started"], self.state / "cluster.log")

    def sql(self, query: str, catalog: str | None = None, catalogs: Iterable[str] = ()) -> tuple[list[str], list[list[Any]]]:
        "Return column names and rows of a statement, in JSON types. Raises QueryFailed with Spark's message."
        talk, message = self._ask(again=False, op="query", text=query, catalog=catalog or self.wanted.catalog, catalogs=list(catalogs))
        talk.close()
        if "failed" in message:
            raise QueryFailed(message["failed"])
        return message["columns"], message["rows"]

    def attach(self) -> SparkSession:
        "Open a separate session for this process, until the process ends."
        from boathouse.workspace.task.session import attach

        talk, message = self._ask(op="attach", catalog=self.wanted.catalog)
        for key, value in message["environment"].items():
            os.environ.setdefault(key, value)
        time.tzset()
        spark = attach(message["port"], message["token"])
        _sessions.append(talk)
        code = [str(folder) for folder in (self.wanted.project.resolve() / "src", self.wanted.project.resolve()) if folder.is_dir()]
        paths = dict.fromkeys(str(Path(path).resolve()) for path in [*code, *sys.path] if "site-packages" not in path)
        spark.sparkContext.environment.update(message["environment"] | {"PYTHONPATH": os.pathsep.join(paths)})
        return spark

    def _ask(self, *, again: bool = True, **message: Any) -> tuple[Connection, dict[str, Any]]:
        """Send a request to the cluster, or to its replacement if it has ended.

        With `again` false, a request is not repeated if it may already have been carried out.
        """
        address = self.address
        if again or not answers(address):
            reply = _exchange(address, **message) if again else None
            if reply is not None:
                return reply
            self._replace(address)
        reply = _exchange(self.address, **message)
        if reply is None:
            raise ClusterError(f"the cluster ended; see {self.state / 'cluster.log'} and {self.state / 'jvm.log'}")
        return reply

    def _replace(self, ended: Address) -> None:
        with self._changing:
            if self.address == ended:
                self._stay.close()
                self._say("the cluster has ended: another one takes its place")
                _await_end(ended, self.state)
                self.address, self._stay = self._enter()

    def close(self) -> None:
        "Release the cluster; it ends some time after the last client has released it."
        self._stay.close()

    def __enter__(self) -> BackgroundCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _exchange(address: Address, **message: Any) -> tuple[Connection, dict[str, Any]] | None:
    "Send a message; return the connection and its first reply, or None if the cluster has ended."
    try:
        talk = address.call(**message)
        answer = talk.hear()
    except OSError:
        return None
    if answer is None or "gone" in answer:
        talk.close()
        return None
    return talk, answer


def answers(address: Address) -> bool:
    "Return whether the cluster accepts messages."
    return _exchange(address, op="status") is not None


def cluster_status(state: Path) -> dict[str, Any] | None:
    "Return the status that the cluster of the folder reports; None if there is no cluster."
    address = Address.read(state)
    if address is None or address.process() is None:
        return None
    found = _exchange(address, op="status")
    return found[1] if found else None


def stop_background(state: Path, *, force: bool = False) -> bool:
    "End the cluster of the folder and wait for it; return whether there was one. Raises ClusterError if it is in use, unless `force`."
    address = Address.read(state)
    if address is None or address.process() is None:
        return False
    reply = _exchange(address, op="stop", force=force)
    if reply is not None and "busy" in reply[1]:
        raise ClusterError(f"the cluster of {state} is in use ({', '.join(reply[1]['busy'])}). Wait, or end it with --force.")
    _await_end(address, state)
    return True


def _await_end(address: Address, state: Path) -> None:
    deadline = time.monotonic() + ENDS_WITHIN
    while address.process() is not None:
        if time.monotonic() > deadline:
            raise ClusterError(f"process {address.pid} holds {state} and does not answer. End it: kill {address.pid}")
        time.sleep(0.05)


def _start(wanted: ClusterSpec, state: Path) -> Address | None:
    "Start a cluster process. Return None if another one holds the folder, started by a client that was killed: it is ready then, or has ended."
    command = [sys.executable, "-m", SERVER, wanted.as_text()]
    log = state / "cluster.log"
    (state / FILE).unlink(missing_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=state, start_new_session=True)
    deadline = time.monotonic() + STARTS_WITHIN
    while (found := Address.read(state)) is None or found.pid != child.pid:
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            if child.wait() == LOCKED and _await_other(state, deadline):
                return None
            last = "\n".join(log.read_text(errors="replace").strip().splitlines()[-15:])
            raise ClusterError(last or f"the cluster did not start; see {log}")
        time.sleep(0.05)
    threading.Thread(target=child.wait, daemon=True).start()  # if it ends first, it does not stay a zombie
    return found


def _await_other(state: Path, deadline: float) -> bool:
    "Wait until the cluster process that holds the folder is ready or has ended; return False at once if another kind of process holds it."
    while time.monotonic() < deadline:
        if (holder := lock_holder(state)) is None:
            return True
        try:
            if SERVER not in holder.cmdline():
                return holder.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        if (found := Address.read(state)) is not None and found.pid == holder.pid:
            return True
        time.sleep(0.05)
    return False


def session() -> SparkSession:
    """Return the session of a process outside any task.

    It is a separate session on the background cluster. With BOATHOUSE_CLUSTER=own, the process starts its own JVM.
    """
    from boathouse.workspace.spark.session import default_state, local_session, project_root

    if os.environ.get("BOATHOUSE_CLUSTER") == "own":
        return local_session()
    state = default_state()
    project = project_root(state) or project_root() or Path.cwd()
    wanted = ClusterSpec(state, project, master=os.environ.get("BOATHOUSE_MASTER"))
    return BackgroundCluster.reach(wanted, lambda text: print(text, file=sys.stderr)).attach()
