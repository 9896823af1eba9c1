from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.tables.evolution import create
from boathouse.tables.table import Column, Lakehouse, Table, VersionGone, read
from boathouse.tables.versions import check_version, compare_rows, count_changes, diff, fingerprint, has_same_rows, row_hashes, version_of
from boathouse.tables.writes import append, merge

BOATS = Table(
    name="harbour.boats",
    grain="One row per boat.",
    columns=(Column("boat", "string", "its name"), Column("berth", "int", "where it lies")),
    primary_key=("boat",),
)


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_versions_")
    return lake


def boats(lake: Lakehouse, *values: tuple[str, int | None]) -> DataFrame:
    return lake.spark.createDataFrame(list(values), BOATS.schema)


def moved(lake: Lakehouse, table: Table, boat: str) -> None:
    "Make the table: at version 1 the boat is at berth 1, at version 2 at berth 2."
    create(lake, table)
    for berth in (1, 2):
        lake.spark.sql(f"INSERT OVERWRITE {lake.name(table)} VALUES ('{boat}', {berth})")


def folder(lake: Lakehouse, table: Table) -> Path:
    row = lake.spark.sql(f"DESCRIBE DETAIL {lake.name(table)}").first()
    return Path(row["location"].removeprefix("file:"))


TYPES = ("n int, s string, x double, d decimal(20,3), b binary, at timestamp, a array<array<int>>, m map<string,array<int>>, "
         "t struct<p:int,q:struct<r:string>>")  # fmt: skip
INTS = [None, 0, 1]
FLOATS = [None, 0.0, -0.0, 1.0, float("nan"), float("inf")]
LISTS = [None, [], [None], [0], [1], [0, 1], [1, 0], [None, 0], [0, None]]
CELLS = (
    INTS,
    [None, "", "a", "ab"],
    FLOATS,
    [None, Decimal("0.000"), Decimal("0.001")],
    [None, b"", b"a", b"\0"],
    [None, datetime(2013, 1, 1), datetime(2013, 1, 1, 0, 0, 0, 1)],
    [None, [], *[[one] for one in LISTS], *[[one, other] for one in LISTS for other in LISTS]],
    [None, {}, *[{"k": one, key: other} for key in "lm" for one in LISTS for other in LISTS]],
    [None, *[(n, r) for n in INTS for r in (None, (None,), ("",), ("a",))]],
)


def canonical(value: Any) -> Any:
    "The value as SQL compares it: one NaN, one zero, maps without order."
    if isinstance(value, float):
        return "NaN" if value != value else value + 0.0
    if isinstance(value, dict):
        return ("map", *sorted((k, canonical(v)) for k, v in value.items())) if value is not None else None
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(canonical, value))
    return value


def test_rows_have_the_same_hashes_if_and_only_if_they_are_equal(spark: SparkSession) -> None:
    random = Random(7)
    rows = [tuple(map(random.choice, CELLS)) for _ in range(150)]
    one = [list(row) for row in rows] * 2
    for row in rows:  # and near misses: the same row, but for one cell
        at = random.randrange(len(row))
        one.append([*row[:at], random.choice(CELLS[at]), *row[at + 1 :]])
    one = [
        tuple({k: row[7][k] for k in sorted(row[7], reverse=bool(n % 2))} if c == 7 and v else v for c, v in enumerate(row))
        for n, row in enumerate(one)
    ]
    found = [tuple(r) for r in row_hashes(spark.createDataFrame(one, TYPES).coalesce(1)).collect()]
    for hashes in (found, [r[0] for r in found], [r[1] for r in found]):
        groups: dict[Any, set[Any]] = {}
        for row, h in zip(one, hashes, strict=True):
            groups.setdefault(repr(canonical(row)), set()).add(h)
        assert all(len(h) == 1 for h in groups.values())
        assert len(set(hashes)) == len(groups)
    assert not any(h0 == h1 for h0, h1 in found)


def test_a_fingerprint_does_not_see_order_partitions_session_or_the_place_of_a_column(spark: SparkSession) -> None:
    rows = spark.range(0, 200, 1, 3).selectExpr(
        "id",
        "timestamp_micros(id * 1000000007) AS at",
        "map('a', id, 'b', 2) AS m",
        "if(id % 3 = 0, null, id / 7) AS x",
        "array(id, null) AS a",
    )
    first, found = fingerprint(rows), {}
    found["partitions"] = fingerprint(rows.repartition(7))
    found["columns"] = fingerprint(rows.select("x", "a", "m", "at", "id"))
    found["nullability"] = fingerprint(spark.createDataFrame(rows.limit(200).collect(), rows.schema))
    other = spark.newSession()
    for name, value in {"spark.sql.session.timeZone": "Asia/Tokyo", "spark.sql.adaptive.enabled": "true",
                        "spark.sql.codegen.wholeStage": "false", "spark.sql.legacy.sizeOfNull": "true"}.items():  # fmt: skip
        other.conf.set(name, value)
    same = other.range(0, 200, 1, 2).selectExpr(
        "id", "timestamp_micros(id * 1000000007) AS at", "map('b', 2L, 'a', id) AS m", "if(id % 3 = 0, null, id / 7) AS x", "array(id, null) AS a"
    )  # fmt: skip
    found["session"] = fingerprint(same.withColumn("m", F.col("m").cast("map<string,bigint>")))
    assert {name: f for name, f in found.items() if f != first} == {}
    assert re.fullmatch("[0-9a-f]{32}", first)


def test_a_fingerprint_sees_how_often_a_row_comes_and_what_a_column_is(spark: SparkSession) -> None:
    bags = {
        "once": "(1), (2)", "first twice": "(1), (1), (2)", "second twice": "(1), (2), (2)", "pairs": "(1), (1)", "other pairs": "(2), (2)",
        "null": "(null)", "nulls": "(null), (null)",
    }  # fmt: skip
    found = {name: fingerprint(spark.sql(f"SELECT * FROM VALUES {rows} AS v(n)")) for name, rows in bags.items()}
    found["empty"] = fingerprint(spark.sql("SELECT 1 AS n WHERE false"))
    found["renamed"] = fingerprint(spark.sql("SELECT * FROM VALUES (1), (2) AS v(m)"))
    found["retyped"] = fingerprint(spark.sql("SELECT * FROM VALUES (1L), (2L) AS v(n)"))
    assert len(set(found.values())) == len(found)


def test_what_has_no_fingerprint_is_refused(spark: SparkSession) -> None:
    with pytest.raises(ValueError, match="must have different names"):
        fingerprint(spark.sql("SELECT 1 AS n, 2 AS n"))
    with pytest.raises(ValueError, match="variant"):
        fingerprint(spark.sql("SELECT array(parse_json('1')) AS v"))


def test_seventy_columns_of_nulls_are_told_apart(spark: SparkSession) -> None:
    "The null flags of 63 columns share a number; the 64th begins the next."
    wide = [[1 if n == at else None for n in range(70)] for at in range(70)]
    rows = spark.createDataFrame([tuple(row) for row in wide], ", ".join(f"c{n} int" for n in range(70)))
    assert len({tuple(r) for r in row_hashes(rows).collect()}) == 70


def test_a_difference_by_key_is_what_two_dictionaries_say(spark: SparkSession) -> None:
    random = Random(7)

    def side() -> dict:
        return {
            (random.randrange(8), random.choice([None, "a"])): tuple(map(random.choice, (INTS, FLOATS, LISTS)))
            for _ in range(random.randrange(16))
        }

    pairs = [(side(), side()) for _ in range(40)]
    pairs += [(before, before | after) for before, after in pairs]
    sides = [
        spark.createDataFrame(
            [(case, *k, n, x, {"v": v}) for case, pair in enumerate(pairs) for k, (n, x, v) in pair[side].items()],
            "case int, k int, l string, n int, x double, m map<string,array<int>>",
        )
        for side in (0, 1)
    ]
    rows = compare_rows(*sides, key=["case", "k", "l"]).collect()
    for case, (before, after) in enumerate(pairs):
        mine = [row for row in rows if row.case == case]
        expected = {}
        for key in {*before, *after}:
            old, new = before.get(key), after.get(key)
            if old is None or new is None:
                expected[key] = ("added" if old is None else "removed", [])
            elif names := [name for name, a, b in zip("nxm", old, new, strict=True) if repr(canonical(a)) != repr(canonical(b))]:
                expected[key] = ("changed", names)
        assert {(r.k, r.l): (r._change, r._changed) for r in mine} == expected, (before, after)
        for row in mine:
            for side, seen in ((before, row._before), (after, row._after)):
                given = side.get((row.k, row.l))
                assert (seen is None) == (given is None)
                assert seen is None or repr((seen.n, seen.x, seen.m["v"])) == repr(given)


def test_a_difference_without_a_key_is_that_of_two_bags(spark: SparkSession) -> None:
    random = Random(7)
    pairs = [[[(random.choice(INTS), random.choice(INTS)) for _ in range(random.randrange(15))] for _ in "ab"] for _ in range(40)]
    sides = [
        spark.createDataFrame(
            [(case, n, {"v": v}) for case, pair in enumerate(pairs) for n, v in pair[side]], "case int, n int, m map<string,int>"
        )
        for side in (0, 1)
    ]
    found, expected = Counter(), Counter()
    for row in compare_rows(*sides).collect():
        values = row._after or row._before
        found[values.case, values.n, values.m["v"]] += row._times if row._change == "added" else -row._times
    for case, (before, after) in enumerate(pairs):
        expected.update((case, *row) for row in after)
        expected.subtract((case, *row) for row in before)
    assert dict(found) == {row: n for row, n in expected.items() if n}


def test_a_key_that_comes_twice_and_columns_that_differ_are_refused(lake: Lakehouse) -> None:
    good = boats(lake, ("Ida", 1))
    with pytest.raises(Exception, match=r'the key \(boat\) is not unique: \{"boat":"Ida"\}'):
        count_changes(compare_rows(good, boats(lake, ("Ida", 1), ("Ida", 1)), key=["boat"]))
    with pytest.raises(ValueError, match=r"must have the same columns and types, got differences in \['berth', 'wood'\]"):
        compare_rows(good, lake.spark.sql("SELECT 'Ida' AS boat, 1L AS berth, 'oak' AS wood"))


def test_versions_are_compared_by_the_primary_key_and_upkeep_is_known_without_reading(lake: Lakehouse) -> None:
    table = dataclasses.replace(BOATS, name="harbour.compared")
    append(lake, table, boats(lake, ("Ida", 1), ("Tern", 7), ("Gull", None)))
    merge(lake, table, boats(lake, ("Ida", 2), ("Gull", None), ("Swan", 3)))
    assert count_changes(diff(lake, table, 1, 2)) == {"added": 1, "removed": 0, "changed": 1}
    assert count_changes(diff(lake, table, 2, 1)) == {"added": 0, "removed": 1, "changed": 1}
    bag = dataclasses.replace(table, primary_key=())
    assert count_changes(diff(lake, bag, 1, 2)) == {"added": 2, "removed": 1, "changed": 0}
    lake.spark.sql(f"OPTIMIZE {lake.name(table)}")
    latest = version_of(lake, table)
    assert latest > 2
    assert not has_same_rows(lake, table, 1, latest)
    equal = diff(lake, table, 2, latest)
    assert not re.search(r"(?<!Local)Relation", equal._jdf.queryExecution().optimizedPlan().toString())  # no file is opened
    assert equal.isEmpty()


def test_a_version_past_its_retention_says_so_although_its_files_are_there(lake: Lakehouse) -> None:
    table = dataclasses.replace(BOATS, name="harbour.past", retention="interval 0 hours")
    moved(lake, table, "Ida")
    with pytest.raises(
        VersionGone, match=r"harbour.past cannot be read at version 1: its commit is older than the table's delta.deleted.*pin it"
    ):
        read(lake, table, 1)
    assert read(lake, table).first().berth == 2


def test_a_version_cleaned_from_the_log_or_never_there_says_which_ones_are(lake: Lakehouse) -> None:
    table = dataclasses.replace(BOATS, name="harbour.cleaned", retention="interval 2 days")
    create(lake, table)
    lake.spark.sql(f"INSERT INTO {lake.name(table)} VALUES ('Ida', 1)")
    with pytest.raises(VersionGone, match=r"at version 9: the log holds versions \[0, 1\]"):
        read(lake, table, 9)
    lake.spark.sql(f"ALTER TABLE {lake.name(table)} SET TBLPROPERTIES ('delta.checkpointInterval' = '2')")
    for path in (folder(lake, table) / "_delta_log").glob("*.json"):
        os.utime(path, (1.0e9, 1.0e9 + int(path.stem)))  # 2001, a second apart
    lake.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    for berth in (3, 4):
        lake.spark.sql(f"INSERT INTO {lake.name(table)} VALUES ('Tern', {berth})")
    with pytest.raises(VersionGone, match=r"at version 1: the log holds versions \["):
        read(lake, table, 1)


def test_a_version_whose_files_were_vacuumed_is_found_out_before_it_is_read(lake: Lakehouse) -> None:
    table = dataclasses.replace(BOATS, name="harbour.vacuumed", partition_by=("boat",))
    moved(lake, table, "Ida & Tern 100 %")
    check_version(lake, table, 1)
    other = lake.spark.newSession()
    other.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    other.sql(f"VACUUM {lake.name(table)} RETAIN 0 HOURS")
    read(lake, table, 1)  # the log still offers it
    with pytest.raises(VersionGone, match="at version 1: files that it needs were deleted"):
        check_version(lake, table, 1)
    check_version(lake, table, 2)
