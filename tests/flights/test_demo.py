"""The demonstration by the command line: one real `boathouse run demo`, from an empty state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long(order=2, minutes=1)  # once the demonstration has run, which the first test waits for


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory, clone: Callable[[Path], Path], boathouse: Callable[..., Any]
) -> tuple[Path, dict[str, Any]]:
    "A bundle whose job `demo` has run, and the run as the Jobs API describes it."
    folder = clone(tmp_path_factory.mktemp("demo"))
    return folder, boathouse(folder, "run", "demo", "-t", "demo")


@pytest.mark.long(order=2, minutes=4)
def test_every_task_succeeds_but_the_check_that_fails_on_purpose(shown: tuple[Path, dict[str, Any]]) -> None:
    states = {task["task_key"]: task["state"]["result_state"] for task in shown[1]["tasks"]}
    assert {key for key, state in states.items() if state != "SUCCESS"} == {"verify_leaky"}
    assert shown[1]["state"]["result_state"] == "SUCCESS_WITH_FAILURES"


def test_the_gates_refuse_the_leaky_model_a_drift_is_found_and_the_rollback_restores_the_champion(
    shown: tuple[Path, dict[str, Any]], boathouse: Callable[..., Any]
) -> None:
    query = """
        select (select collect_set(gate) from ops.gates where version = 2 and not passed and action = 'blocks') refused_by,
               (select count(*) from ops.gates where version = 1 and not passed and action = 'blocks') refused,
               (select count(*) from silver.flight_events_quarantine) quarantined,
               (select count(distinct origin) from gold.departures) origins,
               (select count(*) from ml.predictions where model_version = 1) predictions,
               (select count_if(drifted) from monitoring.predictions_drift_metrics) drifted,
               (select count(*) from ops.decisions) decisions,
               (select max_by(version, sequence) from ops.promotions where alias = 'champion') champion
    """
    (found,) = boathouse(shown[0], "sql", query, "-t", "demo")
    assert found["refused_by"] == ["leaking_feature"]
    assert (found["refused"], found["champion"], found["origins"], found["decisions"]) == (0, 1, 1, 1)
    assert min(found["quarantined"], found["drifted"]) > 0
    assert found["predictions"] > 8_000


def test_the_report_shows_charts_and_no_error(shown: tuple[Path, dict[str, Any]]) -> None:
    (page,) = (shown[0] / ".boathouse" / "demo" / "runs").rglob("notebook.html")
    assert "image/png" in page.read_text()
