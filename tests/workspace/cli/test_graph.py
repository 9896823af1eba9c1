"""`boathouse graph`: what is drawn for conditions, run_if, loops and jobs that a job runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from boathouse.workspace.cli.main import main

BUNDLE = """
bundle: {name: tiny}
resources:
  jobs:
    outer:
      tasks:
        - {task_key: load, notebook_task: {notebook_path: load.ipynb}}
        - {task_key: check, depends_on: [{task_key: load}], condition_task: {op: GREATER_THAN, left: "{{tasks.load.values.n}}", right: "0"}}
        - {task_key: each, depends_on: [{task_key: check, outcome: "true"}], for_each_task: {inputs: '["a", "b"]', task: {task_key: one, spark_python_task: {python_file: one.py}}}}
        - {task_key: nested, depends_on: [{task_key: check, outcome: "false"}], run_job_task: {job_id: "${resources.jobs.inner.id}"}}
        - {task_key: report, depends_on: [{task_key: load}, {task_key: each}, {task_key: nested}], run_if: ALL_DONE, spark_python_task: {python_file: one.py}}
    inner: {tasks: [{task_key: end, python_wheel_task: {package_name: p, entry_point: go}}]}
    round: {tasks: [{task_key: x, depends_on: [{task_key: y}], notebook_task: {notebook_path: load.ipynb}}, {task_key: y, depends_on: [{task_key: x}], notebook_task: {notebook_path: load.ipynb}}]}
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "databricks.yml").write_text(BUNDLE)
    return tmp_path


def graph(bundle: Path, *words: str) -> str:
    done = CliRunner().invoke(main, ["graph", *words, "--bundle", str(bundle)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_tree_has_a_task_below_the_deepest_it_waits_for_and_names_the_others(bundle: Path) -> None:
    assert graph(bundle, "outer").splitlines() == [
        "outer",
        "└── load  notebook load.ipynb",
        "    └── check  if {{tasks.load.values.n}} > 0",
        '        ├── each  for each of ["a", "b"]: one, script one.py  [if true]',
        "        │   └── report  script one.py  [also after nested, load]  [run if ALL_DONE]",
        "        └── nested  run job inner  [if false]",
    ]


def test_mermaid_has_every_task_and_edge_and_names_outcomes_and_run_if(bundle: Path) -> None:
    assert graph(bundle, "outer", "--mermaid").splitlines() == [
        "flowchart LR",
        '  j0t0["load<br/>notebook load.ipynb"]',
        '  j0t1{"check<br/>if #123;#123;tasks.load.values.n#125;#125; #62; 0"}',
        '  j0t2[["each<br/>for each of #91;#34;a#34;, #34;b#34;#93;: one, script one.py"]]',
        '  j0t3(["nested<br/>run job inner"])',
        '  j0t4["report<br/>script one.py<br/>run if ALL_DONE"]',
        "  j0t0 --> j0t1",
        "  j0t1 -->|true| j0t2",
        "  j0t1 -->|false| j0t3",
        "  j0t0 --> j0t4",
        "  j0t2 --> j0t4",
        "  j0t3 --> j0t4",
    ]


def test_as_json_a_task_has_its_kind_and_what_it_depends_on(bundle: Path) -> None:
    (job,) = json.loads(graph(bundle, "outer", "--json"))["jobs"]
    report = job["tasks"][-1]
    assert (job["job_key"], report["task_key"], report["kind"], report["run_if"]) == ("outer", "report", "spark_python_task", "ALL_DONE")
    assert job["tasks"][2]["depends_on"] == [{"task_key": "check", "outcome": "true"}]


def test_tasks_that_wait_for_each_other_are_refused(bundle: Path) -> None:
    done = CliRunner().invoke(main, ["graph", "round", "--bundle", str(bundle)])
    assert done.exit_code == 2
    assert "the tasks of job 'round' wait for each other: x -> y -> x." in done.stderr


def test_without_a_job_every_job_is_drawn(bundle: Path) -> None:
    text = (bundle / "databricks.yml").read_text()
    (bundle / "databricks.yml").write_text(text[: text.index("    round:")])
    assert [line for line in graph(bundle).splitlines() if not line.startswith((" ", "└", "├"))] == ["outer", "inner"]
    assert [line for line in graph(bundle, "--mermaid").splitlines() if "subgraph" in line] == [
        '  subgraph j0["outer"]',
        '  subgraph j1["inner"]',
    ]
