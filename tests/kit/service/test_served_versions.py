"A promotion reaches requests without a restart and without a failed request; a version that must not serve changes nothing."

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from support.services import promote_version, register_version, running_service

from boathouse.models.requests import fill_plan
from boathouse.models.scoring import _loaded
from boathouse.service.admission import QueueFull, WorkQueue
from boathouse.service.protocol import ProtocolError
from boathouse.service.served_versions import FollowedAlias, LoadRefused, Traffic, load_version, traffic_position


@pytest.fixture(scope="module")
def late(bundle: Path) -> str:
    "Versions 1 and 2 are good, 3 fails its reference rows, 4 has changed files."
    for trees, wrong in ((5, 0.0), (9, 0.0), (5, 0.1), (6, 0.0)):
        register_version("late", wrong, n_estimators=trees)
    folder = Path(MlflowClient().get_model_version_download_uri("late", "4").removeprefix("file://"))
    (folder / "MLmodel").write_text((folder / "MLmodel").read_text() + "\n# changed\n")
    promote_version("late", 1)
    return "late"


def test_mlflow_1768_and_4039_a_promotion_under_load_loses_no_request_and_no_answer_has_a_wrong_version(bundle: Path, late: str) -> None:
    body = {"instances": [["east", 3.0], ["west", 11.5]]}
    expected = {}
    for version in (1, 2):
        served = load_version(late, version)
        filled = fill_plan(served.scorer.plan, {"pier": ["east", "west"], "wind": [3.0, 11.5]}, 2)
        expected[str(version)] = served.scorer.predict(filled).tolist()
    assert expected["1"] != expected["2"]
    with running_service(bundle, late, "--port", "0", "--poll", "0.1") as service:
        stop, seen = threading.Event(), Counter[str]()

        def send() -> Counter[str]:
            mine = Counter[str]()
            with service.new_session() as session:
                while not stop.is_set():
                    answer = session.post(f"{service.address}/invocations", json=body, timeout=60)
                    version = answer.headers.get("served-model-version", "")
                    right = answer.status_code == 200 and [p["probability"] for p in answer.json()["predictions"]] == expected[version]
                    mine[version if right else f"wrong: {answer.status_code}"] += 1
            return mine

        with ThreadPoolExecutor(3) as clients:
            sending = [clients.submit(send) for _ in range(3)]
            for version in (2, 1, 2, 3, 2, 4, 1, 2):
                promote_version(late, version)
                wanted = str(version) if version < 3 else ""
                deadline = time.monotonic() + 60
                while time.monotonic() < deadline:
                    health = service.get("/health").json()
                    if str(health["version"]) == wanted or str(version) in health["refused"]:
                        break
                    time.sleep(0.05)
                assert (health["version"] == version) == (version < 3), health
            stop.set()
            for one in sending:
                seen += one.result()
        assert set(seen) == {"1", "2"}, seen
        assert health["status"] == "ok"
        promote_version(late, 1)


def test_ray_66252_a_version_that_cannot_serve_changes_nothing_and_is_reported_with_its_reason(late: str) -> None:
    followed = FollowedAlias(late, version=None)
    promote_version(late, 1)
    assert followed.refresh() == "swapped"
    serving = followed.current
    for version, reason in ((3, "fails its reference rows: 20 of 20"), (4, "other files than when it was registered")):
        promote_version(late, version)
        assert followed.refresh() == "refused"
        assert reason in followed.refused[version]
        assert reason in followed.describe()["refused"][str(version)]
        assert followed.current is serving
    promote_version(late, 1)
    assert (followed.refresh(), followed.refused) == ("unchanged", {})


def test_a_refused_version_is_tried_again_after_a_while_and_not_before(late: str) -> None:
    now = [0.0]
    followed = FollowedAlias(late, clock=lambda: now[0])
    promote_version(late, 3)
    for at, tried in ((0.0, 1), (30.0, 1), (61.0, 2)):
        now[0] = at
        assert followed.refresh() == "refused"
        assert followed._tried[3] == {1: 0.0, 2: 61.0}[tried]
    promote_version(late, 1)


def test_a_registry_that_cannot_be_read_changes_nothing(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = FollowedAlias(late)
    assert followed.refresh() == "swapped"
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert followed.refresh() == "unreachable"
        assert followed.current is not None
        assert followed.describe()["registry_error"]
    assert (followed.refresh(), followed.registry_error) == ("unchanged", "")


def test_a_rollback_loads_nothing_and_only_two_versions_stay_in_memory(late: str) -> None:
    before, followed = set(_loaded), FollowedAlias(late)
    for version, done in ((1, "swapped"), (2, "swapped"), (1, "rolled back"), (2, "rolled back")):
        promote_version(late, version)
        assert followed.refresh() == done
    register_version(late, n_estimators=7)
    promote_version(late, 5)
    assert followed.refresh() == "swapped"
    kept = {v.model.digest for v in (followed.current, followed.previous) if v is not None}
    assert set(_loaded) - before <= kept
    promote_version(late, 1)


def test_kserve_2130_after_the_challengers_alias_is_deleted_the_champion_answers_everything(late: str) -> None:
    traffic = Traffic(FollowedAlias(late), FollowedAlias(late, "challenger"), percent=50, key="boat")
    promote_version(late, 2, "challenger")
    assert [one.refresh() for one in traffic.followed] == ["swapped", "swapped"]
    answered = Counter(traffic.choose({"boat": [f"B{n}"]}).version for n in range(1000))  # type: ignore[union-attr]
    assert 400 < answered[2] < 600
    MlflowClient().delete_registered_model_alias(late, "challenger")
    assert traffic.followed[1].refresh() == "withdrawn"
    assert {traffic.choose({"boat": [f"B{n}"]}).version for n in range(100)} == {1}  # type: ignore[union-attr]


@given(st.text(), st.floats(0, 100), st.floats(0, 100))
def test_a_key_of_a_smaller_share_is_in_the_larger_share(key: str, one: float, two: float) -> None:
    at = traffic_position(key)
    assert 0 <= at < 100
    assert not (at < min(one, two)) or at < max(one, two)


def test_a_model_whose_time_key_is_an_input_is_refused(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    from support.services import RECIPE, fit, harbour_rows, log_pipeline

    from boathouse.features.lookups import FeatureLookup
    from boathouse.features.training_sets import FeatureSpec
    from boathouse.registry.promotions import register
    from boathouse.serving.feature_models import log_spec

    rows = harbour_rows()
    lookup = FeatureLookup(table_name="features.wind", lookup_key="pier", timestamp_lookup_key="wind")
    with mlflow.start_run() as run, tempfile.TemporaryDirectory():
        uri = log_pipeline(fit(RECIPE, rows, {"n_estimators": 2}), RECIPE, rows, "model")
        log_spec(uri.rsplit("/", 1)[-1], FeatureSpec((lookup,), {"features.wind": 1}, "late"))
    version = register("leaky", uri, run.info.run_id)
    with pytest.raises(LoadRefused, match=r"leaky version 1 must not take wind \(a time key\) as input"):
        load_version("leaky", version)


async def run_all(queue: WorkQueue, work: list[Any]) -> list[Any]:
    tasks = [asyncio.create_task(queue.run(one)) for one in work]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    queue.close()
    return found


def test_bentoml_4592_the_oldest_request_is_answered_first_and_one_too_many_is_refused_at_once() -> None:
    order: list[int] = []

    def work(n: int) -> Any:
        return lambda stop: (time.sleep(0.02), order.append(n))

    found = asyncio.run(run_all(WorkQueue(workers=1, waiting=8), [work(n) for n in range(12)]))
    assert order == list(range(9))
    assert [isinstance(one, QueueFull) for one in found] == [False] * 9 + [True] * 3
    assert (found[-1].status, found[-1].retry_after) == (429, 1)


def test_litserve_423_and_mlflow_5381_a_timeout_removes_waiting_work_and_stops_running_work() -> None:
    begun: list[int] = []
    stopped = threading.Event()

    def endless(stop: threading.Event) -> None:
        begun.append(0)
        if stop.wait(30):
            stopped.set()
            time.sleep(0.5)  # longer than the second request waits: the worker is not free for it

    found = asyncio.run(run_all(WorkQueue(workers=1, timeout=0.2), [endless, lambda stop: begun.append(1)]))
    assert [type(one) for one in found] == [ProtocolError, ProtocolError]
    assert [one.status for one in found] == [504, 504]
    assert stopped.wait(10)
    assert begun == [0]


def test_a_request_whose_client_left_while_it_waited_is_never_run() -> None:
    ran: list[int] = []

    async def left() -> bool:
        return True

    async def run() -> tuple[Any, int]:
        queue = WorkQueue(workers=1)
        found = await queue.run(lambda stop: ran.append(1), left), queue.running
        queue.close()
        return found

    assert asyncio.run(run()) == (None, 0)
    assert ran == []
