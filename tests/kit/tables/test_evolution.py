"A declaration that changed, and the table that was made from the old one."

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from boathouse.tables.contracts import ContractViolation
from boathouse.tables.evolution import RETENTION, SchemaChange, create, evolve, format_changes, is_widening, plan_changes
from boathouse.tables.table import Column, Lakehouse, Table, declaration_digest, exists, read
from boathouse.tables.versions import version_of
from boathouse.tables.writes import append

BOATS = Table(
    name="harbour.boats",
    grain="One row per boat's berth.",
    columns=(Column("boat", "string", "its name", nullable=False), Column("berth", "int", "where it lies"), Column("day", "date", "since")),
    primary_key=("boat",),
)
BOAT, BERTH, DAY = BOATS.columns


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_evolution_")
    return lake


@pytest.fixture(scope="module")
def made(lake: Lakehouse) -> Table:
    "A table that no test changes."
    table = named("made")
    create(lake, table)
    return table


def named(name: str, **changes: Any) -> Table:
    return dataclasses.replace(BOATS, name=f"harbour.{name}", **changes)


def kinds(changes: list[SchemaChange]) -> list[tuple[str, str]]:
    return [(change.kind, change.column) for change in changes]


def found(lake: Lakehouse, table: Table) -> dict[str, str]:
    return {row.key: row.value for row in lake.spark.sql(f"SHOW TBLPROPERTIES {lake.name(table)}").collect()}


def alter(lake: Lakehouse, table: Table, what: str) -> None:
    lake.spark.sql(f"ALTER TABLE {lake.name(table)} {what}")


def test_a_table_that_does_not_exist_is_one_change_and_evolving_makes_it(lake: Lakehouse) -> None:
    table = named("fresh")
    assert plan_changes(lake, table) == [SchemaChange("table", "", "harbour.fresh", "", "CREATE TABLE")]
    assert not exists(lake, table)
    evolve(lake, table)
    assert plan_changes(lake, table) == []


def test_new_fields_of_a_struct_are_added_and_other_changes_of_nested_types_are_refused_with_a_true_reason(lake: Lakehouse) -> None:
    def crewed(kind: str) -> Table:
        return named("crewed", columns=(BOAT, Column("crew", kind, "who sails")))

    old = "struct<name:varchar(9),legs:array<struct<a:int>>,by:map<string,struct<b:int>>>"
    new = (
        "struct<name:varchar(9),legs:array<struct<a:int,at_sea:int>>,by:map<string,struct<b:int,c:date>>,age:int,home:struct<town:string>>"
    )
    append(
        lake,
        crewed(old),
        lake.spark.sql("SELECT 'Ida' AS boat, cast(('Ann', array(struct(1)), map('x', struct(2))) AS " + old + ") AS crew"),
    )
    (change,) = plan_changes(lake, crewed(new))
    assert (change.kind, change.refused) == ("add field", False)
    append(lake, crewed(new), lake.spark.sql(f"SELECT 'Tern' AS boat, cast(NULL AS {new}) AS crew"))
    assert plan_changes(lake, crewed(new)) == []
    ida = read(lake, crewed(new)).where("boat = 'Ida'").collect()[0].crew.asDict(recursive=True)
    assert ida == {"name": "Ann", "legs": [{"a": 1, "at_sea": None}], "by": {"x": {"b": 2, "c": None}}, "age": None, "home": None}
    nested = "in a nested type, only fields that may be null can be added, after the existing ones of their struct"
    for kind, reason in (
        (old, nested),
        (new.replace("age:int", "age:bigint"), nested),
        (new.replace("age:int", "x:int,age:int"), nested),
        (new[:-1] + ",more:int NOT NULL>", nested),
        ("string", "the values in existing files would have to be converted: declare a column of another name"),
    ):
        (change,) = plan_changes(lake, crewed(kind))[:1]
        assert (change.kind, change.refused, change.action) == ("change type", True, reason), kind


def test_every_safe_change_of_a_declaration_is_made_by_the_next_write_and_the_rows_stay(lake: Lakehouse) -> None:
    table = named("safe", change_feed=True)
    append(lake, table, lake.spark.createDataFrame([("Ida", 4, None)], BOATS.schema), unique=True)
    newer = dataclasses.replace(
        table,
        grain="One row per boat's berth, it's said.",
        columns=(
            dataclasses.replace(BOAT, nullable=True, comment="what's painted on the stern"),
            Column("wood", "string", "oak or teak"),
            dataclasses.replace(BERTH, type="bigint"),
            DAY,
        ),
        retention="interval 800 days",
        change_feed=False,
        statistics=("berth",),
        owner="harbour master",
        cluster_by=("berth",),
    )
    assert kinds(plan_changes(lake, newer)) == [
        ("property", "delta.enableTypeWidening"),
        ("drop NOT NULL", "boat"),
        ("comment", "boat"),
        ("add column", "wood"),
        ("widen type", "berth"),
        ("comment", ""),
        ("property", "delta.deletedFileRetentionDuration"),
        ("property", "delta.logRetentionDuration"),
        ("property", "delta.enableChangeDataFeed"),
        ("property", "delta.dataSkippingStatsColumns"),
        ("property", "boathouse.owner"),
        ("clustering", ""),
    ]
    append(
        lake,
        newer,
        lake.spark.createDataFrame([("Tern", "teak", 2**40, None)], "boat string, wood string, berth bigint, day date"),
        unique=True,
    )
    assert plan_changes(lake, newer) == []
    assert {tuple(row) for row in read(lake, newer).collect()} == {("Ida", 4, None, None), ("Tern", 2**40, None, "teak")}
    assert found(lake, newer)["delta.dataSkippingStatsColumns"] == "boat,berth"
    assert [tuple(row) for row in read(lake, newer, version=1).collect()] == [("Ida", 4, None)]


def test_what_is_unsafe_is_refused_all_at_once_with_the_plan_and_the_safe_changes_wait(lake: Lakehouse, made: Table) -> None:
    other = dataclasses.replace(
        made,
        columns=(BOAT, dataclasses.replace(BERTH, type="string", nullable=False), Column("mast", "int", "height, m", nullable=False)),
        primary_key=("boat", "berth"),
        time_key="mast",
        partition_by=("boat",),
        grain="One row per boat and berth.",
    )
    planned = plan_changes(lake, other)
    assert kinds([change for change in planned if change.refused]) == [
        ("change type", "berth"),
        ("add NOT NULL", "berth"),
        ("add column", "mast"),
        ("remove column", "day"),
        ("partitioning", ""),
        ("primary key", ""),
        ("time key", ""),
    ]
    assert ("comment", "") in kinds(planned)
    for refused in (evolve, create):
        with pytest.raises(ContractViolation) as caught:
            refused(lake, other)
        assert str(caught.value) == (
            "harbour.made was not changed to its declaration, because a change is refused. Revert that change in the declaration:\n"
            + format_changes(planned)
        )
    assert version_of(lake, made) == 0
    assert plan_changes(lake, made) == []


def test_a_name_in_other_letters_is_a_change_that_is_refused(lake: Lakehouse, made: Table) -> None:
    other = dataclasses.replace(made, columns=(BOAT, dataclasses.replace(BERTH, name="Berth"), DAY))
    assert [(c.kind, c.column, c.existing, c.refused) for c in plan_changes(lake, other)] == [("rename column", "Berth", "berth", True)]


WIDER = ["tinyint smallint", "tinyint int", "tinyint bigint", "smallint int", "smallint bigint", "int bigint", "tinyint double",
         "smallint double", "int double", "float double", "decimal(5,2) decimal(7,2)", "decimal(5,2) decimal(8,4)",
         "tinyint decimal(10,0)", "smallint decimal(10,0)", "int decimal(12,2)", "bigint decimal(20,0)"]  # fmt: skip
NARROWER = ["bigint int", "double float", "double int", "int float", "bigint double", "decimal(7,2) decimal(5,2)", "decimal(5,2) decimal(6,4)",
            "int decimal(9,0)", "bigint decimal(10,0)", "int string", "string int", "date timestamp", "decimal(5,0) bigint",
            "struct<a:int> struct<a:bigint>", "array<int> array<bigint>"]  # fmt: skip


def test_a_type_counts_as_wider_exactly_where_delta_takes_it_for_wider_or_we_are_more_careful(lake: Lakehouse) -> None:
    pairs = [pair.split(" ") for pair in WIDER]
    table = Table("harbour.types", "One row.", tuple(Column(f"c{n}", old, "a number") for n, (old, _) in enumerate(pairs)))
    append(lake, table, lake.spark.sql("SELECT " + ", ".join(f"CAST(7 AS {old}) AS c{n}" for n, (old, _) in enumerate(pairs))))
    wider = dataclasses.replace(table, columns=tuple(Column(f"c{n}", new, "a number") for n, (_, new) in enumerate(pairs)))
    assert {change.kind for change in evolve(lake, wider)} == {"property", "widen type"}
    assert read(lake, wider).schema.simpleString() == wider.schema.simpleString()
    assert {float(value) for value in read(lake, wider).first()} == {7.0}
    for pair in NARROWER:
        assert not is_widening(*map(T.DataType.fromDDL, pair.split(" "))), pair


def test_a_table_that_agrees_costs_a_look_without_a_job_or_a_commit(lake: Lakehouse, made: Table) -> None:
    lake.spark.sparkContext.setJobGroup("agrees", "agrees")
    try:
        create(lake, made)
    finally:
        lake.spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
    assert list(lake.spark.sparkContext.statusTracker().getJobIdsForGroup("agrees")) == []
    assert version_of(lake, made) == 0


@pytest.mark.parametrize(
    "change",
    [{"grain": "x"}, {"columns": (BOAT, BERTH)}, {"columns": (BERTH, BOAT, DAY)}, {"primary_key": ("berth",)}, {"time_key": "day"},
     {"partition_by": ("day",)}, {"cluster_by": ("day",)}, {"owner": "x"}, {"retention": "interval 9 days"}, {"change_feed": True},
     {"statistics": ("day",)}, {"on_change": "add_columns"}, {"columns": (BOAT, BERTH, dataclasses.replace(DAY, comment="x"))},
     {"columns": (BOAT, BERTH, dataclasses.replace(DAY, nullable=False))}],
    ids=str,
)  # fmt: skip
def test_the_digest_is_another_when_anything_of_the_declaration_is(change: dict) -> None:
    assert dataclasses.replace(BOATS, **change).digest != BOATS.digest
    assert dataclasses.replace(BOATS).digest == BOATS.digest


def test_changes_that_were_cut_off_are_finished_by_the_next_write(lake: Lakehouse) -> None:
    table = named("cut_off")
    create(lake, table)
    newer = dataclasses.replace(table, columns=(*BOATS.columns, Column("wood", "string", "oak"), Column("mast", "int", "m")), owner="mate")
    alter(lake, table, "ADD COLUMN (wood string COMMENT 'oak')")  # and then the machine stopped
    create(lake, newer)
    assert plan_changes(lake, newer) == []
    assert declaration_digest(lake, newer) == newer.digest


def test_a_table_made_before_there_were_digests_is_signed_once(lake: Lakehouse) -> None:
    table = named("unsigned")
    create(lake, table)
    alter(lake, table, "UNSET TBLPROPERTIES ('boathouse.declaration')")
    assert declaration_digest(lake, table) == ""
    create(lake, table)
    create(lake, table)
    assert version_of(lake, table) == 2  # created, unset, signed


def test_columns_that_were_let_in_are_no_difference_and_can_be_declared_later(lake: Lakehouse) -> None:
    table = named("follows", on_change="add_columns")
    append(lake, table, lake.spark.sql("SELECT 'Ida' AS boat, 4 AS berth, date'2013-06-01' AS day, 'oak' AS wood"), unique=True)
    assert plan_changes(lake, table) == []
    declared = dataclasses.replace(table, columns=(*BOATS.columns, Column("wood", "string", "oak or teak")), on_change="fail")
    assert kinds(plan_changes(lake, declared)) == [("comment", "wood"), ("property", "boathouse.onChange")]
    create(lake, declared)
    assert plan_changes(lake, declared) == []


def test_a_pinned_table_keeps_its_retention_and_gets_the_new_one_when_the_pin_is_gone(lake: Lakehouse) -> None:
    table = named("pinned")
    create(lake, table)
    values = [f"'{name}' = 'interval 36500 days', 'boathouse.before.{name}' = 'interval 365 days'" for name in RETENTION]
    alter(lake, table, f"SET TBLPROPERTIES ({', '.join(values)})")
    assert plan_changes(lake, table) == []
    create(lake, dataclasses.replace(table, retention="interval 30 days"))
    assert found(lake, table)["delta.deletedFileRetentionDuration"] == "interval 36500 days"
    assert found(lake, table)["boathouse.before.delta.deletedFileRetentionDuration"] == "interval 30 days"


def test_what_was_altered_by_hand_is_brought_back_where_that_is_safe(lake: Lakehouse) -> None:
    table = named("by_hand")
    create(lake, table)
    values = [f"'{name}' = 'interval {days} days'" for name, days in zip(RETENTION, (100, 365), strict=True)]
    alter(lake, table, f"SET TBLPROPERTIES ({', '.join(values)})")
    alter(lake, table, "ALTER COLUMN boat COMMENT ''")
    assert kinds(evolve(lake, table)) == [("comment", "boat"), ("property", "delta.deletedFileRetentionDuration")]
    assert plan_changes(lake, table) == []
    alter(lake, table, "ADD COLUMN (mast int)")
    assert [change.kind for change in plan_changes(lake, table) if change.refused] == ["remove column"]


def test_statistics_that_nothing_names_any_more_are_switched_off(lake: Lakehouse, made: Table) -> None:
    with pytest.raises(ContractViolation, match="primary key"):
        evolve(lake, dataclasses.replace(made, primary_key=()))
    keyless = named("keyless", primary_key=(), statistics=("day",))
    create(lake, keyless)
    without = dataclasses.replace(keyless, statistics=())
    assert kinds(evolve(lake, without)) == [
        ("property", "delta.dataSkippingNumIndexedCols"),
        ("property", "delta.dataSkippingStatsColumns"),
    ]
    assert plan_changes(lake, without) == []
