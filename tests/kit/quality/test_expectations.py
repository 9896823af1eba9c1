"""The same rules as constraints of a table, in a stream that dies, as text of a pipeline; and the report on what they found."""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from boathouse.quality.expectations import check_portable, constrain, constraints, expectations, in_stream, pipeline_source
from boathouse.quality.quarantine import quarantine_of
from boathouse.quality.report import failures_chart, last_results, page, totals
from boathouse.quality.rules import METRICS, Rule, RuleError, judge, kept_rows, rejected_rows
from boathouse.tables.table import Column, Lakehouse, Table, drop_all, read
from boathouse.tables.versions import version_of

if TYPE_CHECKING:
    from boathouse.workspace.cluster.cluster import Cluster

NOON = dt.datetime(2013, 6, 1, 12)
BOATS = Table("harbour.boats", "One row per boat.", (Column("boat", "string", "name"), Column("berth", "int", "where it lies")))
RULES = (
    Rule("quiet", "berth < 50", action="warn"),
    Rule("not_the_tug", "boat != 'Tug'", action="drop"),
    Rule("berthed", "berth > 0"),
    Rule("Short Name", "length(boat) < 6", action="fail", applies="boat != 'O''Brien'"),
)
VALUES = [("Ida", 1), ("Tern", -2), (None, 3), ("Tug", 4), ("Gull", None), ("O'Brien", 60)]


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_elsewhere_")
    yield lake
    drop_all(lake)


def test_a_constraint_refuses_what_the_rule_refuses_also_null_and_is_added_once(lake: Lakehouse) -> None:
    table = dataclasses.replace(BOATS, name="harbour.constrained")
    strict = (Rule("Short Name", "length(boat) < 6", action="fail", applies="berth > 0"), RULES[0])
    assert constrain(lake, table, strict) == ["short name"]
    version = version_of(lake, table)
    assert constrain(lake, table, strict) == []
    assert version_of(lake, table) == version
    insert = f"INSERT INTO {lake.name(table)} VALUES "
    lake.spark.sql(insert + "('Ida', 1), ('Kon-Tiki', -1), ('Kon-Tiki', NULL), ('Fram', 99)")
    for bad in ("('Kon-Tiki', 1)", "(NULL, 1)", "('Ida', 2), ('Endurance', 2)"):
        with pytest.raises(Exception, match="DELTA_VIOLATE_CONSTRAINT"):
            lake.spark.sql(insert + bad)
    assert read(lake, table).count() == 4
    assert constrain(lake, table, (Rule("Short Name", "length(boat) < 5", action="fail", applies="berth > 0"),)) == ["short name"]
    with pytest.raises(Exception, match="DELTA_VIOLATE_CONSTRAINT"):
        lake.spark.sql(insert + "('Terns', 1)")
    with pytest.raises(Exception, match="DELTA_NEW_CHECK_CONSTRAINT_VIOLATION"):
        constrain(lake, table, (Rule("none_at_99", "berth != 99", action="fail"),))


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("boat IN (SELECT boat FROM harbour.boats)", "a subquery"),
        ("EXISTS (SELECT 1)", "a subquery"),
        ("berth < (select max(n) from limits)", "a subquery"),
        ("is_registered(boat)", r"is_registered\(\) is not a function of Spark itself"),
        ("main.rules.is_registered (boat)", r"main.rules.is_registered\(\) is not"),
    ],
)
def test_what_neither_a_table_nor_a_pipeline_can_keep_is_refused_by_name(lake: Lakehouse, condition: str, why: str) -> None:
    lake.spark.udf.register("is_registered", lambda boat: True, "boolean")
    rule = Rule("wrong", condition, action="fail")
    with pytest.raises(RuleError, match=f"^wrong: {why}"):
        constrain(lake, dataclasses.replace(BOATS, name="harbour.unconstrained"), (rule,))
    with pytest.raises(RuleError, match=f"^wrong: {why}"):
        pipeline_source(lake.spark, BOATS, "harbour.delivered", (*RULES, rule))


def test_usual_conditions_travel(spark: SparkSession) -> None:
    sql = (
        "(berth IN (1, 2) AND NOT (boat LIKE 'select (from') OR CASE WHEN (berth > 0) THEN (true) ELSE (false) END)"
        " AND cast(berth AS decimal(10, 2)) BETWEEN (1) AND (9) AND `sum (` IS NOT NULL AND coalesce(size(array(1)), 0) > 0"
    )
    check_portable(spark, (Rule("fine", sql, applies="date_trunc('DAY', now_at) > timestamp'2013-01-01' - INTERVAL (1) DAY"),))


def test_the_decorators_of_a_pipeline_agree_with_the_judgement_of_a_batch(spark: SparkSession) -> None:
    tree = ast.parse(pipeline_source(spark, BOATS, "harbour.delivered", RULES))
    good, bad = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    said = {d.func.attr: ast.literal_eval(d.args[0]) for d in good.decorator_list if d.func.attr != "table"}
    assert {kind: list(found) for kind, found in said.items()} == {
        "expect_all": ["quiet"], "expect_all_or_drop": ["not_the_tug", "berthed"], "expect_all_or_fail": ["Short Name"],
    }  # fmt: skip
    rows = spark.createDataFrame(VALUES, "boat string, berth int")
    judged = judge(rows, RULES)
    kept = rows.where(" AND ".join(f"({sql})" for sql in said["expect_all_or_drop"].values()))
    assert sorted(map(str, kept.collect())) == sorted(map(str, kept_rows(judged, RULES).collect()))
    lies = rows.where(ast.literal_eval(bad.body[0].value.args[0]))
    assert {row.boat for row in lies.collect()} == {row.boat for row in rejected_rows(judged, RULES).collect()} == {"Tern", "Gull"}
    assert constraints(RULES) == said["expect_all_or_fail"] == expectations(RULES, "fail")
    assert rows.where(f"({said['expect_all_or_fail']['Short Name']}) IS NULL").isEmpty()


STREAM = """
import os, signal, sys
sys.path[:0] = [{src!r}, {tests!r}]
from boathouse.quality import quarantine as kit
from boathouse.tables.table import Lakehouse
import test_expectations as t

write = kit.append_once

def killed(lake, table, *words):
    if table.name.endswith("_quarantine"):
        os.kill(os.getpid(), signal.SIGKILL)
    write(lake, table, *words)

kit.append_once = killed
t.flow(Lakehouse(spark, prefix="test_elsewhere_"), {folder!r})
"""


def flow(lake: Lakehouse, folder: str) -> None:
    "Carry what is new in `folder`/in to the table, through the rules."
    write = in_stream(lake, STREAMED, RULES, quarantine=quarantine_of(STREAMED), name="boats", at=NOON)
    source = lake.spark.readStream.schema("boat string, berth int").option("maxFilesPerTrigger", 1).csv(f"{folder}/in")
    query = source.writeStream.foreachBatch(write).option("checkpointLocation", f"{folder}/checkpoint").trigger(availableNow=True)
    query.start().awaitTermination()


STREAMED = dataclasses.replace(BOATS, name="harbour.streamed")


def test_a_stream_killed_between_its_two_writes_loses_and_doubles_nothing(lake: Lakehouse, cluster: Cluster, tmp_path: Path) -> None:
    from boathouse.workspace.cluster.cluster import TaskSpec

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.csv").write_text("Ida,1\nTern,-2\nTug,4\n")
    values = {"src": str(Path(__file__).parents[3] / "src"), "tests": str(Path(__file__).parent), "folder": str(tmp_path)}
    (tmp_path / "it.py").write_text(STREAM.format(**values))
    result = cluster.launch(TaskSpec(kind="script", folder=tmp_path / "run", project=tmp_path, file=tmp_path / "it.py")).wait()
    assert result is not None
    assert result.state != "SUCCESS"
    assert [row.boat for row in read(lake, STREAMED).collect()] == ["Ida"]
    (tmp_path / "in" / "2.csv").write_text("Gull,7\nSwan,-1\n")
    for _ in range(2):
        flow(lake, str(tmp_path))
    assert sorted(row.boat for row in read(lake, STREAMED).collect()) == ["Gull", "Ida"]
    found = read(lake, quarantine_of(STREAMED)).select("boat", "_run").collect()
    assert {tuple(row) for row in found} == {("Tern", "boats-0"), ("Swan", "boats-1")}
    assert len(found) == 2


def test_the_report_reads_the_last_batches_only_and_tells_zero_from_nothing(spark: SparkSession) -> None:
    rows = [
        ("t", rule, "warn", 10, n % 3 if rule == "a" else 0, f"b{n}", NOON + dt.timedelta(days=n))
        for n in range(5)
        for rule in "ab"
        if n or rule == "a"
    ]
    results = last_results(spark.createDataFrame([*rows, ("other", "a", "warn", 1, 1, "b9", NOON)], METRICS), "t", batches=3)
    assert list(zip(results.rule, results.batch, results.failed, results.passed, strict=True)) == [
        ("a", "b2", 2, 8), ("b", "b2", 0, 10), ("a", "b3", 0, 10), ("b", "b3", 0, 10), ("a", "b4", 1, 9), ("b", "b4", 0, 10),
    ]  # fmt: skip
    assert [tuple(row) for row in totals(results).to_numpy()] == [("a", "warn", 3, 2, 27, 3, 1), ("b", "warn", 3, 0, 30, 0, 0)]
    chart = failures_chart(results, "t").axes[0]
    assert [text.get_text() for text in chart.texts] == ["2", "1"]
    assert [label.get_text() for label in chart.get_yticklabels()] == ["a", "b"]
    assert chart.get_title(loc="left") == "t: 1 of 2 rules broken in the latest batch"


def test_a_table_whose_names_look_like_html_is_shown_as_text() -> None:
    assert "<script>" not in page(pd.DataFrame({"batch": []}), "<script>")
