"A bundle of jobs, real receivers of mail and webhooks on loopback, and runs that are driven event by event as `JobRunner` does."

from __future__ import annotations

import json
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from boathouse.workspace.bundle.jobs import Job, all_jobs
from boathouse.workspace.bundle.load import Bundle, load
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.store import History, JobRun, TaskEnd, TaskRun
from boathouse.workspace.notifications.notifier import Notifier
from boathouse.workspace.notifications.outbox import Outbox

RAN = (Result.SUCCESS, Result.FAILED, Result.TIMEDOUT, Result.CANCELED)


@dataclass
class Receiver:
    "An HTTP server that keeps what it is sent; it answers with the codes of `answers`, then with 200, and hangs while `hold` is set."

    answers: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    seen = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = seen.answers.pop(0) if seen.answers else 200
            seen.requests.append((dict(self.headers), body))
            while seen.hold.is_set():
                time.sleep(0.02)
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            "Print nothing."

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        seen.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield seen
        seen.hold.clear()
        server.shutdown()
        thread.join()


@dataclass
class Post:
    "A mail server; `mails` are those it has accepted, with the addresses they were sent to."

    port: int = 0
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, BytesParser(policy=default).parsebytes(envelope.content)))
        return "250 accepted"


@pytest.fixture
def serve_mail() -> Iterator[Callable[..., Post]]:
    "Start a mail server; the settings are those of `aiosmtpd.smtp.SMTP`."
    running: list[Controller] = []

    def serve(**settings: Any) -> Post:
        handler = Post(free_port())
        running.append(controller := Controller(handler, hostname="127.0.0.1", port=handler.port, **settings))
        controller.start()
        return handler

    yield serve
    for controller in running:
        controller.stop()


@pytest.fixture
def post(serve_mail: Callable[..., Post]) -> Post:
    return serve_mail()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Scene:
    "One bundle with its history, and a notifier of it in a `with` block."

    bundle: Bundle
    jobs: dict[str, Job]
    history: History
    notifier: Notifier

    def start(self, job: str = "a", parent: TaskRun | None = None) -> JobRun:
        number, one = self.history.new_id(), self.jobs[job]
        folder = parent.folder if parent else self.bundle.state / "runs" / str(number)
        names = (one.id, job, one.name, self.bundle.target)
        run = JobRun(number, *names, {"day": "monday"}, folder, parent and parent.run_id, parent.path if parent else ())
        self.tell("run_started", run)
        self.history.admit(run, 9)
        return run

    def tell(self, event: str, *details: Any) -> None:
        for watcher in (self.history, self.notifier):
            getattr(watcher, event)(*details)

    def task(
        self, run: JobRun, key: str = "t", *ends: Result, first: int = 0, loop: TaskRun | None = None, item: str | None = None
    ) -> TaskRun:
        "A task with an attempt for each end, the first of them number `first`; without an end it goes on."
        source = next(s for s in self.jobs[run.key].every_task() if s.key == key)
        every: list[Result | None] = [*ends] or [None]
        for attempt, end in enumerate(every, first):
            place = {"loop": loop and loop.run_id, "item": item}
            task = TaskRun(self.history.new_id(), run, key, 0, source.kind, run.folder / key, attempt, **place)  # type: ignore[arg-type]
            self.tell("task_waiting", task)
            if end is None or end in RAN:
                self.tell("task_started", task)
            if end is not None:
                self.tell("task_ended", task, TaskEnd(end, f"it ended {end.value}"))
        return task

    def end(self, run: JobRun, result: Result, message: str = "") -> None:
        self.tell("run_ended", run, result, message)

    def rows(self) -> list[dict[str, Any]]:
        with Outbox(self.bundle.state) as outbox:
            runs = [row["run_id"] for row in outbox.rows("SELECT DISTINCT run_id FROM notifications ORDER BY run_id")]
            return [row for run in runs for row in outbox.of_run(run)]

    def events(self) -> list[str]:
        "The notifications as `event` of a job or `key: event` of a task, in their order."
        return [row["event"] if row["task_key"] is None else f"{row['task_key']}: {row['event']}" for row in self.rows()]


Make = Callable[..., Scene]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Make]:
    opened: list[History] = []

    def make(jobs: str = "", settings: str = "") -> Scene:
        if jobs:
            whole = "bundle: {name: demo}\nresources:\n  jobs:\n" + textwrap.indent(textwrap.dedent(jobs).strip("\n"), "    ")
            (tmp_path / "databricks.yml").write_text(whole + "\n")
        if settings:
            (tmp_path / "boathouse.yml").write_text(textwrap.dedent(settings))
        bundle = load(tmp_path, environ={})
        every = all_jobs(bundle)
        assert [p for job in every.values() for p in job.problems] == []
        opened.append(history := History(bundle.state))
        return Scene(bundle, every, history, Notifier(bundle, every, history))

    yield make
    for history in opened:
        history.__exit__()
