"Deployment to an endpoint, over HTTP, against a stand-in for a workspace."

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from databricks.sdk.errors import ResourceAlreadyExists
from databricks.sdk.service.serving import ServingEndpointDetailed
from support.serving_api import Workspace

from boathouse.serving.canary import REVERT, CanaryPlan, Observation, run_canary
from boathouse.serving.deployment import DeploymentFailed
from boathouse.serving.endpoints import (
    EndpointSpec,
    deploy_endpoint,
    extract_config,
    format_served_name,
    probe_version,
    read_traffic,
    shift_traffic,
)

ROWS = pd.DataFrame({"wind": [3.1, math.nan], "origin": ["EWR", None], "at": pd.to_datetime(["2013-06-01 09:00", "2013-06-02 00:00"])})
TWO = EndpointSpec("late", "dev.ml.late_arrival", {2: 100})
THREE = replace(TWO, traffic={3: 100})
SPLIT = replace(TWO, traffic={2: 95, 3: 5})


@pytest.fixture
def api(server: tuple[Workspace, Any]) -> tuple[Workspace, Any]:
    "A workspace without endpoints, and its client."
    workspace, client = server
    workspace.__init__()  # type: ignore[misc]
    return workspace, client


@pytest.fixture
def served(api: tuple[Workspace, Any]) -> tuple[Workspace, Any]:
    "A workspace in which version 2 is served."
    deploy_endpoint(api[1], TWO, ROWS)
    api[0].calls.clear()
    return api


def test_a_new_version_is_probed_without_traffic_and_then_gets_its_percentage(api: tuple[Workspace, Any]) -> None:
    workspace, client = api
    assert deploy_endpoint(client, TWO, ROWS) == "late serves version 2: 100 %; version 2 passed the probe."
    assert deploy_endpoint(client, SPLIT, ROWS, {3: np.array([0.25, 0.25])}).endswith("version 3 passed the probe.")
    assert deploy_endpoint(client, THREE, ROWS).endswith("no version is new.")
    assert workspace.calls == [
        "create late_arrival-2:100",
        "update late_arrival-2:100 late_arrival-3:0",
        "update late_arrival-2:95 late_arrival-3:5",
        "update late_arrival-3:100",
    ]
    assert [name for name, _ in workspace.probed] == ["late_arrival-2", "late_arrival-3"]
    sent = workspace.probed[1][1]["dataframe_split"]
    assert (sent["columns"], sent["data"][1]) == (["wind", "origin", "at"], [None, None, "2013-06-02T00:00:00.000"])


def test_an_endpoint_that_a_bundle_declared_without_a_model_gets_its_first_configuration(api: tuple[Workspace, Any]) -> None:
    workspace, client = api
    workspace.endpoints["late"] = ServingEndpointDetailed.from_dict({"name": "late", "state": {"config_update": "NOT_UPDATING"}})
    assert deploy_endpoint(client, TWO, ROWS).startswith("late serves version 2: 100 %")
    assert workspace.calls == ["update late_arrival-2:100"]


CASES = [
    (
        "a request that is refused",
        {"late_arrival-3": 400},
        set(),
        r"did not predict the 2 rows of the probe: Model is missing inputs \['ts'\]",
    ),
    ("a missing prediction", {"late_arrival-3": [0.25, None]}, set(), "must predict 2 rows of the probe, got 1 finite predictions"),
    ("one row too few", {"late_arrival-3": [0.25]}, set(), "must predict 2 rows of the probe, got 1 finite predictions"),
    (
        "another prediction",
        {"late_arrival-3": [0.25, 0.26]},
        set(),
        "1 of 2 reference rows differ from the stored predictions, by up to 0.01",
    ),
    ("a container that does not start", {}, {"late_arrival-3"}, "UPDATE_FAILED"),
]


@pytest.mark.parametrize(("name", "answers", "unhealthy", "message"), CASES, ids=[case[0] for case in CASES])
def test_a_version_that_fails_gets_no_traffic_and_leaves_nothing_behind(
    served: tuple[Workspace, Any], name: str, answers: Any, unhealthy: Any, message: str
) -> None:
    "kserve#2130: no route or served model of the canary stays. ray#66252: a failed update leaves the old route in place."
    workspace, client = served
    workspace.answers, workspace.unhealthy = answers, unhealthy
    with pytest.raises(DeploymentFailed, match=f"{message}.*The endpoint serves version 2: 100 %, as before"):
        deploy_endpoint(client, SPLIT, ROWS, {3: np.array([0.25, 0.25])})
    assert workspace.serves("late") == {"late_arrival-2": 100}
    assert all("late_arrival-3:5" not in call for call in workspace.calls)
    workspace.answers, workspace.unhealthy = {}, set()
    assert deploy_endpoint(client, SPLIT, ROWS)
    assert workspace.serves("late") == {"late_arrival-2": 95, "late_arrival-3": 5}


def test_a_new_endpoint_that_fails_is_deleted_and_one_of_somebody_else_is_not(
    api: tuple[Workspace, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, client = api
    workspace.answers = {"late_arrival-2": 500}
    with pytest.raises(DeploymentFailed, match="The new endpoint was deleted"):
        deploy_endpoint(client, TWO, ROWS)
    assert workspace.endpoints == {}
    workspace.rivals = {"late"}
    with pytest.raises(ResourceAlreadyExists):
        deploy_endpoint(client, TWO, ROWS)
    assert list(workspace.endpoints) == ["late"]


def test_an_update_that_is_still_running_is_awaited(served: tuple[Workspace, Any]) -> None:
    workspace, client = served
    workspace.slow = 1
    assert shift_traffic(client, THREE) == {2: 100}
    workspace.reads = 0
    assert workspace.serves("late") == {"late_arrival-3": 100}


def test_what_cannot_be_restored_is_said(served: tuple[Workspace, Any]) -> None:
    workspace, client = served
    workspace.answers = {"late_arrival-3": 400}
    workspace.unhealthy = {"late_arrival-3"}
    with pytest.raises(DeploymentFailed, match=r"UPDATE_FAILED.*as before"):
        shift_traffic(client, THREE)
    workspace.unhealthy = set()
    workspace.failing_later = {"late_arrival-2"}
    with pytest.raises(DeploymentFailed, match=r"the configuration from before \(version 2: 100 %\) cannot be restored"):
        deploy_endpoint(client, THREE, ROWS)


def test_a_canary_that_fails_gives_its_requests_back(served: tuple[Workspace, Any]) -> None:
    workspace, client = served
    deploy_endpoint(client, replace(TWO, traffic={2: 100, 3: 0}), ROWS)
    good = Observation(500, 0, 0.0, 1.0, 0.9)
    measured = iter([good, replace(good, errors=100)])
    last = run_canary(
        CanaryPlan(2, 3), lambda traffic: shift_traffic(client, replace(TWO, traffic=traffic)), lambda _: next(measured), lambda *_: None
    )
    assert last.action == REVERT
    assert workspace.serves("late") == {"late_arrival-2": 100}
    assert workspace.calls[-3:] == [
        "update late_arrival-2:95 late_arrival-3:5",
        "update late_arrival-2:75 late_arrival-3:25",
        "update late_arrival-2:100",
    ]


def test_what_the_api_returns_is_what_an_update_takes(served: tuple[Workspace, Any]) -> None:
    config = extract_config(served[1].serving_endpoints.get("late").as_dict())
    assert config["served_entities"] == [
        {
            "name": "late_arrival-2",
            "entity_name": "dev.ml.late_arrival",
            "entity_version": "2",
            "workload_size": "Small",
            "scale_to_zero_enabled": False,
        }
    ]
    assert read_traffic(config) == {2: 100}
    external = {"name": "gpt", "external_model": {"name": "gpt", "provider": "openai", "task": "llm/v1/chat"}}
    assert read_traffic(extract_config({"config": {"served_entities": [external]}})) == {}
    assert format_served_name("dev.ml.späte ankunft", 3) == "sp_te_ankunft-3"
    with pytest.raises(DeploymentFailed, match="late_arrival-3 is not served"):
        probe_version(served[1], TWO, 3, ROWS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "late arrival"}, "letters, digits, dashes and underscores, got 'late arrival'"),
        ({"model": "late_arrival"}, "must be catalog.schema.model, got 'late_arrival'"),
        ({"traffic": {2: 95, 3: 4}}, "add up to 100"),
        ({"traffic": {2: 99.5, 3: 0.5}}, "must be whole numbers"),
        ({"traffic": {}}, "add up to 100, got {}"),
        ({"traffic": {"3": 100}}, "needs the number of a version, got '3'"),
        ({"traffic": {0: 100}}, "needs the number of a version, got 0"),
    ],
)  # fmt: skip
def test_a_specification_that_the_api_would_refuse_is_refused_first(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TWO, **changes)
