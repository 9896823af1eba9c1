"The address and key of the background cluster of a state folder: `cluster.json`, readable only by its owner."

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

FILE = "cluster.json"
LOCKED = 75  # exit code of a cluster process whose state folder another process holds
ENDS_AFTER = 15 * 60.0


@dataclass(frozen=True)
class ClusterSpec:
    "Describe the requested cluster: state folder, project and Spark master. `master` None accepts any running cluster, else it means this machine's cores."

    state: Path
    project: Path
    catalog: str = "spark_catalog"
    catalogs: tuple[str, ...] = ()
    master: str | None = None
    spawn: bool = False

    def as_text(self) -> str:
        "Return the spec as one word of a command line."
        return json.dumps({**asdict(self), "state": str(self.state.resolve()), "project": str(self.project.resolve())})

    @staticmethod
    def from_text(text: str) -> ClusterSpec:
        "Return the spec that `as_text` wrote."
        given = json.loads(text)
        return ClusterSpec(
            **given | {"state": Path(given["state"]), "project": Path(given["project"]), "catalogs": tuple(given["catalogs"])}
        )


@dataclass(frozen=True)
class Address:
    "Hold the address of a cluster process: process id and start time (ids are reused), loopback port, key, and what it runs."

    pid: int
    started: float
    port: int
    key: str
    version: str
    master: str

    @staticmethod
    def here(port: int, key: str, master: str) -> Address:
        "Return the address of this process."
        me = psutil.Process()
        return Address(me.pid, me.create_time(), port, key, version(), master)

    @staticmethod
    def read(state: Path) -> Address | None:
        "Read the address in the folder, whether or not the process still lives; return None without a complete file."
        try:
            return Address(**json.loads((state / FILE).read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    def write(self, state: Path) -> None:
        "Write the address, completely or not at all, and never readable by others."
        scratch = state / f".{FILE}"
        scratch.unlink(missing_ok=True)
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file)
        os.replace(scratch, state / FILE)

    def withdraw(self, state: Path) -> None:
        "Remove the address, unless another cluster has written its own."
        if Address.read(state) == self:
            (state / FILE).unlink()

    def process(self) -> psutil.Process | None:
        "Return the process, or None if it has ended."
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None

    def call(self, **message: Any) -> Connection:
        "Open a connection and send `message`. Raises OSError if no process listens."
        talk = Connection(socket.create_connection(("127.0.0.1", self.port), timeout=10))
        talk.say(key=self.key, **message)
        talk.patience(None)
        return talk


class Connection:
    "Exchange messages in both directions, one JSON object per line."

    def __init__(self, connection: socket.socket) -> None:
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._lines = connection, connection.makefile("rb")

    def say(self, **message: Any) -> None:
        "Send one message. Raises OSError if the other side has closed the connection."
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any] | None:
        "Return the next message, or None if the other side has closed the connection."
        try:
            line = self._lines.readline()
        except ConnectionError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def patience(self, seconds: float | None) -> None:
        "Set how many seconds `hear` waits before it raises TimeoutError; None waits forever."
        self._socket.settimeout(seconds)

    def close(self) -> None:
        "Close the connection; a `hear` that waits in another thread returns."
        with suppress(OSError):  # the other side may have closed it first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._socket.close()


def version() -> str:
    "Return a hash of the interpreter and the code of this package. Clients do not use a cluster of another version."
    seen = hashlib.sha256(sys.executable.encode())
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        seen.update(file.read_bytes())
    return seen.hexdigest()[:16]


def idle_seconds() -> float:
    "Return after how many seconds without clients a background cluster ends: `BOATHOUSE_IDLE_SECONDS`, else 15 minutes."
    return float(os.environ.get("BOATHOUSE_IDLE_SECONDS", ENDS_AFTER))
