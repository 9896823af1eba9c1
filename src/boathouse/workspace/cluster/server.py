"""The cluster as a background process, shared by all clients of a state folder: runs, queries, notebooks.

Each operation has its own connection. When a client closes it, everything that it started ends, also if the client was killed.
"""

from __future__ import annotations

import hmac
import json
import secrets
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from boathouse.workspace.cluster.address import LOCKED, Address, ClusterSpec, Connection, idle_seconds
from boathouse.workspace.cluster.cluster import Cluster
from boathouse.workspace.errors import ClusterError, QueryFailed
from boathouse.workspace.spark.dialect import catalog_settings
from boathouse.workspace.task.spec import TaskSpec

FIRST_WORD = 10.0
TIDY_AFTER = 20.0
# The JVM never shrinks its heap. So a cluster that has grown ends earlier, and a small one costs little.
LARGE_BYTES, LARGE_IDLE = 3 * 2**29, 300.0


class Server(socketserver.ThreadingTCPServer):
    "Listen on loopback until there was no client for `idle` seconds, a stop is requested, or the JVM or state folder is gone."

    daemon_threads = True
    block_on_close = False

    def __init__(self, cluster: Cluster, master: str, idle: float) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.cluster, self.idle = cluster, idle
        self.ending = threading.Event()
        self._counting = threading.Lock()
        self._visits: dict[int, str] = {}
        self._quiet_since: float | None = time.monotonic()
        self.address = Address.here(self.server_address[1], secrets.token_hex(32), master)

    def run(self) -> str:
        "Serve until the end; return the reason for it."
        self.address.write(self.cluster.state)
        threading.Thread(target=self.serve_forever, name="listener", daemon=True).start()
        try:
            return self._watch()
        finally:
            self.address.withdraw(self.cluster.state)
            self.shutdown()
            self.server_close()

    def _watch(self) -> str:
        tidied: float | None = None
        patience = self.idle
        while not self.ending.wait(0.5):
            if gone := self.cluster.failure():
                self.cluster.wait_for_tasks()
                time.sleep(0.5)  # time for the last messages to the clients
                return gone
            if Address.read(self.cluster.state) != self.address:
                return "the state folder was deleted or taken by another cluster"
            since = self._quiet_since
            if since is None:
                continue
            if time.monotonic() - since > patience:
                return f"nobody was here for {patience:.0f} s"
            if time.monotonic() - since > TIDY_AFTER and tidied != since:
                tidied = since
                self.cluster.tidy()
                large = sum(self.cluster.memory().values()) > LARGE_BYTES
                patience = min(self.idle, LARGE_IDLE) if large else self.idle
        return "a stop was requested"

    def enter(self, visit: int, what: str) -> None:
        "Register a visit, which keeps the cluster from ending."
        with self._counting:
            self._visits[visit] = what
            self._quiet_since = None

    def leave(self, visit: int) -> None:
        "Remove a visit that is over."
        with self._counting:
            self._visits.pop(visit, None)
            if not self._visits:
                self._quiet_since = time.monotonic()

    def visits(self) -> list[str]:
        "Return the purposes of the present visits."
        with self._counting:
            return [what for what in self._visits.values() if what != "status"]

    def handle_error(self, request: Any, client_address: Any) -> None:
        "Ignore a client that closes the connection during a reply."
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Visit(socketserver.BaseRequestHandler):
    "Handle one connection, whose first message names the operation."

    server: Server

    def handle(self) -> None:
        self.talk = Connection(self.request)
        self.talk.patience(FIRST_WORD)
        try:
            first = self.talk.hear()
        except (TimeoutError, json.JSONDecodeError, UnicodeDecodeError):
            return
        if first is None or not hmac.compare_digest(str(first.pop("key", "")), self.server.address.key):
            return
        self.talk.patience(None)
        what = first.pop("op")
        self.server.enter(id(self), what)
        try:
            OPERATIONS[what](self, **first)
        finally:
            self.server.leave(id(self))

    def stay(self, op: str = "") -> None:
        "Keep the cluster running for a client that works without requests."
        self.talk.say(welcome=True)
        while self.talk.hear() is not None:
            continue

    def launch(self, spec: dict[str, Any], environ: dict[str, str]) -> None:
        "Run a task; the client may cancel it, also by closing the connection."
        try:
            task = self.server.cluster.launch(TaskSpec.from_dict(spec), environ)
        except ClusterError as e:
            self.talk.say(gone=str(e))
            return
        self.talk.say(started=task.pid)
        telling = threading.Thread(target=self._tell_end, args=(task,), daemon=True)
        telling.start()
        self.talk.hear()
        task.cancel()
        telling.join()

    def _tell_end(self, task: Any) -> None:
        try:
            message = {"ended": task.ended.result().as_dict()}
        except Exception as e:
            message = {"failed": f"{type(e).__name__}: {e}"}
        try:
            self.talk.say(**message)
        except OSError:
            return  # the client has gone, and the task has ended

    def query(self, text: str, catalog: str, catalogs: Sequence[str] = ()) -> None:
        "Run one statement; closing the connection cancels it."
        query = self.server.cluster.query(text, catalog, catalogs)
        threading.Thread(target=self._tell_rows, args=(query,), daemon=True).start()
        self.talk.hear()
        query.cancel()

    def _tell_rows(self, query: Any) -> None:
        try:
            columns, rows = query.result()
            message = {"columns": columns, "rows": rows}
        except QueryFailed as e:
            message = {"failed": str(e)}
        except Exception as e:
            message = {"failed": self.server.cluster.failure(wait=2) or f"{type(e).__name__}: {e}"}
        try:
            self.talk.say(**message)
        except OSError:
            return  # the client has gone, and the query has ended

    def attach(self, catalog: str) -> None:
        "Offer a separate session to the client's process, as long as it stays connected."
        line = self.server.cluster.open(catalog)
        try:
            self.talk.say(port=line.port, token=line.token, environment=self.server.cluster.environment)
            self.talk.hear()
        finally:
            self.server.cluster.close(line)

    def status(self) -> None:
        "Send the status: what runs, and its memory."
        cluster, me = self.server.cluster, psutil.Process()
        self.talk.say(
            pid=me.pid,
            started=me.create_time(),
            master=self.server.address.master,
            ends_after_seconds=self.server.idle,
            tasks=[task.spec.context.get("task_key", task.id) for task in cluster.tasks()],
            sessions=self.server.visits().count("attach"),
            clients=self.server.visits().count("stay"),
            memory_bytes=cluster.memory(),
        )

    def stop(self, force: bool) -> None:
        "End the cluster, if no client uses it or `force` is given."
        busy = [what for what in self.server.visits() if what != "stop"]
        if busy and not force:
            self.talk.say(busy=busy)
            return
        self.talk.say(stopping=True)
        self.server.ending.set()


OPERATIONS: dict[str, Callable[..., None]] = {
    name: getattr(_Visit, name) for name in ("stay", "launch", "query", "attach", "status", "stop")
}


def serve(wanted: ClusterSpec) -> str:
    "Start the cluster in this process and serve it until its end; return the reason for the end."
    master = wanted.master or "local[*]"
    conf = catalog_settings(wanted.catalogs)
    with Cluster.start(wanted.state, wanted.project, master=master, spawn=wanted.spawn, catalog=wanted.catalog, conf=conf) as cluster:
        server = Server(cluster, master, idle_seconds())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.ending.set())
        return server.run()


def main() -> None:
    "Run the background process; print on standard error why it did not start, or why it ended."
    from boathouse.workspace.spark.lock import WorkspaceLocked
    from boathouse.workspace.spark.session import JarsError, SessionError

    try:
        print(serve(ClusterSpec.from_text(sys.argv[1])), file=sys.stderr)
    except WorkspaceLocked as e:
        print(e, file=sys.stderr)
        sys.exit(LOCKED)
    except (SessionError, JarsError, ClusterError) as e:
        sys.exit(str(e))


if __name__ == "__main__":
    main()
