"""One Spark session for the tests of a process: unit tests, notebooks and the local workspace's own tests share one JVM.

`make test` runs two such processes: most of a test's time is one thread's planning. `tests/support/report.py` says which tests stay together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from boathouse.workspace.cluster.cluster import Cluster

pytest_plugins = ["support.report", "boathouse.workspace.score.pytest_plugin"]
ROOT = Path(__file__).parent

# Small data: half of the time of a JVM that lives for a test would go into optimising code that runs a few times. Runs that the tests start inherit it.
BRIEF = "-XX:TieredStopAtLevel=1"
os.environ.setdefault("BOATHOUSE_JAVA_OPTIONS", BRIEF)
# A command that a test starts has a cluster of its own, which ends with it, unless the test is about the background one.
os.environ.setdefault("BOATHOUSE_CLUSTER", "own")

# LightGBM's threads would wait for each other by spinning: beside other work, three thousand rows cost 16 CPU seconds instead of one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What MLflow logs besides warnings has the time in it, and would be in the outputs of the notebooks.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

# Nor is code generated, for queries that run once over a few rows. The runs that tests start from the command line do generate it.
INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}

settings.register_profile("untimed", deadline=None)  # how long an example takes says nothing here: the machine has other work
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--save-outputs", action="store_true", help="write the outputs of the notebooks back, instead of comparing them")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.save_outputs:  # these tests compare nothing
        config.option.no_evidence = True


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "The suite's own state folder: warehouse, metastore, volumes, MLflow database."
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def spark(state: Path) -> Iterator[SparkSession]:
    "A real local Spark session with Delta, the one JVM of the suite."
    from boathouse.workspace.cluster.processes import stop_jvm
    from boathouse.workspace.spark.session import local_session

    with pytest.MonkeyPatch.context() as patch:
        if os.environ["BOATHOUSE_JAVA_OPTIONS"] == BRIEF:  # this JVM plans queries for as long as the suite lasts: optimising that pays
            patch.delenv("BOATHOUSE_JAVA_OPTIONS")
        session = local_session(state)
    for name, value in INTERPRETED.items():
        session.conf.set(name, value)
    yield session
    stop_jvm(session)


@pytest.fixture(scope="session")
def cluster(spark: SparkSession, state: Path) -> Iterator[Cluster]:
    "The local cluster around that JVM: zygote, task processes. Started only for the tests that ask for it."
    from boathouse.workspace.cluster.cluster import Cluster

    with Cluster.start(state, ROOT) as started:
        yield started
