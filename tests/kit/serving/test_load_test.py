"The load test refuses a version that fails, that is too slow or too large, or that does not start, and states figures and limits."

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.services import bundle_registry, harbour_rows, register_version

from boathouse.serving.load_test import LoadFigures, judge_figures, load_test, send_requests, start_service

LIMITS = {"p99_ms": 60_000.0, "memory_mib": 16_384.0}


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bundle_registry(tmp_path_factory.mktemp("bundle")):
        register_version("late")
        yield "late"


def test_a_version_within_generous_limits_passes_and_its_process_is_gone(late: str) -> None:
    before = {one.pid for one in psutil.Process().children()}
    result = load_test(late, 1, requests=60, clients=3, **LIMITS)
    assert (result.outcome, result.name, result.blocks) == ("pass", "load_test", True)
    assert result.reason.startswith("0 of 60 requests from 3 clients failed (0 may); p99 ")
    assert "(at most 60000); peak memory " in result.reason
    assert result.reason.endswith("MiB (at most 16384)")
    assert result.value == pytest.approx(result.detail["p99_ms"], abs=0.01)
    assert result.detail["p50_ms"] <= result.detail["p99_ms"]
    assert result.detail["memory_mib"] > 50
    assert {one.pid for one in psutil.Process().children()} <= before


def test_one_service_answers_good_records_and_an_error_of_one_request_refuses(late: str, tmp_path: Path) -> None:
    good = harbour_rows(5)[["pier", "wind"]].to_dict("records")
    with start_service(late, 1, ("--token-file", str(token_file(tmp_path)))) as service:
        assert service.token == "a-secret-of-the-load-test"
        well = send_requests(service, good, 40, 4)
        ill = send_requests(service, [*good, {"pier": "east"}], 40, 4)
    assert (len(well.milliseconds), well.errors) == (40, ())
    assert well.memory_mib <= ill.memory_mib
    assert judge_figures(well, 40, 4, **LIMITS).passed
    slow = judge_figures(well, 40, 4, p99_ms=0.001, memory_mib=16_384)
    assert (slow.outcome, slow.bound, "(at most 0.001)" in slow.reason) == ("refuse", 0.001, True)
    large = judge_figures(well, 40, 4, p99_ms=60_000, memory_mib=1)
    assert (large.outcome, "(at most 1)" in large.reason) == ("refuse", True)
    assert len(ill.errors) == 6  # of 40 requests in turn
    failed = judge_figures(ill, 40, 4, **LIMITS)
    assert failed.outcome == "refuse"
    assert failed.reason.startswith("6 of 40 requests")
    assert "the first error: status 400" in failed.reason
    assert "column wind" in failed.reason


def token_file(folder: Path) -> Path:
    (folder / "token").write_text("a-secret-of-the-load-test\n")
    return folder / "token"


def test_a_service_that_breaks_off_gives_errors_and_no_figures() -> None:
    result = judge_figures(LoadFigures((), ("ProtocolError: connection broken",) * 3, 300.0), 3, 1, **LIMITS)
    assert (result.outcome, result.value, result.detail["p99_ms"]) == ("refuse", None, None)
    assert "ProtocolError" in result.reason
    assert result.to_dict()["passed"] is False


def test_a_version_that_cannot_be_served_is_refused_with_its_reason(late: str) -> None:
    result = load_test(late, 9, [{"pier": "east", "wind": 3.0}], **LIMITS)
    assert result.outcome == "refuse"
    assert "late cannot be served: late version 9 cannot be loaded" in result.reason
    assert load_test(late, 1, [], **LIMITS).reason.startswith("late version 1 has no logged example to send")
    with pytest.raises(ValueError, match=r"requests and clients must be at least 1, .*, got 0, 4, 100 and 1024"):
        load_test(late, 1, requests=0)
