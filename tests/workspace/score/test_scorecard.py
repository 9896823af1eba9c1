"Points are earned by evidence alone: what is deleted, fails, leaves the bundle or grows old earns nothing any more."

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import write_deltalake
from mlflow.tracking import MlflowClient

from boathouse.workspace.bundle.load import load
from boathouse.workspace.cli.main import main
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.store import History, JobRun, TaskEnd, TaskRun
from boathouse.workspace.score.outcomes import FILE, RecordedOutcome, append_outcomes, hash_file
from boathouse.workspace.score.rubric import read_rubric
from boathouse.workspace.score.scorecard import Scorecard, score_rubric

NOW = datetime.now(UTC)
BUNDLE = """
bundle: {name: tiny}
resources:
  jobs:
    nightly:
      tasks:
        - {task_key: load, notebook_task: {notebook_path: ./load.py}}
        - {task_key: undo, depends_on: [{task_key: load}], notebook_task: {notebook_path: ./load.py}}
"""
RUBRIC = """
name: Tiny
stale_after_days: 30
model: ml.sales
commands: {test: make test, task: boathouse run nightly}
sections:
  - name: Data
    tests:
      - {id: d1, name: One, question: Why?, half: [{document: docs/a.md#how-to}], full: [{test: 'tests/test_a.py::test_a'}, {task: nightly.load}]}
      - {id: d2, name: Two, question: Why?, full: [{test: tests/test_a.py}]}
  - name: Model
    tests:
      - {id: m1, name: Three, question: Why?, full: [{task: nightly.load}]}
      - {id: m2, name: Four, question: Why?, half: [{document: docs/a.md}], missing: A person decides.}
      - {id: m3, name: Five, question: Why?, full: [{test: 'tests/test_a.py::test_b'}]}
"""


class Tiny:
    "A bundle of one job, two tests and a page, with a history of runs and recorded outcomes."

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in {
            "databricks.yml": BUNDLE,
            "ml_test_score.yml": RUBRIC,
            "load.py": "# Databricks notebook source\n",
            "tests/test_a.py": "def test_a(): pass\ndef test_b(): pass\n",
            "docs/a.md": "# Page\n\n## How to\n",
        }.items():
            self.write(name, text)
        self.record("test_a"), self.record("test_b[x]"), self.record("test_b[y]")
        self.run(load=Result.SUCCESS, undo=Result.EXCLUDED)

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def record(self, test: str, outcome: str = "passed", days: float = 0) -> None:
        at = NOW.timestamp() - days * 86_400
        node = f"tests/test_a.py::{test}"
        append_outcomes(self.root / FILE, [RecordedOutcome(node, outcome, at, 0.1, "", False, hash_file(self.root / "tests/test_a.py"))])

    def run(self, **results: Result) -> None:
        with History(self.root / ".boathouse/default") as history:
            run = JobRun(history.new_id(), 1, "nightly", "nightly", "default", {}, self.root / "runs")
            history.run_started(run)
            for key, result in results.items():
                task = TaskRun(history.new_id(), run, key, 0, "notebook_task", run.folder / key)
                history.task_waiting(task)
                history.task_ended(task, TaskEnd(result))

    def score(self, rubric: str | None = None, after: timedelta = timedelta()) -> Scorecard:
        if rubric is not None:
            self.write("ml_test_score.yml", rubric)
        return score_rubric(load(self.root, environ={}), read_rubric(self.root / "ml_test_score.yml"), NOW + after)


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return Tiny(tmp_path)


def points(card: Scorecard) -> dict[str, float]:
    return {one.test.key: one.points for section in card.sections for one in section.tests}


def lacks(card: Scorecard) -> list[str]:
    return [f"{one.requirement}: {one.text}" for one in card.every_lack()]


def test_the_score_is_the_lowest_sum_of_a_section(tiny: Tiny) -> None:
    card = tiny.score()
    assert points(card) == {"d1": 1, "d2": 1, "m1": 1, "m2": 0.5, "m3": 1}
    assert ([section.points for section in card.sections], card.score) == ([2, 2.5], 2)


LOSSES: dict[str, tuple[Callable[[Tiny], Any], dict[str, float], str]] = {
    "a test is deleted": (
        lambda t: (t.write("tests/test_a.py", "def test_b(): pass\n"), t.record("test_b[x]")),
        {"d1": 0.5},
        "test tests/test_a.py::test_a: test_a.py has no test_a. Did you mean 'test_b'?",
    ),
    "a file of tests is deleted": (
        lambda t: (t.root / "tests/test_a.py").unlink(),
        {"d1": 0.5, "d2": 0, "m3": 0},
        "test tests/test_a.py: test_a.py does not exist",
    ),
    "one case of a test fails": (
        lambda t: t.record("test_b[y]", "failed"),
        {"d2": 0, "m3": 0},
        "test tests/test_a.py::test_b: test_b[y] failed, 0 minutes ago",
    ),
    "a test is skipped": (
        lambda t: t.record("test_a", "skipped"),
        {"d1": 0.5, "d2": 0},
        "test tests/test_a.py::test_a: test_a skipped, 0 minutes ago",
    ),
    "the file of a test changes": (
        lambda t: t.change("tests/test_a.py", "test_a(): pass", "test_a(): return"),
        {"d1": 0.5, "d2": 0, "m3": 0},
        "test tests/test_a.py::test_b: test_a.py has changed since it ran",
    ),
    "no outcome is recorded": (
        lambda t: (t.root / FILE).unlink(),
        {"d1": 0.5, "d2": 0, "m3": 0},
        "test tests/test_a.py::test_b: no outcome of it is recorded",
    ),
    "a task leaves the bundle": (
        lambda t: t.change("databricks.yml", "task_key: load", "task_key: loads"),
        {"d1": 0.5, "m1": 0},
        "task nightly.load: job 'nightly' has no task 'load'. Did you mean 'loads'?",
    ),
    "the newest run of a task fails": (
        lambda t: t.run(load=Result.FAILED),
        {"d1": 0.5, "m1": 0},
        "task nightly.load: FAILED 0 minutes ago",
    ),
    "nothing has run": (
        lambda t: (t.root / ".boathouse/default/workspace.db").unlink(),
        {"d1": 0.5, "m1": 0},
        "task nightly.load: no run in target 'default'",
    ),
    "a heading is renamed": (
        lambda t: (t.change("docs/a.md", "## How to", "## How so"), t.run(load=Result.TIMEDOUT)),
        {"d1": 0, "m1": 0},
        "document docs/a.md#how-to: docs/a.md has no heading #how-to. Did you mean 'how-so'?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_evidence_that_is_gone_earns_nothing_and_is_named(tiny: Tiny, loss: str) -> None:
    happen, changed, sentence = LOSSES[loss]
    before = points(tiny.score())
    happen(tiny)
    card = tiny.score()
    assert points(card) == {**before, **changed}
    assert sentence in lacks(card)


def test_a_folder_stands_for_all_its_tests_and_a_limit_for_their_seconds_together(tiny: Tiny) -> None:
    folder = RUBRIC.replace("test: tests/test_a.py}", "test: tests, seconds: 0.35}")
    assert points(tiny.score(folder))["d2"] == 1  # three of 0.1 seconds
    assert "test tests seconds 0.25: 3 tests passed 0 minutes ago, in 0 seconds, the limit is 0.25" in lacks(
        tiny.score(folder.replace("0.35", "0.25"))
    )
    tiny.write("tests/more/test_c.py", "def test_c(): pass\n")
    assert "test tests seconds 0.35: no outcome of test_c.py is recorded" in lacks(tiny.score(folder))
    slow = RUBRIC.replace("full: [{task: nightly.load}]", "full: [{task: nightly.load, seconds: 60}]")
    assert points(tiny.score(slow))["m1"] == 1
    with History(tiny.root / ".boathouse/default") as history:
        history.rows("UPDATE task_runs SET start_time = end_time - 61000")
    assert "task nightly.load seconds 60: SUCCESS 0 minutes ago, in 61 seconds, the limit is 60" in lacks(tiny.score(slow))


def test_evidence_grows_stale_and_each_command_that_renews_some_is_named_once(tiny: Tiny) -> None:
    card = tiny.score(after=timedelta(days=31))
    assert points(card) == {"d1": 0.5, "d2": 0, "m1": 0, "m2": 0.5, "m3": 0}
    assert "task nightly.load: SUCCESS 31 days ago: stale, older than 30 days" in lacks(card)
    assert card.commands == {"make test": 3, "boathouse run nightly": 2}


def test_a_run_in_which_a_condition_excluded_the_task_leaves_the_run_before_it(tiny: Tiny) -> None:
    rubric = RUBRIC.replace("task: nightly.load", "task: nightly.undo")
    assert points(tiny.score(rubric))["m1"] == 0
    tiny.run(load=Result.SUCCESS, undo=Result.SUCCESS)
    tiny.run(load=Result.SUCCESS, undo=Result.EXCLUDED)
    assert points(tiny.score(rubric))["m1"] == 1
    tiny.run(load=Result.FAILED, undo=Result.UPSTREAM_FAILED)
    assert points(tiny.score(rubric))["m1"] == 0


def test_the_command_prints_evidence_and_what_to_run_as_text_json_and_page(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.root / "docs")
    tiny.record("test_b[y]", "failed", days=2)
    shown = CliRunner().invoke(main, ["score", "--html", "../out/score.html"])
    assert shown.exit_code == 0, shown.output
    for line in (
        "Data: 1 of 2",
        "missing: test tests/test_a.py::test_b: test_b[y] failed, 2 days ago",
        "missing: A person decides.",
        "Score 1: the lowest of Data 1, Model 1.5.",
        "2 pieces of missing evidence: run `make test`",
    ):
        assert line in shown.stdout
    page = (tiny.root / "out/score.html").read_text()
    assert "test_b[y] failed, 2 days ago" in page
    assert "<script" not in page
    assert "http" not in page
    found = json.loads(CliRunner().invoke(main, ["score", "--json", "--at-least", "1"]).stdout)
    assert (found["score"], found["sections"][1]["points"], found["commands"]) == (1, 1.5, ["make test"])
    assert CliRunner().invoke(main, ["score", "--at-least", "1.5"]).exit_code == 1


def test_a_bundle_without_a_rubric_is_refused_with_what_to_do(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.root)
    (tiny.root / "ml_test_score.yml").rename(tiny.root / "other.yml")
    refused = CliRunner().invoke(main, ["score"])
    assert refused.exit_code == 2
    assert "the bundle has no rubric" in refused.stderr
    assert "--rubric" in refused.stderr
    assert CliRunner().invoke(main, ["score", "--rubric", "other.yml"]).exit_code == 0


CHAMPION = """
name: Tiny
model: ml.sales
sections:
  - name: Model
    tests:
      - {id: a, name: A, question: Why?, full: [{run: champion, metric: auc}, {run: champion, artifact: card.html}]}
      - {id: b, name: B, question: Why?, full: [{run: champion, tag: approved}]}
      - {id: c, name: C, question: Why?, full: [{table: ops.gates, where: 'model_version = {champion} and accepted', rows: 2}]}
      - {id: d, name: D, question: Why?, full: [{table: ops.gates, rows: 5}]}
      - {id: e, name: E, question: Why?, full: [{table: ops.gates, where: 'versions = 1'}]}
      - {id: f, name: F, question: Why?, full: [{table: ops.nowhere}]}
"""


def test_runs_and_tables_answer_for_the_champion_without_a_jvm(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tiny.root / ".boathouse/default"
    card = tiny.score(CHAMPION)
    assert points(card) == dict.fromkeys("abcdef", 0)
    client = MlflowClient(f"sqlite:///{state}/mlflow.db", f"sqlite:///{state}/mlflow.db")
    experiment = client.create_experiment("sales", (state / "mlartifacts").as_uri())
    client.create_registered_model("spark_catalog.ml.sales")
    for auc in (0.6, 0.7):
        run = client.create_run(experiment)
        client.log_metric(run.info.run_id, "auc", auc)
        if auc == 0.7:
            client.log_text(run.info.run_id, "<p>card</p>", "card.html")
        client.set_terminated(run.info.run_id)
        client.create_model_version("spark_catalog.ml.sales", f"{run.info.artifact_uri}/model", run.info.run_id)
    rows = pa.table({"model_version": [1, 1, 2, 2], "accepted": [True, True, True, False]})
    write_deltalake(state / "warehouse/ops.db/gates", rows)
    found = {}
    for version in (1, 2):
        client.set_registered_model_alias("spark_catalog.ml.sales", "champion", str(version))
        found[version] = tiny.score()
    assert points(found[1]) == {"a": 0, "b": 0, "c": 1, "d": 0, "e": 0, "f": 0}
    assert points(found[2]) == {"a": 1, "b": 0, "c": 0, "d": 0, "e": 0, "f": 0}
    sentences = lacks(found[2])
    assert "run champion tag approved: the run of champion version 2 has no tag approved" in sentences
    assert any("1 rows that fulfil the condition" in one for one in sentences)
    assert any("the condition cannot be evaluated" in one and "versions" in one for one in sentences)
    assert "table ops.nowhere: no such table in target 'default'" in sentences
    assert mlflow.active_run() is None


PROJECT = """
import os, pytest

def test_passes(): pass
def test_fails(): assert False
def test_is_skipped(): pytest.skip("not here")
@pytest.mark.xfail
def test_is_expected_to_fail(): assert False
@pytest.fixture
def broken():
    yield
    raise RuntimeError
def test_is_torn_down_badly(broken): pass
"""


def test_the_plugin_records_each_outcome_and_a_killed_run_keeps_what_had_ended(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(PROJECT)
    (tmp_path / "test_b.py").write_text("import time\ndef test_first(): pass\ndef test_second(): time.sleep(60)\n")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "boathouse.workspace.score.pytest_plugin", "-p", "no:cacheprovider"]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run([*words, "-p", "xdist.plugin", "-n", "1", "test_a.py"], cwd=tmp_path, env=alone, capture_output=True)
    file = tmp_path / FILE
    outcomes = {json.loads(line)["node"].partition("::")[2]: json.loads(line)["outcome"] for line in file.read_text().splitlines()}
    assert outcomes == {
        "test_passes": "passed", "test_fails": "failed", "test_is_skipped": "skipped", "test_is_expected_to_fail": "xfailed", "test_is_torn_down_badly": "failed",
    }  # fmt: skip
    running = subprocess.Popen([*words, "test_b.py"], cwd=tmp_path, env=alone, stdout=subprocess.DEVNULL)
    while "test_first" not in file.read_text():
        assert running.poll() is None
        time.sleep(0.05)
    running.kill()
    running.wait()
    assert len(file.read_text().splitlines()) == 6
