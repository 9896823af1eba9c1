"A canary over HTTP: a good challenger takes over in steps, one that fails on a part of its requests is sent back, and keys stay where they were."

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from deltalake import DeltaTable
from support.services import Service, harbour_rows, promote_version, register_version, running_service

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.registry.promotions import register
from boathouse.service.served_versions import traffic_position

STEPS = (20, 60)
WORDS = (
    "--canary",
    "--decisions",
    "decisions",
    "--canary-steps",
    "20,60",
    "--canary-requests",
    "20",
    "--canary-latency",
    "1000",
    "--key",
    "boat",
)


def register_picky(name: str) -> None:
    "A version that needs one column more, so that a request without it fails."
    recipe, rows = Recipe(("pier",), ("wind", "gust"), "late"), harbour_rows().assign(gust=lambda rows: rows.wind + 1)
    with mlflow.start_run() as run:
        uri = log_pipeline(fit(recipe, rows, {"n_estimators": 5}), recipe, rows, "model")
    register(name, uri, run.info.run_id)


@pytest.fixture(scope="module")
def late(bundle: Path) -> str:
    "Versions 1 and 2 are good, version 3 fails on the requests without a gust."
    for trees in (5, 9):
        register_version("late", n_estimators=trees)
    register_picky("late")
    promote_version("late", 1)
    return "late"


@pytest.fixture(scope="module")
def service(bundle: Path, late: str) -> Iterator[Service]:
    with running_service(bundle, late, "--port", "0", "--poll", "0.05", *WORDS) as started:
        yield started


class Harbour:
    "Sends requests of 40 boats in turn, and keeps what each boat got: status and version."

    def __init__(self, service: Service) -> None:
        self.service, self.sent = service, 0
        self.got = defaultdict[str, list[tuple[int, str]]](list)

    def send(self) -> tuple[int, str]:
        boat = f"B{self.sent % 40}"
        record: dict[str, Any] = {"boat": boat, "pier": ("east", "west")[self.sent % 2], "wind": float(self.sent % 23)}
        record |= {"gust": 4.0} if self.sent % 3 else {}
        answer = self.service.post(json={"dataframe_records": [record]})
        self.sent += 1
        self.got[boat].append((answer.status_code, answer.headers.get("served-model-version", "")))
        return self.got[boat][-1]

    def send_until(self, versions: tuple[int, int], action: str) -> dict[str, Any]:
        "Send until the rollout between these versions is recorded with this action; return its state."
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            for _ in range(20):
                self.send()
            health = self.service.get("/health").json()["traffic"]
            state = health["canary"]["rollout"]
            if state and (state["stable"], state["canary"]) == versions and state["action"] == action and state["is_recorded"]:
                return health
        raise AssertionError(f"no {action} within 90 s: {health}")


def read_rows(bundle: Path, canary: int) -> list[dict[str, Any]]:
    rows = DeltaTable(bundle / "decisions").to_pyarrow_table().to_pylist()
    return sorted((row for row in rows if row["canary_version"] == canary), key=lambda row: row["number"])


def test_a_good_challenger_takes_over_in_the_steps_of_the_plan_and_keys_stay_with_it(service: Service, bundle: Path) -> None:
    harbour = Harbour(service)
    assert {harbour.send() for _ in range(40)} == {(200, "1")}
    assert service.get("/health").json()["traffic"]["canary"] == {"rollout": None, "error": None}
    promote_version("late", 2, "challenger")
    health = harbour.send_until((1, 2), "finish")
    assert health["percent"] == 100
    assert {harbour.send() for _ in range(40)} == {(200, "2")}
    for boat, got in harbour.got.items():
        versions = [version for _, version in got]
        assert versions == sorted(versions), f"{boat} came back to version 1"
    first = {boat: [version for _, version in got].index("2") for boat, got in harbour.got.items()}
    early, last = ({boat for boat in first if low <= traffic_position(boat) < high} for low, high in ((0, 20), (60, 100)))
    assert max(first[boat] for boat in early) <= min(first[boat] for boat in last), "the first step took other keys than its share"
    rows = read_rows(bundle, 2)
    assert [(row["action"], row["percentage"]) for row in rows] == [("grow", 20), ("grow", 60), ("finish", 100)]
    assert [row["number"] for row in rows] == [0, 1, 2]
    assert {(row["endpoint"], row["stable_version"]) for row in rows} == {("late", 1)}
    assert len({row["started_at"] for row in rows}) == 1
    assert rows[0]["observation"] is None
    assert '"agreement": ' in rows[2]["observation"]


def test_a_challenger_that_fails_on_a_part_of_its_requests_is_sent_back_and_gets_none_afterwards(service: Service, bundle: Path) -> None:
    promote_version("late", 2)  # the finished canary is the champion now
    harbour, deadline = Harbour(service), time.monotonic() + 60
    while service.get("/health").json()["version"] != 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    promote_version("late", 3, "challenger")
    harbour.send_until((2, 3), "revert")
    assert [(row["action"], row["percentage"]) for row in read_rows(bundle, 3)] == [("grow", 20), ("revert", 0)]
    assert "requests failed, 1.0% may" in read_rows(bundle, 3)[1]["reasons"][0]
    assert (400, "") in {one for got in harbour.got.values() for one in got}
    assert {harbour.send() for _ in range(120)} == {(200, "2")}
    assert service.get("/health").json()["challenger"]["version"] == 3  # it is still loaded, and stays without requests
    assert "boathouse_challenger_percent 0.0" in service.get("/metrics").text
    assert len(read_rows(bundle, 3)) == 2


def test_a_service_that_starts_again_keeps_a_reverted_version_without_requests(service: Service, bundle: Path, late: str) -> None:
    service.end()
    with running_service(bundle, late, "--port", "0", "--poll", "0.05", *WORDS) as again:
        harbour, deadline = Harbour(again), time.monotonic() + 60
        while again.get("/health").json()["traffic"]["canary"]["rollout"] is None and time.monotonic() < deadline:
            time.sleep(0.05)
        state = again.get("/health").json()["traffic"]["canary"]["rollout"]
        assert (state["stable"], state["canary"], state["action"]) == (2, 3, "revert")
        assert {harbour.send() for _ in range(60)} == {(200, "2")}
    assert len(read_rows(bundle, 3)) == 2
