"""What measurements of a service share: clients in a process of their own on a core of their own, services as processes on the other core, and their memory.

A client is a connection that stays open, with one request under way. Without a rate it sends as soon as the answer is there; with a rate each request has a
moment at which it is due, and its latency counts from that moment, so that a stall of the service is seen by all requests that it held up.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
RECORD = struct.Struct("<ddiiid")  # sent, answered (seconds of CLOCK_MONOTONIC), body, status, version, first prediction
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
VERSION = re.compile(rb"served-model-version: *(\d+)", re.IGNORECASE)


def pin(core: int) -> None:
    "Keep this process, and what it starts, on one core, if the machine has more than one."
    if len(CORES) > 1:
        os.sched_setaffinity(0, {CORES[core]})


def tree_of(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory_of(pid: int) -> float:
    "Proportional share (PSS) of a process and all that it started, in MiB."
    found = 0
    for process in tree_of(pid):
        try:
            found += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return found / 2**20


def cpu_of(pid: int) -> float:
    "CPU seconds of a process and all that it started, since they began."
    found = 0.0
    for process in tree_of(pid):
        try:
            times = process.cpu_times()
            found += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return found


@dataclass
class Plan:
    "What the clients of one run share: the requests, when the run ends, and what was answered."

    requests: list[bytes]
    begun: float
    seconds: float
    interval: float  # seconds between two requests of all clients; 0 sends as fast as they are answered
    record: Any = None
    sent: int = 0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def take(self) -> tuple[int, float] | None:
        "The number of the next request and when it is due; None after the end."
        number, now = self.sent, time.monotonic()
        due = self.begun + number * self.interval if self.interval else now
        if max(due, now) >= self.begun + self.seconds:
            return None
        self.sent += 1
        return number, due

    def keep(self, number: int, due: float, sent: float, head: bytes, body: bytes) -> None:
        now, status = time.monotonic(), int(head[9:12])
        self.latencies.append(now - due)
        self.statuses[str(status)] += 1
        if self.record is not None:
            version, predicted = VERSION.search(head), float("nan")
            if status == 200:
                first = json.loads(body)["predictions"][0]
                predicted = float(next(iter(first.values())) if isinstance(first, dict) else first)
            line = RECORD.pack(sent, now, number % len(self.requests), status, int(version[1]) if version else 0, predicted)
            self.record.write(line)


class Client(asyncio.Protocol):
    "One connection with one request under way at a time. `done` is set when it has sent its last."

    def __init__(self, plan: Plan, done: asyncio.Future[None]) -> None:
        self.plan, self.done, self.content, self.whole, self.waits = plan, done, b"", 0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # type: ignore[union-attr]
        self.proceed()

    def proceed(self) -> None:
        if (found := self.plan.take()) is None:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.number, self.due = found
        if (wait := self.due - time.monotonic()) > 0.0002:
            asyncio.get_running_loop().call_later(wait, self.send)
        else:
            self.send()

    def send(self) -> None:
        self.sent, self.waits = time.monotonic(), True
        self.transport.write(self.plan.requests[self.number % len(self.plan.requests)])

    def data_received(self, data: bytes) -> None:
        self.content += data
        if not self.whole:
            end = self.content.find(b"\r\n\r\n")
            if end < 0:
                return
            self.split = end + 4
            length = LENGTH.search(self.content, 0, end)
            self.whole = self.split + (int(length[1]) if length else 0)
        if len(self.content) < self.whole:
            return
        content, self.content, self.whole, self.waits = self.content, b"", 0, False
        self.plan.keep(self.number, self.due, self.sent, content[: self.split], content[self.split :])
        if self.plan.statuses["200"] == 0 and len(self.plan.latencies) < 3:
            print(content[:600].decode("utf-8", "replace"), file=sys.stderr, flush=True)
        self.proceed()

    def connection_lost(self, error: Exception | None) -> None:
        if self.done.done():
            return
        self.plan.statuses["connection lost"] += self.waits
        loop = asyncio.get_running_loop()  # a service may close a connection that is idle; the client opens another one
        loop.create_task(self.reconnect()) if time.monotonic() < self.plan.begun + self.plan.seconds else self.done.set_result(None)

    async def reconnect(self) -> None:
        self.content, self.whole, self.waits = b"", 0, False
        await asyncio.sleep(0.05)
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *self.transport.get_extra_info("peername")[:2])
        except OSError:
            self.connection_lost(None)


def build_request(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode() + body


async def send_load(wanted: Mapping[str, Any]) -> dict[str, Any]:
    "Run the clients of one order, and return quantiles in milliseconds, requests per second, and the number of answers by status."
    bodies = [one.encode() for one in wanted["bodies"]]
    requests = [build_request(wanted["port"], wanted["path"], body, wanted.get("headers") or {}) for body in bodies]
    record = open(wanted["record"], "wb", buffering=1 << 20) if wanted.get("record") else None  # noqa: SIM115
    interval = 1 / wanted["rate"] if wanted.get("rate") else 0.0
    loop, begun, cpu = asyncio.get_running_loop(), time.monotonic(), time.process_time()
    plan = Plan(requests, begun, wanted["seconds"], interval, record)
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(wanted["clients"])]
    for end in ends:
        await loop.create_connection(lambda end=end: Client(plan, end), "127.0.0.1", wanted["port"])  # type: ignore[misc]
    await asyncio.wait(ends, timeout=wanted["seconds"] + 60)
    spent = time.monotonic() - begun
    if record is not None:
        record.close()
    latencies = np.array(plan.latencies or [np.nan]) * 1000
    shares = dict(zip(("p50", "p90", "p99", "p999", "max"), np.quantile(latencies, [0.5, 0.9, 0.99, 0.999, 1]).tolist(), strict=True))
    unanswered = sum(not end.done() for end in ends)
    counts = dict(plan.statuses) | ({"no answer": unanswered} if unanswered else {})
    return {
        **shares,
        "rate": len(plan.latencies) / spent,
        "answers": len(plan.latencies),
        "statuses": counts,
        "busy": (time.process_time() - cpu) / spent,
    }


class Load:
    "The process of the clients, on the second core. It takes one order at a time."

    def __enter__(self) -> Load:
        words = [sys.executable, __file__, "--work"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: pin(1))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def begin(self, port: int, bodies: Sequence[bytes], clients: int, seconds: float, path: str = "/invocations", **more: Any) -> None:
        assert self.process.stdin is not None
        order = {"port": port, "bodies": [one.decode() for one in bodies], "clients": clients, "seconds": seconds, "path": path, **more}
        print(json.dumps(order), file=self.process.stdin, flush=True)

    def end(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process of the clients has ended"
        return json.loads(line)

    def run(self, *words: Any, **more: Any) -> dict[str, Any]:
        self.begin(*words, **more)
        return self.end()


def read_records(path: Path) -> np.ndarray:
    "What a run with `record` wrote: one entry per answer."
    kinds = np.dtype([("sent", "<f8"), ("answered", "<f8"), ("body", "<i4"), ("status", "<i4"), ("version", "<i4"), ("predicted", "<f8")])
    return np.fromfile(path, kinds)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def served(words: Sequence[str], port: int, folder: Path, within: float = 240.0) -> Iterator[int]:
    "The process of a service on the first core, from its first answer to /ping; it is killed with all that it started."
    import requests

    log = (folder / "served.log").open("ab")
    process = subprocess.Popen(list(words), cwd=folder, stdout=log, stderr=log, env=dict(os.environ), preexec_fn=lambda: pin(0))
    deadline = time.monotonic() + within
    try:
        while True:
            try:
                if requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok:
                    break
            except requests.RequestException:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{' '.join(words)[:200]} does not answer:\n{(folder / 'served.log').read_text()[-3000:]}")
            time.sleep(0.2)
        yield process.pid
    finally:
        for one in reversed(tree_of(process.pid)):
            one.kill()
        process.wait()
        log.close()


def work() -> None:
    for line in sys.stdin:
        print(json.dumps(asyncio.run(send_load(json.loads(line)))), flush=True)


if __name__ == "__main__" and sys.argv[1:] == ["--work"]:
    work()
