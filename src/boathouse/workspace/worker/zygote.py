"""The parent of all task processes: imports the heavy libraries once, then forks per task, and outlives none of them.

Reads one JSON message a line on standard input, answers on standard output. It stays single-threaded, runs no project code and no numerical
code (a forked OpenMP pool hangs). When its input closes, the cluster is gone: it kills every task and, if need be, the JVM.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from boathouse.workspace.task.spec import TAG, interpreter_environment

# What every task needs: imported before the first one is taken.
ESSENTIAL = (
    "pyspark.sql.functions", "pyspark.sql.types", "pyspark.sql.window", "pyspark.sql.pandas.types", "pyspark.java_gateway", "runpy",
    "boathouse.workspace.worker.main",
)  # fmt: skip
# Imported while tasks run already, one at a time: what notebooks need, then tables, then models.
PRELOAD = (
    "execnb.shell", "nbformat", "nbconvert.exporters.html", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "boathouse.workspace.worker.notebook.execute",
    "databricks.sdk", "pandas", "pyarrow.parquet", "delta.tables", "importlib_metadata", "mlflow", "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.pyfunc", "mlflow.models", "sklearn.linear_model",
    "sklearn.metrics", "sklearn.pipeline", "sklearn.preprocessing", "sklearn.isotonic", "lightgbm", "mlflow.sklearn", "mlflow.lightgbm", "hyperopt",
    "skops.io",  # two seconds, for a list of types
)  # fmt: skip
STORE = "mlflow.store.model_registry.sqlalchemy_store"  # from here on MLflow's tables can be made
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
OWN = "boathouse"


def prctl(option: int, value: int) -> None:
    "Sets a property of this process; Linux only, nothing elsewhere."
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def preload() -> None:
    "Imports all that tasks may need, and writes Python's bytecode of it where that is allowed."
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in (*ESSENTIAL, *PRELOAD):
        importlib.import_module(name)
    _settle()


def _settle() -> None:
    "Does once what the first notebook of a process takes a second for, and keeps what is imported out of the garbage collector's way."
    importlib.import_module("boathouse.workspace.worker.notebook.execute").warm()
    gc.collect()
    gc.freeze()


def _create(database: Path) -> None:
    "MLflow's tables cost seconds of migrations: made once, in a file that takes its name when it is whole."
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    scratch = database.with_suffix(".creating")
    scratch.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{scratch}", str(database.parent / "mlartifacts"))
    with suppress(FileExistsError):  # a task was faster
        os.link(scratch, database)
    scratch.unlink()


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def find_shadowing(paths: list[str]) -> bool:
    "Whether a folder holds a module that is imported here already, from elsewhere: a task with that folder needs an interpreter of its own."
    names = {entry.split(".")[0] for path in paths if os.path.isdir(path) for entry in os.listdir(path)}
    return any(name in sys.modules for name in names - {OWN})


class Zygote:
    "The loop: messages from the cluster, deaths of children."

    def __init__(self, answers: int, spawn: bool, database: Path) -> None:
        self.answers, self.spawn, self.database = answers, spawn, database
        self.left = [] if spawn else [*PRELOAD, ""]  # modules to import; the empty name stands for what follows the last one
        self.creator: int | None = None  # the process that creates MLflow's tables
        self.tasks: dict[int, str] = {}  # pid -> id
        self.jvm: tuple[int, float] | None = None
        self.pending = b""

    def say(self, **message: Any) -> None:
        os.write(self.answers, (json.dumps(message) + "\n").encode())

    def serve(self) -> None:
        "Runs until the cluster says stop, or is gone."
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as ready:
            ready.register(0, selectors.EVENT_READ)
            ready.register(woken, selectors.EVENT_READ)
            self.say(ready=True)
            while True:
                found = ready.select(0 if self.left else None)
                for key, _ in found:
                    if key.fd == 0 and not self.listen():
                        return
                    if key.fd != 0:
                        _drain(woken)
                self.bury()
                if not found and self.left:
                    self.learn(self.left.pop(0))

    def learn(self, name: str) -> None:
        "Imports one more module that tasks may need."
        if not name:
            _settle()
            return
        importlib.import_module(name)
        if name == STORE and not self.database.exists():
            self.creator = _fork(lambda: _create(self.database))

    def listen(self) -> bool:
        "Takes what has arrived; False when there will be no more."
        received = os.read(0, 1 << 20)
        *lines, self.pending = (self.pending + received).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["op"] == "stop":
                self.kill_all()
                return False
            getattr(self, message.pop("op"))(**message)
        if not received:
            self.kill_all()
            self.end_jvm()
        return bool(received)

    def watch(self, pid: int) -> None:
        "Remembers the JVM, to end it should the cluster die without doing so."
        self.jvm = (pid, psutil.Process(pid).create_time())

    def launch(self, id: str, request: dict[str, Any]) -> None:
        "Starts a task in a process group of its own."
        pid = self._spawn(request) if self.spawn or find_shadowing(request["spec"]["paths"]) else self._fork(request)
        self.tasks[pid] = id
        self.say(started=id, pid=pid)

    def kill(self, id: str) -> None:
        "Ends a task and all its children."
        for pid in [pid for pid, known in self.tasks.items() if known == id]:
            self._kill_group(pid)

    def _fork(self, request: dict[str, Any]) -> int:
        parent = os.getpid()

        def work() -> None:
            _leave(self.answers)
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                return
            from boathouse.workspace.worker.main import run_request

            run_request(request)

        pid = _fork(work)
        _own_group(pid)
        return pid

    def _spawn(self, request: dict[str, Any]) -> int:
        command = [sys.executable, "-m", "boathouse.workspace.worker.main"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0, env=interpreter_environment(request["spec"]["paths"]))
        assert child.stdin is not None
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        self._leashes = getattr(self, "_leashes", {})
        self._leashes[child.pid] = child  # its input stays open as long as we live: the child ends when it closes
        return child.pid

    def bury(self) -> None:
        "Reports every task that has ended, and takes what it left running with it."
        while self._any_dead():
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return
            id = self.tasks.pop(dead.si_pid, None)
            if id is not None:
                self._kill_group(dead.si_pid)  # before its number is free to be used again
            _, status = os.waitpid(dead.si_pid, 0)
            if id is not None:
                self._kill_strays(id)
                self.say(ended=id, status=status)

    def _any_dead(self) -> bool:
        try:
            return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False

    def _kill_group(self, pid: int) -> None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # macOS refuses a group in which only the dead are left

    def _kill_strays(self, id: str) -> None:
        "Orphans that left their task's process group come to us as children: ends those of this task, or all when no task runs."
        for child in psutil.Process().children():
            if child.pid in self.tasks or child.pid == self.creator:
                continue
            try:
                if not self.tasks or child.environ().get(TAG) == id:
                    child.kill()
            except psutil.NoSuchProcess:
                continue

    def kill_all(self) -> None:
        for pid in list(self.tasks):
            self._kill_group(pid)
        for child in psutil.Process().children(recursive=True):
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue

    def end_jvm(self, grace: float = 5.0) -> None:
        "The JVM ends by itself when its own input closes; after `grace` seconds it is made to."
        deadline = time.monotonic() + grace
        while self.jvm is not None and psutil.pid_exists(self.jvm[0]):
            try:
                process = psutil.Process(self.jvm[0])
                if process.create_time() != self.jvm[1] or process.status() == psutil.STATUS_ZOMBIE:
                    return
                if time.monotonic() > deadline:
                    process.kill()
                    return
            except psutil.NoSuchProcess:
                return
            time.sleep(0.1)


def _leave(answers: int) -> None:
    "What a fork must not keep of the zygote: its group, its signals, its pipes."
    _own_group(0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.close(answers)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)


def _own_group(pid: int) -> None:
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):
        return  # the other side of the fork was faster


def _drain(woken: socket.socket) -> None:
    try:
        while woken.recv(4096):
            pass
    except BlockingIOError:
        return


def main(database: Path, spawn: bool) -> None:
    "Runs the zygote on standard input and output; everything anybody prints goes to standard error."
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if not spawn:
        os.environ.setdefault("MPLBACKEND", "agg")
        for name in ESSENTIAL:
            importlib.import_module(name)
    Zygote(answers, spawn, database).serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--spawn" in sys.argv)
