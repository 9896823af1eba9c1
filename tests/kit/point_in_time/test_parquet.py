"""Which files a table is: by the checksum beside its commit, and by Spark where there is none, the same ones; those without a row that matters are left out."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from functools import reduce
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from boathouse.point_in_time import parquet as files
from boathouse.point_in_time.parquet import TimeBounds, files_of, recorded

HOUR = 3_600_000_000  # microseconds


WAYS = {"timestamp": "timestamp_seconds(3600 * id)", "bigint": "id * 3600000000L", "date": "date_from_unix_date(int(id))"}


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    "Tables by the type of `at`, each of four files: the hours (or days) 0 and 1 since 1970, 2 and 3, 4 and 5, 6 and 7; a column `n` counts them."
    folder = tmp_path_factory.mktemp("hours")
    for kind, at in WAYS.items():
        for first in (0, 4):  # version 0 has two of the files, version 1 all
            rows = spark.range(first, first + 4, 1, 2).selectExpr("1 AS k", f"{at} AS at", "int(id) AS n")
            rows.write.format("delta").mode("append").save(str(folder / kind))
    return {kind: folder / kind for kind in WAYS}


@pytest.fixture
def hours(tables: dict[str, Path], tmp_path: Path) -> Path:
    "A copy of the table of timestamps, for a test that changes it."
    return shutil.copytree(tables["timestamp"], tmp_path / "hours")


def load(spark: SparkSession, table: Path, version: int | None = None) -> DataFrame:
    reader = spark.read.format("delta")
    return (reader if version is None else reader.option("versionAsOf", version)).load(str(table))


def by_spark(monkeypatch: pytest.MonkeyPatch, df: DataFrame, span: TimeBounds | None = None) -> set[str]:
    with monkeypatch.context() as patch:
        patch.setattr(files, "listed_by_checksum", lambda index: None)
        return set(files_of(df, span).paths)


def test_the_checksum_lists_the_files_that_spark_lists_and_spark_is_not_asked(
    spark: SparkSession, hours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark.sql(f"DELETE FROM delta.`{hours}` WHERE n = 3")
    spark.sql(f"DELETE FROM delta.`{hours}`")
    table = load(spark, hours, 2)
    frames = [
        table,
        load(spark, hours, 0),
        table.select(F.col("at").alias("n"), F.col("n").alias("at"), "k").select("at", "n"),
        load(spark, hours),
    ]
    expected = [by_spark(monkeypatch, df) for df in frames]
    assert [len(paths) for paths in expected] == [4, 2, 4, 0]
    monkeypatch.setattr(files, "paths_of", lambda df: pytest.fail("Spark was asked"))
    found = [files_of(df) for df in frames]
    assert [set(files.paths) for files in found] == expected
    assert found[2].names == {"at": "n", "n": "at"}
    assert (found[0].rows, found[1].rows) == (7, 4)
    assert files_of(table.where("n > 3")) is None
    assert files_of(table.selectExpr("n * 2 AS twice")) is None


@pytest.mark.parametrize("damage", ["gone", "cut off", "without files", "a file short", "another size"])
def test_without_a_checksum_that_adds_up_spark_is_asked(
    spark: SparkSession, hours: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, path = load(spark, hours), max(hours.glob("_delta_log/*.crc"))
    said = json.loads(path.read_text())
    path.unlink()
    if damage == "cut off":
        path.write_text(json.dumps(said)[:-20])
    elif damage == "without files":
        path.write_text(json.dumps({key: value for key, value in said.items() if key != "allFiles"}))
    elif damage == "a file short":
        path.write_text(json.dumps(said | {"allFiles": said["allFiles"][:-1]}))
    elif damage == "another size":
        path.write_text(json.dumps(said | {"tableSizeBytes": 1}))
    asked, ask = [], files.paths_of
    monkeypatch.setattr(files, "paths_of", lambda df: asked.append(df) or ask(df))
    assert files_of(table).rows == 8
    assert asked


@pytest.mark.parametrize("kind", WAYS)
def test_files_without_a_row_in_the_span_are_left_out(
    spark: SparkSession, tables: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, step = load(spark, tables[kind]), 24 * HOUR if kind == "date" else HOUR
    spans = {
        (None, 3 * step): 4,
        (2 * step, 5 * step): 4,
        (step + 2000, 2 * step - 2000): 0,
        (None, None): 0,
        (None, 99 * step): 8,
    }
    through_spark = [TimeBounds("at", *ends).rows(table).select(F.lit(n).alias("span"), "n") for n, ends in enumerate(spans)]
    collected = {tuple(row) for row in reduce(DataFrame.union, through_spark).collect()}
    for number, ((first, last), rows) in enumerate(spans.items()):
        found = files_of(table, TimeBounds("at", first, last))
        assert found.rows == rows, (first, last)
        wanted = {n for n in range(8) if last is not None and (first is None or first <= n * step) and n * step <= last}
        assert wanted <= {n for span, n in collected if span == number}
        assert wanted <= set(found.columns(["n"])["n"].to_pylist())
    if kind == "timestamp":
        assert by_spark(monkeypatch, table, TimeBounds("at", 2 * step, 3 * step)) == set(
            files_of(table, TimeBounds("at", 2 * step, 3 * step)).paths
        )


def test_statistics_are_cut_to_milliseconds_and_a_file_at_the_edge_stays() -> None:
    kind = T.TimestampType()
    stats = {"minValues": {"at": "1970-01-01T00:00:00.001Z"}, "maxValues": {"at": "1970-01-01T01:00:00.002+01:00"}}
    assert [TimeBounds("t", 2999, last).touches(stats, "at", kind) for last in (3000, 0)] == [True, True]
    assert not TimeBounds("t", 3001, 9999).touches(stats, "at", kind)
    assert not TimeBounds("t", None, -1).touches(stats, "at", kind)
    assert TimeBounds("t", 10**9, 10**9 + 1).touches({}, "at", kind)
    assert TimeBounds("t", 10**9, 10**9 + 1).touches({"minValues": {"at": "+12000-01-01T00:00:00Z"}, "maxValues": {"at": None}}, "at", kind)
    assert recorded("2013-06-01", T.DateType()) == (dt.date(2013, 6, 1) - dt.date(1970, 1, 1)).days * 24 * HOUR
    assert [recorded(value, T.LongType()) for value in (7, None, "x")] == [7, None, None]
