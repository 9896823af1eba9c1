"Several processes on one port: one that is killed is replaced, a promotion reaches all, each reports the metrics of all, and all drain together."

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from deltalake import DeltaTable
from support.services import TOKEN, Service, promote_version, register_version, running_service

from boathouse.models.requests import fill_plan
from boathouse.service.served_versions import load_version

BODY = {"instances": [["east", 3.0], ["west", 11.5]]}
GOOD = 'boathouse_requests_total{route="invocations",status="200",version="1"}'
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def late(bundle: Path) -> str:
    for trees in (5, 9):
        register_version("late", n_estimators=trees)
    promote_version("late", 1)
    return "late"


@pytest.fixture(scope="module")
def expected(late: str) -> dict[str, list[float]]:
    served = {str(version): load_version(late, version).scorer for version in (1, 2)}
    return {
        version: scorer.predict(fill_plan(scorer.plan, {"pier": ["east", "west"], "wind": [3.0, 11.5]}, 2)).tolist()
        for version, scorer in served.items()
    }


@pytest.fixture(scope="module")
def service(bundle: Path, late: str) -> Iterator[Service]:
    words = ("--port", "0", "--processes", "2", "--poll", "0.1", "--log", "inference", "--drain", "120", "--timeout", "120")
    with running_service(bundle, late, *words) as started:
        yield started


def children(service: Service) -> set[int]:
    return {one.pid for one in psutil.Process(service.process.pid).children()}


def get_anew(service: Service, path: str) -> requests.Response:
    "An answer over a connection of its own, by any of the processes."
    return requests.get(service.address + path, headers=HEADERS, timeout=60)


def read_metrics(service: Service) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in get_anew(service, "/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def wait_for(what: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


class Clients:
    "Threads that send requests, each request over a connection of its own, and count the answers by version. `answered` has their ids."

    def __init__(self, service: Service, expected: dict[str, list[float]], count: int = 3) -> None:
        self.service, self.expected, self.stop, self.answered = service, expected, threading.Event(), list[str]()
        self.threads = ThreadPoolExecutor(count)
        self.sending = [self.threads.submit(self.send) for _ in range(count)]

    def send(self) -> Counter[str]:
        mine = Counter[str]()
        while not self.stop.is_set():
            name = uuid.uuid4().hex
            try:
                answer = requests.post(
                    f"{self.service.address}/invocations", json=BODY, headers={**HEADERS, "x-request-id": name}, timeout=60
                )
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):  # before or within the answer
                mine["broken"] += 1
                continue
            version = answer.headers.get("served-model-version", "")
            right = answer.status_code == 200 and [p["probability"] for p in answer.json()["predictions"]] == self.expected[version]
            mine[version if right else f"wrong: {answer.status_code} {version}"] += 1
            self.answered.append(name)
        return mine

    def end(self) -> Counter[str]:
        self.stop.set()
        return sum((one.result() for one in self.sending), Counter())


ANSWERED: list[str] = []  # the ids of all requests of this module that were answered


def test_each_process_reports_the_metrics_of_all_and_its_own_state(service: Service, expected: dict[str, list[float]]) -> None:
    pids, clients = children(service), Clients(service, expected)
    assert len(pids) == 2
    assert wait_for(lambda: {get_anew(service, "/health").json()["process"] for _ in range(8)} == pids), "one process answers everything"
    seen = clients.end()
    ANSWERED.extend(clients.answered)
    assert set(seen) == {"1"}
    by_each = dict[int, dict[str, float]]()
    while set(by_each) != pids:
        with requests.Session() as session:  # one connection, so one process
            session.headers.update(HEADERS)
            pid = session.get(f"{service.address}/health", timeout=60).json()["process"]
            text = session.get(f"{service.address}/metrics", timeout=60).text
        by_each[pid] = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")}
    for found in by_each.values():
        assert found[GOOD] == seen["1"]
        assert found['boathouse_rows_total{version="1"}'] == 2 * seen["1"]
        assert found['boathouse_request_seconds_count{route="invocations"}'] == seen["1"]
        assert found["boathouse_queue_waiting"] == 0
        versions = {name: value for name, value in found.items() if name.startswith("boathouse_served_version")}
        assert versions == {f'boathouse_served_version{{alias="champion",pid="{pid}"}}': 1.0 for pid in pids}
    assert wait_for(lambda: read_metrics(service)['boathouse_log_entries_total{outcome="recorded"}'] == seen["1"], 30)


def test_after_kill_9_of_one_process_requests_go_on_and_another_takes_its_place(service: Service, expected: dict[str, list[float]]) -> None:
    before, counted = children(service), read_metrics(service).get(GOOD, 0)
    clients, victim = Clients(service, expected), min(before)
    wait_for(lambda: len(clients.answered) > 20)
    os.kill(victim, signal.SIGKILL)
    after = len(clients.answered)
    assert wait_for(lambda: len(clients.answered) > after + 50), "nobody answers after the kill"
    assert wait_for(lambda: len(children(service) - {victim}) == 2)
    (new,) = children(service) - before
    assert wait_for(lambda: get_anew(service, "/health").json()["process"] == new), "the new process answers nothing"
    seen = clients.end()
    ANSWERED.extend(clients.answered)
    assert set(seen) <= {"1", "broken"}, seen
    assert seen["broken"] <= 3, "a client loses at most the request that the killed process had"
    assert read_metrics(service)[GOOD] >= counted + seen["1"], "what the killed process counted is lost"
    assert str(victim) not in " ".join(name for name in read_metrics(service) if "pid=" in name)


def test_a_promotion_reaches_every_process_and_no_answer_has_a_wrong_version(service: Service, expected: dict[str, list[float]]) -> None:
    clients = Clients(service, expected)
    for version in (2, 1, 2):
        promote_version("late", version)
        state = {f'boathouse_served_version{{alias="champion",pid="{pid}"}}': version for pid in children(service)}
        assert wait_for(lambda state=state: state.items() <= read_metrics(service).items())
        answered = len(clients.answered)
        wait_for(lambda answered=answered: len(clients.answered) > answered + 20)
    seen = clients.end()
    ANSWERED.extend(clients.answered)
    assert set(seen) == {"1", "2"}, seen
    versions = {
        requests.post(f"{service.address}/invocations", json=BODY, headers=HEADERS, timeout=60).headers["served-model-version"]
        for _ in range(20)
    }
    assert versions == {"2"}


def test_sigterm_drains_every_process_and_each_answered_request_is_logged_once(service: Service, bundle: Path) -> None:
    body, pids = {"instances": [["east", 3.0]] * 20_000}, children(service)

    def send(name: str) -> requests.Response:
        return requests.post(f"{service.address}/invocations", json=body, headers={**HEADERS, "x-request-id": name}, timeout=120)

    with ThreadPoolExecutor(6) as clients:
        pending = {name: clients.submit(send, name) for name in (f"last-{n}" for n in range(6))}
        wait_for(lambda: any(get_anew(service, "/health").json()["queue"][k] for k in ("running", "waiting")), 30)
        assert service.end(signal.SIGTERM) == 0
        answers = {name: one.result() for name, one in pending.items()}
    assert [(one.status_code, len(one.json()["predictions"])) for one in answers.values()] == [(200, 20_000)] * 6
    assert not any(psutil.pid_exists(pid) for pid in pids)
    logged = Counter(DeltaTable(bundle / "inference" / "requests").to_pyarrow_table()["databricks_request_id"].to_pylist())
    assert max(logged.values()) == 1
    assert {*ANSWERED, *answers} - set(logged) == set()


def test_processes_end_if_their_parent_is_killed_and_the_port_is_free_again(bundle: Path, late: str) -> None:
    with running_service(bundle, late, "--port", "0", "--processes", "2") as service:
        left = [psutil.Process(pid) for pid in children(service)]
        assert len(left) == 2
        service.end(signal.SIGKILL)
        _, alive = psutil.wait_procs(left, timeout=60)
        assert alive == []
        with pytest.raises(requests.ConnectionError):
            get_anew(service, "/ping")
