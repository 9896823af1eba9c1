"""Jobs run on a real cluster: processes, parameters, values, branches, loops, nested jobs, retries, timeouts, cancelling."""

from __future__ import annotations

import json
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.history.as_json import run_json
from boathouse.workspace.history.store import History
from boathouse.workspace.packages.prepare import AS_IT_IS
from boathouse.workspace.run.context import RunContext
from boathouse.workspace.run.stop import StopRequest
from boathouse.workspace.validate.check import refuse_unrunnable

if TYPE_CHECKING:
    from boathouse.workspace.cluster.cluster import Cluster
    from boathouse.workspace.run.runner import Runner

SAY = """
import json, sys
from databricks.sdk.runtime import dbutils
for word in sys.argv[1:]:
    key, _, value = word.partition("=")
    if key == "set":
        name, _, text = value.partition(":")
        dbutils.jobs.taskValues.set(name, json.loads(text))
    if key == "fail":
        raise ValueError(value)
print(" ".join(sys.argv[1:]))
"""


def started(cluster: Cluster, folder: Path, jobs: str, **files: str) -> tuple[Runner, History, dict[str, Any]]:
    "A bundle of the given jobs, checked, and a runner for it on the suite's cluster."
    from boathouse.workspace.run.runner import Runner

    (folder / "databricks.yml").write_text("bundle: {name: demo}\nresources:\n  jobs:\n" + textwrap.indent(textwrap.dedent(jobs), "    "))
    (folder / "say.py").write_text(SAY)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text).lstrip())
    bundle = load(folder, environ={})
    every = all_jobs(bundle)
    for job in every.values():
        refuse_unrunnable(every, job)
    history = History(bundle.state)
    return Runner(cluster, bundle, every, history), history, every


def ran(
    cluster: Cluster, folder: Path, jobs: str, job: str = "a", given: dict[str, str] | None = None, only: tuple[str, ...] = (), **files: str
) -> dict[str, Any]:
    "The run of a job, as JSON, its tasks also by key under `by`."
    runner, history, every = started(cluster, folder, jobs, **files)
    run_id, _ = runner.run(every[job], given, only)
    return by_key(run_json(history, run_id))


def by_key(run: dict[str, Any]) -> dict[str, Any]:
    return run | {"by": {t["task_key"]: t for t in run["tasks"]}}


def result(task: dict[str, Any]) -> str:
    return task["state"]["result_state"]


def log(task: dict[str, Any]) -> str:
    return Path(task["log"]).read_text().strip()


def test_values_travel_down_the_graph_and_conditions_choose_the_branch(cluster: Cluster, tmp_path: Path) -> None:
    jobs = """
    a:
      parameters: [{name: month, default: "2013-10"}]
      tasks:
        - {task_key: first, spark_python_task: {python_file: say.py, parameters: ["set=n:3", "set=ok:true", "{{job.parameters.month}}"]}}
        - {task_key: ok, depends_on: [{task_key: first}], condition_task: {op: EQUAL_TO, left: "{{tasks.first.values.ok}}", right: "true"}}
        - {task_key: "yes", depends_on: [{task_key: ok, outcome: "true"}], spark_python_task: {python_file: say.py, parameters: ["n={{tasks.first.values.n}}"]}}
        - {task_key: "no", depends_on: [{task_key: ok, outcome: "false"}], spark_python_task: {python_file: say.py}}
        - {task_key: join, depends_on: [{task_key: "yes"}, {task_key: "no"}], run_if: NONE_FAILED, spark_python_task: {python_file: say.py, parameters: ["{{tasks.no.result_state}}"]}}
    """
    run = ran(cluster, tmp_path, jobs, given={"month": "2013-11"})
    assert {k: result(t) for k, t in run["by"].items()} == {
        "first": "SUCCESS",
        "ok": "SUCCESS",
        "yes": "SUCCESS",
        "no": "EXCLUDED",
        "join": "SUCCESS",
    }
    assert run["by"]["ok"]["condition_task"]["outcome"] == "true"
    assert log(run["by"]["first"]) == "set=n:3 set=ok:true 2013-11"
    assert log(run["by"]["yes"]) == "n=3"
    assert log(run["by"]["join"]) == "excluded"
    assert run["state"] == {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}
    assert run["job_parameters"] == [{"name": "month", "value": "2013-11"}]


def test_wheel_and_notebook_tasks_get_the_jobs_parameters_pushed_down(cluster: Cluster, tmp_path: Path) -> None:
    jobs = """
    a:
      parameters: [{name: month, default: "2013-10"}]
      tasks:
        - {task_key: wheel, python_wheel_task: {package_name: shown, entry_point: main, named_parameters: {month: mine, own: "1"}}}
        - {task_key: book, notebook_task: {notebook_path: book.py, base_parameters: {month: mine, own: "2"}}}
    """
    book = "# Databricks notebook source\nwords = dbutils.widgets.getAll()\ndbutils.notebook.exit(' '.join(f'{k}={words[k]}' for k in sorted(words)))\n"
    run = ran(cluster, tmp_path, jobs, book=book, shown="import sys\n\ndef main():\n    print(*sys.argv[1:])\n")
    assert log(run["by"]["wheel"]) == "--month=2013-10 --own=1"
    assert run["by"]["book"]["notebook_output"]["result"] == "month=2013-10 own=2"


def test_a_loop_runs_its_task_for_each_item_and_in_the_order_of_the_items(cluster: Cluster, tmp_path: Path) -> None:
    jobs = """
    a:
      tasks:
        - {task_key: list, spark_python_task: {python_file: say.py, parameters: ['set=items:[{"k": "x", "n": 1}, {"k": "y", "n": 2}]']}}
        - task_key: each
          depends_on: [{task_key: list}]
          for_each_task:
            inputs: "{{tasks.list.values.items}}"
            task: {task_key: one, spark_python_task: {python_file: say.py, parameters: ["{{input.k}}", "{{input.n}}", "{{input}}"]}}
    """
    run = ran(cluster, tmp_path, jobs)
    rounds = run["by"]["each"]["for_each_task"]["iterations"]
    assert [log(r) for r in rounds] == ['x 1.0 {"k":"x","n":1.0}', 'y 2.0 {"k":"y","n":2.0}']
    assert rounds[0]["end_time"] <= rounds[1]["start_time"]
    assert result(run) == "SUCCESS"


def test_a_loop_with_a_failed_item_goes_on_with_the_others_and_fails(cluster: Cluster, tmp_path: Path) -> None:
    jobs = """
    a:
      tasks:
        - task_key: each
          for_each_task:
            inputs: '["fail=one", "two"]'
            concurrency: 2
            task: {task_key: one, spark_python_task: {python_file: say.py, parameters: ["{{input}}"]}}
        - {task_key: after, depends_on: [{task_key: each}], spark_python_task: {python_file: say.py}}
    """
    run = ran(cluster, tmp_path, jobs)
    assert [result(r) for r in run["by"]["each"]["for_each_task"]["iterations"]] == ["FAILED", "SUCCESS"]
    assert run["by"]["each"]["state"]["state_message"] == "1 of 2 iterations failed."
    assert result(run["by"]["after"]) == "UPSTREAM_FAILED"
    assert result(run) == "FAILED"


def test_a_job_run_by_a_task_is_a_run_of_its_own_with_parameters_and_result(cluster: Cluster, tmp_path: Path) -> None:
    jobs = """
    a:
      parameters: [{name: region, default: north}, {name: unknown_below, default: x}]
      tasks:
        - {task_key: nested, run_job_task: {job_id: "${resources.jobs.b.id}", job_parameters: {day: "{{job.parameters.region}}-1"}}}
    b:
      parameters: [{name: day, default: none}, {name: region, default: south}]
      tasks:
        - {task_key: t, spark_python_task: {python_file: say.py, parameters: ["{{job.parameters.day}}", "{{job.parameters.region}}", "fail=on purpose"]}}
    """
    run = ran(cluster, tmp_path, jobs)
    child = by_key(run["by"]["nested"]["run"])
    assert {p["name"]: p["value"] for p in child["job_parameters"]} == {"day": "north-1", "region": "north"}
    assert child["run_id"] not in (run["run_id"], run["by"]["nested"]["run_id"])
    assert child["by"]["t"]["state"]["state_message"] == "ValueError: on purpose"
    assert "ValueError: on purpose" in log(child["by"]["t"])
    assert run["by"]["nested"]["state"]["state_message"] == f"Run {child['run_id']} of job 'b' ended FAILED."
    assert run["state"]["state_message"].startswith("Task nested failed: Run")


def test_a_reference_without_a_value_fails_its_task_and_says_which(cluster: Cluster, tmp_path: Path) -> None:
    jobs = """
    a:
      tasks:
        - {task_key: t, spark_python_task: {python_file: say.py}}
        - {task_key: u, depends_on: [{task_key: t}], spark_python_task: {python_file: say.py, parameters: ["{{tasks.t.values.gone}}"]}}
    """
    run = ran(cluster, tmp_path, jobs)
    assert run["by"]["u"]["state"] == {
        "life_cycle_state": "INTERNAL_ERROR",
        "result_state": "FAILED",
        "state_message": "Task value referenced by '{{tasks.t.values.gone}}' was not found.",
    }


def test_a_task_is_retried_after_its_interval_and_the_last_attempt_counts(cluster: Cluster, tmp_path: Path) -> None:
    flaky = """
    import pathlib, sys
    seen = pathlib.Path(sys.argv[1])
    if not seen.exists():
        seen.touch()
        raise SystemExit("the first time it fails")
    """
    job = (
        "a: {tasks: [{task_key: t, max_retries: 3, min_retry_interval_millis: 700, spark_python_task: {python_file: flaky.py, parameters: ["
    )
    run = ran(cluster, tmp_path, f"{job}'{tmp_path}/seen']}}}}]}}\n", flaky=flaky)
    task = run["by"]["t"]
    assert (result(task), task["attempt_number"]) == ("SUCCESS", 1)
    assert [result(e) for e in task["previous_attempts"]] == ["FAILED"]
    assert task["start_time"] - task["previous_attempts"][0]["start_time"] >= 700
    assert result(run) == "SUCCESS"


def test_a_task_that_takes_too_long_is_ended_with_all_its_processes(cluster: Cluster, tmp_path: Path) -> None:
    slow = f"""
    import pathlib, subprocess, time
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path("{tmp_path}/pid").write_text(str(child.pid))
    time.sleep(600)
    """
    run = ran(cluster, tmp_path, "a: {tasks: [{task_key: t, timeout_seconds: 2, spark_python_task: {python_file: slow.py}}]}\n", slow=slow)
    assert run["by"]["t"]["state"]["result_state"] == "TIMEDOUT"
    assert run["by"]["t"]["state"]["state_message"] == "It took longer than 2 s."
    assert result(run) == "FAILED"
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_cancelling_ends_nested_runs_and_loops_and_starts_nothing_more(cluster: Cluster, tmp_path: Path) -> None:
    jobs = """
    a:
      tasks:
        - task_key: each
          for_each_task: {inputs: "[1, 2, 3]", task: {task_key: nested, run_job_task: {job_id: "${resources.jobs.b.id}"}}}
        - {task_key: after, depends_on: [{task_key: each}], run_if: ALL_DONE, spark_python_task: {python_file: say.py}}
    b: {tasks: [{task_key: slow, spark_python_task: {python_file: slow.py}}]}
    """
    slow = f"import pathlib, time\npathlib.Path('{tmp_path}/started').touch()\ntime.sleep(600)\n"
    runner, history, every = started(cluster, tmp_path, jobs, slow=slow)
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(runner.run(every["a"])))
    thread.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    runner.stop.set()
    thread.join(20)
    run = by_key(run_json(history, ended[0][0]))
    assert (result(run), result(run["by"]["each"]), result(run["by"]["after"])) == ("CANCELED", "CANCELED", "CANCELED")
    rounds = run["by"]["each"]["for_each_task"]["iterations"]
    assert {result(r) for r in rounds} == {"CANCELED"}
    assert result(rounds[0]["run"]["tasks"][0]) == "CANCELED"
    assert [r["start_time"] > 0 for r in rounds] == [True, False, False]
    assert history.rows("SELECT * FROM task_runs WHERE end_time IS NULL") == []


def test_only_runs_the_tasks_it_names(cluster: Cluster, tmp_path: Path) -> None:
    jobs = """
    a:
      tasks:
        - {task_key: t, spark_python_task: {python_file: say.py}}
        - {task_key: u, depends_on: [{task_key: t}], spark_python_task: {python_file: say.py}}
    """
    run = ran(cluster, tmp_path, jobs, only=("u",))
    assert {k: result(t) for k, t in run["by"].items()} == {"t": "DISABLED", "u": "SUCCESS"}
    assert result(run) == "SUCCESS"


def test_tasks_that_do_not_depend_on_each_other_run_at_the_same_time_up_to_the_cap(cluster: Cluster, tmp_path: Path) -> None:
    wait = """
    import pathlib, sys, time
    mine, other = map(pathlib.Path, sys.argv[1:])
    mine.touch()
    deadline = time.monotonic() + 20
    while not other.exists():
        assert time.monotonic() < deadline, "the other task never started"
        time.sleep(0.02)
    """
    rows = [
        f"{{task_key: t{i}, spark_python_task: {{python_file: wait.py, parameters: ['{tmp_path}/{i}', '{tmp_path}/{1 - i}']}}}}"
        for i in range(2)
    ]
    assert result(ran(cluster, tmp_path, f"a: {{tasks: [{', '.join(rows)}]}}\n", wait=wait)) == "SUCCESS"


def test_no_more_tasks_compute_than_there_are_slots_and_one_that_waits_can_be_stopped() -> None:
    shared, stop = RunContext(None, None, {}, None, (), 2, AS_IT_IS), StopRequest()  # type: ignore[arg-type]
    assert [shared.take_slot(stop) for _ in range(2)] == [True, True]
    took: list[bool] = []
    waiting = threading.Thread(target=lambda: took.append(shared.take_slot(stop)))
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive(), "a third task computes beside two"
    stop.set()
    waiting.join(10)
    assert took == [False]
    shared.slots.release()
    assert shared.take_slot(stop)


@pytest.mark.parametrize("kind", ["raise", "kill"])
def test_a_task_that_dies_fails_with_its_last_words(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    die = "import os, signal\nprint('last words', flush=True)\n" + (
        "os.kill(os.getpid(), signal.SIGKILL)\n" if kind == "kill" else "1 / 0\n"
    )
    run = ran(cluster, tmp_path, "a: {tasks: [{task_key: t, spark_python_task: {python_file: die.py}}]}\n", die=die)
    message = {"raise": "ZeroDivisionError: division by zero", "kill": "killed by signal 9 (SIGKILL)"}[kind]
    assert run["by"]["t"]["state"]["state_message"] == message
    assert "last words" in log(run["by"]["t"])
    assert json.loads(json.dumps(run))["state"]["result_state"] == "FAILED"
