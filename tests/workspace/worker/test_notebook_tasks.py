"Notebook tasks: both file formats, the magics, what is kept, and how they end."

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from boathouse.workspace.worker.notebook import output as notebookfile


def source(*cells: str) -> str:
    return "# Databricks notebook source\n" + "\n\n# COMMAND ----------\n\n".join(cells) + "\n"


@pytest.fixture
def notebook(project):
    "Runs a notebook in source format of these cells."

    def run(*cells: str, name: str = "nb.py", **fields):
        result, log = project.run("notebook", file=project.write(name, source(*cells)), **fields)
        folder = project.last
        return result, nbformat.read(folder / "notebook.ipynb", 4), (folder / "notebook.html").read_text(), log

    return run


def texts(executed) -> list[str]:
    "All that the code cells show, as text."
    shown = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    return [
        output.get("text") or output.get("data", {}).get("text/html") or output.get("data", {}).get("text/plain") or output.get("evalue")
        for output in shown
    ]


def test_a_source_notebook_runs_top_to_bottom_and_keeps_notebook_page_and_log(notebook):
    result, executed, page, log = notebook(
        "# MAGIC %md\n# MAGIC # Boats\n# MAGIC with *oars*",
        "n = int(dbutils.widgets.get('n'))\nprint('n is', n)",
        "spark.range(n)",
        widgets={"n": "3"},
    )
    assert (result.state, result.error, result.exit_value) == ("SUCCESS", None, None)
    assert executed.cells[0].cell_type == "markdown"
    assert texts(executed)[0] == "n is 3\n"
    assert "<td>2</td>" in texts(executed)[1]  # a DataFrame as last expression shows its rows
    assert "<h1" in page
    assert "Boats" in page
    assert "n is 3" in page
    assert "n is 3" in log
    nbformat.validate(executed)


def test_mlflow_notes_the_job_and_the_task_run_that_log_to_it(notebook):
    ask = "from mlflow.tracking.context.registry import resolve_tags\nprint(*(resolve_tags()[f'mlflow.databricks.{name}'] for name in ('jobID', 'jobRunID')))"
    *_, log = notebook(ask, context={"job_id": "5", "run_id": "17"})
    assert log.splitlines()[-1] == "5 17"


def test_an_ipynb_runs_the_same_and_its_old_outputs_go(project):
    book = new_notebook(cells=[new_markdown_cell("# Boats"), new_code_cell("x = 6"), new_code_cell("x * 7")])
    book.cells[2].outputs = [nbformat.v4.new_output("stream", name="stdout", text="stale")]
    file = project.root / "boats.ipynb"
    nbformat.write(book, file)
    result, _ = project.run("notebook", file=file)
    executed = nbformat.read(project.last / "notebook.ipynb", 4)
    assert result.state == "SUCCESS"
    assert texts(executed) == ["42"]
    assert "stale" in file.read_text()  # the notebook itself is not touched


def test_a_failing_cell_ends_the_notebook_and_what_came_before_is_kept(notebook):
    result, executed, page, _ = notebook("print('before')", "def stroke():\n    return 1 / 0\nstroke()", "print('after')")
    assert (result.state, result.error) == ("FAILED", "ZeroDivisionError: division by zero (nb.py:8, cell 2)")
    assert "In nb.py:8, cell 2." in result.trace
    assert "in stroke" in result.trace
    assert "execnb" not in result.trace
    assert texts(executed) == ["before\n", "division by zero"]
    assert "ZeroDivisionError" in page


def test_half_a_character_in_what_a_cell_shows_does_not_hide_its_error(notebook):
    result, executed, page, _ = notebook("import os\nname = os.fsdecode(b'a\\xff.csv')\nprint(name)", "name", "raise ValueError(name)")
    assert result.error == "ValueError: a?.csv (nb.py:12, cell 3)"
    assert texts(executed)[0] == "a?.csv\n"
    assert texts(executed)[-1] == "a?.csv"
    assert "a?.csv" in page


def test_a_syntax_error_fails_too(notebook):
    result, _, _, _ = notebook("def (")
    assert (result.state, result.error.split(":")[0]) == ("FAILED", "SyntaxError")


def test_exit_ends_as_a_success_with_its_value_even_inside_a_try(notebook):
    result, executed, _, _ = notebook(
        "try:\n    dbutils.notebook.exit('42 boats')\nexcept Exception:\n    print('caught')", "print('after')"
    )
    assert (result.state, result.exit_value) == ("SUCCESS", "42 boats")
    assert texts(executed) == []


def test_sql_cells_show_a_table_take_widgets_and_leave_sqldf(notebook):
    result, executed, _, _ = notebook(
        "# MAGIC %sql\n# MAGIC create or replace temp view boats as select 'eight' as kind;\n# MAGIC select kind, :n as n from boats",
        "_sqldf.first().n", widgets={"n": "8"},
    )  # fmt: skip
    assert result.state == "SUCCESS", result.trace
    assert "<td>eight</td><td>8</td>" in texts(executed)[0]
    assert texts(executed)[1] == "'8'"


def test_run_shares_the_namespace_and_pip_is_skipped(project, notebook):
    project.write("lib/other.py", source("from_other = dbutils.widgets.get('n')"))
    result, executed, _, _ = notebook("# MAGIC %run ./lib/other", "# MAGIC %pip install oars", "print(from_other)", widgets={"n": "5"})
    assert result.state == "SUCCESS", result.trace
    assert texts(executed) == ["skipped: the task runs in the project's environment\n", "5\n"]


def test_sh_prints_and_fails_only_when_told_to(notebook):
    result, executed, _, _ = notebook("# MAGIC %sh echo rowed; false", "# MAGIC %sh -e false")
    assert texts(executed)[0] == "rowed\n"
    assert (result.state, result.error.split(":")[0]) == ("FAILED", "CalledProcessError")


def test_a_cell_in_another_language_is_refused_by_name(notebook):
    result, _, _, _ = notebook("# MAGIC %scala\n# MAGIC val x = 1")
    assert result.error == "MagicError: a %scala cell cannot run in the local workspace, which has Python and SQL (nb.py:2, cell 1)"


def test_a_figure_is_kept_as_an_image(notebook):
    result, executed, page, _ = notebook("import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);")
    assert result.state == "SUCCESS"
    assert [key for output in executed.cells[0].outputs for key in output.data if key == "image/png"] == ["image/png"]
    assert "data:image/png;base64" in page


def test_another_notebook_runs_with_its_own_names_and_returns_its_exit_value(project, notebook):
    project.write("child.py", source("n = 'child'\nprint(dbutils.widgets.getAll())\ndbutils.notebook.exit(dbutils.widgets.get('a') + '!')"))
    result, executed, _, _ = notebook(
        "n = 'parent'", "print(dbutils.notebook.run('child', 60, {'a': 7}), n, dbutils.widgets.get('a'))", "1 + 1", widgets={"a": "1"}
    )
    assert result.state == "SUCCESS", result.trace
    assert texts(executed) == ["7! parent 1\n", "2"]
    assert (project.last / "notebook-1-child" / "log.txt").read_text() == "{'a': '7'}\n"
    assert (project.last / "notebook-1-child" / "notebook.html").is_file()


def test_another_notebook_that_fails_or_takes_too_long_fails_this_one(project, notebook):
    project.write("bad.py", source("raise KeyError('oar')"))
    project.write("slow.py", source("import time\ntime.sleep(30)"))
    message = "WorkflowException: notebook bad failed: KeyError: 'oar' (bad.py:2, cell 1) (nb.py:2, cell 1)"
    assert notebook("dbutils.notebook.run('bad')")[0].error == message
    result, _, _, _ = notebook("dbutils.notebook.run('slow', 3)")
    assert result.error == "WorkflowException: notebook slow took longer than 3 s (nb.py:2, cell 1)"


def test_task_values_set_in_a_notebook_reach_the_result(notebook):
    result, _, _, _ = notebook("dbutils.jobs.taskValues.set('months', ['2013-10'])\ndisplay(spark.range(2))", values={"t": {"k": 1}})
    assert dict(result.values) == {"months": ["2013-10"]}


def test_a_file_that_is_no_notebook_is_refused(project):
    result, _ = project.run("notebook", file=project.write("plain.py", "print(1)\n"))
    assert result.state == "FAILED"
    assert "its first line is not '# Databricks notebook source'" in result.error


def test_a_page_has_every_cell(tmp_path):
    book = new_notebook(cells=[new_code_cell(f"x = {n}", outputs=[nbformat.v4.new_output("stream", text="y\n")]) for n in range(100)])
    notebookfile.write_notebook_page(book, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("y\n") >= 100


def test_a_secret_is_blacked_out_in_the_copy_the_page_and_the_error_but_not_in_the_log(notebook, project, monkeypatch):
    monkeypatch.setenv("BOATHOUSE_SECRET_KEYS_PEM", "first-half\nsecond-half")
    project.write("lib/inner.py", source("print('inner', pem)"))
    result, executed, page, log = notebook(
        "pem = dbutils.secrets.get('keys', 'pem')\nprint('printed', pem)",
        "pem",
        "import sys\nfrom IPython.display import HTML, Image, display\nprint(pem, file=sys.stderr)\ndisplay(HTML(f'<b>{pem}</b>'))",
        "# MAGIC %run ./lib/inner",
        "raise ValueError(f'no boat for {pem}')",
    )
    kept = nbformat.writes(executed)
    assert [half for half in ("first-half", "second-half") if half in kept or half in page or half in str(result)] == []
    assert page.count("[REDACTED]") >= 5
    assert [cell.outputs[0].get("text") for cell in executed.cells[:4]] == [
        "printed [REDACTED]\n",
        None,
        "[REDACTED]\n",
        "inner [REDACTED]\n",
    ]
    assert result.error.startswith("ValueError: no boat for [REDACTED]")
    assert log.count("second-half") >= 3


def test_what_a_script_says_of_its_error_has_no_secret_and_its_log_has(project, monkeypatch):
    monkeypatch.setenv("BOATHOUSE_SECRET_KEYS_SERVICE", "swordfish")
    result, log = project.run(code="key = dbutils.secrets.get('keys', 'service')\nprint(key)\nraise ValueError(f'{key} is refused')")
    assert result.error == "ValueError: [REDACTED] is refused"
    assert "swordfish" not in str(result.trace)
    assert log.startswith("swordfish\n")


def test_an_image_stays_as_it_is_and_an_output_of_numbers_too():
    outputs = [
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"image/png": "display", "text/plain": "display", "application/json": {"display": [1, ["display"]]}},
        }
    ]
    (found,) = notebookfile.redact_outputs(outputs, lambda text: text.replace("display", "#"))
    assert found.output_type == "display_data"
    assert found.data == {"image/png": "display", "text/plain": "#", "application/json": {"display": [1, ["#"]]}}
