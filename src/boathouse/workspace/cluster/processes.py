"The processes a cluster is made of: how the zygote starts, the JVM ends, a task's group is killed, and what each takes."

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
from pyspark.sql import SparkSession


def start_zygote(state: Path, spawn: bool) -> subprocess.Popen[bytes]:
    "Starts it; what it says is in `zygote.log`."
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "boathouse.workspace.worker.zygote", str(state / "mlflow.db"), *(["--spawn"] if spawn else [])]
    # `-m` puts the working directory on the path: the state folder holds no modules.
    with (state / "zygote.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=state)


def jvm_of(spark: SparkSession) -> subprocess.Popen[bytes] | None:
    "The JVM's process, if this process started it."
    return getattr(spark.sparkContext._gateway, "proc", None)


def stop_jvm(spark: SparkSession) -> None:
    "Ends the JVM of this process, and forgets it, so that another one can be started."
    from pyspark import SparkContext

    gateway, jvm = spark.sparkContext._gateway, jvm_of(spark)
    if jvm is not None and jvm.poll() is not None:  # it is gone: there is nothing to stop, only to forget
        spark.sparkContext._jsc = SparkContext._active_spark_context = None
        SparkContext._gateway = SparkContext._jvm = None
        return
    spark.stop()
    if gateway is None or jvm is None:
        return
    gateway.shutdown()
    if jvm.stdin is not None:
        jvm.stdin.close()  # the JVM ends when its standard input does
    try:
        jvm.wait(20)
    except subprocess.TimeoutExpired:
        jvm.kill()
        jvm.wait()
    SparkContext._gateway = SparkContext._jvm = None


def bytes_of(pid: int) -> int:
    "The memory that is this process's alone; 0 if it has ended."
    try:
        info = psutil.Process(pid).memory_full_info()
        return int(getattr(info, "uss", info.rss))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def kill_group(pid: int) -> None:
    "Kills a process group; harmless when it is gone."
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:
        return
