"""`boathouse validate` as somebody reads it: places, the line itself, reasons, targets; the same as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from boathouse.workspace.cli.main import main

BUNDLE = """
bundle: {name: demo}
variables:
  day: {default: monday}
resources:
  jobs:
    good:
      run_as: {user_name: me@example.com}
      tasks:
        - task_key: t
          notebook_task: {notebook_path: n.py}
    other:
      run_as: {user_name: me@example.com}
      tasks:
        - {task_key: q, sql_task: {warehouse_id: w, query: {query_id: q}}}
targets:
  dev: {default: true}
  prod: {resources: {jobs: {good: {tasks: [{task_key: t, depends_on: [{task_key: tt}]}]}}}}
"""


def call(folder: Path, *words: str, bundle: str = BUNDLE) -> Result:
    (folder / "databricks.yml").write_text(bundle.lstrip("\n"))
    (folder / "n.py").write_text("# Databricks notebook source\n")
    return CliRunner().invoke(main, ["validate", "--bundle", str(folder), *words])


def test_a_valid_target_ends_with_0_and_says_what_is_doubtful_and_what_does_not_run(tmp_path: Path) -> None:
    done = call(tmp_path, "-t", "dev")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "databricks.yml:14:25: task 'q' is a sql_task, which this machine does not run. The other jobs run.\n"
        "   14 |         - {task_key: q, sql_task: {warehouse_id: w, query: {query_id: q}}}\n"
        "      |                         ^\n"
        "      [not-run-here]\n"
        "databricks.yml:3:3: advice: nothing reads the variable 'day'.\n"
        "    3 |   day: {default: monday}\n"
        "      |   ^\n"
        "      [unused-variable]\n"
        "databricks.yml:7:7: note: 'run_as' has no effect on this machine: tasks run as you. (1 more such places)\n"
        "Valid: dev.\n"
    )


def test_an_error_is_on_stderr_with_its_line_its_reason_and_its_targets_and_ends_with_2(tmp_path: Path) -> None:
    done = call(tmp_path)
    assert done.exit_code == 2
    line = "  prod: {resources: {jobs: {good: {tasks: [{task_key: t, depends_on: [{task_key: tt}]}]}}}}"
    assert done.stderr == (
        f"databricks.yml:17:{line.index('tt') + 1}: task 't' depends on 'tt', which is not a task of this job.\n"
        f"   17 | {line}\n"
        f"      | {' ' * line.index('tt')}^\n"
        "      The platform refuses to create such a job. In prod only. [dangling-edge]\n"
        "1 error in dev, prod.\n"
    )


def test_json_has_every_finding_with_rule_reason_place_and_targets(tmp_path: Path) -> None:
    done = call(tmp_path, "--json")
    assert done.exit_code == 2
    report = json.loads(done.stdout)
    assert (report["targets"], report["valid"], "error" in report) == (["dev", "prod"], False, False)
    assert [f["level"] for f in report["findings"]] == ["error", "refused", "advice", "note", "note"]
    assert report["findings"][0] == {
        "level": "error",
        "rule": "dangling-edge",
        "job": "good",
        "file": "databricks.yml",
        "line": 17,
        "column": 82,
        "message": "task 't' depends on 'tt', which is not a task of this job.",
        "why": "The platform refuses to create such a job.",
        "targets": ["prod"],
    }
    assert report["findings"][2]["job"] is None


def test_a_target_that_cannot_be_loaded_does_not_hide_the_others(tmp_path: Path) -> None:
    broken = BUNDLE.replace("dev: {default: true}", "dev: {default: true, variables: {dya: x}}")
    done = call(tmp_path, bundle=broken)
    assert done.exit_code == 2
    assert "databricks.yml:16:36: the bundle declares no variable 'dya'. Did you mean 'day'?\n" in done.stderr
    assert "depends on 'tt'" in done.stderr
    report = json.loads(call(tmp_path, "--json", bundle=broken).stdout)
    assert report["error"]["message"] == "the bundle declares no variable 'dya'. Did you mean 'day'?"
    assert [(f["rule"], f["targets"]) for f in report["findings"] if f["level"] == "error"] == [
        ("bundle", ["dev"]),
        ("dangling-edge", ["prod"]),
    ]


def test_a_bundle_that_cannot_be_read_is_one_error_object(tmp_path: Path) -> None:
    done = call(tmp_path, "--json", bundle="bundle: {name: x\n")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["file"] == "databricks.yml"
    assert done.stderr.startswith("databricks.yml:2:1: not valid YAML")


def test_validating_imports_nothing_that_is_heavy(tmp_path: Path) -> None:
    call(tmp_path)
    code = f"import sys; from boathouse.workspace.validate.report import check_bundle\ncheck_bundle(__import__('pathlib').Path({str(tmp_path)!r}))\n"
    code += "print(sorted({'pyspark', 'pandas', 'mlflow', 'rich', 'nbformat', 'databricks.sdk.service.catalog'} & set(sys.modules)))"
    expected = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert expected.strip() == "[]"
