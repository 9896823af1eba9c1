"A rubric is read with all that it says, and one that is not valid is refused with file and line."

from __future__ import annotations

import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from boathouse.workspace.bundle.load import load
from boathouse.workspace.errors import BundleError
from boathouse.workspace.score.rubric import FILE, Requirement, read_rubric
from boathouse.workspace.score.scorecard import score_rubric

ROOT = Path(__file__).parents[3]
GOOD = """
name: A score
stale_after_days: 7
model: ml.sales
commands: {task: boathouse run nightly}
sections:
  - name: Data
    tests:
      - id: data-1
        name: Rows are checked
        question: Are rows
          checked?
        half: [{document: docs/a.md#rows}]
        full:
          - test: tests/test_a.py::test_b[1]
          - table: ops.gates
            where: model_version = {champion}
            rows: 2
          - run: champion
            metric: auc
"""


def read(folder: Path, text: str, **changed: str) -> object:
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "r.yml").write_text(textwrap.dedent(text).lstrip("\n"))
    return read_rubric(folder / "r.yml", "r.yml")


def test_a_rubric_has_its_sections_tests_and_evidence(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text(GOOD)
    rubric = read_rubric(tmp_path / "r.yml")
    ((test,),) = [section.tests for section in rubric.sections]
    assert (rubric.stale_after_days, rubric.model, rubric.commands) == (7, "ml.sales", {"task": "boathouse run nightly"})
    assert test.question == "Are rows checked?"
    assert test.half == (Requirement("document", "docs/a.md#rows"),)
    assert [str(one) for one in test.full] == [
        "test tests/test_a.py::test_b[1]",
        "table ops.gates where model_version = {champion} rows 2",
        "run champion metric auc",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: A score", "nam: A score", "r.yml:1:1: a rubric has no 'nam'. Did you mean 'name'?"),
        ("name: A score", "", "r.yml:1:1: 'name' must be text, got nothing."),
        ("stale_after_days: 7", "stale_after_days: soon", "r.yml:2:19: stale_after_days must be a number above 0, got 'soon'."),
        ("model: ml.sales", "model: main.ml.sales", "r.yml:3:8: 'model' must be schema.name, without the catalog, got 'main.ml.sales'."),
        ("{task: boathouse run nightly}", "boathouse", "r.yml:4:11: commands must be a mapping of a kind of evidence to the command that renews it."),
        ("id: data-1", "key: data-1", "r.yml:8:9: a test of the rubric has no 'key'. It has id, name, question, half, full, missing."),
        ("name: Rows are checked", "name: [a]", "r.yml:9:15: 'name' must be text, got ['a']."),
        ("- test: tests/test_a.py::test_b[1]", "- tests: tests/test_a.py", "r.yml:14:13: evidence must have one of test, task, run, table, document, got tests. Did you mean 'test'?"),
        ("tests/test_a.py::test_b[1]", "/tests/test_a.py", "r.yml:14:19: the path must be relative to the bundle's folder, got '/tests/test_a.py'."),
        ("test: tests/test_a.py::test_b[1]", "task: nightly", "r.yml:14:19: a task must be written as job.task, got 'nightly'."),
        ("- test: tests/test_a.py::test_b[1]", "- {test: tests/test_a.py, seconds: 0}", "r.yml:14:20: seconds must be a number above 0, got 0."),
        ("table: ops.gates", "table: gates", "r.yml:15:20: a table must be written as schema.table, without the catalog, got 'gates'."),
        ("rows: 2", "rows: 0", "r.yml:15:20: rows must be a whole number of at least 1, got 0."),
        ("rows: 2", "row: 2", "r.yml:17:13: evidence of kind 'table' has no 'row'. Did you mean 'rows'?"),
        ("run: champion", "run: newest", "r.yml:18:18: run must be 'champion', got 'newest'."),
        ("metric: auc", "metric: [auc]", "r.yml:18:18: a run needs one of metric, param, tag, artifact, as text."),
    ],
)  # fmt: skip
def test_an_error_names_file_line_and_what_to_write(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BundleError) as refused:
        read(tmp_path, GOOD, **{old: new})
    assert str(refused.value) == message


def test_an_id_twice_and_a_test_that_nothing_can_earn_are_refused(tmp_path: Path) -> None:
    one = "      - {id: data-1, name: Another, question: Why?, full: [{task: a.b}]}\n"
    with pytest.raises(BundleError, match=r"r.yml:20:9: the id 'data-1' appears twice \(first at line 8\)"):
        read(tmp_path, GOOD + one)
    with pytest.raises(BundleError, match=r"r.yml:20:9: a test without `full` needs `missing`"):
        read(tmp_path, GOOD + one.replace("data-1", "data-2").replace(", full: [{task: a.b}]", ""))


def test_the_rubric_of_this_project_has_the_28_tests_of_the_paper() -> None:
    rubric = read_rubric(ROOT / FILE, FILE)
    assert [(section.name, len(section.tests)) for section in rubric.sections] == [
        ("Data", 7),
        ("Model", 7),
        ("Infrastructure", 7),
        ("Monitoring", 7),
    ]


def test_each_test_task_and_page_that_the_rubric_of_this_project_names_exists() -> None:
    card = score_rubric(load(ROOT, environ={}), read_rubric(ROOT / FILE, FILE), datetime.now(UTC))
    found = [one for section in card.sections for test in section.tests for one in (*test.half, *test.full)]
    lost = [f"{one.requirement}: {one.text}" for one in found if re.search("does not exist|has no (?!champion)|no file test_", one.text)]
    assert [one for one in lost if not one.startswith("run ")] == []
    assert {one.requirement.kind for one in found} == {"test", "task", "run", "table", "document"}
