"Where the background cluster of a state folder listens, and the key that opens it: `cluster.json`, readable by its owner only."

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
ENDS_AFTER = 15 * 60.0


@dataclass(frozen=True)
class ClusterSpec:
    "The cluster somebody wants: of which state folder, for which project. `master` None is whatever runs, else this machine's cores."

    state: Path
    project: Path
    catalog: str = "spark_catalog"
    catalogs: tuple[str, ...] = ()
    master: str | None = None
    spawn: bool = False

    def as_text(self) -> str:
        "As one word of a command line."
        return json.dumps({**asdict(self), "state": str(self.state.resolve()), "project": str(self.project.resolve())})

    @staticmethod
    def from_text(text: str) -> ClusterSpec:
        "The inverse of `as_text`."
        given = json.loads(text)
        return ClusterSpec(
            **given | {"state": Path(given["state"]), "project": Path(given["project"]), "catalogs": tuple(given["catalogs"])}
        )


@dataclass(frozen=True)
class Address:
    "One cluster process: its number and start (numbers are used again), its port on loopback, its key, and what it runs."

    pid: int
    started: float
    port: int
    key: str
    version: str
    master: str

    @staticmethod
    def here(port: int, key: str, master: str) -> Address:
        "The address of this process."
        me = psutil.Process()
        return Address(me.pid, me.create_time(), port, key, version(), master)

    @staticmethod
    def read(state: Path) -> Address | None:
        "What the folder says, whether or not that process still lives; None without a whole file."
        try:
            return Address(**json.loads((state / FILE).read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    def write(self, state: Path) -> None:
        "Publishes it: whole or not at all, and never readable by others."
        scratch = state / f".{FILE}"
        scratch.unlink(missing_ok=True)
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file)
        os.replace(scratch, state / FILE)

    def withdraw(self, state: Path) -> None:
        "Takes it back, unless another cluster has put its own there."
        if Address.read(state) == self:
            (state / FILE).unlink()

    def process(self) -> psutil.Process | None:
        "The process; None if it has ended."
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None

    def call(self, **message: Any) -> Connection:
        "A connection that begins with `message`; OSError if nobody listens."
        talk = Connection(socket.create_connection(("127.0.0.1", self.port), timeout=10))
        talk.say(key=self.key, **message)
        talk.patience(None)
        return talk


class Connection:
    "Messages both ways, one JSON object a line."

    def __init__(self, connection: socket.socket) -> None:
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._lines = connection, connection.makefile("rb")

    def say(self, **message: Any) -> None:
        "Sends one message; OSError if the other side is gone."
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any] | None:
        "The next message; None when the other side has hung up."
        try:
            line = self._lines.readline()
        except ConnectionError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def patience(self, seconds: float | None) -> None:
        "How long `hear` waits before it raises TimeoutError; None is for ever."
        self._socket.settimeout(seconds)

    def close(self) -> None:
        "Hangs up; a `hear` that waits in another thread returns."
        with suppress(OSError):  # the other side may have been faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._socket.close()


def version() -> str:
    "Changes with the interpreter and with the code of this package: a cluster of another version is not talked to."
    seen = hashlib.sha256(sys.executable.encode())
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        seen.update(file.read_bytes())
    return seen.hexdigest()[:16]


def idle_seconds() -> float:
    "After how long without anybody a background cluster ends: `BOATHOUSE_IDLE_SECONDS`, else 15 minutes."
    return float(os.environ.get("BOATHOUSE_IDLE_SECONDS", ENDS_AFTER))
