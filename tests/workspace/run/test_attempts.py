"""Attempts, retries, timeouts and loops as the runner carries them out. The tasks are functions: the cluster is not what is tested."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.errors import BundleError
from boathouse.workspace.history.as_json import run_json
from boathouse.workspace.history.store import History
from boathouse.workspace.run.runner import Runner
from boathouse.workspace.task.spec import TaskResult, TaskSpec
from boathouse.workspace.validate.check import refuse_unrunnable

OK = TaskResult("SUCCESS")
BAD = TaskResult("FAILED", error="no oars")
Behaviour = Callable[[TaskSpec, threading.Event], TaskResult]
TASK = "spark_python_task: {python_file: s.py, parameters: ['{{input}}']}"


class Attempt:
    "One attempt: a function in a thread, which is told when it is cancelled."

    def __init__(self, spec: TaskSpec, behave: Behaviour) -> None:
        self.cancelled, self._result = threading.Event(), OK
        self._thread = threading.Thread(target=self._run, args=(spec, behave), daemon=True)
        self._thread.start()

    def _run(self, spec: TaskSpec, behave: Behaviour) -> None:
        self._result = behave(spec, self.cancelled)

    def wait(self, timeout: float | None = None) -> TaskResult:
        self._thread.join(timeout)
        return TaskResult("CANCELED") if self.cancelled.is_set() else self._result

    def cancel(self) -> None:
        self.cancelled.set()
        self._thread.join()


class Functions:
    "A cluster whose tasks are calls of one function; `seconds` is what it takes to be ready."

    def __init__(self, behave: Behaviour, seconds: float = 0) -> None:
        self.behave, self.seconds, self.specs = behave, seconds, list[TaskSpec]()

    def launch(self, spec: TaskSpec) -> Attempt:
        time.sleep(self.seconds)
        self.specs.append(spec)
        return Attempt(spec, self.behave)


def ran(
    folder: Path, jobs: str, behave: Behaviour = lambda spec, cancelled: OK, seconds: float = 0, **given: str
) -> tuple[dict[str, Any], list[TaskSpec]]:
    "The run of job `a` as JSON, and what was launched."
    (folder / "databricks.yml").write_text("bundle: {name: demo}\nresources:\n  jobs:\n" + textwrap.indent(textwrap.dedent(jobs), "    "))
    (folder / "s.py").write_text("print(1)\n")
    (folder / "shown.py").write_text("def main(): ...\n")
    (folder / "n.py").write_text("# Databricks notebook source\n1\n")
    bundle = load(folder, environ={})
    every = all_jobs(bundle)
    refuse_unrunnable(every, every["a"])
    cluster = Functions(behave, seconds)
    with History(bundle.state) as history:
        run_id, _ = Runner(cluster, bundle, every, history, slots=50).run(every["a"], given)  # type: ignore[arg-type]
        return run_json(history, run_id), cluster.specs


def result(thing: dict[str, Any]) -> str:
    return thing["state"]["result_state"]


def failing(times: int) -> Behaviour:
    "Fails so many times, then succeeds."
    left = [BAD] * times
    return lambda spec, cancelled: left.pop() if left else OK


def sleeping(spec: TaskSpec, cancelled: threading.Event) -> TaskResult:
    cancelled.wait(20)
    return OK


def test_the_timeout_of_a_task_starts_with_its_process_not_with_the_wait_for_the_cluster(tmp_path: Path) -> None:
    run, _ = ran(tmp_path, f"a: {{tasks: [{{task_key: t, timeout_seconds: 1, {TASK.replace('{{input}}', 'x')}}}]}}", seconds=1.3)
    assert result(run) == "SUCCESS"


def test_each_attempt_has_the_whole_timeout_and_only_retry_on_timeout_tries_again(tmp_path: Path) -> None:
    task = TASK.replace("{{input}}", "x")
    run, specs = ran(tmp_path, f"a: {{tasks: [{{task_key: t, timeout_seconds: 1, max_retries: 2, {task}}}]}}", sleeping)
    assert (result(run["tasks"][0]), result(run), len(specs)) == ("TIMEDOUT", "FAILED", 1)
    slow = [sleeping]
    run, specs = ran(
        tmp_path,
        f"a: {{tasks: [{{task_key: t, timeout_seconds: 1, max_retries: 2, retry_on_timeout: true, {task}}}]}}",
        lambda spec, cancelled: slow.pop()(spec, cancelled) if slow else OK,
    )
    assert (result(run["tasks"][0]["previous_attempts"][0]), result(run), len(specs)) == ("TIMEDOUT", "SUCCESS", 2)


def test_the_timeout_of_a_job_ends_the_run_and_all_it_has_started(tmp_path: Path) -> None:
    jobs = f"""
    a:
      timeout_seconds: 1
      tasks:
        - {{task_key: t, max_retries: -1, {TASK.replace("{{input}}", "x")}}}
        - {{task_key: u, depends_on: [{{task_key: t}}], run_if: ALL_DONE, {TASK.replace("{{input}}", "x")}}}
    """
    run, _ = ran(tmp_path, jobs, sleeping)
    assert (result(run), run["state"]["state_message"]) == ("TIMEDOUT", "The run took longer than 1 s.")
    assert [result(t) for t in run["tasks"]] == ["CANCELED", "CANCELED"]


def test_the_retry_interval_counts_from_the_start_of_the_attempt_that_failed(tmp_path: Path) -> None:
    def slowly(spec: TaskSpec, cancelled: threading.Event) -> TaskResult:
        time.sleep(0.4)
        return BAD

    task = TASK.replace("{{input}}", "x")
    run, _ = ran(tmp_path, f"a: {{tasks: [{{task_key: t, max_retries: 1, min_retry_interval_millis: 600, {task}}}]}}", slowly)
    last = run["tasks"][0]
    assert 600 <= last["start_time"] - last["previous_attempts"][0]["start_time"] < 900


def test_minus_one_retries_without_end_and_none_are_the_default(tmp_path: Path) -> None:
    task = TASK.replace("{{input}}", "x")
    run, _ = ran(tmp_path, f"a: {{tasks: [{{task_key: t, max_retries: -1, {task}}}]}}", failing(12))
    assert (result(run), run["tasks"][0]["attempt_number"]) == ("SUCCESS", 12)
    assert result(ran(tmp_path, f"a: {{tasks: [{{task_key: t, {task}}}]}}", failing(1))[0]) == "FAILED"


def test_a_run_tells_what_the_last_attempt_of_a_task_said_once_and_nothing_of_those_before_a_success(tmp_path: Path) -> None:
    job = f"a: {{tasks: [{{task_key: t, max_retries: 1, {TASK.replace('{{input}}', 'x')}}}]}}"
    run, _ = ran(tmp_path, job, failing(1))
    assert (result(run), run["state"]["state_message"]) == ("SUCCESS", "")
    run, _ = ran(tmp_path, job, failing(2))
    assert (result(run), run["state"]["state_message"].count("Task t failed")) == ("FAILED", 1)


def test_a_task_that_could_not_start_is_tried_again_as_a_failed_one_is(tmp_path: Path) -> None:
    jobs = """
    a:
      tasks:
        - {task_key: t, spark_python_task: {python_file: s.py}}
        - {task_key: u, max_retries: 1, depends_on: [{task_key: t}], spark_python_task: {python_file: s.py, parameters: ["{{tasks.t.values.gone}}"]}}
    """
    run, _ = ran(tmp_path, jobs)
    last = run["tasks"][1]
    assert (last["attempt_number"], last["state"]["life_cycle_state"], result(run)) == (1, "INTERNAL_ERROR", "FAILED")


def test_a_condition_is_computed_once_whatever_retries_it_states(tmp_path: Path) -> None:
    run, specs = ran(tmp_path, "a: {tasks: [{task_key: c, max_retries: 3, condition_task: {op: LESS_THAN, left: many, right: '3'}}]}")
    assert (result(run), run["tasks"][0]["attempt_number"], specs) == ("FAILED", 0, [])


def test_a_loop_runs_one_item_at_a_time_or_as_many_as_its_concurrency(tmp_path: Path) -> None:
    for concurrency in (None, 3, 50):
        running, peak, together = [0], [0], threading.Barrier(concurrency or 1)

        def meet(
            spec: TaskSpec, cancelled: threading.Event, running: list = running, peak: list = peak, together: Any = together
        ) -> TaskResult:
            running[0] += 1
            peak[0] = max(peak[0], running[0])
            together.wait(10)  # breaks, and fails the test, unless so many run at once
            time.sleep(0.02)
            running[0] -= 1
            return OK

        stated = f"concurrency: {concurrency}, " if concurrency else ""
        items = list(range(6 if concurrency != 50 else 50))
        loop = f"a: {{tasks: [{{task_key: each, for_each_task: {{inputs: '{items}', {stated}task: {{task_key: i, {TASK}}}}}}}]}}"
        run, specs = ran(tmp_path, loop, meet)
        assert (result(run), len(specs), peak[0]) == ("SUCCESS", len(items), concurrency or 1)


def test_a_failed_iteration_is_retried_by_the_nested_task_and_each_is_a_run_of_its_own(tmp_path: Path) -> None:
    first = {"1": [BAD, BAD], "2": []}
    loop = f"a: {{tasks: [{{task_key: each, for_each_task: {{inputs: '[1, 2]', task: {{task_key: i, max_retries: 2, {TASK}}}}}}}]}}"
    run, _ = ran(tmp_path, loop, lambda spec, cancelled: first[spec.argv[0]].pop() if first[spec.argv[0]] else OK)
    rounds = run["tasks"][0]["for_each_task"]["iterations"]
    assert [(r["input"], r["attempt_number"], result(r)) for r in rounds] == [("1", 2, "SUCCESS"), ("2", 0, "SUCCESS")]
    ids = [r["run_id"] for r in rounds] + [p["run_id"] for p in rounds[0]["previous_attempts"]]
    assert len({*ids, run["tasks"][0]["run_id"], run["run_id"]}) == 6
    assert all(r["end_time"] >= r["start_time"] > 0 for r in rounds)


def test_an_iteration_that_takes_too_long_is_ended_alone(tmp_path: Path) -> None:
    loop = f"a: {{tasks: [{{task_key: each, for_each_task: {{inputs: '[1, 2]', concurrency: 2, task: {{task_key: i, timeout_seconds: 1, {TASK}}}}}}}]}}"
    run, _ = ran(tmp_path, loop, lambda spec, cancelled: sleeping(spec, cancelled) if spec.argv == ("1",) else OK)
    assert [result(r) for r in run["tasks"][0]["for_each_task"]["iterations"]] == ["TIMEDOUT", "SUCCESS"]
    assert run["tasks"][0]["state"]["state_message"] == "1 of 2 iterations failed."


def test_a_loop_repeats_any_type_of_task_and_pushes_no_job_parameters_into_it(tmp_path: Path) -> None:
    jobs = """
    a:
      parameters: [{name: day, default: "1"}]
      tasks:
        - {task_key: n, for_each_task: {inputs: '[{"k": 7}]', task: {task_key: i, notebook_task: {notebook_path: n.py, base_parameters: {of: "{{input.k}}", at: "{{task.notebook_path}}"}}}}}
        - {task_key: w, for_each_task: {inputs: '["x"]', task: {task_key: i, python_wheel_task: {package_name: shown, entry_point: main, named_parameters: {of: "{{input}}"}}}}}
        - {task_key: c, for_each_task: {inputs: '[7]', task: {task_key: i, condition_task: {op: EQUAL_TO, left: "{{input}}", right: "7"}}}}
        - {task_key: j, for_each_task: {inputs: '[7]', task: {task_key: i, run_job_task: {job_id: "${resources.jobs.b.id}", job_parameters: {of: "{{input}}"}}}}}
        - {task_key: none, for_each_task: {inputs: '[]', task: {task_key: i, spark_python_task: {python_file: s.py}}}}
    b:
      parameters: [{name: of, default: ""}, {name: day, default: mine}]
      tasks: [{task_key: t, spark_python_task: {python_file: s.py, parameters: ["{{job.parameters.of}}", "{{job.parameters.day}}"]}}]
    """
    run, specs = ran(tmp_path, jobs)
    assert {t["task_key"]: result(t) for t in run["tasks"]} == dict.fromkeys("nwcj", "SUCCESS") | {"none": "SUCCESS"}
    by_kind = {spec.kind: spec for spec in specs}
    assert dict(by_kind["notebook"].widgets) == {"of": "7.0", "at": str(tmp_path / "n")}
    assert by_kind["wheel"].argv == ("--of=x",)
    assert by_kind["script"].argv == ("7", "mine")
    assert by_kind["notebook"].context["loop"] == "n"


def test_jobs_run_each_other_three_deep_and_hand_their_parameters_down(tmp_path: Path) -> None:
    jobs = """
    a: {parameters: [{name: day, default: "1"}], tasks: [{task_key: t, run_job_task: {job_id: "${resources.jobs.b.id}", job_parameters: {extra: e}}}]}
    b: {parameters: [{name: day, default: b}, {name: extra, default: b}], tasks: [{task_key: t, run_job_task: {job_id: "${resources.jobs.c.id}"}}]}
    c: {parameters: [{name: day, default: c}, {name: own, default: c}], tasks: [{task_key: t, spark_python_task: {python_file: s.py, parameters: ["{{job.parameters.day}}", "{{job.parameters.own}}"]}}]}
    """
    run, specs = ran(tmp_path, jobs, day="9")
    assert (result(run), specs[0].argv) == ("SUCCESS", ("9", "c"))
    assert {p["name"]: p["value"] for p in run["tasks"][0]["run"]["job_parameters"]} == {"day": "9", "extra": "e"}


@pytest.mark.parametrize(("ending", "seen"), [(lambda spec, cancelled: BAD, "FAILED"), (sleeping, "FAILED")])
def test_a_task_whose_job_failed_or_timed_out_fails(tmp_path: Path, ending: Behaviour, seen: str) -> None:
    jobs = """
    a: {tasks: [{task_key: t, run_job_task: {job_id: "${resources.jobs.b.id}"}}]}
    b: {timeout_seconds: 1, tasks: [{task_key: t, spark_python_task: {python_file: s.py}}]}
    """
    run, _ = ran(tmp_path, jobs, ending)
    assert (result(run["tasks"][0]), result(run)) == (seen, "FAILED")


def test_parameters_that_are_too_long_together_are_refused_before_the_run(tmp_path: Path) -> None:
    "What the defaults may take together, the values of a run may: a job that can be created can be run as it is."
    job = "a: {parameters: [{name: day, default: x}], tasks: [{task_key: t, spark_python_task: {python_file: s.py}}]}"
    fits = 10_000 - len("[]") - 29 - len("day")
    assert result(ran(tmp_path, job.replace("default: x", f"default: {'d' * fits}"))[0]) == "SUCCESS"
    with pytest.raises(BundleError, match="the parameters of job 'a' take 10001 characters as JSON; 10000 is the most"):
        ran(tmp_path, job.replace("default: x", f"default: {'d' * (fits + 1)}"))
    assert result(ran(tmp_path, job, day="d" * fits)[0]) == "SUCCESS"
    with pytest.raises(BundleError, match="the parameters of job 'a' take 10001 characters as JSON; 10000 is the most"):
        ran(tmp_path, job, day="d" * (fits + 1))


def test_of_an_exit_value_longer_than_five_megabytes_the_api_gives_so_much(tmp_path: Path) -> None:
    whole = 5 * 1024 * 1024
    for length, given, truncated in ((whole, whole, False), (whole + 1, whole, True)):
        job = "a: {tasks: [{task_key: t, notebook_task: {notebook_path: n.py}}]}"
        run, _ = ran(tmp_path, job, lambda spec, cancelled, length=length: TaskResult("SUCCESS", exit_value="x" * length))
        told = run["tasks"][0]["notebook_output"]
        assert (len(told["result"]), told["truncated"]) == (given, truncated)


def test_every_run_leaves_a_page_also_a_nested_one_a_failed_one_and_one_that_was_refused(tmp_path: Path) -> None:
    jobs = """
    a: {tasks: [{task_key: t, run_job_task: {job_id: "${resources.jobs.b.id}"}}]}
    b: {tasks: [{task_key: t, spark_python_task: {python_file: s.py}}]}
    """
    run, _ = ran(tmp_path, jobs, failing(9))
    pages = [run["run_page_url"], run["tasks"][0]["run"]["run_page_url"]]
    folder = tmp_path / ".boathouse" / "default" / "runs" / str(run["run_id"])
    assert pages == [(folder / "index.html").as_uri(), (folder / "t" / "index.html").as_uri()]
    assert [text.count("no oars") > 0 for text in ((folder / "index.html").read_text(), (folder / "t" / "index.html").read_text())] == [
        True
    ] * 2
    refused, _ = ran(tmp_path, f"a: {{max_concurrent_runs: 0, tasks: [{{task_key: t, {TASK.replace('{{input}}', 'x')}}}]}}")
    assert "MAXIMUM_CONCURRENT_RUNS_REACHED" in (folder.parent / str(refused["run_id"]) / "index.html").read_text()


def test_a_run_whose_page_cannot_be_written_has_its_result_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def block(spec: TaskSpec, cancelled: threading.Event) -> TaskResult:
        (spec.folder.parent / "index.html").mkdir(parents=True)
        return OK

    run, _ = ran(tmp_path, f"a: {{tasks: [{{task_key: t, {TASK.replace('{{input}}', 'x')}}}]}}", block)
    assert (result(run), "run_page_url" in run) == ("SUCCESS", False)
    assert capsys.readouterr().err.count(f"The page of run {run['run_id']} could not be written: IsADirectoryError") == 1
