"""The whole lifecycle through the bundle, as a person runs it: one real `boathouse run`, on January and February."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
BOATHOUSE = str(Path(sys.executable).parent / "boathouse")


def clone(folder: Path) -> Path:
    "The bundle with its reports, in a folder of its own with a state of its own."
    shutil.copytree(ROOT / "bundles", folder / "bundles")
    shutil.copytree(ROOT / "notebooks" / "reports", folder / "notebooks" / "reports")
    shutil.copy(ROOT / "databricks.yml", folder)
    return folder


def boathouse(folder: Path, *words: str) -> Any:
    "What `boathouse ... --json` prints, after it ended with 0."
    done = subprocess.run([BOATHOUSE, *words, "--json"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    "A bundle whose lifecycle has run: history to February, one month lived through; with the run as the Jobs API tells it."
    folder = clone(tmp_path_factory.mktemp("lifecycle"))
    told = boathouse(folder, "run", "lifecycle", "--param", "start=2013-02-01", "--param", "months=1", "--param", "max_evals=2")
    return folder, told


@pytest.fixture(scope="module")
def facts(lived: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    "One row about what the tables hold, from one query (each `boathouse sql` starts Spark)."
    query = """
        select (select count(*) from gold.departures where month = '2013-02') departures,
               (select count(*) from ml.predictions) predictions,
               (select count(distinct flight_id) from ml.predictions) scored_flights,
               (select count(*) from ml.predictions p join gold.departures d using (flight_id) where p.predict_at != d.scheduled_at - interval 2 hours) moved,
               (select count(*) from ml.predictions where not probability between 0 and 1) impossible,
               (select min(model_version) from ml.predictions) model_version,
               (select min_by(version, promoted_at) from ops.promotions) first_champion,
               (select count(*) from ops.decisions where month = '2013-02') decisions,
               (select count(distinct column_name) from monitoring.predictions_drift_metrics) drifting
    """
    return boathouse(lived[0], "sql", query)[0]


def test_every_task_of_the_lifecycle_succeeds(lived: tuple[Path, dict[str, Any]]) -> None:
    state = lived[1]["state"]
    assert (state["life_cycle_state"], state["result_state"]) == ("TERMINATED", "SUCCESS")
    assert [t["task_key"] for t in lived[1]["tasks"]] == ["ingest", "features", "training", "months", "each_month", "report"]


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


CONTENT = " union all ".join(
    f"select '{t}' t, count(*) n, bit_xor(xxhash64(*)) h from {t}"
    for t in (
        "bronze.flight_events",
        "silver.flight_events",
        "silver.flight_events_quarantine",
        "silver.flights",
        "silver.weather",
        "gold.departures",
    )
)


def kill_in(folder: Path, task: str, *words: str) -> None:
    "Start `boathouse`, and kill it without warning once `task` has begun."
    running = subprocess.Popen([BOATHOUSE, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not any(p.parent.name == task for p in folder.glob(".boathouse/local/runs/*/*/log.txt")):
        assert running.poll() is None, f"ended before {task} began"
        assert time.monotonic() < deadline, f"{task} did not begin"
        time.sleep(0.05)
    time.sleep(1.0)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()


def test_a_run_that_is_killed_loses_and_doubles_nothing_when_it_runs_again(tmp_path: Path) -> None:
    calm, shaken = clone(tmp_path / "calm"), clone(tmp_path / "shaken")
    ingest = ("run", "ingest", "--param", "as_of=2013-01-03")
    boathouse(calm, *ingest)
    kill_in(shaken, "bronze", *ingest)
    kill_in(shaken, "silver", *ingest)
    boathouse(shaken, *ingest)
    assert boathouse(shaken, "sql", CONTENT) == boathouse(calm, "sql", CONTENT)
