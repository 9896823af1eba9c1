"""A pytest plugin: the tests work in a session of a JVM that runs already, emptied of what earlier tests left, instead of starting one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

STATE = "BOATHOUSE_FAULT_STATE"  # the state folder of the cluster that the runner has started
TEMPLATE = "mlflow.template.db"


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    "Attach to the cluster, drop every schema, empty MLflow's store, and make Python workers of Spark load the code anew."
    from boathouse.workspace.cluster.address import ClusterSpec
    from boathouse.workspace.cluster.client import BackgroundCluster
    from boathouse.workspace.spark import session

    state = Path(os.environ[STATE])
    shutil.copy(state / TEMPLATE, state / "mlflow.db")
    for name in ("mlartifacts", "volumes"):
        shutil.rmtree(state / name, ignore_errors=True)
    spark = BackgroundCluster.reach(ClusterSpec(state, config.rootpath)).attach()
    spark.sparkContext.environment["BOATHOUSE_SOURCE"] = os.environ["BOATHOUSE_FAULT_RUN"]
    spark.sparkContext.environment["PYTHONDONTWRITEBYTECODE"] = "1"
    for row in spark.sql("SHOW SCHEMAS").collect():
        if row[0] != "default":
            spark.sql(f"DROP SCHEMA `{row[0]}` CASCADE")
    session.local_session = lambda state=None: spark
