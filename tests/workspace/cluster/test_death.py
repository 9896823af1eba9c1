"Killed, cancelled, forgotten: whatever ends a task or the cluster, nothing of it stays."

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from support.environment import clean_environment

from boathouse.workspace.cluster.cluster import Cluster, ClusterError, TaskSpec

SLOW_JOB = """
    import time
    from pyspark.sql.functions import udf
    spark.range(1000, numPartitions=2).select(udf(lambda n: time.sleep(0.2) or n, "long")("id")).collect()
    """


def active_jobs(cluster):
    return list(cluster.spark.sparkContext.statusTracker().getActiveJobsIds())


def streams(task):
    return len(task.line.session.streams().active())


def test_a_killed_task_leaves_no_spark_job(project, cluster, until):
    task = project.launch(code=SLOW_JOB)
    assert until(lambda: bool(active_jobs(cluster)))
    os.kill(task.pid, signal.SIGKILL)
    result = task.wait(30)
    assert (result.state, result.error) == ("FAILED", "killed by signal 9 (SIGKILL)")
    assert until(lambda: not active_jobs(cluster), 30)


def test_cancelling_ends_the_job_and_every_job_that_would_follow(project, cluster, until):
    task = project.launch(
        code=f"while True:\n    try:\n{textwrap.indent(textwrap.dedent(SLOW_JOB), '        ')}    except Exception as e:\n        print(e)\n"
    )
    assert until(lambda: bool(active_jobs(cluster)))
    task.cancel()
    assert task.wait(1).state == "CANCELED"
    assert not psutil.pid_exists(task.pid)
    assert until(lambda: not active_jobs(cluster), 30)
    task.cancel()
    assert task.poll().state == "CANCELED"


def test_jobs_started_from_the_tasks_own_threads_end_with_it(project, cluster, until):
    task = project.launch(code="""
        import threading, time
        work = lambda: spark.sparkContext.parallelize(range(1000), 2).map(lambda n: time.sleep(0.2)).collect()
        threads = [threading.Thread(target=work) for _ in range(2)]
        [t.start() for t in threads]; [t.join() for t in threads]
        """)  # fmt: skip
    assert until(lambda: len(active_jobs(cluster)) == 2)
    task.cancel()
    assert until(lambda: not active_jobs(cluster), 30)


@pytest.mark.parametrize("end", ["cancel", "forgotten"])
def test_a_streaming_query_does_not_outlive_its_task(project, until, end, tmp_path):
    then = "import time; time.sleep(600)" if end == "cancel" else ""
    task = project.launch(code=f"""
        query = spark.readStream.format("rate").load().writeStream.format("noop").option("checkpointLocation", "{tmp_path}/c").start()
        print("started", flush=True)
        {then}
        """)  # fmt: skip
    if end == "cancel":
        assert until(lambda: streams(task) == 1)
        task.cancel()
    assert task.wait(30).state == ("CANCELED" if end == "cancel" else "SUCCESS")
    assert streams(task) == 0


def test_children_of_a_task_end_with_it_whatever_group_they_chose(project, until):
    _, log = project.run(code="""
        import os, subprocess
        print(subprocess.Popen(["sleep", "600"]).pid)
        print(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
        pid = os.fork()
        if pid == 0:
            import time
            time.sleep(600)
        print(pid, flush=True)
        os._exit(7)
        """)  # fmt: skip
    pids = [int(line) for line in log.split()]
    assert len(pids) == 3
    assert until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 60), [psutil.Process(p) for p in pids if psutil.pid_exists(p)]


def test_ending_one_task_leaves_the_children_of_another_alone(project, until):
    task = project.launch(
        code="import subprocess, time\nprint(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)\ntime.sleep(600)"
    )
    log = task.spec.folder / "log.txt"
    assert until(lambda: log.is_file() and log.read_text().endswith("\n"))
    project.run(code="pass")
    alive = psutil.pid_exists(int(log.read_text()))
    task.cancel()
    assert alive


def threads(cluster):
    "The JVM's threads, without Spark's own pools for blocks, which idle threads leave after a minute."
    names = [thread.getName() for thread in cluster.spark._jvm.java.lang.Thread.getAllStackTraces().keySet()]
    return [name for name in names if not name.startswith("block-manager")]


def test_fifty_tasks_leave_the_jvm_as_it_was(project, cluster):
    "Each takes a session, a server and connections there; the bound is a small part of one thread or file a task."
    jvm = psutil.Process(cluster.spark.sparkContext._gateway.proc.pid)
    for _ in range(5):
        project.run(code="spark.range(1).collect()")
    before, files = threads(cluster), jvm.num_fds()
    for _ in range(50):
        result, _ = project.run(code="spark.range(1).collect()")
        assert result.state == "SUCCESS"
    assert len(threads(cluster)) - len(before) < 10, sorted(threads(cluster))
    assert jvm.num_fds() - files < 10
    assert not cluster._tasks


def test_what_a_task_cached_is_freed_when_none_runs(project, cluster):
    def held():
        return cluster.spark.sparkContext._jsc.sc().getPersistentRDDs().size()

    before = held()  # Delta keeps the state of tables that other tests used
    project.run(code="spark.range(100).cache().count()")
    assert held() <= before


def test_a_zygote_that_dies_takes_its_tasks_along_and_is_named(project, state, cluster, until):
    file = project.write("sleep.py", "import time\ntime.sleep(600)")
    with Cluster.start(state, project.root, spawn=True) as doomed:
        task = doomed.launch(TaskSpec(kind="script", folder=project.root / "doomed", project=project.root, file=file))
        os.kill(doomed._zygote.pid, signal.SIGKILL)
        assert task.wait(20).state == "FAILED"
        assert until(lambda: not psutil.pid_exists(task.pid), 60)
        with pytest.raises(ClusterError):
            doomed.launch(TaskSpec(kind="script", folder=project.root / "late", project=project.root, file=file))


HOLDER = """
    import signal, sys, time
    from pathlib import Path
    from boathouse.workspace.cluster.cluster import Cluster, TaskSpec
    state, project = Path(sys.argv[1]), Path(sys.argv[2])
    cluster = Cluster.start(state, project, conf={"spark.driver.memory": "600m"})
    def launch(name):
        return cluster.launch(TaskSpec(kind="script", folder=project / "runs" / name, project=project, file=project / name))
    assert launch("table.py").wait(120).state == "SUCCESS"
    signal.alarm(120)  # ends this process where the metastore does not answer
    for _ in range(3):
        asking, log = launch("ask.py"), project / "runs" / "ask.py" / "log.txt"
        while not (log.is_file() and "asks" in log.read_text()):
            time.sleep(0.05)
        asking.cancel()
        asking.wait()
    schemas = sorted(row[0] for row in cluster.sql("show schemas in spark_catalog")[1])
    signal.alarm(0)
    tasks = [launch("slow.py"), launch("sleep.py")]
    import json
    print(json.dumps({"schemas": schemas, "jvm": cluster.spark.sparkContext._gateway.proc.pid, "zygote": cluster._zygote.pid, "tasks": [t.pid for t in tasks]}), flush=True)
    tasks[0].wait()
    """


ASK = """
    from threading import Thread
    def ask():
        while True:
            spark.sql("show schemas in spark_catalog").collect()
    ask_often = [Thread(target=ask) for _ in range(4)]
    [thread.start() for thread in ask_often]
    print("asks", flush=True)
    """


def test_the_metastore_answers_after_those_who_asked_it_were_killed_and_a_killed_holder_leaves_only_tables(tmp_path, until):
    "Two JVMs one after the other: the price of a real kill -9."
    for name, code in {"table.py": "spark.sql('create schema spark_catalog.silver'); spark.range(9).write.saveAsTable('spark_catalog.silver.boats')",
                       "ask.py": textwrap.dedent(ASK), "slow.py": textwrap.dedent(SLOW_JOB), "sleep.py": "import subprocess, time\nsubprocess.Popen(['sleep', '600'])\ntime.sleep(600)"}.items():  # fmt: skip
        (tmp_path / name).write_text(code)
    state = tmp_path / "state"
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(state), str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    told = json.loads(holder.stdout.readline())
    assert told["schemas"] == ["default", "silver"]
    assert until(lambda: bool(psutil.Process(told["tasks"][1]).children()))
    child = psutil.Process(told["tasks"][1]).children()[0].pid
    pids = [told["jvm"], told["zygote"], *told["tasks"], child]
    holder.kill()
    holder.wait()
    assert until(lambda: not any(_alive(pid) for pid in pids), 60), [psutil.Process(pid) for pid in pids if _alive(pid)]
    reader = ("import sys; from boathouse.workspace.spark.session import local_session\n"
              "print(local_session(sys.argv[1]).table('spark_catalog.silver.boats').count())")  # fmt: skip
    read = subprocess.run([sys.executable, "-c", reader, str(state)], capture_output=True, text=True, check=True, env=clean_environment())
    assert read.stdout.strip() == "9"


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


SLEEPY = """
    bundle:
      name: sleepy
    targets:
      local:
        default: true
    resources:
      jobs:
        nap:
          name: nap
          tasks:
            - task_key: sleep
              spark_python_task:
                python_file: sleep.py
            - task_key: after
              depends_on:
                - task_key: sleep
              run_if: ALL_DONE
              spark_python_task:
                python_file: sleep.py
    """


def test_a_jvm_that_is_ended_from_outside_is_told_in_a_sentence(tmp_path, until):
    (tmp_path / "databricks.yml").write_text(textwrap.dedent(SLEEPY))
    (tmp_path / "sleep.py").write_text("import time\nprint(spark.range(3).count(), flush=True)\ntime.sleep(600)\n")
    command = [str(Path(sys.executable).parent / "boathouse"), "run", "nap"]
    runner = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environment())
    log = tmp_path / ".boathouse/local/runs/1/sleep/log.txt"
    assert until(lambda: log.is_file() and "3" in log.read_text(), 60)
    jvm = next(p for p in psutil.Process(runner.pid).children(recursive=True) if p.name() == "java")
    jvm.kill()
    message, _ = runner.communicate(timeout=60)
    assert runner.returncode == 1
    assert "JVM was ended from outside, or crashed (signal 9)" in message
    assert "Traceback" not in message
    assert "py4j" not in message.lower()
