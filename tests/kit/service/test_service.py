"A service in a process of its own: unmodified clients, 52 malformed requests, a full queue, drain and kill."

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow.deployments import get_deploy_client
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from support.services import TOKEN, Service, harbour_rows, promote_version, register_version, running_service

from boathouse.models.scoring import load_packed, pack_model
from boathouse.service.app import open_port
from boathouse.service.command import serve_command

ROWS = harbour_rows(5)[["pier", "wind"]]
SPLIT = {"dataframe_split": {"columns": ["pier", "wind"], "data": ROWS.to_numpy(object).tolist()}}
GOOD = {"dataframe_records": [{"pier": "east", "wind": 3}]}


@pytest.fixture(scope="module")
def late(bundle: Path) -> str:
    register_version("late")
    promote_version("late", 1)
    return "late"


@pytest.fixture(scope="module")
def service(bundle: Path, late: str) -> Iterator[Service]:
    with running_service(bundle, late, "--port", "0", "--timeout", "20") as started:
        yield started


@pytest.fixture(scope="module")
def expected(late: str) -> list[float]:
    return load_packed(pack_model(late, 1)).predict(ROWS)[:, 1].tolist()


def post_raw(
    service: Service, body: bytes | str, kind: str = "application/json", path: str = "/invocations", **headers: str
) -> requests.Response:
    return service.post(path, data=body, headers={"Content-Type": kind, **headers})


def test_each_form_and_protocol_gives_the_bits_of_batch_scoring(service: Service, expected: list[float]) -> None:
    records = {"dataframe_records": ROWS.to_dict("records")}
    for body in (SPLIT, records, {"inputs": ROWS.to_dict("list")}, {"instances": ROWS.to_numpy(object).tolist()}):
        answer = service.post(json=body)
        assert [p["probability"] for p in answer.json()["predictions"]] == expected
        assert (answer.headers["served-model-version"], answer.headers["content-type"]) == ("1", "application/json")
    assert [p["probability"] for p in post_raw(service, ROWS.to_csv(index=False), "text/csv").json()["predictions"]] == expected
    tensors = [{"name": c, "datatype": k, "shape": [5], "data": ROWS[c].tolist()} for c, k in (("pier", "BYTES"), ("wind", "FP64"))]
    infer = service.post("/v2/models/late/versions/1/infer", json={"id": "7", "inputs": tensors}).json()
    assert infer == {
        "model_name": "late",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "probability", "datatype": "FP64", "shape": [5], "data": expected}],
    }


def test_unmodified_clients_of_mlflow_and_databricks_and_the_printed_curl_work(
    service: Service, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", service.address)
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    answer = get_deploy_client("databricks").predict(endpoint="late", inputs=SPLIT)
    assert [p["probability"] for p in answer["predictions"]] == expected
    done = subprocess.run(shlex.split(service.facts["curl"]), capture_output=True, text=True, check=True)
    assert 0 < json.loads(done.stdout)["predictions"][0]["probability"] < 1
    for path in ("/serving-endpoints/late/served-models/late-1/invocations", "/endpoints/late/invocations"):
        assert service.post(path, json=SPLIT).json() == answer


def test_the_client_of_mlflows_scoring_server_works_without_a_token(bundle: Path, late: str, expected: list[float]) -> None:
    with running_service(bundle, late, "--port", "0", "--no-token") as service:
        client = ScoringServerClient("127.0.0.1", int(service.address.rsplit(":", 1)[1]))
        client.wait_server_ready(10)
        assert client.get_version() == mlflow.__version__
        assert [p["probability"] for p in client.invoke(ROWS).get_predictions().to_dict("records")] == expected


# (body, status, what the sentence names). A dict is sent as JSON.
MALFORMED: list[tuple[Any, int, str]] = [
    ("", 400, "got no content"), ("{", 400, "line 1 column 1"), ("nonsense", 400, "must be a JSON object"), ("[]", 400, "got the list []"), ("3", 400, "got the number 3"), ("null", 400, "got null"),
    ('{"dataframe_records": [{"pier": "east", "wind": 3}}', 400, "line 1 column 51"), (b"\xff\xfe", 400, "must be a JSON object"), ("[" * 100_000, 400, "recursion"),
    ({}, 400, "exactly one of dataframe_split, dataframe_records, inputs, instances, got an empty object"), ({"rows": []}, 400, "got rows"),
    ({"inputs": {}, "instances": []}, 400, "got inputs, instances"), ({**GOOD, "extra": 1}, 400, "got extra"), ({**GOOD, "params": {"n": 1}}, 400, "params must be empty"),
    ({"dataframe_split": []}, 400, "dataframe_split must be an object"), ({"dataframe_split": {"data": []}}, 400, "the lists columns and data, got data"),
    ({"dataframe_split": {"columns": "pier", "data": []}}, 400, "the lists columns and data"), ({"dataframe_split": {"columns": ["pier", "pier"], "data": []}}, 400, "got pier more than once"),
    ({"dataframe_split": {"columns": ["pier", 3], "data": []}}, 400, "must be texts, got the number 3"),
    ({"dataframe_split": {"columns": ["pier", "wind"], "data": [["east", 3], ["west"]]}}, 400, "row 1 of dataframe_split must be a list of 2 values (pier, wind), got 1 values"),
    ({"dataframe_split": {"columns": ["pier", "wind"], "data": [3]}}, 400, "row 0 of dataframe_split"), ({"dataframe_records": {}}, 400, "dataframe_records must be a list"),
    ({"dataframe_records": [3]}, 400, "part of an object, got the number 3"), ({"dataframe_records": [{}]}, 400, "column pier must be in the request"),
    ({"dataframe_records": [{"peer": "east", "wind": 3}]}, 400, "did you mean peer?"), ({"dataframe_records": [{"pier": "east", "wind": 3}, {"pier": "east"}]}, 400, "column wind of row 1"),
    ({"dataframe_records": [{"pier": 4, "wind": 3}]}, 400, "column pier of row 0 must be a text (string), got the number 4"), ({"dataframe_records": [{"pier": "e", "wind": "3"}]}, 400, "column wind of row 0 must be a number (double), got the text '3'"),
    ({"dataframe_records": [{"pier": "e", "wind": True}]}, 400, "got the boolean true"), ({"dataframe_records": [{"pier": "e", "wind": [1]}]}, 400, "got the list [1]"), ({"dataframe_records": [{"pier": {}, "wind": 1}]}, 400, "column pier of row 0"),
    ('{"dataframe_records": [{"pier": "e", "wind": 1' + "0" * 400 + "}]}", 400, "column wind of row 0"), ({"inputs": {"pier": ["e"], "wind": [1, 2]}}, 400, "pier: 1, wind: 2"), ({"inputs": "east"}, 400, "inputs must be a list"),
    ({"instances": [["east"]]}, 400, "a list of 2 values (pier, wind), got 1 values"), ({"instances": [["east", 3], 4]}, 400, "row 1 of instances"),
]  # fmt: skip
OTHERS: list[tuple[str, str, bytes, dict[str, str], int, str]] = [
    ("POST", "/invocations", b"pier,wind\neast\n", {"Content-Type": "text/csv"}, 400, "row 0 of the CSV must have 2 values"),
    ("POST", "/invocations", b"pier,wind\neast,strong\n", {"Content-Type": "text/csv"}, 400, "column wind of row 0 must be a number (double), got the text 'strong'"),
    ("POST", "/invocations", b"", {"Content-Type": "text/csv"}, 400, "a header line"),
    ("POST", "/invocations", b'pier,wind\n"east,3\n', {"Content-Type": "text/csv"}, 400, "CSV in UTF-8"),
    ("POST", "/invocations", b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "Content-Type must be application/json or text/csv"),
    ("POST", "/invocations", b"{}", {"Content-Type": "application/json; charset=utf-16"}, 415, "in UTF-8"),
    ("POST", "/invocations", b"{}", {"Content-Encoding": "gzip"}, 415, "Content-Encoding must be identity, got gzip"),
    ("POST", "/invocations", b"{}", {"Authorization": "Bearer guess"}, 401, "got another one"),
    ("POST", "/invocations", b"{}", {"Authorization": ""}, 401, "got no such header"),
    ("POST", "/invocations", b" " * (16 * 2**20 + 1), {}, 413, "at most 16777216 bytes, got 16777217"),
    ("GET", "/invocations", b"", {}, 405, "GET /invocations is no route of this service: it takes POST"),
    ("POST", "/invocation", b"", {}, 404, "POST /invocation is no route of this service"),
    ("POST", "/served-models/9/invocations", b"{}", {}, 404, "version must be one of the loaded versions 1, got 9"),
    ("POST", "/served-models/../invocations", b"{}", {}, 400, "exactly one of"),
    ("POST", "/v2/models/other/infer", b"{}", {}, 404, "model must be late, got other"),
    ("POST", "/v2/models/late/infer", b"{}", {}, 400, "inputs must be a list of tensors"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "names"), MALFORMED, ids=[f"{n}" for n in range(len(MALFORMED))])
def test_a_malformed_body_is_answered_with_its_status_and_a_sentence(service: Service, body: Any, status: int, names: str) -> None:
    answer = post_raw(service, body if isinstance(body, str | bytes) else json.dumps(body))
    assert (answer.status_code, answer.json()["error_code"]) == (status, "BAD_REQUEST")
    assert names in answer.json()["message"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "names"), OTHERS, ids=[f"{o[4]}-{n}" for n, o in enumerate(OTHERS)]
)
def test_a_malformed_request_is_answered_with_its_status_and_a_sentence(
    service: Service, method: str, path: str, body: bytes, headers: dict[str, str], status: int, names: str
) -> None:
    with service.new_session() as session:
        answer = session.request(
            method, service.address + path, data=body, headers={"Content-Type": "application/json", **headers}, timeout=60
        )
    assert answer.status_code == status
    assert names in (answer.json().get("message") or answer.json()["error"])


def test_one_bad_row_does_not_fail_its_neighbours_if_the_client_wishes(service: Service, expected: list[float]) -> None:
    records = ROWS.to_dict("records")
    records[2] = {"pier": "east", "wind": "strong"}
    found = service.post("/invocations?bad_rows=null", json={"dataframe_records": records}).json()
    assert [p and p["probability"] for p in found["predictions"]] == [*expected[:2], None, *expected[3:]]
    assert [(p["row"], p["column"]) for p in found["problems"]] == [(2, "wind")]


def test_litserve_340_and_382_a_bad_request_fails_no_other_and_each_client_gets_its_own_answer(
    service: Service, expected: list[float]
) -> None:
    def send(n: int) -> bool:
        with service.new_session() as session:
            for k in range(20):
                row = ROWS.iloc[(n + k) % 5]
                wind: Any = "strong" if k % 4 == 3 else row.wind
                answer = session.post(
                    f"{service.address}/invocations",
                    json={"instances": [[row.pier, wind]]},
                    headers={"x-request-id": f"{n}-{k}"},
                    timeout=60,
                )
                assert answer.headers["x-request-id"] == f"{n}-{k}"
                assert answer.status_code == (400 if k % 4 == 3 else 200)
                assert k % 4 == 3 or answer.json()["predictions"][0]["probability"] == expected[(n + k) % 5]
        return True

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(send, range(8)))


def test_ray_41057_clients_that_leave_do_not_disturb_those_that_stay(service: Service, expected: list[float]) -> None:
    host, port = service.address.removeprefix("http://").split(":")
    body = json.dumps({"instances": [["east", 3.0]] * 20_000}).encode()
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    for cut in (0, 1000, len(body)):
        for _ in range(5):
            with socket.create_connection((host, int(port))) as left:
                left.sendall(head.encode() + body[:cut])
    assert [p["probability"] for p in service.post(json=SPLIT).json()["predictions"]] == expected
    deadline = time.monotonic() + 60
    while any(service.get("/health").json()["queue"].values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert service.get("/health").json()["queue"] == {"running": 0, "waiting": 0, "abandoned": 0}


def test_mlflow_25263_the_metrics_count_requests_rows_and_versions(service: Service) -> None:
    def read() -> dict[str, float]:
        lines = [line.rsplit(" ", 1) for line in service.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    before = read()
    service.post(json=SPLIT)
    service.post(json={})
    after = read()
    good, bad = (f'boathouse_requests_total{{route="invocations",status="{s}",version="{v}"}}' for s, v in (("200", "1"), ("400", "")))
    assert (after[good] - before[good], after[bad] - before.get(bad, 0)) == (1, 1)
    assert after['boathouse_rows_total{version="1"}'] - before['boathouse_rows_total{version="1"}'] == 5
    assert after['boathouse_served_version{alias="champion"}'] == 1
    assert after["boathouse_queue_waiting"] == 0


def test_health_needs_no_token_for_a_load_balancer_and_the_openapi_page_has_the_logged_example(service: Service) -> None:
    assert [
        requests.get(service.address + path, timeout=60).status_code for path in ("/ping", "/v2/health/live", "/v2/health/ready", "/docs")
    ] == [200] * 4
    assert [requests.get(service.address + path, timeout=60).status_code for path in ("/health", "/metrics", "/version", "/v2")] == [
        401
    ] * 4
    docs = requests.get(f"{service.address}/docs", timeout=60).text
    files = re.findall(r'(?:src|href)="([^"]*)"', docs)
    assert len(files) == 3
    assert [requests.get(service.address + path, timeout=60).status_code for path in files] == [200] * 3  # no file comes from a network
    page = requests.get(f"{service.address}/openapi.json", timeout=60).json()
    example = page["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert service.post(json=example).status_code == 200
    described = service.get("/v2/models/late").json()
    assert described["inputs"] == [
        {"name": "pier", "datatype": "BYTES", "shape": [-1]},
        {"name": "wind", "datatype": "FP64", "shape": [-1]},
    ]


def test_an_answer_in_two_packets_does_not_wait_for_the_clients_system() -> None:
    with open_port("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP  # by which asyncio sets TCP_NODELAY on each connection


def test_sigterm_answers_what_was_accepted_and_ends_with_0(bundle: Path, late: str) -> None:
    with running_service(bundle, late, "--port", "0", "--timeout", "120", "--drain", "120") as service:
        body = {"instances": [["east", 3.0]] * 20_000}
        with ThreadPoolExecutor(4) as clients:
            pending = [
                clients.submit(
                    lambda: requests.post(
                        f"{service.address}/invocations", json=body, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=120
                    )
                )
                for _ in range(4)
            ]
            deadline = time.monotonic() + 30
            while service.get("/health").json()["queue"]["running"] == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert service.end(signal.SIGTERM) == 0
            answers = [one.result() for one in pending]
    assert [(a.status_code, len(a.json()["predictions"])) for a in answers] == [(200, 20_000)] * 4


def test_after_kill_9_the_same_command_serves_again_on_the_same_port(bundle: Path, late: str, expected: list[float]) -> None:
    port = "0"
    for _ in range(3):
        with running_service(bundle, late, "--port", port) as service:
            port = service.address.rsplit(":", 1)[1]
            assert [p["probability"] for p in service.post(json=SPLIT).json()["predictions"]] == expected
            assert service.end(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.usefixtures("late")
def test_a_command_that_cannot_serve_says_why_and_ends_with_1(bundle: Path) -> None:
    boathouse = Path(sys.executable).parent / "boathouse"
    done = subprocess.run([boathouse, "serve", "nothing"], cwd=bundle, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "expected one model named nothing, found 0" in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_served_is_refused_before_a_port_accepts_requests(late: str, service: Service) -> None:
    for words, why in (
        ([late, "--alias", "challenger"], "late cannot be served: no version has the alias challenger"),
        ([late, "--version", "7"], "late cannot be served: late version 7 cannot be loaded"),
        ([late, "--version", "7", "--processes", "2"], "late cannot be served: late version 7 cannot be loaded"),
        ([late, "--canary"], "a canary must have a table for its decisions"),
        ([late, "--host", "0.0.0.0", "--no-token"], "host without a token must be one of 127.0.0.1"),
        ([late, "--port", service.address.rsplit(":", 1)[1]], "must be free, got: Address already in use"),
    ):
        with pytest.raises(LookupError, match=re.escape(why)):
            serve_command({"json": True, "resources": {}}, [*words, *([] if "--port" in words else ["--port", "0"])])
