"""What tests need of processes beside the driver, asked of one cluster of two executors.

Such a cluster costs three JVMs. A test file takes part with a function `on_executors(spark, folder)`, whose result is written as JSON beside the session's state.
Executors have another working directory and another time zone than the driver.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SRC = Path(__file__).parents[2] / "src"


@contextmanager
def two_executors(state: Path) -> Iterator[Any]:
    "A session on two executors. A task that fails ends its job, and a query is interpreted, as it is in the suite's own session."
    from boathouse.workspace.spark.class_archive import archive_options
    from boathouse.workspace.spark.jars import jars
    from boathouse.workspace.spark.lock import lock
    from boathouse.workspace.spark.session import start_session, state_environment

    os.environ |= state_environment(state)
    time.tzset()
    lock(state)
    java = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Duser.timezone=Asia/Tokyo", *archive_options(jars())]
    conf = {
        "spark.executor.extraJavaOptions": " ".join(java), "spark.executorEnv.TZ": "Asia/Tokyo", "spark.executorEnv.PYTHONPATH": os.environ["PYTHONPATH"],
        "spark.scheduler.minRegisteredResourcesRatio": "1.0", "spark.task.maxFailures": "1",
        "spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    }  # fmt: skip
    spark = start_session(state, "local-cluster[2,1,2048]", conf)
    try:
        yield spark
    finally:
        jvm, work = spark.sparkContext._gateway.proc, Path(os.environ["SPARK_HOME"], "work", spark.sparkContext.applicationId)
        spark.stop()
        jvm.stdin.close()
        jvm.wait(60)
        shutil.rmtree(work)  # the executors' folders: such a cluster keeps them


def ask_executors(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    "Run the functions of `files` on one cluster, in a process whose working directory is `folder`; their results by the name of the file."
    paths = os.pathsep.join([str(SRC), *filter(None, [os.environ.get("PYTHONPATH")])])
    (folder / "temporary").mkdir()
    environ = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(folder / "temporary")}
    words = [sys.executable, __file__, str(folder), *map(str, files)]
    done = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return {file.stem: json.loads((folder / f"{file.stem}.json").read_text()) for file in files}


def main(folder: Path, files: Sequence[Path]) -> None:
    (folder / "state").mkdir()
    with two_executors(folder / "state") as spark:
        for file in files:
            spec = importlib.util.spec_from_file_location(file.stem, file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            (folder / f"{file.stem}.json").write_text(json.dumps(module.on_executors(spark, folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]])
