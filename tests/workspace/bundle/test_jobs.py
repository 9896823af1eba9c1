"""Jobs against their schema and against what the platform refuses: each fault with its place and the nearest right name."""

from __future__ import annotations

from pathlib import Path

import pytest

from boathouse.workspace.bundle.jobs import all_jobs, find_job
from boathouse.workspace.bundle.load import load
from boathouse.workspace.errors import BundleError
from boathouse.workspace.validate.check import findings, refuse_unrunnable

HEAD = "bundle: {name: demo}\nresources:\n  jobs:\n"
CHAIN = "    {a}: {{tasks: [{{task_key: t, run_job_task: {{job_id: '${{resources.jobs.{b}.id}}'}}}}]}}\n"
OK = "spark_python_task: {python_file: s.py}"


def said(tmp_path: Path, jobs: str, job: str = "a", level: str = "error") -> list[str]:
    (tmp_path / "databricks.yml").write_text(HEAD + jobs)
    (tmp_path / "s.py").write_text("print(1)\n")
    (tmp_path / "n.py").write_text("# Databricks notebook source\n1\n")
    (tmp_path / "sub").mkdir(exist_ok=True)
    every = all_jobs(load(tmp_path, environ={}))
    return [str(f.problem) for f in findings(every, every[job]) if f.level == level]


def tasks(*lines: str, head: str = "") -> str:
    return f"    a:\n{head}      tasks:\n" + "".join(f"        - {{{line}}}\n" for line in lines)


def test_a_right_job_has_no_findings(tmp_path: Path) -> None:
    assert (
        said(tmp_path, tasks(f"task_key: t, {OK}", "task_key: u, depends_on: [{task_key: t}], notebook_task: {notebook_path: n.py}")) == []
    )


def test_a_dangling_edge_names_the_nearest_task(tmp_path: Path) -> None:
    job = tasks(f"task_key: validate, {OK}", f"task_key: promote, depends_on: [{{task_key: validat}}], {OK}")
    assert said(tmp_path, job) == [
        "databricks.yml:7:55: task 'promote' depends on 'validat', which is not a task of this job. Did you mean 'validate'?",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"task_key: t, bogus: 1, {OK}", "databricks.yml:6:25: 'bogus' is not a key of a task."),
        (f"task_key: t, run_if: ALL_DON, {OK}", "'run_if' is 'ALL_DON', not one of"),
        (f"task_key: t, max_retries: many, {OK}", "databricks.yml:6:38: 'max_retries' is 'many', not a whole number."),
        ("task_key: t, spark_python_task: {python_fil: s.py}", "Did you mean 'python_file'?"),
        ("task_key: t, spark_python_task: {}", "'spark_python_task' lacks 'python_file'."),
        ("task_key: t, notebook_task: {notebook_path: [x]}", "'notebook_path' is a list, not a string."),
        ("task_key: t, depends_on: {task_key: x}, " + OK, "'depends_on' must be a list."),
        (OK, "a task lacks 'task_key'."),
    ],
)
def test_what_the_schema_does_not_know_is_named_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    assert any(message in one for one in said(tmp_path, tasks(line)))


def test_numbers_where_the_api_wants_strings_are_taken_as_their_text(tmp_path: Path) -> None:
    assert (
        said(tmp_path, tasks("task_key: t, spark_python_task: {python_file: s.py, parameters: [1, true, x]}", head="      tags: {n: 3}\n"))
        == []
    )
    job = all_jobs(load(tmp_path, environ={}))["a"]
    assert job.tasks["t"].body.parameters == ["1", "true", "x"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"task_key: t, depends_on: [{{task_key: t}}], {OK}"], "task 't' depends on itself."),
        (
            [f"task_key: t, depends_on: [{{task_key: u}}], {OK}", f"task_key: u, depends_on: [{{task_key: t}}], {OK}"],
            "the tasks of job 'a' wait for each other: t -> u -> t.",
        ),
        (
            [f"task_key: t, {OK}", f"task_key: u, depends_on: [{{task_key: t, outcome: 'true'}}], {OK}"],
            "'t' is not a condition_task and has no outcome.",
        ),
        (["task_key: t"], "task 't' states nothing to run. A task has exactly one task type."),
        ([f"task_key: t, notebook_task: {{notebook_path: n.py}}, {OK}"], "states notebook_task and spark_python_task"),
        (["task_key: t, spark_python_task: {python_file: s2.py}"], "there is no file 's2.py'. Did you mean 's.py'?"),
        (["task_key: t, spark_python_task: {python_file: n.py}"], "'n.py' is a notebook. Use a notebook_task."),
        (
            ["task_key: t, notebook_task: {notebook_path: s.py}"],
            "'s.py' is not a notebook. Its first line must be '# Databricks notebook source'.",
        ),
        (["task_key: t, notebook_task: {notebook_path: n}"], "Write it with its extension: 'n.py'."),
        (
            ["task_key: t, python_wheel_task: {package_name: boathouse, entry_point: sliver}"],
            "no entry point 'sliver'. Did you mean 'silver'?",
        ),
        (
            ["task_key: t, python_wheel_task: {package_name: nowhere, entry_point: x}"],
            "the package 'nowhere' is not installed here.",
        ),
        (
            ["task_key: t, python_wheel_task: {package_name: boathouse, entry_point: silver, parameters: [a], named_parameters: {b: c}}"],
            "not both",
        ),
        (["task_key: t, for_each_task: {inputs: '[1', task: {task_key: i, " + OK + "}}"], "'inputs' is not a JSON array"),
        (
            ["task_key: t, for_each_task: {inputs: '[1]', concurrency: 101, task: {task_key: i, " + OK + "}}"],
            "concurrency is 101; 1 to 100",
        ),
        (
            ["task_key: t, max_retries: 1, for_each_task: {inputs: '[1]', task: {task_key: i, " + OK + "}}"],
            "a for_each_task has no retries",
        ),
        (
            [
                "task_key: t, for_each_task: {inputs: '[1]', task: {task_key: i, for_each_task: {inputs: '[1]', task: {task_key: j, "
                + OK
                + "}}}}"
            ],
            "cannot repeat another",
        ),
        (
            [
                "task_key: t, for_each_task: {inputs: '[1]', task: {task_key: i, spark_python_task: {python_file: s.py, parameters: ['{{tasks.t.run_id}}']}}}"
            ],
            "the task 't' is not upstream of this one.",
        ),
        (["task_key: t, spark_python_task: {python_file: s.py, parameters: ['{{input}}']}"], "only inside a for_each_task"),
        (
            ["task_key: t, spark_python_task: {python_file: s.py, parameters: ['{{job.parameters.p}}']}"],
            "the job declares no parameter 'p'.",
        ),
    ],
)
def test_what_the_platform_refuses_and_a_schema_cannot_see_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    found = said(tmp_path, tasks(*lines))
    assert any(message in one for one in found), found
    assert all(one.startswith("databricks.yml:") for one in found)


def test_the_inputs_of_a_loop_written_out_are_one_array_of_at_most_5000_characters(tmp_path: Path) -> None:
    loop = "task_key: t, for_each_task: {inputs: '[%s]', task: {task_key: i, " + OK + "}}"
    assert said(tmp_path, tasks(loop % ("1, " * 1665 + "111"))) == []
    assert "'inputs' has 5001 characters; 5000 is the most. Pass a task value." in said(tmp_path, tasks(loop % ("1, " * 1665 + "1111")))[0]
    assert "'inputs' cannot be read: Exceeds the limit" in said(tmp_path, tasks(loop % ("1" * 4998)))[0]
    assert "'inputs' is a JSON array or one reference, not a mixture." in said(tmp_path, tasks(loop % "{{job.id}}"))[0]


def test_a_parameters_name_has_letters_digits_and_three_signs(tmp_path: Path) -> None:
    assert said(tmp_path, tasks(f"task_key: t, {OK}", head="      parameters: [{name: a-b_c.D9, default: x}]\n")) == []
    told = said(tmp_path, tasks(f"task_key: t, {OK}", head="      parameters: [{name: a b, default: x}]\n"))
    assert told == ["databricks.yml:5:27: 'a b' is not a parameter name. Letters, digits, '_', '-' and '.' are allowed."]


def test_paths_are_relative_to_the_file_that_holds_them(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "b.yml").write_text(
        "resources: {jobs: {b: {tasks: [{task_key: t, spark_python_task: {python_file: ../s.py}}]}}}\n"
    )
    said(tmp_path, tasks(f"task_key: t, {OK}"))
    (tmp_path / "databricks.yml").write_text("include: [bundles/b.yml]\n" + HEAD + tasks(f"task_key: t, {OK}"))
    every = all_jobs(load(tmp_path, environ={}))
    assert [f for f in findings(every, every["b"]) if f.level == "error"] == []


def test_jobs_that_run_each_other_in_a_circle_or_four_deep_are_refused(tmp_path: Path) -> None:
    circle = CHAIN.format(a="a", b="b") + CHAIN.format(a="b", b="a")
    assert "jobs run each other in a circle: a -> b -> a." in said(tmp_path, circle)[0]
    leaf = f"    d: {{tasks: [{{task_key: t, {OK}}}]}}\n"
    deep = CHAIN.format(a="a", b="b") + CHAIN.format(a="b", b="c") + CHAIN.format(a="c", b="d") + leaf
    assert "job 'a' nests jobs 4 deep; 3 is the most." in said(tmp_path, deep)[0]
    assert said(tmp_path, deep, job="b") == []


def test_a_parameter_that_the_other_job_does_not_declare_is_refused(tmp_path: Path) -> None:
    job = tasks("task_key: t, run_job_task: {job_id: '${resources.jobs.b.id}', job_parameters: {mont: x}}")
    job += f"    b: {{parameters: [{{name: month, default: x}}], tasks: [{{task_key: t, {OK}}}]}}\n"
    assert said(tmp_path, job) == ["databricks.yml:6:91: job 'b' declares no parameter 'mont'. Did you mean 'month'?"]


def test_a_task_that_does_not_run_here_refuses_its_own_job_and_no_other(tmp_path: Path) -> None:
    job = tasks("task_key: t, sql_task: {warehouse_id: w, query: {query_id: q}}") + f"    b: {{tasks: [{{task_key: t, {OK}}}]}}\n"
    assert said(tmp_path, job, level="refused") == ["databricks.yml:6:25: task 't' is a sql_task, which this machine does not run."]
    every = all_jobs(load(tmp_path, environ={}))
    assert refuse_unrunnable(every, every["b"]) == []
    with pytest.raises(BundleError, match=r"databricks\.yml:6:25: task 't' is a sql_task"):
        refuse_unrunnable(every, every["a"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("  schemas:\n    a: {catalog_name: c, name: a}\n", "databricks.yml:8:5: resources.schemas.a has the key of resources.jobs.a"),
        ("permissions: [{level: CAN_FLY, group_name: g}]\n", "databricks.yml:7:23: 'CAN_FLY' is not a level of permission of a bundle."),
        ("  pipelines: {p: {permissions: [{level: CAN_FLY, group_name: g}]}}\n", "databricks.yml:7:41: 'CAN_FLY' is not a level of"),
        ("targets: {d: {mode: development, presets: {name_prefix: x}}}\n", "databricks.yml:7:57: the name_prefix 'x' of a target"),
    ],
    ids=["keys", "permissions of the bundle", "another resource", "a mode"],
)
def test_an_error_outside_all_jobs_refuses_each_of_them(tmp_path: Path, more: str, message: str) -> None:
    assert said(tmp_path, tasks(f"task_key: t, {OK}") + more) == []
    every = all_jobs(load(tmp_path, environ={}))
    with pytest.raises(BundleError) as caught:
        refuse_unrunnable(every, every["a"])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "permissions: [{level: CAN_FLY, group_name: g}], tasks: [{task_key: t, notebook_task: {notebook_path: n.py}}]",
            "'CAN_FLY' is not",
        ),
        ("run_as: {user_name: me, service_principal_name: robot}, tasks: []", "'run_as' names user_name and service_principal_name"),
        ("tasks: [{task_key: t, notebook_task: {notebook_path: gone.py}}]", "there is no notebook 'gone.py'"),
        ("bogus: 1, permissions: [{level: CAN_FLY, group_name: g}]", r"'bogus' is not a key of a job\..*And 1 more"),
    ],
)
def test_an_error_in_one_job_refuses_that_job_and_no_other(tmp_path: Path, fault: str, message: str) -> None:
    assert said(tmp_path, tasks(f"task_key: t, {OK}") + f"    b: {{{fault}}}\n", "b")
    every = all_jobs(load(tmp_path, environ={}))
    assert refuse_unrunnable(every, every["a"]) == []
    with pytest.raises(BundleError, match=message):
        refuse_unrunnable(every, every["b"])


def test_resources_that_python_makes_hinder_no_job_that_is_written_out(tmp_path: Path) -> None:
    said(tmp_path, tasks(f"task_key: t, {OK}") + "python: {resources: ['resources:load']}\n")
    every = all_jobs(load(tmp_path, environ={}))
    assert refuse_unrunnable(every, every["a"]) == []


def test_a_job_of_somebody_else_does_not_run_here_but_is_no_fault(tmp_path: Path) -> None:
    job = tasks("task_key: t, run_job_task: {job_id: 5}")
    assert said(tmp_path, job) == []
    assert said(tmp_path, job, level="refused")[0].startswith(
        "databricks.yml:6:48: task 't' runs job 5, which is not a job of this bundle."
    )


def test_a_job_is_refused_for_a_fault_in_a_job_it_runs(tmp_path: Path) -> None:
    said(tmp_path, CHAIN.format(a="a", b="b") + "    b: {tasks: [{task_key: u, dbt_task: {commands: [x]}}]}\n")
    every = all_jobs(load(tmp_path, environ={}))
    with pytest.raises(BundleError, match="task 'u' is a dbt_task"):
        refuse_unrunnable(every, every["a"])


def test_what_has_no_effect_here_is_noted_once(tmp_path: Path) -> None:
    head = "      schedule: {quartz_cron_expression: '0 0 0 * * ?', timezone_id: UTC}\n"
    lines = [f"task_key: {k}, existing_cluster_id: c, {OK}" for k in "tu"]
    notes = said(tmp_path, tasks(*lines, head=head), level="note")
    assert [n.split("'")[1] for n in notes] == ["schedule", "existing_cluster_id"]


def test_an_unknown_job_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    said(tmp_path, tasks(f"task_key: t, {OK}").replace("a:\n", "lifecycle:\n", 1), job="lifecycle")
    every = all_jobs(load(tmp_path, environ={}))
    with pytest.raises(BundleError, match=r"databricks\.yml: the bundle has no job 'lifecicle'\. Did you mean 'lifecycle'\?"):
        find_job(every, "lifecicle", "databricks.yml")
