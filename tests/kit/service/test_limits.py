"Over real HTTP: TLS, a share of the keys, a full queue with Retry-After, a timeout that stops the work, and the differences of a shadow."

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from support.services import TOKEN, Service, make_certificate, promote_version, register_version, running_service

from boathouse.models.requests import fill_plan
from boathouse.service.served_versions import load_version, traffic_position

CHAMPION_KEY = next(key for key in map("B{}".format, range(100)) if traffic_position(key) >= 30)
SLOW = {  # 100,000 rows times the 2,000 trees of the champion: seconds of work
    "dataframe_split": {"columns": ["boat", "pier", "wind"], "data": [[CHAMPION_KEY, "east", 3.0]] * 100_000}
}


@pytest.fixture(scope="module")
def late(bundle: Path) -> str:
    for trees in (2000, 5):
        register_version("late", n_estimators=trees)
    promote_version("late", 1)
    promote_version("late", 2, "challenger")
    return "late"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def service(bundle: Path, late: str, certificate: Path) -> Iterator[Service]:
    words = ("--port", "0", "--workers", "1", "--queue", "1", "--timeout", "1", "--challenger", "30", "--key", "boat")
    tls = ("--certificate", str(certificate), "--private-key", str(certificate.with_name("key.pem")))
    with running_service(bundle, late, *words, *tls) as started:
        started.session.verify, started.session.trust_env = str(certificate), False  # no REQUESTS_CA_BUNDLE
        yield started


def test_tls_answers_a_client_that_trusts_the_certificate_and_no_other(service: Service) -> None:
    assert service.address.startswith("https://127.0.0.1:")
    assert service.post(json={"instances": [["east", 3.0]]}).status_code == 200
    with pytest.raises(requests.exceptions.SSLError, match="certificate verify failed"):
        requests.post(f"{service.address}/invocations", json={}, timeout=60)
    with pytest.raises(requests.ConnectionError):
        requests.get(service.address.replace("https", "http") + "/ping", timeout=60)


def test_a_share_of_the_keys_goes_to_the_challenger_and_a_key_always_gets_the_same_version(service: Service) -> None:
    def version(n: int) -> str:
        record = {"boat": f"B{n}", "pier": "east", "wind": 3.0}
        return service.post(json={"dataframe_records": [record]}).headers["served-model-version"]

    found = [version(n) for n in range(150)]
    assert found == ["2" if traffic_position(f"B{n}") < 30 else "1" for n in range(150)]
    assert [version(n) for n in range(40)] == found[:40]
    assert 25 < found.count("2") < 65


def test_a_full_queue_answers_429_with_retry_after_and_a_timeout_504_and_afterwards_all_is_well(
    service: Service, certificate: Path
) -> None:
    def send(_: int) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return requests.post(f"{service.address}/invocations", json=SLOW, headers=headers, verify=str(certificate), timeout=120)

    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(send, range(4)))
    assert {one.status_code for one in answers} == {429, 504}
    full = next(one for one in answers if one.status_code == 429)
    assert full.json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert int(full.headers["retry-after"]) >= 1
    assert f"send this one again in {full.headers['retry-after']} s" in full.json()["message"]
    late = next(one for one in answers if one.status_code == 504)
    assert late.json()["error_code"] == "DEADLINE_EXCEEDED"
    deadline = time.monotonic() + 60
    while any((queue := service.get("/health").json()["queue"]).values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert queue == {"running": 0, "waiting": 0, "abandoned": 0}, "the work of a request was not stopped"
    assert service.post(json={"instances": [["east", 3.0]]}).status_code == 200
    metrics = service.get("/metrics").text
    for status in ("429", "504"):
        assert f'boathouse_requests_total{{route="invocations",status="{status}",version=""}}' in metrics


def test_a_shadow_scores_a_copy_of_each_request_and_its_differences_are_in_the_metrics(bundle: Path, late: str) -> None:
    winds = [float(n) for n in range(12)]
    one, two = (
        load_version(late, v).scorer.predict(fill_plan(load_version(late, v).scorer.plan, {"pier": ["east"] * 12, "wind": winds}, 12))
        for v in (1, 2)
    )
    with running_service(bundle, late, "--port", "0", "--shadow") as service:
        for wind in winds:
            answer = service.post(json={"instances": [["east", wind]]})
            assert (answer.status_code, answer.headers["served-model-version"]) == (200, "1")
        deadline, found = time.monotonic() + 60, dict[str, float]()
        while found.get('boathouse_shadow_rows_total{outcome="scored",version="2"}') != 12 and time.monotonic() < deadline:
            lines = [line.rsplit(" ", 1) for line in service.get("/metrics").text.splitlines() if not line.startswith("#")]
            found = {name: float(value) for name, value in lines}
    assert found['boathouse_shadow_difference_count{version="2"}'] == 12
    assert found['boathouse_shadow_difference_sum{version="2"}'] == pytest.approx(float(abs(one - two).sum()))
    assert 'boathouse_requests_total{route="invocations",status="200",version="2"}' not in found
