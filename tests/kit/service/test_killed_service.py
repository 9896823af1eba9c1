"""A service that is killed while it answers, many times on one port: each request that a client saw answered is in the inference table once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from deltalake import DeltaTable
from support.forks import Forks
from support.services import register_version

from boathouse.service.app import open_port
from boathouse.service.inference_log import InferenceLog

KILLS, GOOD = 24, {"dataframe_records": [{"pier": "east", "wind": 3}]}
IMPORTS = """
import deltalake
from boathouse.service.app import create_app, open_port, run_server
from boathouse.service.connections import ExchangeLog
from boathouse.service.inference_log import InferenceLog
from boathouse.service.prediction_service import ServiceSettings
from boathouse.service.served_versions import FollowedAlias, Traffic
champion = FollowedAlias("killed", version=1)
champion.refresh()
assert champion.current is not None, champion.refused
"""
CODE = """
log = InferenceLog({buffer!r}, {table!r}, segment_bytes=1 << 18, sync_seconds=0.01, flush_seconds={flush})
settings = ServiceSettings()
app = create_app(Traffic(champion), settings, None, ExchangeLog(log, "killed"))
run_server(app, open_port("127.0.0.1", {port}), settings, lambda: None)
"""


@pytest.fixture(scope="module")
def forks(bundle: Path) -> Iterator[Forks]:
    "A process that has imported the service and loaded a model, and forks for each start."
    register_version("killed", learner="logistic")
    with Forks(IMPORTS) as started:
        yield started


class Clients:
    "Threads that send requests with names of their own, one after the other, also while nothing listens; `answered` has the names and predictions."

    def __init__(self, address: str, threads: int = 3) -> None:
        self.address, self.ended, self.answered, self.broken = address, threading.Event(), dict[str, object](), 0
        self.threads = [threading.Thread(target=self.send, args=(letter,)) for letter in "abcdefgh"[:threads]]

    def send(self, letter: str) -> None:
        session, number = requests.Session(), 0
        while not self.ended.is_set():
            number += 1
            name = f"{letter}{number}"
            try:
                answer = session.post(f"{self.address}/invocations", json=GOOD, headers={"X-Request-Id": name}, timeout=30)
            except requests.RequestException:  # refused, or broken off in the middle of an answer
                self.broken += 1
                time.sleep(0.01)
                continue
            assert answer.status_code == 200, answer.text
            self.answered[name] = answer.json()["predictions"]


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{address}/ping", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.02)
    raise AssertionError(f"{address} does not answer")


def test_a_service_that_is_killed_two_dozen_times_logs_each_answered_request_once(forks: Forks, tmp_path: Path) -> None:
    with open_port("127.0.0.1", 0) as found:
        port = found.getsockname()[1]
    table, buffer, chance, kills = tmp_path / "table", tmp_path / "buffer", random.Random(4), 0
    clients = Clients(f"http://127.0.0.1:{port}")
    for thread in clients.threads:
        thread.start()
    try:
        for _ in range(KILLS):
            flush = chance.choice([0.02, 0.1, 60])
            pid = forks.start(CODE.format(buffer=str(buffer), table=str(table), port=port, flush=flush))
            wait_for(clients.address)
            time.sleep(chance.uniform(0.02, 0.4))
            kills += forks.kill(pid) == -9
    finally:
        clients.ended.set()
        for thread in clients.threads:
            thread.join()
    last = InferenceLog(buffer, table, segment_bytes=1 << 18)
    last.close()
    ids = Counter(DeltaTable(table).to_pyarrow_table(columns=["databricks_request_id"])["databricks_request_id"].to_pylist())
    assert kills == KILLS
    assert len(clients.answered) > 10 * KILLS, "the service was killed before it answered anything"
    assert clients.broken > 0
    assert set(clients.answered) - set(ids) == set(), "an answered request is lost"
    assert [name for name, n in ids.items() if n > 1] == []
    assert len({str(one) for one in clients.answered.values()}) == 1
    assert list(buffer.iterdir()) == []
