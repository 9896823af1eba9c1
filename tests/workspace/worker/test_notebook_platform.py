"Notebooks as Databricks runs them: SQL notebooks, magics, the names and utilities they find, and notebooks that run others."

from __future__ import annotations

import nbformat
import pytest


def source(*cells: str, mark: str = "#") -> str:
    return f"{mark} Databricks notebook source\n" + f"\n\n{mark} COMMAND ----------\n\n".join(cells) + "\n"


@pytest.fixture
def ran(project):
    "The result, the executed copy and the log of a notebook of these cells."

    def run(*cells: str, name: str = "nb.py", **fields):
        mark = "--" if name.endswith(".sql") else "#"
        result, log = project.run("notebook", file=project.write(name, source(*cells, mark=mark)), **fields)
        return result, nbformat.read(project.last / "notebook.ipynb", 4), log

    return run


def shown(executed) -> str:
    "All that the code cells show, as one text."
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("text") or str(output.get("data") or output.get("evalue")) for output in outputs)


def test_a_sql_notebook_runs_with_its_widgets_as_parameters(ran):
    result, executed, _ = ran(
        "CREATE WIDGET TEXT n DEFAULT \"8\";\nCREATE WIDGET DROPDOWN kind DEFAULT 'eight' CHOICES SELECT * FROM VALUES ('eight'), ('four')",
        "-- MAGIC %md\n-- MAGIC # Boats",
        "create or replace temp view boats as select ${n} as n;\nselect :kind as kind, n + 1 as more from boats",
        "-- nothing but a comment",
        "-- MAGIC %python\n-- MAGIC dbutils.notebook.exit(f'{_sqldf.first().kind} {_sqldf.first().more}')",
        name="boats.sql",
        widgets={"n": "9"},
    )
    assert (result.state, result.exit_value) == ("SUCCESS", "eight 10"), result.trace
    assert "<td>eight</td><td>10</td>" in shown(executed)


def test_an_error_in_sql_names_the_file_line_and_cell(ran):
    result, executed, _ = ran("select 1", "\nselect oar", name="boats.sql")
    assert result.error.startswith("AnalysisException: [UNRESOLVED_COLUMN")
    assert result.error.endswith("(boats.sql:7, cell 2)")
    assert "UNRESOLVED_COLUMN" in shown(executed)


def test_run_passes_widgets_for_the_while_and_an_error_in_it_names_both_notebooks(project, ran):
    project.write(
        "lib/other.py",
        source("dbutils.widgets.text('x', 'default')\nfrom_other = dbutils.widgets.get('x')\n\ndef strike():\n    return 1 / 0"),
    )
    project.write("lib/bad.py", source("n = 1", "\nn += 1\nstrike()"))
    result, executed, _ = ran(
        '# MAGIC %run ./lib/other $x="1 2"',
        "# MAGIC %python\nprint(from_other, dbutils.widgets.get('x'))",
        f"# MAGIC %run /Workspace/Users/me/{project.root.name}/lib/bad",
    )
    assert "1 2 default\n" in shown(executed)
    assert result.error == "ZeroDivisionError: division by zero (bad.py:8, cell 2)"
    assert "In bad.py:8, cell 2.\nIn nb.py:11, cell 3." in result.trace


def test_pip_is_left_out_and_the_python_beside_it_runs(ran):
    result, executed, log = ran("# MAGIC %pip install -q no-such-package-of-oars\ndbutils.library.restartPython()\nprint('went on')")
    assert result.state == "SUCCESS", result.trace
    assert shown(executed) == "skipped: the task runs in the project's environment\n\nwent on\n"
    assert "no-such-package-of-oars" in log


def test_fs_is_dbutils_fs_by_a_magic(ran):
    result, executed, _ = ran(
        "dbutils.fs.put('/Volumes/c/s/fsmagic/a.csv', 'x,y')",
        "# MAGIC %fs ls /Volumes/c/s/fsmagic",
        "# MAGIC %fs head /Volumes/c/s/fsmagic/a.csv",
        "# MAGIC %fs rm -r /Volumes/c/s/fsmagic",
        "# MAGIC %fs ls /Volumes/c/s/fsmagic",
    )
    assert "<td>a.csv</td><td>3</td>" in shown(executed)
    assert "x,y\n" in shown(executed)
    assert result.error == "FileNotFoundError: No such file or directory: /Volumes/c/s/fsmagic (nb.py:18, cell 5)"


def test_display_shows_tables_frames_figures_html_streams_and_anything(ran):
    result, executed, _ = ran(
        """
import matplotlib.pyplot as plt, pandas as pd
display(spark.range(2))
display(pd.DataFrame({"oars": [8]}), {"a": 1})
figure, axes = plt.subplots()
axes.plot([1, 2])
display(figure)
plt.close(figure)
displayHTML("<b>eight</b>")
display(spark.readStream.format("rate").load())
""",
        "spark.range(5).createTempView('five')\nassert (sql('select 7').first()[0], table('five').count()) == (7, 5)\n"
        "assert (getArgument('none', 'x'), sc, callable(udf)) == ('x', spark.sparkContext, True)",
    )
    assert result.state == "SUCCESS", result.trace
    for part in ("<td>1</td>", "<td>8</td>", "{'a': 1}", "image/png", "<b>eight</b>", "a stream is not shown here"):
        assert part in shown(executed)


def test_notebooks_run_by_another_at_the_same_time_have_processes_and_views_of_their_own(project, ran):
    child = """
import os, pathlib, time
mine, other = dbutils.widgets.get("mine"), dbutils.widgets.get("other")
spark.range(int(mine)).createOrReplaceTempView("boats")
pathlib.Path(mine).touch()
deadline = time.monotonic() + 60
while not pathlib.Path(other).exists():
    assert time.monotonic() < deadline, "the other never started"
    time.sleep(0.05)
dbutils.notebook.exit(f"{spark.table('boats').count()} {spark.catalog.tableExists('parents')} {os.getpid() == int(dbutils.widgets.get('pid'))}")
"""
    project.write("child.py", source(child))
    result, _, _ = ran(
        """
import os
from concurrent.futures import ThreadPoolExecutor
spark.range(9).createTempView("parents")
give = [{"mine": "3", "other": "5", "pid": os.getpid()}, {"mine": "5", "other": "3", "pid": os.getpid()}]
with ThreadPoolExecutor(2) as pool:
    found = list(pool.map(lambda given: dbutils.notebook.run("./child", 120, given), give))
assert not spark.catalog.tableExists("boats")
dbutils.notebook.exit(found)
"""
    )
    assert (result.state, result.exit_value) == ("SUCCESS", "['3 False False', '5 False False']"), result.trace


def test_a_notebook_that_another_one_runs_has_the_tasks_own_library_in_place_of_one_that_boathouse_imports(project):
    library = project.write("libraries/fqdn.py", "FQDN = None\n").parent
    project.write("child.py", source("import fqdn\ndbutils.notebook.exit(fqdn.__file__)"))
    file = project.write("nb.py", source("import fqdn\ndbutils.notebook.exit([fqdn.__file__, dbutils.notebook.run('child', 0)])"))
    result, _ = project.run("notebook", file=file, paths=(library,))
    assert result.exit_value == str([f"{library}/fqdn.py"] * 2)


def test_a_notebook_that_takes_too_long_in_another_leaves_no_job_and_no_process(project, ran, cluster, until):
    project.write("slow.py", source("import time\nfrom pyspark.sql.functions import udf\n"
                  "spark.range(1000, numPartitions=2).select(udf(lambda n: time.sleep(0.2) or n, 'long')('id')).collect()"))  # fmt: skip
    result, _, _ = ran(
        "try:\n    dbutils.notebook.run('slow', 8)\nexcept Exception as e:\n    dbutils.notebook.exit(f'{type(e).__name__}: {e}')"
    )
    assert result.exit_value == "WorkflowException: notebook slow took longer than 8 s"
    assert until(lambda: not list(cluster.spark.sparkContext.statusTracker().getActiveJobsIds()), 30)


def test_a_stream_of_a_notebook_that_another_ran_ends_with_the_task(project, cluster, until, tmp_path):
    stream = f"""
spark.readStream.format("rate").load().writeStream.format("noop").option("checkpointLocation", "{tmp_path}/c").start()
print("started")
import time
time.sleep(600)
"""
    project.write("child.py", source(stream))
    task = project.launch("notebook", file=project.write("nb.py", source("dbutils.notebook.run('child', 0)")))
    log = task.spec.folder / "notebook-1-child" / "log.txt"
    running = cluster.spark._jsparkSession.sharedState().activeStreamingQueries()
    assert until(lambda: log.is_file() and "started" in log.read_text(), 60)
    assert running.size() == 1
    task.cancel()
    assert running.isEmpty()


def test_what_was_printed_and_done_before_a_cancellation_is_kept(project, until):
    file = project.write("nb.py", source("print('first')", "print('second')\nimport time\ntime.sleep(600)"))
    task = project.launch("notebook", file=file)
    log = task.spec.folder / "log.txt"
    assert until(lambda: log.is_file() and "second" in log.read_text())
    task.cancel()
    executed = nbformat.read(task.spec.folder / "notebook.ipynb", 4)
    assert [o.text for o in executed.cells[0].outputs] == ["first\n"]


def test_scripts_find_the_names_of_a_notebook_without_a_workspace(project):
    result, log = project.run(
        code="""
        from databricks.sdk.runtime import *
        import databricks.sdk.runtime
        from databricks.sdk.runtime import display, displayHTML, getArgument, sc, sql, sqlContext, table, udf
        assert databricks.sdk.runtime.dbutils is dbutils
        print(spark.range(3).count(), sql("select 4").first()[0], sqlContext.sql("select 5").first()[0], getArgument("none", "six"))
        display(sql("select 7 as seven"))
        try:
            from databricks.sdk.runtime import oars
        except ImportError as e:
            print("no oars")
        """,
        env={"DATABRICKS_HOST": "http://127.0.0.1:1"},
    )
    assert result.state == "SUCCESS", result.trace
    assert "3 4 5 six" in log
    assert "no oars" in log
    assert "|    7|" in log
