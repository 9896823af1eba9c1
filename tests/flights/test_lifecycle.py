"""The whole lifecycle through the bundle, as a person runs it: one real `boathouse run`, on January and February."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.long(order=1, minutes=3)  # once the lifecycle has run, which the first test waits for

SHARED = {**os.environ, "BOATHOUSE_CLUSTER": "", "BUNDLE_VAR_p99_ms": "60000"}  # as everybody's: the background cluster


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory, clone: Callable[[Path], Path], boathouse: Callable[..., Any]
) -> tuple[Path, dict[str, Any]]:
    "A bundle whose lifecycle has run: history to February, one month lived through and scored as a stream; with the run as the Jobs API tells it."
    folder = clone(tmp_path_factory.mktemp("lifecycle"))
    words = ["--param", "start=2013-02-01", "--param", "months=1", "--param", "max_evals=2", "--var", "streamed_month=2013-02"]
    told = boathouse(folder, "run", "lifecycle", *words)
    return folder, told


@pytest.fixture(scope="module")
def facts(lived: tuple[Path, dict[str, Any]], boathouse: Callable[..., Any]) -> dict[str, Any]:
    "One row about what the tables hold, from one query (each `boathouse sql` starts Spark)."
    query = """
        select (select count(*) from gold.departures where month = '2013-02') departures,
               (select count(*) from ml.predictions) predictions,
               (select count(distinct flight_id) from ml.predictions) scored_flights,
               (select count(*) from ml.predictions p join gold.departures d using (flight_id) where p.predict_at != d.scheduled_at - interval 2 hours) moved,
               (select count(*) from ml.predictions where not probability between 0 and 1) impossible,
               (select min(model_version) from ml.predictions) model_version,
               (select min_by(version, moved_at) from ops.promotions) first_champion,
               (select count(*) from ops.decisions where period = '2013-02') decisions,
               (select count(distinct column_name) from monitoring.predictions_drift_metrics) drifting
    """
    return boathouse(lived[0], "sql", query)[0]


@pytest.mark.long(order=1, minutes=28)
def test_every_task_of_the_lifecycle_succeeds(lived: tuple[Path, dict[str, Any]]) -> None:
    state = lived[1]["state"]
    assert (state["life_cycle_state"], state["result_state"]) == ("TERMINATED", "SUCCESS")
    assert [t["task_key"] for t in lived[1]["tasks"]] == ["ingest", "features", "training", "deployment", "months", "each_month", "report"]


def test_each_flight_of_the_month_is_scored_once_two_hours_ahead_by_the_champion_of_its_first_day(facts: dict[str, Any]) -> None:
    assert facts["departures"] == facts["predictions"] == facts["scored_flights"] == 24_951
    assert (facts["moved"], facts["impossible"]) == (0, 0)
    assert facts["model_version"] == facts["first_champion"]


def test_the_month_is_monitored_and_one_decision_is_written_down(facts: dict[str, Any]) -> None:
    assert facts["decisions"] == 1
    assert facts["drifting"] > 10


def test_the_reports_are_kept_with_their_runs(lived: tuple[Path, dict[str, Any]]) -> None:
    pages = {p.parent.name: p.read_text() for p in (lived[0] / ".boathouse" / "local" / "runs").rglob("notebook.html")}
    assert len(pages) >= 1
    assert all("<img" in page or "image/png" in page for page in pages.values())


@pytest.mark.long(order=1, minutes=3)
@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks" / "explore").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_to_explore_runs_on_the_lake_and_writes_into_its_own_schema_alone(
    notebook: Path, lived: tuple[Path, dict[str, Any]], boathouse: Callable[..., Any], environ: Mapping[str, str]
) -> None:
    copy = lived[0] / "notebooks" / "explore" / notebook.name
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(notebook, copy)
    warehouse = lived[0] / ".boathouse" / "local" / "warehouse"

    def commits() -> set[Path]:
        return {path for path in warehouse.rglob("_delta_log/*.json") if "explore.db" not in path.parts}

    before = commits()
    words = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--execute", str(copy)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert before
    assert commits() == before


def test_one_flight_is_traced_from_its_lines_to_its_forecast_and_nothing_it_knew_is_newer_than_that(
    lived: tuple[Path, dict[str, Any]], boathouse: Callable[..., Any]
) -> None:
    found = boathouse(lived[0], "trace", "UA963", "EWR", "2013-02-12")["sections"]
    story = {section["title"]: section["rows"] for section in found}
    assert list(story) == ["delivered", "events", "states", "departure", "features", "forecasts"]
    assert [line["became"] for line in story["delivered"]].count("event") == len(story["events"]) == 3
    assert {state["status"] for state in story["states"]} == {"arrived"}
    (departure,), (forecast,) = story["departure"], story["forecasts"]
    assert departure["late"] is not None
    assert 0 < forecast["probability"] < 1
    known = [feature["known_at"] for feature in story["features"] if feature["known_at"] is not None]
    assert len(known) > 10
    assert max(known) <= departure["predict_at"]


@pytest.mark.long(order=1, minutes=6)
def test_the_champion_of_the_lifecycle_is_made_again_with_the_same_predictions(
    lived: tuple[Path, dict[str, Any]], boathouse: Callable[..., Any]
) -> None:
    listed = {section["title"]: section["rows"] for section in boathouse(lived[0], "models", "list", "late_arrival")["sections"]}
    champion = next(row["version"] for row in listed["versions"] if row["alias"] == "champion")
    assert listed["moves"][-1]["version"] == champion
    found = {section["title"]: section for section in boathouse(lived[0], "reproduce", "late_arrival", str(champion))["sections"]}
    assert found["verdict"]["text"] == f"spark_catalog.ml.late_arrival version {champion}: same."
    assert [(row["rows_of"], row["differ"]) for row in found["predictions"]["rows"]] == [("training", 0), ("held out", 0)]
    assert all(row["auc_was"] == row["auc_now"] > 0.6 for row in found["predictions"]["rows"])


def test_a_version_that_there_is_not_is_one_sentence_and_1(lived: tuple[Path, dict[str, Any]], command: str) -> None:
    words = [command, "reproduce", "late_arrival", "99", "--json"]
    done = subprocess.run(words, cwd=lived[0], env=SHARED, capture_output=True, text=True)
    assert done.returncode == 1
    assert "has no version 99: it has 1" in json.loads(done.stdout)["error"]["message"]


@pytest.fixture(scope="module")
def march(lived: tuple[Path, dict[str, Any]], boathouse: Callable[..., Any]) -> Callable[[], dict[str, Any]]:
    "Scores the flights of March that are scheduled by now with the champion of 1 March; how many, by which version, and a hash of all probabilities."

    def score() -> dict[str, Any]:
        boathouse(lived[0], "run", "scoring", "--param", "month=2013-03")
        query = "select count(*) flights, max(model_version) version, bit_xor(xxhash64(flight_id, probability)) content from ml.predictions where batch_id = '2013-03'"
        return boathouse(lived[0], "sql", query)[0]

    return score


@pytest.mark.long(order=1, minutes=20)
def test_a_version_goes_into_service_is_degraded_and_the_job_goes_back_to_the_predictions_of_before(
    lived: tuple[Path, dict[str, Any]], boathouse: Callable[..., Any], march: Callable[[], dict[str, Any]], command: str
) -> None:
    folder, model = lived[0], "spark_catalog.ml.late_arrival"
    before = march()
    assert (before["version"], before["flights"] > 500) == (1, True)
    boathouse(folder, "run", "training", "--param", "as_of=2013-03-01", "--param", "max_evals=2")
    store = f"sqlite:///{folder}/.boathouse/local/mlflow.db"
    client = MlflowClient(store, store)
    second = max(client.search_model_versions(f"name = '{model}'"), key=lambda found: int(found.version))
    assert second.tags["validation"] == "accepted"  # January's champion has much to gain from February

    told = boathouse(folder, "run", "deployment", "--param", "as_of=2013-03-01")
    assert {t["task_key"]: t["state"]["result_state"] for t in told["tasks"]} == {
        **dict.fromkeys(
            ("candidate", "accepted", "approval", "smoke", "shadow", "load", "promote", "endpoint", "canary", "verify", "deployed"),
            "SUCCESS",
        ),
        "rollback": "EXCLUDED",
    }
    after = march()
    assert after["version"] == int(second.version)
    assert after["content"] != before["content"]

    (file,) = (folder / ".boathouse" / "local" / "mlartifacts").rglob(f"{second.source.removeprefix('models:/')}/artifacts/golden.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    words = [command, "run", "deployment", "--param", "as_of=2013-03-01", "--json"]
    done = subprocess.run(words, cwd=folder, env=SHARED, capture_output=True, text=True)
    told = json.loads(done.stdout)
    states = {t["task_key"]: t["state"]["result_state"] for t in told["tasks"]}
    assert (done.returncode, told["state"]["result_state"]) == (1, "FAILED")
    assert (states["smoke"], states["promote"], states["rollback"]) == ("FAILED", "UPSTREAM_FAILED", "SUCCESS")
    assert march() == before
    told = boathouse(folder, "run", "deployment", "--param", "as_of=2013-03-01")  # what was taken back is not deployed again by itself
    assert {t["state"]["result_state"] for t in told["tasks"][2:]} == {"EXCLUDED"}
