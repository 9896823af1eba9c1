"The commands up, down and next without any run: what is armed, paused and refused, what starts when, and wrong options."

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from boathouse.workspace.cli.main import main
from boathouse.workspace.errors import BundleError
from boathouse.workspace.history.store import History
from boathouse.workspace.triggers.clock import JUMPING, Clock, parse_speed, time_from_text
from boathouse.workspace.triggers.evaluate import arm
from boathouse.workspace.triggers.settings import JobTrigger
from boathouse.workspace.triggers.store import TriggerStore

BUNDLE = """
bundle: {name: b}
resources:
  jobs:
    cron: {schedule: {quartz_cron_expression: 0 0 6 ? * MON, timezone_id: America/New_York}, tasks: &t [{task_key: t, condition_task: {op: EQUAL_TO, left: a, right: b}}]}
    period: {trigger: {periodic: {interval: 2, unit: WEEKS}}, tasks: *t}
    files: {trigger: {file_arrival: {url: /Volumes/c/s/v/in}}, tasks: *t}
    cloud: {trigger: {file_arrival: {url: "s3://bucket/in"}}, tasks: *t}
    tables: {trigger: {table_update: {table_names: [c.s.t, c.s.u], condition: ALL_UPDATED}}, tasks: *t}
    models: {trigger: {model: {condition: MODEL_ALIAS_SET, securable_name: c.ml.m, aliases: [champion]}}, tasks: *t}
    always: {continuous: {}, tasks: *t}
    held: {schedule: {quartz_cron_expression: 0 0 7 * * ?, timezone_id: UTC, pause_status: PAUSED}, tasks: *t}
    short: {trigger: {table_update: {table_names: [c.s.t], wait_after_last_change_seconds: 5}}, tasks: *t}
    unix: {schedule: {quartz_cron_expression: 0 6 * * *, timezone_id: UTC}, tasks: *t}
    asks: {schedule: {quartz_cron_expression: 0 0 6 * * ?, timezone_id: UTC, sql_condition: {sql_query_id: q, warehouse_id: w}}, tasks: *t}
    plain: {tasks: *t}
targets: {local: {default: true}, dev: {mode: development}}
"""


WATCHED = """
bundle: {name: b}
variables: {zone: {lookup: {cluster: of the office}}}
resources:
  jobs: {hourly: {schedule: {quartz_cron_expression: 0 0 * * * ?, timezone_id: UTC}, tasks: [{task_key: t, condition_task: {op: EQUAL_TO, left: a, right: b}}]}}
  alerts:
    late: &alert
      display_name: Late flights
      warehouse_id: w
      query_text: select 1 as n
      evaluation: {source: {name: n}, comparison_operator: IS_NULL}
      schedule: {quartz_cron_schedule: 0 30 8 * * ?, timezone_id: America/New_York}
    held: {<<: *alert, schedule: {quartz_cron_schedule: 0 15 12 * * ?, timezone_id: UTC, pause_status: PAUSED}}
    unix: {<<: *alert, schedule: {quartz_cron_schedule: 0 8 * * *, timezone_id: UTC}}
    zone: {<<: *alert, schedule: {quartz_cron_schedule: 0 0 8 * * ?, timezone_id: "${var.zone}"}}
    asks: {<<: *alert, parameters: [{name: n}]}
targets: {local: {default: true}, dev: {mode: development}}
"""


def call(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [words[0], "--bundle", str(folder), *words[1:]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "databricks.yml").write_text(BUNDLE)
    return tmp_path


def test_next_lists_starts_in_order_what_others_wait_for_what_is_paused_and_what_is_refused(folder: Path) -> None:
    found = json.loads(call(folder, "next", "--from", "2013-10-28", "--count", "4", "--json").stdout)
    assert [(s["utc"], s["job_key"], s["trigger"]) for s in found["starts"]] == [
        ("2013-10-28 10:00:00", "cron", "PERIODIC"), ("2013-11-04 11:00:00", "cron", "PERIODIC"),
        ("2013-11-11 00:00:00", "period", "PERIODIC"), ("2013-11-11 11:00:00", "cron", "PERIODIC"),
    ]  # fmt: skip
    assert found["waiting"] == {
        "files": "when files arrive in /Volumes/c/s/v/in", "tables": "when each of c.s.t, c.s.u is updated",
        "models": "on MODEL_ALIAS_SET of c.ml.m (champion)", "always": "all the time",
    }  # fmt: skip
    assert found["paused"] == ["held"]
    assert [f"{job}: {text.partition(': ')[2][:50]}" for job, text in found["refused"].items()] == [
        "cloud: this machine cannot watch 's3://bucket/in'. Name a",
        "short: wait_after_last_change_seconds is 5; 60 is the lea",
        "unix: '0 6 * * *' is not a Quartz expression: it has 5 f",
        "asks: 'sql_condition' is not supported on this machine.",
    ]
    assert all(text.startswith("databricks.yml:") for text in found["refused"].values())
    text = call(folder, "next", "--from", "2013-10-28T10:00+00:00", "--count", "1").stdout
    assert text.splitlines()[1].split("  ") == ["2013-11-04 11:00:00", "cron", "at '0 0 6 ? * MON' in America/New_York"]
    assert "held" in json.loads(call(folder, "next", "--unpause", "--json").stdout)["starts"][0]["job_key"]


def test_next_lists_alerts_with_the_jobs_and_refuses_those_with_an_error_alone(tmp_path: Path) -> None:
    (tmp_path / "databricks.yml").write_text(WATCHED)
    found = json.loads(call(tmp_path, "next", "--from", "2013-10-28T11:30", "--count", "3", "--json").stdout)
    assert found["starts"] == [
        {"job_key": "hourly", "planned_time": 1382961600000, "utc": "2013-10-28 12:00:00", "trigger": "PERIODIC"},
        {"alert_key": "late", "planned_time": 1382963400000, "utc": "2013-10-28 12:30:00", "trigger": "PERIODIC"},
        {"job_key": "hourly", "planned_time": 1382965200000, "utc": "2013-10-28 13:00:00", "trigger": "PERIODIC"},
    ]
    assert found["paused"] == ["alert held"]
    lines = {name: text.split(":")[1] for name, text in found["refused"].items()}
    assert {name: WATCHED.splitlines()[int(line) - 1].split(":")[0].strip() for name, line in lines.items()} == {
        "alert unix": "unix", "alert zone": "zone", "alert asks": "asks",
    }  # fmt: skip
    assert "'0 8 * * *' is not a Quartz expression: it has 5 fields" in found["refused"]["alert unix"]
    unpaused = json.loads(call(tmp_path, "next", "--from", "2013-10-28T12:00", "--count", "1", "--unpause", "--json").stdout)
    assert [start["alert_key"] for start in unpaused["starts"]] == ["held"]


def test_development_mode_pauses_jobs_and_leaves_alerts_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "databricks.yml").write_text(WATCHED)
    lines = call(tmp_path, "next", "-t", "dev", "--count", "1").stdout.splitlines()
    assert [line.split()[2:4] for line in lines[1:2]] == [["alert", "late"]]
    assert lines[2:4] == ["paused   hourly (mode: development pauses those that do not set pause_status)", "paused   alert held"]


def test_up_arms_alerts_with_the_jobs(tmp_path: Path) -> None:
    (tmp_path / "databricks.yml").write_text(WATCHED)
    words = ("up", "--bundle", str(tmp_path), "--clock", "2013-10-28T12:10", "--until", "2013-10-28T12:12", "--unpause", "--json")
    done = subprocess.run([sys.executable, "-P", "-m", "boathouse.workspace.cli.entry", *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"clock": "2013-10-28 12:12:00", "starts": []}
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()[1:-1]] == [
        "armed    hourly", "armed    alert late", "armed    alert held",
        "refused  alert unix", "refused  alert zone", "refused  alert asks",
    ]  # fmt: skip


def test_a_period_goes_on_from_the_time_at_which_up_armed_it(folder: Path) -> None:
    with History(folder / ".boathouse/local") as history:
        weeks = JobTrigger("periodic", interval=2 * 7 * 86_400)
        TriggerStore(history).record(0.0, {"period": arm(weeks, time_from_text("2013-10-01T12:00", ""))})
    found = json.loads(call(folder, "next", "--from", "2013-10-22", "--count", "9", "--json").stdout)["starts"]
    assert next(s["utc"] for s in found if s["job_key"] == "period") == "2013-10-29 12:00:00"


def test_development_mode_pauses_all_and_up_says_how_to_arm_them(folder: Path) -> None:
    done = call(folder, "up", "-t", "dev")
    assert done.exit_code == 2
    assert "every trigger of target 'dev' is paused (mode: development pauses those that do not set pause_status): cron, " in done.stderr
    assert "boathouse up --unpause" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["up", "--speed", "max"], "--speed and --restart-clock belong to a simulated clock. Give its begin: --clock 2013-10-01"),
        (["up", "--clock", "soon"], "--clock: 'soon' is not a date or time. Write 2013-10-01 or 2013-10-01T06:00."),
        (
            ["up", "--clock", "2013-10-01", "--speed", "fast"],
            "--speed: 'fast' is not a speed. Write `max`, or simulated time per real time: ",
        ),
        (["up", "--clock", "2013-10-01", "--until", "2013-13-01"], "--until: '2013-13-01' is not a date or time."),
        (["next", "--from", "x"], "--from: 'x' is not a date or time."),
    ],
)
def test_a_wrong_option_is_refused_with_the_right_form(folder: Path, words: list[str], message: str) -> None:
    done = call(folder, *words)
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr


def test_a_bundle_without_triggers_has_nothing_to_start(tmp_path: Path) -> None:
    (tmp_path / "databricks.yml").write_text("bundle: {name: b}\n")
    done = call(tmp_path, "up")
    assert (done.exit_code, "no job or alert of target 'default' has a schedule or trigger." in done.stderr) == (2, True)
    assert call(tmp_path, "next").stdout == "no job or alert of target 'default' has a schedule or trigger\n"


def test_down_and_status_say_that_nothing_runs(folder: Path) -> None:
    assert call(folder, "down").stdout == "`boathouse up` does not run on target 'local'\n"
    assert json.loads(call(folder, "down", "--json").stdout) == {"stopped": False}
    assert (call(folder, "up", "--status").exit_code, json.loads(call(folder, "up", "--status", "--json").stdout)) == (
        1,
        {"running": False},
    )


def test_a_speed_is_simulated_time_per_real_time() -> None:
    assert [parse_speed(text) for text in ("1day/10s", "2h/1m", "1week/1s", "1.5m/3s", "2days/1s", "max")] == [
        8640,
        120,
        604800,
        30,
        172800,
        JUMPING,
    ]
    for wrong in ("", "1day", "1day/0s", "1day/10s/1s", "day/s", "1month/1s"):
        with pytest.raises(BundleError, match="is not a speed"):
            parse_speed(wrong)


def test_a_simulated_clock_goes_at_its_speed_or_jumps_and_never_back() -> None:
    real = [100.0]
    fast = Clock(1000.0, 60.0, lambda: real[0])
    real[0] += 2
    assert (fast.now(), fast.is_simulated, fast.jumps) == (1120.0, True, False)
    jumping = Clock(1000.0, JUMPING)
    jumping.jump(1500.0)
    jumping.jump(1400.0)
    assert (jumping.now(), jumping.jumps, Clock().is_simulated) == (1500.0, True, False)
