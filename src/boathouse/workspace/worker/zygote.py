"""The parent of all task processes: it imports the heavy libraries once, then forks once per task.

It reads one JSON message per line on standard input and replies on standard output. It stays single-threaded, and runs no project code and no
numerical code, because a forked OpenMP pool hangs. When its input closes, the cluster has ended. The zygote then kills every task and, if needed, the JVM.
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

# Every task needs these: imported before the first task is accepted.
ESSENTIAL = (
    "pyspark.sql.functions", "pyspark.sql.types", "pyspark.sql.window", "pyspark.sql.pandas.types", "pyspark.java_gateway", "runpy",
    "boathouse.workspace.worker.main",
)  # fmt: skip
# Imported one by one while tasks already run: first for notebooks, then for tables, then for models.
PRELOAD = (
    "execnb.shell", "nbformat", "nbconvert.exporters.html", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "boathouse.workspace.worker.notebook.execute",
    "databricks.sdk", "pandas", "pyarrow.parquet", "delta.tables", "importlib_metadata", "mlflow", "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.pyfunc", "mlflow.models", "sklearn.linear_model",
    "sklearn.metrics", "sklearn.pipeline", "sklearn.preprocessing", "sklearn.isotonic", "lightgbm", "mlflow.sklearn", "mlflow.lightgbm", "hyperopt",
    "skops.io",  # takes two seconds
)  # fmt: skip
STORE = "mlflow.store.model_registry.sqlalchemy_store"  # once it is imported, MLflow's tables can be created
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
OWN = "boathouse"


def prctl(option: int, value: int) -> None:
    "Set a property of this process on Linux; do nothing elsewhere."
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def preload() -> None:
    "Import everything that tasks may need, and write its bytecode where that is permitted."
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in (*ESSENTIAL, *PRELOAD):
        importlib.import_module(name)
    _settle()


def _settle() -> None:
    "Do the setup that takes the first notebook of a process a second, and exclude the imported objects from garbage collection."
    importlib.import_module("boathouse.workspace.worker.notebook.execute").warm()
    gc.collect()
    gc.freeze()


def _create(database: Path) -> None:
    "Create MLflow's tables once, in a file that gets its name when it is complete; the migrations take seconds."
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    scratch = database.with_suffix(".creating")
    scratch.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{scratch}", str(database.parent / "mlartifacts"))
    with suppress(FileExistsError):  # a task has created it meanwhile
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
    "Return whether a folder holds a module that is already imported from elsewhere. A task with that folder needs a new interpreter."
    names = {entry.split(".")[0] for path in paths if os.path.isdir(path) for entry in os.listdir(path)}
    return any(name in sys.modules for name in names - {OWN})


class Zygote:
    "The main loop, which handles messages from the cluster and the ends of child processes."

    def __init__(self, answers: int, spawn: bool, database: Path) -> None:
        self.answers, self.spawn, self.database = answers, spawn, database
        self.left = [] if spawn else [*PRELOAD, ""]  # modules to import; the empty name marks the step after the last one
        self.creator: int | None = None  # the process that creates MLflow's tables
        self.tasks: dict[int, str] = {}  # pid -> id
        self.jvm: tuple[int, float] | None = None
        self.pending = b""

    def say(self, **message: Any) -> None:
        os.write(self.answers, (json.dumps(message) + "\n").encode())

    def serve(self) -> None:
        "Run until the cluster sends a stop message or ends."
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
        "Import one more module that tasks may need."
        if not name:
            _settle()
            return
        importlib.import_module(name)
        if name == STORE and not self.database.exists():
            self.creator = _fork(lambda: _create(self.database))

    def listen(self) -> bool:
        "Handle the messages that have arrived; return False when no more will come."
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
        "Remember the JVM, to end it if the cluster dies without doing so."
        self.jvm = (pid, psutil.Process(pid).create_time())

    def launch(self, id: str, request: dict[str, Any]) -> None:
        "Start a task in a separate process group."
        pid = self._spawn(request) if self.spawn or find_shadowing(request["spec"]["paths"]) else self._fork(request)
        self.tasks[pid] = id
        self.say(started=id, pid=pid)

    def kill(self, id: str) -> None:
        "Kill a task and all its children."
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
        self._leashes[child.pid] = child  # its input stays open as long as this process lives; the child ends when it closes
        return child.pid

    def bury(self) -> None:
        "Report every task that has ended, and kill the processes that it left."
        while self._any_dead():
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return
            id = self.tasks.pop(dead.si_pid, None)
            if id is not None:
                self._kill_group(dead.si_pid)  # before its process id can be used again
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
            return  # macOS refuses a group that has only zombies left

    def _kill_strays(self, id: str) -> None:
        "Kill orphans that left their task's process group and became children of the zygote: those of this task, or all if none runs."
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
        "Wait until the JVM ends after its input has closed; kill it after `grace` seconds."
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
    "Drop what a fork must not keep from the zygote: group, signal handlers and pipes."
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
        return  # the other side of the fork has done it already


def _drain(woken: socket.socket) -> None:
    try:
        while woken.recv(4096):
            pass
    except BlockingIOError:
        return


def main(database: Path, spawn: bool) -> None:
    "Run the zygote on standard input and output; all printed text goes to standard error."
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # LightGBM's threads sleep while they wait for a core; before it is imported
    if not spawn:
        os.environ.setdefault("MPLBACKEND", "agg")
        for name in ESSENTIAL:
            importlib.import_module(name)
    Zygote(answers, spawn, database).serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--spawn" in sys.argv)
