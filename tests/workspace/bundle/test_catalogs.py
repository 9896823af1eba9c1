"""Catalogs that a target names: each is there in every session, and in what a session makes of itself; a schema is in one of them only."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boathouse.workspace.bundle.catalogs import named_catalogs
from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import Bundle, load
from boathouse.workspace.history.as_json import run_json
from boathouse.workspace.history.store import History
from boathouse.workspace.run.deploy import deploy
from boathouse.workspace.run.runner import Runner

if TYPE_CHECKING:
    from boathouse.workspace.cluster.cluster import Cluster

BUNDLE = """
bundle: {name: demo}
experimental: {skip_name_prefix_for_schema: true}
variables: {catalog: {default: dev}}
resources:
  schemas: {s: {catalog_name: "${var.catalog}", name: catalog_test}}
  jobs:
    a:
      parameters: [{name: source_catalog, default: raw}]
      tasks: [{task_key: t, spark_python_task: {python_file: s.py, parameters: ["{{job.parameters.source_catalog}}", "${workspace.file_path}/checkpoint"]}}]
targets:
  dev:
    default: true
    mode: development
    workspace: {host: https://example.invalid}
    permissions: [{level: CAN_MANAGE, group_name: us}]
"""


def bundle(folder: Path, text: str = BUNDLE) -> Bundle:
    (folder / "databricks.yml").write_text(textwrap.dedent(text))
    return load(folder, environ={})


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ("", ("dev", "raw")),
        ("  registered_models: {m: {catalog_name: models, schema_name: s, name: n}}\n", ("dev", "models", "raw")),
        ("  catalogs: {c: {name: my-own}}\n", ("dev", "my-own", "raw")),
        ("  schemas2: {s: {catalog_name: spark_catalog, name: x}}\n", ("dev", "raw")),
        ("  jobs2: {j: {parameters: [{name: use_catalog, default: 'true'}, {name: x, default: y}]}}\n", ("dev", "raw")),
    ],
)
def test_the_catalogs_of_a_target_are_those_that_variables_resources_and_parameters_name(
    tmp_path: Path, more: str, names: tuple[str, ...]
) -> None:
    text = BUNDLE.replace("resources:\n", f"resources:\n{more}")
    assert named_catalogs(bundle(tmp_path, text)) == names
    assert named_catalogs(bundle(tmp_path, text), {"catalog": "given"}) == tuple(sorted({*names, "given"}))


def test_a_task_of_a_target_works_in_the_catalogs_that_it_names(cluster: Cluster, tmp_path: Path) -> None:
    code = """
        import sys
        source, checkpoint = sys.argv[1:]
        spark.sql("CREATE TABLE dev.catalog_test.t (a int) COMMENT 'rows'")
        spark.sql("USE CATALOG dev")
        spark.sql("USE SCHEMA catalog_test")
        spark.sql("INSERT INTO t VALUES (1)")
        spark.sql(f"CREATE SCHEMA {source}.catalog_test_raw")
        spark.sql(f"CREATE VIEW {source}.catalog_test_raw.v AS SELECT a + 1 AS b FROM dev.catalog_test.t")
        spark.table("t").writeTo("dev.catalog_test.w").using("delta").create()

        def add(rows, _):
            rows.createOrReplaceTempView("rows")
            rows.sparkSession.sql("INSERT INTO dev.catalog_test.w SELECT a + 10 FROM rows")

        stream = spark.readStream.table("dev.catalog_test.t").writeStream.foreachBatch(add).trigger(availableNow=True)
        stream.option("checkpointLocation", checkpoint).start().awaitTermination()
        print(sorted(row.a for row in spark.table("dev.catalog_test.w").collect()), spark.table("raw.catalog_test_raw.v").first().b)
        print(spark.sql("SHOW TABLES IN dev.catalog_test").count(), spark.catalog.tableExists("dev.catalog_test.nope"))
        """
    (tmp_path / "s.py").write_text(textwrap.dedent(code))
    this = bundle(tmp_path)
    jobs, history = all_jobs(this), History(this.state)
    deploy(this, cluster)
    try:
        run_id, _ = Runner(cluster, this, jobs, history).run(jobs["a"])
        (task,) = run_json(history, run_id)["tasks"]
        state: dict[str, Any] = task["state"]
        assert (state["result_state"], state["state_message"]) == ("SUCCESS", "")
        assert Path(task["log"]).read_text().splitlines() == ["[1, 11] 2", "2 False"]
        assert cluster.sql("SELECT count(*) FROM dev.catalog_test.w", "dev")[1] == [[2]]
        location = cluster.sql("DESCRIBE DETAIL dev.catalog_test.w", "dev")[1][0][4]
        assert location == f"file:{cluster.state}/warehouse/catalog_test.db/w"
    finally:
        cluster.sql("DROP SCHEMA IF EXISTS dev.catalog_test CASCADE", "dev")
        cluster.sql("DROP SCHEMA IF EXISTS raw.catalog_test_raw CASCADE", "raw")


def test_a_catalog_that_nothing_names_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(Exception, match="elsewhere"):
        cluster.sql("CREATE SCHEMA elsewhere.catalog_test")


def test_what_a_target_states_and_has_no_effect_is_said(tmp_path: Path) -> None:
    assert bundle(tmp_path).notes == ("'permissions' has no effect on this machine.", "'workspace.host' has no effect on this machine.")
