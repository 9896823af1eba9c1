"Every function that writes a table refuses the rows that do not fit its declaration, with the same error and without a commit."

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace as but
from typing import NamedTuple

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.features.definitions import ComputedFeatures
from boathouse.features.refresh import refresh_table
from boathouse.quality.quarantine import (
    EvaluatedRows,
    append_once,
    append_rejected,
    quarantine_of,
    record_metrics,
    requeue_rows,
    write_with_quarantine,
)  # fmt: skip
from boathouse.quality.rules import METRICS, Rule, evaluate_rules
from boathouse.serving.client import FeatureEngineeringClient
from boathouse.tables.contracts import ContractViolation, create_rows
from boathouse.tables.evolution import create
from boathouse.tables.table import Column, Lakehouse, Table
from boathouse.tables.versions import version_of
from boathouse.tables.writes import append, merge, replace
from boathouse.validation.gate import GATES, conclude, write_gate_results

NOON = dt.datetime(2013, 6, 1, 12)
CREWS = Table(
    "harbour.crews",
    "One row per boat and day.",
    (
        Column("boat", "string", "its boat", nullable=False),
        Column("at", "timestamp", "when", nullable=False),
        Column("berth", "int", "where it lies", nullable=False),
        Column("skipper", "struct<name: string NOT NULL, age: int>", "who leads", nullable=False),
        Column("wood", "string", "oak or ash"),
    ),
    primary_key=("boat", "at"),
    time_key="at",
)
KINDS = "boat string, at timestamp, berth int, skipper struct<name: string, age: int>, wood string"
REJECTED = quarantine_of(CREWS)
KNOWN = ("Ida", NOON, 1, ("Ann", 40), "oak")
PLAIN = (Rule("any", "true"),)

Path = Callable[[Lakehouse, DataFrame], object]
Fault = Callable[[DataFrame], DataFrame]


def refresh(lake: Lakehouse, rows: DataFrame) -> object:
    return refresh_table(lake, ComputedFeatures(CREWS, SOURCE, "at", make=lambda _: rows), NOON + dt.timedelta(days=9))


def reject(lake: Lakehouse, rows: DataFrame) -> object:
    judged = evaluate_rules(rows, [rule := Rule("none", "false")])
    return append_rejected(lake, REJECTED, judged, [rule], run="r", at=NOON)


SOURCE = Table("harbour.log", "One row per boat and day.", CREWS.columns[:2])
PATHS: dict[str, Path] = {
    "append": lambda lake, rows: append(lake, CREWS, rows),
    "append unique": lambda lake, rows: append(lake, CREWS, rows, unique=True),
    "merge": lambda lake, rows: merge(lake, CREWS, rows),
    "replace": lambda lake, rows: replace(lake, CREWS, rows, "true"),
    "replace a part": lambda lake, rows: replace(lake, CREWS, rows, "boat <= 'Z'"),
    "replace unique": lambda lake, rows: replace(lake, CREWS, rows, "true", unique=True),
    "write with quarantine": lambda lake, rows: write_with_quarantine(lake, CREWS, rows, PLAIN, quarantine=REJECTED, run="r", at=NOON),
    "append once": lambda lake, rows: append_once(lake, CREWS, rows, "guard", "r", {}),
    "append rejected": reject,
    "write table": lambda lake, rows: FeatureEngineeringClient(spark=lake.spark, prefix=lake.prefix).write_table(CREWS.name, rows),
    "refresh": refresh,
}


def with_row(**changed: object) -> Fault:
    "The rows and one more, of which some values are wrong."
    values = {"boat": "Tern", "at": NOON, "berth": 2, "skipper": ("Bo", 30), "wood": None} | changed
    return lambda rows: rows.unionByName(rows.sparkSession.createDataFrame([tuple(values.values())], KINDS))


FAULTS: dict[str, Fault] = {
    "null": with_row(berth=None),
    "null in a key": with_row(boat=None),
    "null in a struct": with_row(skipper=(None, 3)),
    "struct that is null": with_row(skipper=None),
    "duplicate key": lambda rows: with_row()(with_row(berth=3)(rows)),
    "wrong type": lambda rows: rows.withColumn("berth", F.col("berth").cast("string")),
    "void column": lambda rows: rows.withColumn("more", F.lit(None)),
    "declared column that is void": lambda rows: rows.withColumn("wood", F.lit(None)),
    "missing column": lambda rows: rows.drop("boat"),
}
OF_ROWS = ("null", "null in a key", "null in a struct", "struct that is null", "duplicate key")


class Harbour(NamedTuple):
    lake: Lakehouse
    versions: Callable[[], list[int]]


@pytest.fixture(scope="module")
def harbour(spark: SparkSession) -> Harbour:
    lake = Lakehouse(spark, prefix="test_write_paths_")
    append(lake, CREWS, spark.createDataFrame([KNOWN], KINDS))
    for table in (REJECTED, SOURCE, GATES):
        create(lake, table)
    return Harbour(lake, lambda: [version_of(lake, table) for table in (CREWS, REJECTED, GATES)])


def test_a_fault_in_the_rows_is_a_contract_violation_on_every_path_and_makes_no_commit(harbour: Harbour) -> None:
    lake, before = harbour.lake, harbour.versions()

    @settings(max_examples=50, derandomize=True, phases=[Phase.generate])
    @given(path=st.sampled_from(sorted(PATHS)), fault=st.sampled_from(sorted(FAULTS)), boats=st.sets(st.sampled_from(["Ida", "Gull"])))
    def refused(path: str, fault: str, boats: set[str]) -> None:
        assume(not (path.endswith("unique") and fault == "duplicate key"))  # the caller has made the keys unique
        assume(not (path == "append rejected" and fault in OF_ROWS))  # a quarantine takes every value
        rows = lake.spark.createDataFrame([(boat, *KNOWN[1:]) for boat in sorted(boats)], KINDS)
        with pytest.raises(ContractViolation, match=r"^harbour\.crews"):
            PATHS[path](lake, FAULTS[fault](rows))

    refused()
    assert harbour.versions() == before


def test_a_record_that_does_not_fit_its_table_is_a_contract_violation_too(harbour: Harbour) -> None:
    lake, before = harbour.lake, harbour.versions()
    result = conclude(True, 0.7, 0.6, "AUC 0.7", name="auc")
    for run, at, results in ((None, NOON, [result]), ("1", "noon", [result]), ("1", NOON, [result, result])):
        with pytest.raises(ContractViolation, match=r"^ops\.gates"):
            write_gate_results(lake, run, "late", 1, results, at)  # type: ignore[arg-type]
    kinds = METRICS.split(", ")
    for columns in (kinds[1:], [kind.replace("bigint", "int") for kind in kinds], [*kinds, "note string"]):
        table = Table("monitoring.unfit", "One row per rule and batch.", tuple(Column(*kind.split(), "") for kind in columns))
        with pytest.raises(ContractViolation, match=r"^monitoring\.unfit"):
            record_metrics(lake, table, EvaluatedRows("harbour.crews", "r", PLAIN, {"checked": 1, "any": 0}), NOON)
        assert not lake.spark.catalog.tableExists(lake.name(table))
    assert harbour.versions() == before


def test_a_requeue_refuses_the_rows_that_do_not_fit_and_marks_none(harbour: Harbour) -> None:
    lake = harbour.lake
    reject(lake, lake.spark.createDataFrame([("Tern", NOON, 2, ("Bo", 30), None)], KINDS))
    before = harbour.versions()
    for column, value in (
        ("berth", "int(NULL)"),
        ("boat", "'Ida'"),
        ("skipper", "named_struct('name', string(NULL), 'age', 3)"),
        ("wood", "NULL"),
    ):
        with pytest.raises(ContractViolation, match=r"^harbour\.crews"):
            requeue_rows(
                lake,
                CREWS,
                PLAIN,
                quarantine=REJECTED,
                run=column,
                at=NOON,
                fix=lambda rows, c=column, v=value: rows.withColumn(c, F.expr(v)),
            )
    assert harbour.versions() == before


def test_a_row_of_python_values_fits_or_is_refused_with_the_column(spark: SparkSession) -> None:
    table = but(CREWS, columns=CREWS.columns[:3])
    assert create_rows(spark, table, [("Ida", NOON, 1)]).schema == table.schema
    for wrong, why in ((("Ida", NOON, "1"), "berth"), (("Ida", None, 1), "at"), (("Ida", NOON), "2")):
        with pytest.raises(ContractViolation, match=rf"^harbour\.crews: a row does not fit the declaration: .*{why}"):
            create_rows(spark, table, [wrong])
