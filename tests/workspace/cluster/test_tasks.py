"What a task finds, what it may do, and how its end is told."

from __future__ import annotations

import json
import os

import pytest

from boathouse.workspace.cluster.cluster import Cluster, TaskSpec

PYPROJECT = """
    [project]
    name = "oars"
    version = "1.0"
    [project.entry-points.stages]
    count = "oars.stages:count"
    [project.scripts]
    oars-cli = "oars.stages:cli"
    """


@pytest.fixture
def oars(project):
    project.write("pyproject.toml", PYPROJECT)
    project.write("src/oars/__init__.py", "def plain():\n    print('called plain')\n")
    project.write("src/oars/stages.py", """
        import sys
        from pyspark.sql import SparkSession
        def count():
            spark = SparkSession.builder.getOrCreate()
            print("counted", spark.range(7).count(), sys.argv[1:])
            return 1
        def cli():
            sys.exit(0)
        """)  # fmt: skip
    return project


def test_a_wheel_task_calls_the_entry_point_that_the_project_declares(oars):
    result, log = oars.run("wheel", package="oars", entry_point="count", argv=("--month=2013-10",))
    assert (result.state, result.error) == ("SUCCESS", None)
    assert "counted 7 ['--month=2013-10']" in log


def test_a_wheel_task_without_such_an_entry_point_calls_the_packages_attribute(oars):
    result, log = oars.run("wheel", package="oars", entry_point="plain")
    assert result.state == "SUCCESS"
    assert "called plain" in log


def test_an_entry_point_of_an_installed_distribution_is_found_too(project):
    result, _ = project.run("wheel", package="filelock", entry_point="FileLock")
    assert result.state == "FAILED"  # it needs a path: but it was found and called
    assert "lock_file" in (result.error or "")


def test_an_unknown_entry_point_is_refused_with_the_nearest_name(oars):
    result, _ = oars.run("wheel", package="oars", entry_point="cuont")
    assert result.state == "FAILED"
    assert result.error == "TaskError: package 'oars' has no entry point 'cuont'. Did you mean 'count'?"


def test_a_package_that_is_not_there_is_said_so(oars):
    result, _ = oars.run("wheel", package="sculls", entry_point="row")
    assert result.error == "TaskError: package 'sculls' has no entry point 'row'. It is not installed, or has none."


@pytest.mark.parametrize(
    ("code", "ended", "error"),
    [
        ("raise SystemExit", "SUCCESS", None),
        ("import sys; sys.exit(0)", "SUCCESS", None),
        ("import sys; sys.exit(3)", "FAILED", "exit code 3"),
        ("import sys; sys.exit('no oars')", "FAILED", "SystemExit: no oars"),
        ("{}['stroke']", "FAILED", "KeyError: 'stroke'"),
        ("import os; os._exit(5)", "FAILED", "the process ended with exit code 5 before the task was over"),
        ("import os; os.kill(os.getpid(), 9)", "FAILED", "killed by signal 9 (SIGKILL)"),
        ("import os; os.abort()", "FAILED", "killed by signal 6 (SIGABRT)"),
    ],
)
def test_the_end_of_a_script_is_told_as_it_was(project, code, ended, error):
    result, _ = project.run(code=code)
    assert (result.state, result.error) == (ended, error)


def test_half_characters_reach_the_result_as_question_marks(project):
    code = 'dbutils.jobs.taskValues.set("k\\ud800", ["\\udcff"]); raise ValueError("no file a\\udcff\\u00e9")'
    result, _ = project.run(code=code)
    assert (result.error, result.values) == ("ValueError: no file a?\u00e9", {"k?": ["?"]})


def test_a_failing_script_tells_its_own_frames_and_keeps_them_in_the_log(project):
    result, log = project.run(code="def stroke():\n    return 1 / 0\nstroke()\n")
    assert result.error == "ZeroDivisionError: division by zero"
    assert "in stroke" in result.trace
    assert "boathouse/workspace" not in result.trace
    assert "ZeroDivisionError" in log


def test_the_log_has_what_children_print_and_keeps_the_order_of_lines(project):
    _, log = project.run(code="import os, sys\nprint('one')\nos.system('echo two')\nprint('three', file=sys.stderr)\n")
    assert log.split() == ["one", "two", "three"]


def test_a_table_whose_creation_a_kill_cut_off_can_be_made_by_the_next_task_of_the_same_jvm(project, state):
    session = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n"
    folder = state / "warehouse" / "cut_task.db" / "half" / "_delta_log"
    kill = f"import os, signal\nos.makedirs('{folder}')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    result, _ = project.run(code=f"{session}spark.sql('CREATE SCHEMA IF NOT EXISTS cut_task')\n{kill}")
    assert "SIGKILL" in (result.error or "")
    result, log = project.run(code=f"{session}spark.sql('CREATE TABLE cut_task.half (n int)')\n")
    assert result.state == "SUCCESS", log


def test_what_a_killed_task_and_its_child_print_without_end_is_kept_at_its_beginning_and_its_end(project, monkeypatch):
    monkeypatch.setenv("BOATHOUSE_LOG_MIB", "0.1")
    code = """
        import os, subprocess
        print("first")
        subprocess.run("yes | head -c 30000000; echo last", shell=True)
        os.kill(os.getpid(), 9)
        """
    result, log = project.run(code=code)
    assert result.error == "killed by signal 9 (SIGKILL)"
    lines = log.splitlines()
    assert (lines[0], lines[-1]) == ("first", "last")
    assert [line[:3] for line in lines if line not in ("first", "y", "last")] == ["..."]
    assert 100_000 < len(log) < 105_000


def test_exit_handlers_run_and_threads_are_waited_for_before_the_task_is_over(project):
    result, log = project.run(code="""
        import atexit, threading, time
        atexit.register(print, "handler")
        threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
        """)  # fmt: skip
    assert result.state == "SUCCESS"
    assert log.split() == ["thread", "handler"]


def test_a_task_finds_its_folder_environment_catalog_and_utc(project, state):
    result, log = project.run(
        code="""
        import json, os, sys, time
        print(json.dumps({"cwd": os.getcwd(), "argv": sys.argv[1:], "mine": os.environ["MINE"], "run": os.environ["BOATHOUSE_RUN_ID"],
                          "task": os.environ["BOATHOUSE_TASK"], "zone": time.tzname[0], "mlflow": os.environ["MLFLOW_TRACKING_URI"],
                          "catalog": spark.catalog.currentCatalog(), "secret": "PYSPARK_GATEWAY_SECRET" in os.environ}))
        """,
        argv=("a", "b c"),
        env={"MINE": "yes"},
        context={"run_id": "77"},
    )
    assert result.state == "SUCCESS"
    assert json.loads(log) == {"cwd": str(project.root), "argv": ["a", "b c"], "mine": "yes", "run": "77", "task": "1", "zone": "UTC",
                               "mlflow": f"sqlite:///{state}/mlflow.db", "catalog": "spark_catalog", "secret": False}  # fmt: skip


def test_a_script_starts_in_its_own_folder_and_imports_what_lies_there(project):
    project.write("jobs/steps/beside.py", "from pathlib import Path\ntext = Path('beside.txt').read_text()\n")
    project.write("jobs/steps/beside.txt", "here")
    file = project.write("jobs/steps/go.py", "import os, sys, beside\nprint(os.getcwd(), sys.path[0], beside.text, sep='\\n')\n")
    for checkout in (True, False):
        result, log = project.run(file=file, checkout=checkout)
        assert result.state == "SUCCESS", result.error
        assert log.splitlines() == [str(file.parent), str(file.parent), "here"]


def test_temporary_views_belong_to_one_task_and_tables_to_all(project):
    project.run(code="spark.range(3).createTempView('mine'); spark.sql('create schema if not exists spark_catalog.shared')\n"
                     "spark.range(3).write.mode('overwrite').saveAsTable('spark_catalog.shared.boats')")  # fmt: skip
    result, log = project.run(code="print(spark.catalog.tableExists('mine'), spark.table('spark_catalog.shared.boats').count())")
    assert (result.state, log.strip()) == ("SUCCESS", "False 3")


def test_a_cancelled_spark_context_is_not_everybodys(project):
    project.run(code="from pyspark.sql import SparkSession\nSparkSession.builder.getOrCreate().stop()\nspark.sparkContext.stop()")
    result, log = project.run(code="print(spark.range(5).count())")
    assert (result.state, log.strip()) == ("SUCCESS", "5")


def test_a_user_function_runs_the_code_as_it_is_now(project):
    code = "from strokes import rate\nfrom pyspark.sql.functions import udf\nprint([r[0] for r in spark.range(2).select(udf(rate, 'int')('id')).collect()])"
    project.write("src/strokes.py", "def rate(n):\n    return 1\n")
    assert project.run(code=code)[1].strip() == "[1, 1]"
    project.write("src/strokes.py", "def rate(n):\n    return 2\n")
    assert project.run(code=code)[1].strip() == "[2, 2]"


def test_experiments_keep_their_artifacts_with_the_workspace_and_its_database_is_there_already(project, state):
    assert (state / "mlflow.db").is_file()
    result, log = project.run(code="""
        import mlflow
        mlflow.set_experiment("/boats/one")
        with mlflow.start_run():
            mlflow.log_text("row", "row.txt")
            print(mlflow.get_artifact_uri("row.txt"))
        """)  # fmt: skip
    assert result.state == "SUCCESS"
    assert log.strip().splitlines()[-1].startswith(str(state / "mlartifacts"))
    assert not (project.root / "mlruns").exists()


def test_task_values_and_dbutils_are_there_in_a_plain_script(project):
    result, log = project.run(
        code="""
        from databricks.sdk.runtime import dbutils as runtime
        from pyspark.dbutils import DBUtils
        assert DBUtils(spark) is runtime
        runtime.jobs.taskValues.set("version", 3)
        print(runtime.jobs.taskValues.get("train", "auc"))
        raise ValueError("after setting")
        """,
        values={"train": {"auc": 0.7}},
    )
    assert (result.state, dict(result.values), log.splitlines()[0]) == ("FAILED", {"version": 3}, "0.7")


def test_foreach_batch_calls_back_into_the_task(project, tmp_path):
    result, log = project.run(code=f"""
        source = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 5).load()
        seen = []
        query = source.writeStream.foreachBatch(lambda rows, n: seen.append(rows.count())).option("checkpointLocation", "{tmp_path}/c").trigger(once=True).start()
        query.awaitTermination()
        print(seen)
        """)  # fmt: skip
    assert (result.state, log.strip()) == ("SUCCESS", "[5]"), log


def test_a_session_says_what_a_query_returns(cluster):
    assert cluster.sql("select 1 as a, 'x' as b union all select 2, null order by a") == (["a", "b"], [[1, "x"], [2, None]])


def test_a_fresh_interpreter_a_task_gives_the_same(project, state, cluster):
    file = project.write("spawned.py", "import os\nprint(spark.range(4).count(), os.getpid() == os.getpgid(0))\nraise ValueError('end')")
    with Cluster.start(state, project.root, spawn=True) as spawning:
        task = spawning.launch(TaskSpec(kind="script", folder=project.root / "spawned", project=project.root, file=file))
        result = task.wait(60)
    assert result is not None
    assert (result.state, result.error) == ("FAILED", "ValueError: end")
    assert (project.root / "spawned" / "log.txt").read_text().splitlines()[0] == "4 True"
    assert cluster.sql("select 1")[1] == [[1]]  # the session that the suite owns is still there


def test_a_spec_that_lacks_what_its_kind_needs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a wheel task needs entry_point"):
        TaskSpec(kind="wheel", folder=tmp_path, project=tmp_path, package="oars")


def test_a_spec_survives_the_way_to_the_process(tmp_path):
    spec = TaskSpec(kind="script", folder=tmp_path / "r", project=tmp_path, file=tmp_path / "a.py", argv=("1",), widgets={"a": "b"},
                    values={"t": {"k": [1]}}, context={"run_id": "1"}, env={"A": "1"}, catalog="dev")  # fmt: skip
    assert TaskSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec
    assert os.path.isabs(spec.as_dict()["folder"])


def test_an_error_of_the_jvm_is_told_by_its_cause_not_by_the_call(project):
    result, _ = project.run(code="spark._jvm.java.util.ArrayList().get(3)")
    assert result.error == "Py4JJavaError: java.lang.IndexOutOfBoundsException: Index 3 out of bounds for length 0"


def test_two_clusters_on_one_session_do_not_bar_each_others_jobs(project, state):
    file = project.write("count.py", "print(spark.range(4).count())")
    for number in range(2):
        with Cluster.start(state, project.root, spawn=True) as other:
            result = other.launch(TaskSpec(kind="script", folder=project.root / str(number), project=project.root, file=file)).wait(120)
            assert result is not None
            assert result.state == "SUCCESS", result.trace


@pytest.mark.parametrize(
    ("code", "logger"),
    [
        ("spark.sql('select oar')", "SQLQueryContextLogger"),
        ("spark.range(1).withColumn('oar', F.col('id') / F.lit(0)).collect()", "DataFrameQueryContextLogger"),
    ],
)
def test_a_failed_query_is_logged_once_as_its_exception(project, code: str, logger: str) -> None:
    result, log = project.run(code=f"from pyspark.sql import functions as F\n{code}")
    assert result.error.startswith(("AnalysisException: [UNRESOLVED_COLUMN", "ArithmeticException: [DIVIDE_BY_ZERO"))
    assert log.startswith("Traceback")
    assert logger not in log
