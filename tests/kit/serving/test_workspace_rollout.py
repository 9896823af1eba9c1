"A rollout in a workspace, over HTTP, against a stand-in: steps, errors, agreement, and the way back."

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from support.serving_api import Workspace

from boathouse.serving.canary import CanaryDecision, CanaryPlan, Observation
from boathouse.serving.deployment import DeploymentFailed
from boathouse.serving.endpoints import EndpointSpec
from boathouse.serving.workspace_rollout import WorkspaceEndpoint, roll_back, roll_out, stage_version

ROWS = pd.DataFrame({"wind": [5.0, 20.0, 35.0, 60.0]})
SPEC = EndpointSpec("late", "dev.ml.late_arrival", {2: 100})
PLAN = CanaryPlan(2, 3, steps=(10, 50), requests=8, latency_ratio=1000)


def half(rows: list[list[float]]) -> list[float]:
    return [row[0] / 120 for row in rows]


@pytest.fixture
def api(server: tuple[Workspace, Any]) -> tuple[Workspace, Any]:
    "A workspace in which version 2 serves and version 3 stands beside it without requests."
    workspace, client = server
    workspace.__init__()  # type: ignore[misc]
    workspace.answers = {"late_arrival-2": half, "late_arrival-3": half}
    stage_version(client, SPEC, None, 2, ROWS)
    stage_version(client, SPEC, 2, 3, ROWS)
    workspace.calls.clear()
    return workspace, client


def take_steps(client: Any, plan: CanaryPlan = PLAN, before: tuple[Observation, ...] = ()) -> list[tuple[int, str]]:
    seen: list[tuple[int, str]] = []

    def record(number: int, decision: CanaryDecision, _: Observation | None) -> None:
        seen.append((number, decision.action))

    roll_out(WorkspaceEndpoint(client, SPEC, ROWS), plan, record, before)
    return seen


def test_a_version_is_staged_without_requests_and_moves_to_all_of_them_in_steps(api: tuple[Workspace, Any]) -> None:
    workspace, client = api
    assert workspace.serves("late") == {"late_arrival-2": 100, "late_arrival-3": 0}
    assert take_steps(client) == [(0, "grow"), (1, "grow"), (2, "finish")]
    assert workspace.serves("late") == {"late_arrival-3": 100}
    assert workspace.calls == [
        "update late_arrival-2:90 late_arrival-3:10",
        "update late_arrival-2:50 late_arrival-3:50",
        "update late_arrival-3:100",
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (500, "8 of 8 requests failed"),
        (lambda rows: [-row[0] for row in rows], "the predictions correlate by -1.00"),
        (lambda rows: [float("nan") for _ in rows], "8 of 8 requests failed"),
    ],
    ids=["errors", "the other way round", "not finite"],
)
def test_a_version_that_fails_a_check_loses_its_requests_and_the_reason_is_stated(
    api: tuple[Workspace, Any], answer: Any, reason: str
) -> None:
    workspace, client = api
    workspace.answers["late_arrival-3"] = answer
    with pytest.raises(DeploymentFailed, match=f"version 3 gets no requests: {reason}"):
        take_steps(client)
    assert workspace.serves("late") == {"late_arrival-2": 100}


def test_an_interrupted_rollout_continues_with_the_next_step(api: tuple[Workspace, Any]) -> None:
    good = Observation(requests=8, latency_ratio=1.0, agreement=1.0)
    assert take_steps(api[1], before=(good,)) == [(1, "grow"), (2, "finish")]


def test_a_rollback_gives_all_requests_to_one_version_or_deletes_the_endpoint(api: tuple[Workspace, Any]) -> None:
    workspace, client = api
    assert roll_back(client, SPEC, 2) == "late serves version 2: 100 %."
    assert workspace.serves("late") == {"late_arrival-2": 100}
    workspace.calls.clear()
    assert roll_back(client, SPEC, 2) == "late serves version 2: 100 %."
    assert workspace.calls == []  # it has them already
    assert roll_back(client, SPEC, None) == "late was deleted, because no version is left to serve."
    assert roll_back(client, SPEC, 2) == "late is no endpoint of the workspace; nothing to roll back."
