"""A schema is used in one catalog of a target only: bundles, runs and statements that use it in a second one are refused."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import Bundle, load
from boathouse.workspace.cli.run import run_job
from boathouse.workspace.errors import BundleError, QueryFailed
from boathouse.workspace.run.deploy import deploy
from boathouse.workspace.spark.schema_owners import owners
from boathouse.workspace.validate.check import refuse_unrunnable
from boathouse.workspace.validate.schemas import refuse_parameters

if TYPE_CHECKING:
    from boathouse.workspace.cluster.cluster import Cluster


def bundle(folder: Path, text: str) -> Bundle:
    (folder / "databricks.yml").write_text(text)
    return load(folder, environ={})


REFUSED = {
    "drop": "spark.sql('DROP SCHEMA prod.owned CASCADE')",
    "drop if exists": "spark.sql('DROP SCHEMA IF EXISTS prod.owned CASCADE')",
    "create": "spark.sql('CREATE SCHEMA IF NOT EXISTS prod.owned')",
    "use": "spark.sql('USE prod.owned')",
    "show": "spark.sql('SHOW TABLES IN prod.owned')",
    "select": "spark.sql('SELECT * FROM prod.owned.t')",
    "capitals": "spark.sql('SELECT * FROM prod.OWNED.t')",
    "quoted": "spark.sql('SELECT * FROM `prod`.`owned`.`t`')",
    "subquery": "spark.sql('SELECT 1 WHERE 1 IN (SELECT a FROM prod.owned.t)')",
    "with": "spark.sql('WITH x AS (SELECT * FROM prod.owned.t) SELECT * FROM x')",
    "union": "spark.sql('SELECT * FROM dev.owned.t UNION ALL SELECT * FROM prod.owned.t')",
    "version": "spark.sql('SELECT * FROM prod.owned.t VERSION AS OF 0')",
    "insert": "spark.sql('INSERT INTO prod.owned.t VALUES (2)')",
    "overwrite": "spark.sql('INSERT OVERWRITE prod.owned.t SELECT 2')",
    "update": "spark.sql('UPDATE prod.owned.t SET a = 2')",
    "delete": "spark.sql('DELETE FROM prod.owned.t')",
    "merge": "spark.sql('MERGE INTO prod.owned.t USING dev.owned.t s ON t.a = s.a WHEN MATCHED THEN DELETE')",
    "merge from": "spark.sql('MERGE INTO dev.owned.t USING prod.owned.t s ON t.a = s.a WHEN MATCHED THEN DELETE')",
    "create table": "spark.sql('CREATE TABLE prod.owned.u (a int)')",
    "replace": "spark.sql('CREATE OR REPLACE TABLE prod.owned.t AS SELECT 2 AS a')",
    "clone": "spark.sql('CREATE TABLE prod.other.t SHALLOW CLONE prod.owned.t')",
    "create view": "spark.sql('CREATE OR REPLACE VIEW prod.owned.v AS SELECT 2 AS a')",
    "drop table": "spark.sql('DROP TABLE IF EXISTS prod.owned.t')",
    "drop view": "spark.sql('DROP VIEW IF EXISTS prod.owned.v')",
    "alter": "spark.sql('ALTER TABLE prod.owned.t ADD COLUMNS (b int)')",
    "describe": "spark.sql('DESCRIBE HISTORY prod.owned.t')",
    "optimize": "spark.sql('OPTIMIZE prod.owned.t')",
    "vacuum": "spark.sql('VACUUM prod.owned.t')",
    "restore": "spark.sql('RESTORE TABLE prod.owned.t TO VERSION AS OF 0')",
    "function": "spark.sql('SELECT prod.owned.twice(1)')",
    "create function": "spark.sql('CREATE OR REPLACE FUNCTION prod.owned.twice(x INT) RETURNS INT RETURN 3')",
    "drop function": "spark.sql('DROP FUNCTION prod.owned.twice')",
    "identifier": "spark.sql('SELECT * FROM IDENTIFIER(:n)', args={'n': 'prod.owned.t'})",
    "identifier drop": "spark.sql('DROP TABLE IDENTIFIER(:c || :n)', args={'c': 'prod', 'n': '.owned.t'})",
    "immediate": "spark.sql(\"EXECUTE IMMEDIATE 'DROP SCHEMA prod.owned CASCADE'\")",
    "script": "spark.sql('BEGIN DROP TABLE prod.owned.t; END')",
    "table": "spark.table('prod.owned.t')",
    "read": "spark.read.table('prod.owned.t').count()",
    "read stream": "spark.readStream.table('prod.owned.t')",
    "save": "spark.range(3).write.mode('overwrite').saveAsTable('prod.owned.t')",
    "append": "spark.range(3).toDF('a').write.mode('append').saveAsTable('prod.owned.t')",
    "insert into": "spark.range(3).write.insertInto('prod.owned.t')",
    "writer": "spark.range(3).toDF('a').writeTo('prod.owned.t').append()",
    "writer create": "spark.range(3).writeTo('prod.owned.w').using('delta').create()",
    "stream": "rate.toTable('prod.owned.r')",
    "exists": "spark.catalog.tableExists('prod.owned.t')",
    "list": "spark.catalog.listTables('prod.owned')",
    "delta": "DeltaTable.forName(spark, 'prod.owned.t').delete()",
    "own name": "spark.sql('DROP SCHEMA spark_catalog.owned CASCADE')",
    "own name read": "spark.table('spark_catalog.owned.t')",
    "current": "spark.sql('USE CATALOG prod'), spark.sql('DROP SCHEMA owned CASCADE')",
    "current two parts": "spark.table('owned.t')",
    "current one part": "spark.catalog.setCurrentDatabase('owned'), spark.sql('DROP TABLE t')",
    "own name current": "spark.sql('USE spark_catalog'), spark.sql('DROP TABLE owned.t')",
    "current by Python": "spark.catalog.setCurrentCatalog('prod'), spark.table('owned.t')",
}
ATTEMPTS = """
    import json, os
    from delta.tables import DeltaTable
    spark.sql("CREATE SCHEMA dev.owned")
    spark.sql("CREATE TABLE dev.owned.t AS SELECT 1 AS a")
    spark.sql("CREATE FUNCTION dev.owned.twice(x INT) RETURNS INT RETURN 2 * x")
    spark.sql("CREATE VIEW dev.owned.v AS SELECT a + 1 AS b FROM owned.t")
    spark.sql("CREATE SCHEMA prod.other")
    rate = spark.readStream.format("rate").load().writeStream.trigger(availableNow=True).option("checkpointLocation", os.getcwd() + "/checkpoint")
    said = {{}}
    for name, code in {cases!r}.items():
        try:
            eval(code)
            said[name] = "nothing"
        except Exception as error:
            said[name] = f"{{type(error).__name__}}: {{error}}"
    print(json.dumps(said))
    spark.sql("USE prod.other")
    read = [spark.table("dev.owned.t").first().a, spark.table("dev.owned.v").first().b, spark.sql("SELECT dev.owned.twice(4)").first()[0]]
    spark.createDataFrame([(9,)], "a int").createTempView("t")
    read.append(spark.table("t").first().a)
    print(read)
    """


def test_a_schema_of_one_catalog_is_refused_under_the_name_of_another(project: Any, cluster: Cluster, state: Path) -> None:
    try:
        result, log = project.run(code=textwrap.dedent(ATTEMPTS).format(cases=REFUSED), catalog="dev", catalogs=("dev", "prod"))
        said = json.loads(log.splitlines()[0])
        begin = "IllegalArgumentException: The schema {}.owned cannot be used: in this target the schema 'owned' belongs to the catalog 'dev', and the catalogs"
        own = {name: "spark_catalog" for name in said if name.startswith("own name")}
        assert {name: text for name, text in said.items() if not text.lower().startswith(begin.format(own.get(name, "prod")).lower())} == {}
        assert said["drop"].endswith(
            "and the catalogs of a target share their schemas on this machine. Rename the schema in one of the two catalogs, or give each catalog a target "
            f"of its own. If the catalog was renamed from 'dev' to 'prod', delete the line 'owned' in {state}/schemas.properties."
        )
        assert (result.state, result.error, log.splitlines()[1:]) == ("SUCCESS", None, ["[1, 2, 8, 9]"])
        assert (owners(state)["owned"], owners(state)["other"]) == ("dev", "prod")
    finally:
        cluster.sql("DROP SCHEMA IF EXISTS dev.owned CASCADE", "dev")
        cluster.sql("DROP SCHEMA IF EXISTS prod.other CASCADE", "prod")


def test_the_current_catalog_goes_with_a_notebook_that_is_run_and_with_a_stream(project: Any, cluster: Cluster) -> None:
    project.write("child.py", "# Databricks notebook source\nspark.sql('INSERT INTO goes_along.t VALUES (2)')\n")
    code = """
        # Databricks notebook source
        import os
        spark.sql("CREATE SCHEMA goes_along")
        spark.sql("CREATE TABLE goes_along.t (a int)")
        dbutils.notebook.run("child", 100)
        def add(rows, _):
            rows.sparkSession.sql("INSERT INTO goes_along.t VALUES (3)")
        stream = spark.readStream.table("goes_along.t").writeStream.foreachBatch(add).trigger(availableNow=True)
        stream.option("checkpointLocation", os.getcwd() + "/checkpoint").start().awaitTermination()
        dbutils.notebook.exit(str(sorted(row.a for row in spark.table("dev.goes_along.t").collect())))
        """
    try:
        result, _ = project.run("notebook", file=project.write("parent.py", code), catalog="dev", catalogs=("dev", "prod"))
        assert (result.state, result.error, result.exit_value) == ("SUCCESS", None, "[2, 3]")
    finally:
        cluster.sql("DROP SCHEMA IF EXISTS dev.goes_along CASCADE", "dev")


def test_a_schema_that_was_dropped_is_free_for_another_catalog(cluster: Cluster, state: Path) -> None:
    cluster.sql("CREATE SCHEMA dev.passed_on", "dev")
    with pytest.raises(QueryFailed, match=r"The schema prod.passed_on cannot be used"):
        cluster.sql("DROP SCHEMA prod.passed_on", "prod")
    cluster.sql("DROP SCHEMA dev.passed_on", "dev")
    cluster.sql("CREATE SCHEMA prod.passed_on", "prod")
    with pytest.raises(QueryFailed, match=r"The schema dev.passed_on cannot be used"):
        cluster.sql("SHOW TABLES IN dev.passed_on", "dev")
    assert owners(state)["passed_on"] == "prod"
    cluster.sql("DROP SCHEMA prod.passed_on", "prod")


def test_a_schema_goes_to_a_catalog_with_a_new_name_when_its_line_is_deleted(cluster: Cluster, state: Path) -> None:
    cluster.sql("CREATE SCHEMA dev.renamed", "dev")
    file = state / "schemas.properties"
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("renamed=")))
    assert cluster.sql("SHOW TABLES IN main.renamed", "main")[1] == []
    with pytest.raises(QueryFailed, match="belongs to the catalog 'main'"):
        cluster.sql("DROP SCHEMA dev.renamed", "dev")
    cluster.sql("DROP SCHEMA main.renamed", "main")


def test_paths_and_missing_schemas_belong_to_nobody(cluster: Cluster, state: Path) -> None:
    cluster.sql("CREATE SCHEMA dev.some_paths", "dev")
    cluster.sql("CREATE TABLE dev.some_paths.t AS SELECT 1 AS a", "dev")
    path = f"delta.`{state}/warehouse/some_paths.db/t`"
    assert [cluster.sql(f"SELECT a FROM {path}", catalog)[1] for catalog in ("dev", "prod", "spark_catalog")] == [[[1]]] * 3
    for catalog in ("dev", "prod"):
        with pytest.raises(QueryFailed, match="TABLE_OR_VIEW_NOT_FOUND"):
            cluster.sql(f"SELECT * FROM {catalog}.never_made.t", catalog)
    assert not {"delta", "never_made"} & owners(state).keys()
    cluster.sql("DROP SCHEMA dev.some_paths CASCADE", "dev")


TWO = """
bundle: {name: demo}
variables: {catalog: {default: dev}, source_catalog: {default: prod}, table: {default: dev.free.t}}
resources:
  schemas: {a: {catalog_name: "${var.catalog}", name: silver}}
  jobs:
    j:
      parameters: [{name: source, default: SOURCE}]
      tasks: [{task_key: t, spark_python_task: {python_file: s.py, parameters: ["{{job.parameters.source}}", "PARAMETER"]}}]
    k: {tasks: [{task_key: t, spark_python_task: {python_file: s.py}}]}
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("SOURCE", "prod.silver.t"),
            "databricks.yml:8:44: the schema 'silver' is named in two catalogs, 'prod' here and 'dev' at databricks.yml:5:55.",
        ),
        (
            ("PARAMETER", "--table=prod.silver.t"),
            "the schema 'silver' is named in two catalogs, 'prod' here and 'dev' at databricks.yml:5:55.",
        ),
        (("SOURCE", "spark_catalog.silver"), "the schema 'silver' is named in two catalogs, 'spark_catalog' here and 'dev'"),
        (("PARAMETER", "`prod`.`free`.`t`"), "the schema 'free' is named in two catalogs, 'prod' here and 'dev'"),
        (
            ("silver}}", "silver}, b: {catalog_name: prod, name: SILVER}}"),
            "the schema 'SILVER' is named in two catalogs, 'prod' here and 'dev'",
        ),
        (("  schemas:", "  volumes: {v: {catalog_name: prod, schema_name: silver, name: v}}\n  schemas:"), "'dev' here and 'prod'"),
        (
            ("  schemas:", "  registered_models: {m: {catalog_name: prod, schema_name: silver, name: m}}\n  schemas:"),
            "'dev' here and 'prod'",
        ),
        (("  schemas:", "  pipelines: {p: {catalog: prod, schema: silver}}\n  schemas:"), "'dev' here and 'prod'"),
        (("dev.free.t", "prod.silver.t"), "the schema 'silver' is named in two catalogs, 'prod' here and 'dev'"),
    ],
)
def test_a_run_of_a_bundle_that_names_a_schema_in_two_catalogs_is_refused(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    (tmp_path / "s.py").touch()
    jobs = all_jobs(bundle(tmp_path, TWO.replace(*change)))
    with pytest.raises(BundleError) as refused:
        refuse_unrunnable(jobs, jobs["j"])
    assert said in str(refused.value)
    assert (
        "The catalogs of a target share their schemas on this machine. Rename the schema in one of them, or give each catalog a target of its own."
        in str(refused.value)
    )
    if change[0] in ("SOURCE", "PARAMETER"):  # the other job names none of them
        refuse_unrunnable(jobs, jobs["k"])


def test_a_run_is_refused_for_its_own_parameter_and_by_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "s.py").touch()
    this = bundle(tmp_path, TWO)
    jobs = all_jobs(this)
    refuse_unrunnable(jobs, jobs["j"])
    for value in ("prod.other.t", "dev.silver.t", "example.silver.t", "prod", "some text, prod.silver"):
        refuse_parameters(jobs["j"], {"source": value})
    with pytest.raises(
        BundleError, match=r"--param source: the schema 'silver' is named in two catalogs, 'prod' here and 'dev' at databricks.yml:5:55"
    ):
        run_job(this, "j", {"source": "prod.silver.t"})


def test_deploying_gives_a_schema_to_the_catalog_that_it_names(cluster: Cluster, tmp_path: Path, state: Path) -> None:
    text = "bundle: {name: demo}\nvariables: {catalog: {default: dev}}\nresources: {schemas: {s: {catalog_name: '${var.catalog}', name: deployed}}}\n"
    deploy(bundle(tmp_path, text), cluster)
    assert owners(state)["deployed"] == "dev"
    with pytest.raises(BundleError, match=r"databricks.yml:3:65: The schema prod.deployed cannot be used"):
        deploy(bundle(tmp_path, text.replace("default: dev", "default: prod")), cluster)
    cluster.sql("DROP SCHEMA dev.deployed", "dev")
