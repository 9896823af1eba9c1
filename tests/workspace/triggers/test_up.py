"`boathouse up` with real processes on one background cluster: a simulated quarter under `kill -9`, and real changes of files, tables and models."

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow import MlflowClient

BUNDLE = """
bundle: {name: quarter}
resources:
  jobs:
    closing: &job
      schedule: {quartz_cron_expression: 0 30 1 L-3 * ?, timezone_id: America/New_York}
      parameters: [{name: planned, default: "{{job.trigger.type}} {{job.trigger.time.iso_datetime}} {{job.start_time.iso_date}}"}]
      tasks: [{task_key: check, condition_task: {op: EQUAL_TO, left: "1", right: "1"}}]
    autumn: {<<: *job, schedule: {quartz_cron_expression: 0 30 1 3 11 ?, timezone_id: America/New_York}}
    friday: {<<: *job, schedule: {quartz_cron_expression: 0 0 6 ? 12 6#3, timezone_id: UTC}}
    spring: {<<: *job, schedule: {quartz_cron_expression: 0 0 6 1 3 ?, timezone_id: UTC}}
    paused: {<<: *job, schedule: {quartz_cron_expression: 0 0 6 * * ?, timezone_id: UTC, pause_status: PAUSED}}
    wrong: {<<: *job, schedule: {quartz_cron_expression: 0 0 6 * * *, timezone_id: UTC}}
    six_weeks: {<<: *job, schedule: , trigger: {periodic: {interval: 6, unit: WEEKS}}}
    files: {<<: *job, schedule: , trigger: {file_arrival: {url: /Volumes/c/s/landing/}}, parameters: [{name: told, default: "{{job.trigger.file_arrival.location}}"}]}
    table:
      <<: *job
      schedule:
      trigger: {table_update: {table_names: [spark_catalog.s.t]}}
      parameters:
        - {name: names, default: "{{job.trigger.table_update.updated_tables}}"}
        - {name: told, default: "{{job.trigger.table_update.spark_catalog.s.t.version}} of {{job.trigger.table_update.spark_catalog.s.t.commit_timestamp.iso_date}}"}
    model:
      <<: *job
      schedule:
      trigger: {model: {condition: MODEL_ALIAS_SET, securable_name: c.ml.late, aliases: [champion]}}
      parameters: [{name: told, default: "{{job.trigger.type}}"}]
  alerts:
    monthly:
      display_name: Monthly
      warehouse_id: w
      query_text: select max(n) as n from values (3), (5) as t(n)
      schedule: {quartz_cron_schedule: 0 30 1 L-3 * ? 2013, timezone_id: America/New_York}
      evaluation:
        source: {name: n}
        comparison_operator: GREATER_THAN
        threshold: {value: {double_value: 4}}
        notification: {subscriptions: [{user_email: me@example.com}]}
targets: {local: {default: true}}
"""
# Computed by hand. New York is 4 hours behind UTC until November 3, 2013, and 01:30 comes twice on that day: the second one is meant.
QUARTER = sorted(
    [
        ("closing", "2013-10-28T05:30"), ("closing", "2013-11-27T06:30"), ("closing", "2013-12-28T06:30"),
        ("autumn", "2013-11-03T06:30"), ("friday", "2013-12-20T06:00"), ("six_weeks", "2013-11-12T00:00"), ("six_weeks", "2013-12-24T00:00"),
    ]
)  # fmt: skip
EVALUATED = [f"{at}:00Z" for job, at in QUARTER if job == "closing"]  # the alert has the same schedule
SIMULATE = ("up", "--clock", "2013-10-01", "--until", "2014-01-01")


class Desk:
    "A bundle in a folder and the commands given there."

    def __init__(self, root: Path) -> None:
        self.root, self.database = root, root / ".boathouse" / "local" / "workspace.db"
        (root / "databricks.yml").write_text(BUNDLE)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "boathouse.workspace.cli.entry", *words]
        environ = {**os.environ, "BOATHOUSE_CLUSTER": ""}
        return subprocess.Popen(
            command, cwd=self.root, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def call(self, *words: str, code: int = 0) -> str:
        done = self.begin(*words)
        out, err = done.communicate(timeout=300)
        assert done.returncode == code, out + err
        return out

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        if not self.database.is_file():
            return []
        with closing(sqlite3.connect(self.database, timeout=30)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'run_of_start'").fetchone():
                return []  # the first process is about to create it
            return database.execute(text, values).fetchall()

    def unclaimed(self) -> list[int]:
        "The processes that have not claimed their start, of starts that are far from being given up."
        pids = self.query(
            "SELECT pid FROM trigger_starts WHERE NOT settled AND pid AND launches < 3 AND outcome IS NULL AND start_id NOT IN (SELECT trigger_start FROM runs WHERE trigger_start)"
        )
        return [int(pid) for (pid,) in pids if psutil.pid_exists(pid)]

    def table(self) -> list[tuple[str, str]]:
        "The runs of the latest simulated clock: job and planned time, each with what its references told."
        rows = self.query(
            "SELECT s.job_key, s.planned, coalesce(r.result_state, s.failed), r.parameters FROM trigger_starts s LEFT JOIN runs r ON r.trigger_start = s.start_id"
            " WHERE s.clock = (SELECT max(clock) FROM trigger_clocks) AND s.job_key NOT LIKE 'alert %'"
        )
        found = [
            (job, datetime.fromtimestamp(planned, UTC), state, json.loads(given or "{}").get("planned"))
            for job, planned, state, given in rows
        ]
        assert [(s, p) for _, _, s, p in found] == [("SUCCESS", f"periodic {at:%Y-%m-%dT%H:%M:%S.%f} {at.date()}") for _, at, _, _ in found]
        return sorted((job, f"{at:%Y-%m-%dT%H:%M}") for job, at, _, _ in found)

    def evaluations(self) -> list[tuple[str, str]]:
        "The evaluations of the latest simulated clock: planned time and state; none was recorded beside them."
        rows = self.query(
            "SELECT key, outcome FROM trigger_starts WHERE clock = (SELECT max(clock) FROM trigger_clocks) AND job_key LIKE 'alert %' ORDER BY key"
        )
        made = "SELECT (SELECT count(*) FROM alert_evaluations) - (SELECT count(*) FROM trigger_starts WHERE outcome IS NOT NULL)"
        assert self.query(made) == [(0,)]
        return [(key, json.loads(outcome)["state"]) for key, outcome in rows]


def until(holds: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("quarter"))
    yield made
    made.call("down")
    made.call("cluster", "stop", "--force")


def kill_before_claim(desk: Desk, pid: int) -> None:
    with suppress(ProcessLookupError):  # it may end just now
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL if pid in desk.unclaimed() else signal.SIGCONT)


def simulate(desk: Desk, kills: int, chance: random.Random, *words: str) -> str:
    "Simulate the quarter. Kill `up` so many times at random moments, and before every second time a launched process that has claimed nothing."
    for number in range(kills):
        up = desk.begin(*SIMULATE, *(words if number == 0 else ()))
        until(lambda: desk.query("SELECT 1 FROM trigger_starts WHERE NOT settled"))
        time.sleep(chance.uniform(0.0, 0.5))
        if number % 2 and (waiting := desk.unclaimed()):
            kill_before_claim(desk, waiting[0])
        with suppress(subprocess.TimeoutExpired):
            up.wait(chance.uniform(0.0, 2.0))
        up.kill()
        up.communicate()
    return desk.call(*SIMULATE, *(words if not kills else ()))


def test_a_simulated_quarter_starts_each_run_once_although_processes_are_killed(desk: Desk) -> None:
    said = simulate(desk, 3, random.Random(1))
    assert desk.table() == QUARTER
    assert desk.evaluations() == [(at, "TRIGGERED") for at in EVALUATED]
    assert desk.query("SELECT event, destination, state FROM notifications") == [
        ("alert monthly TRIGGERED", "email:me@example.com", "sent")
    ]
    assert "paused   paused; --unpause arms it" in said
    assert re.search(r"refused  wrong: databricks.yml:\d+:\d+: '0 0 6 \* \* \*' is not a Quartz expression", said)


def test_a_finished_clock_begins_anew_and_an_interrupted_one_is_restarted_on_request(desk: Desk) -> None:
    for _ in range(2):
        desk.call("up", "--clock", "2014-02-02", "--until", "2014-02-03")
    assert desk.table() == []
    assert desk.query("SELECT count(*) FROM trigger_clocks WHERE begins = ? AND ended", datetime(2014, 2, 2, tzinfo=UTC).timestamp()) == [
        (2,)
    ]


def test_real_changes_of_files_tables_and_models_start_runs_that_know_them(desk: Desk) -> None:
    state = desk.database.parent
    (state / "volumes/c/s/landing/day").mkdir(parents=True)
    registry = MlflowClient(f"sqlite:///{state}/mlflow.db", f"sqlite:///{state}/mlflow.db")
    registry.create_registered_model("c.ml.late")
    registry.create_model_version("c.ml.late", str(desk.root))
    write_deltalake(state / "warehouse/s.db/t", pa.table({"n": [1]}))
    armed = json.loads(desk.call("up", "--background", "--json"))["armed"]
    assert armed["table"] == "when one of spark_catalog.s.t is updated"
    assert "already (process" in refusal(desk, "up")
    assert json.loads(desk.call("up", "--status", "--json"))["armed"] == armed
    until(lambda: len(desk.query("SELECT 1 FROM trigger_states WHERE clock = 0")) == len(armed))
    (state / "volumes/c/s/landing/day/1.csv").write_text("1")
    write_deltalake(state / "warehouse/s.db/t", pa.table({"n": [2]}), mode="append")
    registry.set_registered_model_alias("c.ml.late", "champion", "1")
    ended = "SELECT s.job_key, parameters, result_state FROM runs JOIN trigger_starts s ON s.start_id = trigger_start WHERE clock = 0 AND end_time ORDER BY 1"
    runs = until(lambda: found if len(found := desk.query(ended)) == 3 else None)
    assert [(job, json.loads(given)["told"], result) for job, given, result in runs] == [
        ("files", "/Volumes/c/s/landing/", "SUCCESS"),
        ("model", "model", "SUCCESS"),
        ("table", f"1 of {datetime.now(UTC).date()}", "SUCCESS"),
    ]
    assert json.loads(runs[2][1])["names"] == '["spark_catalog.s.t"]'
    assert {run["trigger"] for run in json.loads(desk.call("runs", "--json"))["runs"]} >= {"FILE_ARRIVAL", "MODEL", "TABLE"}
    assert desk.call("down") == "stopped; runs go on\n"
    desk.call("up", "--status", code=1)


def refusal(desk: Desk, *words: str) -> str:
    done = desk.begin(*words)
    _, err = done.communicate(timeout=60)
    assert done.returncode == 2
    return err


@pytest.mark.long(order=4, minutes=6)
def test_ten_kills_at_random_moments_change_nothing(desk: Desk) -> None:
    simulate(desk, 0, random.Random(0), "--restart-clock")
    assert desk.table() == QUARTER
    for seed in (2, 3):
        simulate(desk, 10, random.Random(seed), "--restart-clock")
        assert desk.table() == QUARTER
        assert desk.evaluations() == [(at, "TRIGGERED") for at in EVALUATED]
