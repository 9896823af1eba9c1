from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyspark.sql import SparkSession

from boathouse.tables.evolution import create
from boathouse.tables.table import Column, Lakehouse, Table, drop_all, exists, read
from boathouse.tables.writes import append, last_note, merge, replace

BOATS = Table(
    name="harbour.boats",
    grain="One row per boat's berth.",
    columns=(Column("boat", "string", "its name"), Column("berth", "int", "where it lies"), Column("day", "date", "since when")),
    primary_key=("boat",),
)
LINES = "boat string, berth int, day date"


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_tables_")
    yield lake
    drop_all(lake)


def rows(spark: SparkSession, *values: tuple[str | None, int]) -> object:
    return spark.createDataFrame([(boat, berth, None) for boat, berth in values], LINES)


def named(name: str) -> Table:
    return dataclasses.replace(BOATS, name=f"harbour.{name}")


def test_a_table_can_be_read_at_a_version_a_year_later(lake: Lakehouse) -> None:
    table = named("kept")
    create(lake, table)
    found = {row.key: row.value for row in lake.spark.sql(f"SHOW TBLPROPERTIES {lake.name(table)}").collect()}
    assert found["delta.deletedFileRetentionDuration"] == found["delta.logRetentionDuration"] == "interval 365 days"
    assert found["delta.dataSkippingStatsColumns"] == "boat"


def test_merging_twice_is_merging_once_and_the_note_arrives_with_the_rows(lake: Lakehouse) -> None:
    table = named("merged")
    merge(lake, table, rows(lake.spark, ("Ida", 4), ("Tern", 7)), note={"batch": 1})
    for _ in range(2):
        merge(lake, table, rows(lake.spark, ("Ida", 5), ("Gull", 4)), note={"batch": 2})
    assert {(r.boat, r.berth) for r in read(lake, table).collect()} == {("Ida", 5), ("Tern", 7), ("Gull", 4)}
    assert last_note(lake, table) == {"batch": 2}
    assert {(r.boat, r.berth) for r in read(lake, table, version=1).collect()} == {("Ida", 4), ("Tern", 7)}


def test_replace_swaps_its_own_rows_only_and_refuses_rows_outside(lake: Lakehouse) -> None:
    table = named("replaced")
    append(lake, table, rows(lake.spark, ("Ida", 1), ("Tern", 7)), unique=True)
    replace(lake, table, rows(lake.spark, ("Swan", 2)), where="berth < 5", note={"where": "pier 1"})
    with pytest.raises(Exception, match="berth"):
        replace(lake, table, rows(lake.spark, ("Heron", 9)), where="berth < 5")
    assert {r.boat for r in read(lake, table).collect()} == {"Swan", "Tern"}
    assert last_note(lake, table) == {"where": "pier 1"}


def test_a_note_of_one_thread_does_not_end_up_in_the_commit_of_another(lake: Lakehouse) -> None:
    tables = [named(f"thread{n}") for n in range(2)]
    for table in tables:
        append(lake, table, rows(lake.spark, ("Ida", 1)), unique=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda n: merge(lake, tables[n], rows(lake.spark, ("Ida", n)), note={"n": n}), range(2)))
    assert [last_note(lake, table) for table in tables] == [{"n": 0}, {"n": 1}]


def test_the_last_note_survives_commits_without_one(lake: Lakehouse) -> None:
    table = named("noted")
    assert last_note(lake, table) == {}
    append(lake, table, rows(lake.spark, ("Ida", 1)), note={"upto": 3}, unique=True)
    append(lake, table, rows(lake.spark, ("Tern", 2)), unique=True)
    assert last_note(lake, table) == {"upto": 3}


@pytest.mark.parametrize("write", ["append", "merge", "replace"])
def test_a_note_without_rows_is_kept_too(lake: Lakehouse, write: str) -> None:
    table = named(f"empty_{write}")
    nothing = rows(lake.spark, ("Ida", 1)).where("false")
    if write == "replace":
        replace(lake, table, nothing, where="true", note={"upto": 7})
    else:
        {"append": append, "merge": merge}[write](lake, table, nothing, note={"upto": 7})
    assert last_note(lake, table) == {"upto": 7}


def test_drop_all_drops_its_own_schemas_and_refuses_to_drop_everything(lake: Lakehouse) -> None:
    other = Lakehouse(lake.spark, prefix="test_tables2_")
    create(other, BOATS)
    create(lake, BOATS)
    drop_all(other)
    assert exists(lake, BOATS)
    assert not exists(other, BOATS)
    with pytest.raises(ValueError, match="prefix"):
        drop_all(Lakehouse(lake.spark))


def test_padded_text_is_refused_because_keys_would_differ_by_blanks() -> None:
    with pytest.raises(ValueError, match=r"text must be declared as string, because char pads each value with blanks, got code char\(3\)"):
        Table("ops.codes", "One row per code.", (Column("code", "char(3)", "code"),))
