"Parameters, widgets and what they miss of each other."

from __future__ import annotations

from typing import Any

import pytest

NOTEBOOK = "# Databricks notebook source\n"
CASES = [
    (
        "parameter-name",
        "parameters: [{name: ^a b, default: x}]\ntasks: [{task_key: t, notebook_task: {notebook_path: n.py}}]\n",
        {},
        "'a b' is not a parameter name. Letters, digits, '_', '-' and '.' are allowed.",
    ),
    (
        "parameter-default",
        "parameters: [{name: p, default: ^'{{tasks.t.values.x}}'}]\ntasks: [{task_key: t, notebook_task: {notebook_path: n.py}}]\n",
        {},
        "{{tasks.t.values.x}}: the job has no such task.",
    ),
    (
        "parameter-size",
        f"^parameters: [{{name: p, default: {'x' * 10000}}}]\ntasks: [{{task_key: t, notebook_task: {{notebook_path: n.py}}}}]\n",
        {},
        "the parameters of job 'a' take 10032 characters as JSON; 10000 is the most. Pass a path instead.",
    ),
    (
        "widget-not-set",
        "tasks: [{task_key: t, notebook_task: {notebook_path: ^n.py}}]\n",
        {"n.py": NOTEBOOK + "dbutils.widgets.text('day', 'today')\n"},
        "no parameter sets the widget 'day' of 'n.py', so it is always 'today'.",
    ),
    (
        "widget-not-set",
        "tasks: [{task_key: t, notebook_task: {notebook_path: ^n.py, base_parameters: {month: x}}}]\n",
        {"n.py": NOTEBOOK + "print(dbutils.widgets.get('month'), dbutils.widgets.get('day'))\n"},
        "no parameter sets the widget 'day' of 'n.py', and it is not declared, so reading it fails. "
        "Declare it with dbutils.widgets.text, or pass it in base_parameters.",
    ),
    (
        "widget-default",
        "tasks: [{task_key: t, notebook_task: {notebook_path: ^n.py, base_parameters: {day: x}}}]\n",
        {"n.py": NOTEBOOK + f"dbutils.widgets.text('day', '{'x' * 2049}')\n"},
        "the default of the widget 'day' of 'n.py' has 2049 bytes; 2048 is the most.",
    ),
    (
        "parameter-not-read",
        "tasks: [{task_key: t, notebook_task: {notebook_path: n.py, base_parameters: {^mont: x, month: y}}}]\n",
        {"n.py": NOTEBOOK + "print(dbutils.widgets.get('month'))\n"},
        "'n.py' does not read the parameter 'mont'. It would be dbutils.widgets.get('mont').",
    ),
    (
        "job-parameter-not-read",
        "parameters: [{name: ^month, default: x}]\n"
        "tasks: [{task_key: t, existing_cluster_id: c, spark_python_task: {python_file: s.py, parameters: [x]}}]\n",
        {},
        "no task reads the job parameter 'month'.",
    ),
    (
        "parameter-shadowed",
        "parameters: [{name: month, default: '2013-10'}]\n"
        "tasks: [{task_key: t, notebook_task: {notebook_path: n.py, base_parameters: {^month: '2014-01'}}}]\n",
        {},
        "the job's parameter 'month' replaces this one of task 't', so \"2014-01\" is never used. Rename one of them, or remove this one.",
    ),
]


@pytest.mark.parametrize(("rule", "text", "files", "message"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_parameters_that_miss_their_widgets_are_named(
    check: Any, page: Any, rule: str, text: str, files: dict[str, str], message: str
) -> None:
    assert check(text, files) == [f"{rule} ^ {message}"]
    page.shows(rule, message)


SILENT = {
    "a name that is computed": "for name in ['a']:\n    print(dbutils.widgets.get(name))",
    "all at once": "print(dbutils.widgets.getAll())",
    "another notebook": "# MAGIC %run ./other",
    "a function that is handed dbutils": "from quiet import read\nread(dbutils)",
    "a module of the bundle that speaks of widgets": "from mine import params\nprint(params())",
    "a package that nobody here knows": "import company_lib\ncompany_lib.start()",
    "the entry point's bindings": "dbutils.notebook.entry_point.getCurrentBindings()",
    "widgets by another name": "w = dbutils.widgets\nw.get('x')",
    "another language": "# MAGIC %scala\n# MAGIC println(1)",
}


@pytest.mark.parametrize("code", SILENT.values(), ids=list(SILENT))
def test_a_notebook_that_may_read_anything_is_left_alone(check: Any, code: str) -> None:
    text = "tasks: [{task_key: t, notebook_task: {notebook_path: n.py, base_parameters: {x: '1'}}}]\n"
    files = {
        "n.py": NOTEBOOK + code + "\n",
        "src/mine.py": "def params():\n    return dbutils.widgets.getAll()\n",
        "src/quiet.py": "def read(x):\n    return x\n",
    }
    assert [f for f in check(text, files | {"other.py": NOTEBOOK}) if not f.startswith("not-run-here")] == []


READING = {
    "python": "dbutils.widgets.text('x', '')\nprint(dbutils.widgets.get('x'))",
    "a module of the bundle without widgets": "from quiet import add\nprint(add(dbutils.widgets.get('x')))",
    "a sql cell": "# MAGIC %sql\n# MAGIC select * from t where day = :x",
    "a declaring sql cell": "# MAGIC %sql\n# MAGIC CREATE WIDGET TEXT x DEFAULT 'y'",
    "python with magics": "%pip install nothing\n!ls\nprint(dbutils.widgets.get(name='x'))",
    "the old way": "print(getArgument('x'))",
    "the sdk's dbutils": "from databricks.sdk.runtime import dbutils as d\nprint(d.widgets.get('x'))",
}


@pytest.mark.parametrize("code", READING.values(), ids=list(READING))
def test_a_parameter_that_a_notebook_reads_in_any_way_is_read(check: Any, code: str) -> None:
    files = {"n.py": NOTEBOOK + code + "\n", "src/quiet.py": "def add(x):\n    return x\n"}
    passed = "tasks: [{task_key: t, notebook_task: {notebook_path: n.py, base_parameters: {x: '1', ^y: '2'}}}]\n"
    assert check(passed, files) == ["parameter-not-read ^ 'n.py' does not read the parameter 'y'. It would be dbutils.widgets.get('y')."]
    assert check("parameters: [{name: x, default: a}]\ntasks: [{task_key: t, notebook_task: {notebook_path: n.py}}]\n", files) == []


def test_an_ipynb_is_read_cell_by_cell(check: Any) -> None:
    cells = """[{"cell_type": "code", "source": ["# a comment first\\n", "%sql\\n", "select :x"]},
                {"cell_type": "markdown", "source": "dbutils.widgets.get('no')"},
                {"cell_type": "code", "source": "dbutils.widgets.text('z', '')"}]"""
    files = {"n.ipynb": f'{{"cells": {cells}, "metadata": {{}}, "nbformat": 4}}'}
    text = "tasks: [{task_key: t, notebook_task: {notebook_path: ^n.ipynb, base_parameters: {x: '1'}}}]\n"
    assert check(text, files) == ["widget-not-set ^ no parameter sets the widget 'z' of 'n.ipynb', so it is always ''."]


def test_a_task_that_passes_the_job_s_own_parameter_on_replaces_nothing(check: Any) -> None:
    text = "parameters: [{name: x, default: a}]\n"
    task = "{task_key: t, notebook_task: {notebook_path: n.py, base_parameters: {x: '{{job.parameters.x}}'}}}"
    assert check(text + f"tasks: [{task}]\n") == []
    loop = f"[{{task_key: l, for_each_task: {{inputs: '[1]', task: {task.replace('{{job.parameters.x}}', '{{input}}')}}}}}]"
    assert "parameter-shadowed" not in str(check(text + f"tasks: {loop}\n"))


def test_a_parameter_that_code_of_a_wheel_or_another_job_may_read_is_left_alone(check: Any) -> None:
    head = "parameters: [{name: x, default: a}]\nenvironments: [{environment_key: e}]\n"
    wheel = "{task_key: t, environment_key: e, python_wheel_task: {package_name: boathouse, entry_point: silver}}"
    assert check(head + f"tasks: [{wheel}]\n") == []
