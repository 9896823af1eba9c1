"What waits for what: dependencies, outcomes, circles, joins; jobs in jobs; loops; references."

from __future__ import annotations

from typing import Any

import pytest

N = "notebook_task: {notebook_path: n.py}"
CHAIN = "    {a}: {{tasks: [{{task_key: t, run_job_task: {{job_id: '${{resources.jobs.{b}.id}}'}}}}]}}\n"
HEAD = "bundle: {name: demo}\nresources:\n  jobs:\n"
BRANCHES = f"""
tasks:
  - {{task_key: ask, condition_task: {{op: EQUAL_TO, left: a, right: b}}}}
  - {{task_key: yes_, depends_on: [{{task_key: ask, outcome: "true"}}], {N}}}
  - {{task_key: no_, depends_on: [{{task_key: ask, outcome: "false"}}], {N}}}
"""


def loop(inputs: str = "'[1]'", more: str = "", body: str = N) -> str:
    return f"tasks:\n  - {{task_key: l, {more}for_each_task: {{inputs: {inputs}, task: {{task_key: i, {body}}}}}}}\n"


CASES = [
    ("self-dependency", f"tasks:\n  - {{task_key: t, depends_on: [{{task_key: ^t}}], {N}}}\n", "task 't' depends on itself."),
    (
        "dangling-edge",
        f"tasks:\n  - {{task_key: validate, {N}}}\n  - {{task_key: promote, depends_on: [{{task_key: ^validat}}], {N}}}\n",
        "task 'promote' depends on 'validat', which is not a task of this job. Did you mean 'validate'?",
    ),
    (
        "edge-outcome",
        f"tasks:\n  - {{task_key: t, {N}}}\n  - {{task_key: u, depends_on: [{{task_key: t, outcome: ^'true'}}], {N}}}\n",
        "task 't' is not a condition_task and has no outcome.",
    ),
    (
        "edge-outcome",
        BRANCHES.replace('"false"', '^"no"'),
        'the outcome of a condition is "true" or "false", not \'no\'.',
    ),
    (
        "circle",
        f"tasks:\n  - {{task_key: t, depends_on: ^[{{task_key: u}}], {N}}}\n  - {{task_key: u, depends_on: [{{task_key: t}}], {N}}}\n",
        "the tasks of job 'a' wait for each other: t -> u -> t.",
    ),
    (
        "both-outcomes",
        BRANCHES + f'  - {{task_key: join, depends_on: ^[{{task_key: ask, outcome: "true"}}, {{task_key: ask, outcome: "false"}}], {N}}}\n',
        "task 'join' depends on both outcomes of 'ask', so it never runs. Depend on the tasks of the branches instead.",
    ),
    (
        "join-without-run-if",
        BRANCHES + f"  - {{task_key: join, ^depends_on: [{{task_key: yes_}}, {{task_key: no_}}], {N}}}\n",
        "task 'join' joins a branch of the condition 'ask' with tasks outside it and has no run_if. "
        "Write `run_if: NONE_FAILED` to run it whichever branch was taken.",
    ),
    (
        "other-job",
        "tasks:\n  - {task_key: t, run_job_task: {job_id: ^5}}\n",
        "task 't' runs job 5, which is not a job of this bundle. Write `${resources.jobs.<key>.id}` for one of its own.",
    ),
    (
        "other-job-parameter",
        HEAD
        + "    a: {tasks: [{task_key: t, run_job_task: {job_id: '${resources.jobs.b.id}', job_parameters: {^mont: x}}}]}\n"
        + f"    b: {{parameters: [{{name: month, default: x}}], tasks: [{{task_key: t, {N}}}]}}\n",
        "job 'b' declares no parameter 'mont'. Did you mean 'month'?",
    ),
    (
        "job-circle",
        (HEAD + CHAIN.format(a="a", b="a")).replace("'$", "^'$"),
        "jobs run each other in a circle: a -> a.",
    ),
    (
        "job-depth",
        HEAD
        + CHAIN.format(a="a", b="b").replace("'$", "^'$")
        + CHAIN.format(a="b", b="c")
        + CHAIN.format(a="c", b="d")
        + f"    d: {{tasks: [{{task_key: t, {N}}}]}}\n",
        "job 'a' nests jobs 4 deep; 3 is the most.",
    ),
    ("loop-retries", loop(more="max_retries: ^1, "), "a for_each_task has no retries of its own. Give them to the task it repeats."),
    (
        "loop-in-loop",
        loop(body=f"^for_each_task: {{inputs: '[1]', task: {{task_key: j, {N}}}}}"),
        "a for_each_task cannot repeat another for_each_task.",
    ),
    (
        "loop-concurrency",
        loop(inputs="'[1]', concurrency: ^101"),
        "concurrency is 101; 1 to 100 is allowed.",
    ),
    ("loop-inputs", loop("^'[1'"), "'inputs' is not a JSON array: Expecting ',' delimiter at character 3."),
    (
        "loop-inputs",
        loop("^'[1, {{job.id}}]'"),
        "'inputs' is a JSON array or one reference, not a mixture.",
    ),
    (
        "loop-inputs",
        loop(f"^'[{'1,' * 2500}1]'"),
        "'inputs' has 5003 characters; 5000 is the most. Pass a task value.",
    ),
    (
        "reference",
        f"tasks:\n  - {{task_key: t, {N}}}\n  - {{task_key: u, notebook_task: {{notebook_path: n.py, base_parameters: {{x: ^'{{{{tasks.t.values.n}}}}'}}}}}}\n",
        "{{tasks.t.values.n}}: the task 't' is not upstream of this one. Add it to depends_on.",
    ),
    (
        "condition-operand",
        "tasks:\n  - {task_key: t, condition_task: {op: GREATER_THAN, left: ^many, right: '3'}}\n",
        "'many' is not a number, so GREATER_THAN cannot compare it.",
    ),
]


@pytest.mark.parametrize(("rule", "text", "message"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_a_wrong_edge_loop_or_reference_is_named_with_its_place(check: Any, page: Any, rule: str, text: str, message: str) -> None:
    assert check(text) == [f"{rule} ^ {message}"]
    page.shows(rule, message)


def test_a_loop_whose_code_sets_task_values_is_doubted(check: Any, page: Any) -> None:
    notebook = "# Databricks notebook source\ndbutils.jobs.taskValues.set('n', 1)\n"
    message = "task 'i' sets task values in a for_each_task, where there are none. Write to a table instead."
    assert check(loop(body=f"^{N}"), {"n.py": notebook}) == [f"loop-task-values ^ {message}"]
    page.shows("loop-task-values", message)


@pytest.mark.parametrize(
    "join",
    [
        f"- {{task_key: join, run_if: NONE_FAILED, depends_on: [{{task_key: yes_}}, {{task_key: no_}}], {N}}}",
        f'- {{task_key: join, depends_on: [{{task_key: yes_}}, {{task_key: ask, outcome: "true"}}], {N}}}',
        f'- {{task_key: twin, depends_on: [{{task_key: ask, outcome: "true"}}], {N}}}\n'
        f"  - {{task_key: join, depends_on: [{{task_key: yes_}}, {{task_key: twin}}], {N}}}",
        f"- {{task_key: all_, run_if: ALL_DONE, depends_on: [{{task_key: yes_}}, {{task_key: no_}}], {N}}}\n"
        f"  - {{task_key: other, {N}}}\n  - {{task_key: join, depends_on: [{{task_key: all_}}, {{task_key: other}}], {N}}}",
        f"- {{task_key: plain, depends_on: [{{task_key: ask}}], {N}}}\n"
        f"  - {{task_key: other, {N}}}\n  - {{task_key: join, depends_on: [{{task_key: plain}}, {{task_key: other}}], {N}}}",
    ],
    ids=["with run_if", "inside one branch", "of two tasks of one branch", "after the branches have met", "whatever the answer"],
)
def test_a_join_that_leaves_nothing_open_is_left_alone(check: Any, join: str) -> None:
    assert check(BRANCHES + f"  {join}\n") == []


def test_a_loop_over_a_task_value_that_reads_its_items_is_right(check: Any) -> None:
    body = "notebook_task: {notebook_path: n.py, base_parameters: {x: '{{input.key}}', y: '{{tasks.u.values.n}}'}}"
    text = (
        loop("'{{tasks.u.values.list}}'", "depends_on: [{task_key: u}], ", body)
        + "  - {task_key: u, notebook_task: {notebook_path: u.py}}\n"
    )
    notebook = "# Databricks notebook source\nprint(dbutils.widgets.get('x') + dbutils.widgets.get('y'))\n"
    assert check(text, {"n.py": notebook, "u.py": "# Databricks notebook source\n"}) == []
