"""Notebook files: Python, SQL and Jupyter read alike, with the line each cell begins at; and what of them is refused before a run."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.notebooks.source import NotebookError, find_notebook, read_notebook
from boathouse.workspace.validate.check import findings
from boathouse.workspace.validate.notebooks import notebook_problems
from boathouse.workspace.worker.notebook.streams import LARGEST_OUTPUTS, LONGEST_TEXT, capture_streams, within_limit

PYTHON = """# Databricks notebook source
# MAGIC %md
# MAGIC # Boats

# COMMAND ----------

# DBTITLE 1,Count
n = 1

# COMMAND ----------

# MAGIC %sql
# MAGIC select 1
"""
SQL = """-- Databricks notebook source
-- MAGIC %md # Boats

-- COMMAND ----------

-- why
select 1

-- COMMAND ----------

-- MAGIC %python
-- MAGIC n = 1
"""


def cells(file: Path) -> list[tuple[int, int, str]]:
    return [(cell.number, cell.line, cell.source) for cell in read_notebook(file).code()]


def test_a_python_notebook_knows_the_line_of_each_cell(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(PYTHON)
    assert cells(tmp_path / "a.py") == [(2, 8, "n = 1"), (3, 12, "%sql\nselect 1")]
    assert (read_notebook(tmp_path / "a.py").cells[0].source, read_notebook(tmp_path / "a.py").cells[0].code) == ("# Boats", False)


def test_a_sql_notebook_is_in_sql_and_may_have_python_cells(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text(SQL)
    assert read_notebook(tmp_path / "a.sql").language == "sql"
    assert cells(tmp_path / "a.sql") == [(2, 6, "-- why\nselect 1"), (3, 11, "%python\nn = 1")]


def test_a_jupyter_notebook_of_the_platform_states_its_language(tmp_path: Path) -> None:
    book = new_notebook(cells=[new_markdown_cell("# Boats"), new_code_cell('select "é"'), new_code_cell("select 2")])
    book.metadata["application/vnd.databricks.v1+notebook"] = {"language": "sql"}
    nbformat.write(book, tmp_path / "a.ipynb")
    found = read_notebook(tmp_path / "a.ipynb")
    lines = (tmp_path / "a.ipynb").read_text().split("\n")
    assert found.language == "sql"
    assert [json.dumps(cell.source, ensure_ascii=False) in lines[cell.line - 1] for cell in found.code()] == [True, True]


def test_a_file_without_the_header_of_its_language_is_no_notebook(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("select 1\n")
    with pytest.raises(NotebookError, match="its first line is not '-- Databricks notebook source'"):
        read_notebook(tmp_path / "a.sql")


def test_a_notebook_is_found_beside_with_or_without_suffix_and_by_its_workspace_path(tmp_path: Path) -> None:
    (tmp_path / "notebooks" / "lib").mkdir(parents=True)
    (tmp_path / "notebooks" / "lib" / "setup.py").touch()
    here, wanted = tmp_path / "notebooks", (tmp_path / "notebooks/lib/setup.py").resolve()
    assert (
        find_notebook("./lib/setup", here, tmp_path)
        == find_notebook("lib/setup.py", here)
        == find_notebook(f"{here}/lib/setup", here)
        == wanted
    )
    assert find_notebook("../notebooks/lib/setup", here) == wanted
    assert find_notebook("/Workspace/Users/me@x.org/.bundle/demo/dev/files/notebooks/lib/setup", here, tmp_path) == wanted
    assert find_notebook("/Repos/me/demo/notebooks/lib/setup", here, tmp_path) == wanted
    with pytest.raises(NotebookError, match=r"there is no notebook \./lib/setpu in .*notebooks"):
        find_notebook("./lib/setpu", here, tmp_path)


def test_what_cannot_run_in_a_notebook_or_one_it_runs_inline_is_found_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("# Databricks notebook source\n# MAGIC %run ./b\n\n# COMMAND ----------\n\n# MAGIC %run ./gone\n")
    (tmp_path / "b.sql").write_text(
        "-- Databricks notebook source\n-- MAGIC %run ./a\n\n-- COMMAND ----------\n\n-- MAGIC %scala\n-- MAGIC 1\n"
    )
    assert [str(problem) for problem in notebook_problems(tmp_path / "a.py", tmp_path)] == [
        f"a.py:6:9: there is no notebook ./gone in {tmp_path}. It is cell 2 of the notebook.",
        "b.sql:6:10: a %scala cell cannot run in the local workspace, which has Python and SQL. It is cell 2 of the notebook.",
    ]


def test_a_job_with_such_a_notebook_is_refused_before_it_runs(tmp_path: Path) -> None:
    nbformat.write(new_notebook(cells=[new_code_cell("%r\nx <- 1")]), tmp_path / "n.ipynb")
    (tmp_path / "ok.sql").write_text(SQL)
    job = "{tasks: [{task_key: t, notebook_task: {notebook_path: n.ipynb}}, {task_key: u, notebook_task: {notebook_path: ok.sql}}]}"
    (tmp_path / "databricks.yml").write_text(f"bundle: {{name: demo}}\nresources: {{jobs: {{a: {job}}}}}\n")
    every = all_jobs(load(tmp_path, environ={}))
    (found,) = findings(every, every["a"])
    line = (tmp_path / "n.ipynb").read_text().split("%r")[0].count("\n") + 1
    assert (found.level, str(found.problem).split(" cell cannot")[0]) == ("refused", f"n.ipynb:{line}:1: a %r")


def test_what_a_cell_prints_goes_to_the_log_whole_and_to_the_copy_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stdout", log)
    with capture_streams() as kept:
        print("one")
        print("two", file=sys.stderr)
        for _ in range(30):
            print("x" * (LONGEST_TEXT // 10 - 1))
    assert len(log.getvalue()) == 4 + 3 * LONGEST_TEXT
    shown = kept.outputs()
    assert [(o.name, o.text[:4]) for o in shown[:2]] == [("stdout", "one\n"), ("stderr", "two\n")]
    assert sum(len(o.text) for o in shown[:-1]) == LONGEST_TEXT
    assert shown[-1].text == f"\n... {2 * LONGEST_TEXT + 8} more characters: they are in the task's log.txt\n"


def test_what_a_cell_shows_is_kept_up_to_a_limit() -> None:
    shown = [{"output_type": "display_data", "data": {"text/plain": "x" * (LARGEST_OUTPUTS // 3)}} for _ in range(5)]
    assert within_limit(shown[:2]) == shown[:2]
    assert within_limit(shown)[2:] == [{"output_type": "stream", "name": "stderr", "text": "... 3 more outputs left out\n"}]
