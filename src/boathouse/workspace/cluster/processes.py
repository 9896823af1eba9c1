"The processes of a cluster: start the zygote, end the JVM, kill the group of a task, and measure memory."

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
from pyspark.sql import SparkSession


def start_zygote(state: Path, spawn: bool) -> subprocess.Popen[bytes]:
    "Start the zygote; its output goes to `zygote.log`."
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "boathouse.workspace.worker.zygote", str(state / "mlflow.db"), *(["--spawn"] if spawn else [])]
    # `-m` adds the working directory to the path: the state folder has no modules.
    with (state / "zygote.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=state)


def jvm_of(spark: SparkSession) -> subprocess.Popen[bytes] | None:
    "Return the process of the JVM, if this process started it."
    return getattr(spark.sparkContext._gateway, "proc", None)


def stop_jvm(spark: SparkSession) -> None:
    "End the JVM of this process and forget it, so that another one can be started."
    from pyspark import SparkContext

    gateway, jvm = spark.sparkContext._gateway, jvm_of(spark)
    if jvm is not None and jvm.poll() is not None:  # it has ended: there is nothing to stop, only to forget
        spark.sparkContext._jsc = SparkContext._active_spark_context = None
        SparkContext._gateway = SparkContext._jvm = None
        return
    spark.stop()
    if gateway is None or jvm is None:
        return
    gateway.shutdown()
    if jvm.stdin is not None:
        jvm.stdin.close()  # the JVM ends when its standard input closes
    try:
        jvm.wait(20)
    except subprocess.TimeoutExpired:
        jvm.kill()
        jvm.wait()
    SparkContext._gateway = SparkContext._jvm = None


def bytes_of(pid: int) -> int:
    "Return the bytes of memory that only this process uses; 0 if it has ended."
    try:
        info = psutil.Process(pid).memory_full_info()
        return int(getattr(info, "uss", info.rss))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def kill_group(pid: int) -> None:
    "Kill a process group; do nothing if it has ended."
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:
        return
