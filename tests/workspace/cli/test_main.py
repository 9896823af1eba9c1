"""The command line as a script sees it: exit codes, JSON, refusals; and a real `boathouse run` that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from click.testing import CliRunner, Result

from boathouse.workspace.cli.main import main

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BUNDLE = """
bundle: {name: tiny}
resources:
  schemas: {s: {catalog_name: spark_catalog, name: silver}}
  volumes: {v: {catalog_name: spark_catalog, schema_name: silver, name: landing}}
  jobs:
    small:
      description: Writes a table and reads it
      parameters: [{name: rows, default: "3"}, {name: folder, default: "${resources.volumes.v.volume_path}"}]
      tasks:
        - {task_key: write, spark_python_task: {python_file: write.py, parameters: ["{{job.parameters.rows}}", "{{job.parameters.folder}}"]}}
        - {task_key: slow, depends_on: [{task_key: write}], spark_python_task: {python_file: slow.py}}
    sql: {tasks: [{task_key: q, sql_task: {warehouse_id: w, query: {query_id: q}}}]}
targets: {local: {default: true}}
"""
WRITE = """
import sys
assert __import__("pathlib").Path(sys.argv[2]).is_dir()
spark.range(int(sys.argv[1])).write.format("delta").mode("overwrite").saveAsTable("spark_catalog.silver.t")
dbutils.jobs.taskValues.set("n", spark.table("silver.t").count())
"""
SLOW = """
import pathlib, time
pathlib.Path("started").touch()
while pathlib.Path("wait").exists():
    time.sleep(0.1)
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


def write_bundle(folder: Path) -> Path:
    for name, text in {"databricks.yml": BUNDLE, "write.py": WRITE, "slow.py": SLOW}.items():
        (folder / name).write_text(text)
    return folder


def call(bundle: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [words[0], "--bundle", str(bundle), *words[1:]])


def shell(bundle: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from boathouse.workspace.cli.main import main; main()", *words]
    return subprocess.Popen(command, cwd=bundle, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_run_without_a_job_lists_the_jobs_with_their_descriptions(bundle: Path) -> None:
    done = call(bundle, "run")
    assert done.exit_code == 0
    assert done.stdout == "small  Writes a table and reads it\nsql    \n"


def test_validate_says_yes_and_names_what_does_not_run_here(bundle: Path) -> None:
    done = call(bundle, "validate")
    assert done.exit_code == 0, done.output
    assert "databricks.yml:13:33: task 'q' is a sql_task, which this machine does not run. The other jobs run." in done.stdout
    assert done.stdout.endswith("Valid: local.\n")


def test_validate_as_json_gives_each_finding_its_place(bundle: Path) -> None:
    (bundle / "databricks.yml").write_text(BUNDLE.replace("task_key: write}]", "task_key: wriet}]"))
    done = call(bundle, "validate", "--json")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert not found["valid"]
    error = next(f for f in found["findings"] if f["level"] == "error")
    assert (error["job"], error["file"], error["line"], error["targets"]) == ("small", "databricks.yml", 12, ["local"])
    assert error["message"].endswith("Did you mean 'write'?")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "smal"], "the bundle has no job 'smal'. Did you mean 'small'?"),
        (["run", "small", "--param", "row=3"], "job 'small' declares no parameter 'row'. Did you mean 'rows'?"),
        (["run", "small", "--param", "rows"], "'rows' is not of the form NAME=VALUE."),
        (["run", "small", "-t", "locl"], "the bundle has no target 'locl'. Did you mean 'local'?"),
        (["run", "small", "--only", "wrte"], "job 'small' has no task 'wrte'. Did you mean 'write'?"),
        (["run", "sql"], "task 'q' is a sql_task, which this machine does not run."),
        (["runs", "7"], "there is no run 7."),
    ],
)
def test_a_refusal_ends_with_2_says_why_on_stderr_and_as_json_on_stdout(bundle: Path, words: list[str], expected: str) -> None:
    done = call(bundle, *words)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert done.stdout == ""
    assert expected in json.loads(call(bundle, *words, "--json").stdout)["error"]["message"]


def test_a_refused_option_is_no_file(bundle: Path) -> None:
    refused = json.loads(call(bundle, "run", "small", "--param", "rows", "--json").stdout)["error"]
    assert refused == {"file": None, "line": None, "column": None, "message": "--param: 'rows' is not of the form NAME=VALUE."}


def test_a_parameter_that_is_no_text_is_refused(bundle: Path) -> None:
    done = call(bundle, "run", "small", "--param", os.fsdecode(b"folder=a\xffb"))
    assert (done.exit_code, done.stderr) == (2, "--param: 'folder=a\\udcffb' is not text in UTF-8.\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["runs", "x"], "'x' is not a valid integer."), (["run", "--bogus"], "No such option"), (["cluster", "go"], "No such command")],
)
def test_a_command_line_that_cannot_be_read_is_an_object_too(bundle: Path, words: list[str], expected: str) -> None:
    plain, as_json = (CliRunner().invoke(main, [*words, *more]) for more in ([], ["--json"]))
    assert (plain.exit_code, plain.stdout, as_json.exit_code) == (2, "", 2)
    assert expected in plain.stderr
    assert expected in json.loads(as_json.stdout)["error"]["message"]


def test_a_bundle_that_would_not_be_deployed_is_not_run_either(bundle: Path) -> None:
    (bundle / "databricks.yml").write_text(BUNDLE.replace("schemas: {s:", "schemas: {sql:"))
    done = call(bundle, "run", "small")
    assert done.exit_code == 2
    assert done.stderr.startswith("databricks.yml:13:5: resources.jobs.sql has the key of resources.schemas.sql (databricks.yml:4).")
    assert not (bundle / ".boathouse").exists()


def test_a_folder_without_a_bundle_ends_with_2(tmp_path: Path) -> None:
    done = call(tmp_path, "validate")
    assert done.exit_code == 2
    assert "there is no databricks.yml" in done.stderr


def test_help_does_not_import_what_is_heavy() -> None:
    code = "import sys; from boathouse.workspace.cli.main import main\nmain(['--help'], standalone_mode=False)\n"
    code += "print(sorted({'pyspark', 'pandas', 'mlflow', 'databricks', 'rich', 'yaml'} & set(sys.modules)))"
    expected = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert expected.strip().endswith("[]")


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A bundle whose state folder the tests below share, in their order: making a metastore anew costs more than they do."
    return write_bundle(tmp_path_factory.mktemp("tiny"))


def test_an_interrupted_run_is_cancelled_in_order_and_says_so(lived_in: Path) -> None:
    stopped, left = running(lived_in, "--json")
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate(timeout=100)
    assert stopped.returncode == 1, err
    run = json.loads(out)
    assert run["state"]["result_state"] == "CANCELED"
    assert [t["state"]["result_state"] for t in run["tasks"]] == ["SUCCESS", "CANCELED"]
    until(lambda: not any(map(lives, left)), 30)


def test_a_killed_run_leaves_no_process_shows_as_failed_and_can_be_run_again(lived_in: Path) -> None:
    killed, left = running(lived_in)
    assert len(left) >= 3
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    until(lambda: not any(map(lives, left)), 30)

    (lived_in / "wait").unlink()
    again = shell(lived_in, "run", "small", "--json", "--param", "rows=5")
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert "is marked as failed" in err
    run = json.loads(out)
    assert [(t["task_key"], t["state"]["result_state"], t["values"]) for t in run["tasks"]] == [
        ("write", "SUCCESS", {"n": 5}),
        ("slow", "SUCCESS", {}),
    ]

    first = json.loads(call(lived_in, "runs", "--json").stdout)["runs"][1]
    assert first["state"]["result_state"] == "FAILED"
    assert first["state"]["state_message"] == f"The process that ran it (pid {killed.pid}) ended before the run did."
    shown = json.loads(call(lived_in, "runs", str(first["run_id"]), "--json").stdout)
    assert [t["state"]["result_state"] for t in shown["tasks"]] == ["SUCCESS", "FAILED"]


def running(bundle: Path, *options: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    "A `boathouse run` in the middle of its second task, and the processes below it."
    (bundle / "wait").touch()
    (bundle / "started").unlink(missing_ok=True)
    process = shell(bundle, "run", "small", *options)
    until(lambda: (bundle / "started").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process, psutil.Process(process.pid).children(recursive=True)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(holds: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_sql_prints_a_table_and_with_json_an_array_of_objects(spark: SparkSession, bundle: Path) -> None:
    query = "select 1 as n, date'2013-10-01' as d, named_struct('a', array(null, 'x')) as s, 'a[b]c' as t"
    done = call(bundle, "sql", query, "--json")
    assert json.loads(done.stdout) == [{"n": 1, "d": "2013-10-01", "s": {"a": [None, "x"]}, "t": "a[b]c"}]
    shown = call(bundle, "sql", query).stdout
    assert [w for w in ("2013-10-01", '{"a": [null, "x"]}', "a[b]c") if w not in shown] == []
    wrong = call(bundle, "sql", "select * from nowhere")
    assert wrong.exit_code == 1
    assert "TABLE_OR_VIEW_NOT_FOUND" in wrong.stderr
