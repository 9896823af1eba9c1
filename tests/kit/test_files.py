"""Which files a table is: by the checksum beside its commit, and by Spark where there is none, the same ones; those without a row that matters are left out."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from boathouse import files
from boathouse.files import Span, files_of, recorded
from boathouse.tables import Lakehouse, drop_all, read

HOUR = 3_600_000_000  # microseconds


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_files_")
    drop_all(lake)
    spark.sql("CREATE SCHEMA test_files_f")
    yield lake
    drop_all(lake)


def hours(lake: Lakehouse, kind: str = "timestamp") -> DataFrame:
    "A table of four commits and files: the hours 0 and 1 since 1970, 2 and 3, 4 and 5, 6 and 7; a column `n` counts them."
    spark, name = lake.spark, lake.name("f.hours")
    ways = {"timestamp": "timestamp_seconds(3600 * id)", "bigint": "id * 3600000000L", "date": "date_from_unix_date(int(id))"}
    spark.sql(f"CREATE TABLE {name} (k int, at {kind}, n int) USING DELTA")
    for first in range(0, 8, 2):
        spark.sql(f"INSERT INTO {name} SELECT /*+ COALESCE(1) */ 1, {ways[kind]}, int(id) FROM range({first}, {first + 2})")
    return read(lake, "f.hours")


def log_of(lake: Lakehouse) -> Path:
    return Path(lake.spark.sql(f"DESCRIBE DETAIL {lake.name('f.hours')}").first().location.removeprefix("file:"), "_delta_log")


def by_spark(monkeypatch: pytest.MonkeyPatch, df: DataFrame, span: Span | None = None) -> set[str]:
    with monkeypatch.context() as patch:
        patch.setattr(files, "listed_by_checksum", lambda index: None)
        return set(files_of(df, span).paths)


def test_the_checksum_lists_the_files_that_spark_lists_and_spark_is_not_asked(lake: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    table = hours(lake)
    lake.spark.sql(f"DELETE FROM {lake.name('f.hours')} WHERE n = 3")
    frames = [
        table,
        read(lake, "f.hours", 2),
        table.select(F.col("at").alias("n"), F.col("n").alias("at"), "k").select("at", "n"),
        read(lake, "f.hours", 0),
    ]
    expected = [by_spark(monkeypatch, df) for df in frames]
    assert [len(paths) for paths in expected] == [4, 2, 4, 0]
    monkeypatch.setattr(files, "paths_of", lambda df: pytest.fail("Spark was asked"))
    found = [files_of(df) for df in frames]
    assert [set(files.paths) for files in found] == expected
    assert found[2].names == {"at": "n", "n": "at"}
    assert (found[0].rows, found[1].rows) == (7, 4)


@pytest.mark.parametrize("damage", ["gone", "cut off", "without files", "a file short", "another size"])
def test_without_a_checksum_that_adds_up_spark_is_asked(lake: Lakehouse, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = hours(lake)
    path = max(log_of(lake).glob("*.crc"))
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


@pytest.mark.parametrize("kind", ["timestamp", "bigint", "date"])
def test_files_without_a_row_in_the_span_are_left_out(lake: Lakehouse, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table, step = hours(lake, kind), 24 * HOUR if kind == "date" else HOUR
    for first, last, rows in (
        (None, 3 * step, 4),
        (2 * step, 5 * step, 4),
        (step + 2000, 2 * step - 2000, 0),
        (None, None, 0),
        (None, 99 * step, 8),
    ):
        span = Span("at", first, last)
        assert files_of(table, span).rows == rows, (first, last)
        wanted = {n for n in range(8) if last is not None and (first is None or first <= n * step) and n * step <= last}
        assert wanted <= {row.n for row in span.rows(table).collect()}
        assert wanted <= set(files_of(table, span).columns(["n"])["n"].to_pylist())
    if kind == "timestamp":
        assert by_spark(monkeypatch, table, Span("at", 2 * step, 3 * step)) == set(files_of(table, Span("at", 2 * step, 3 * step)).paths)


def test_statistics_are_cut_to_milliseconds_and_a_file_at_the_edge_stays() -> None:
    kind = T.TimestampType()
    stats = {"minValues": {"at": "1970-01-01T00:00:00.001Z"}, "maxValues": {"at": "1970-01-01T01:00:00.002+01:00"}}
    assert [Span("t", 2999, last).touches(stats, "at", kind) for last in (3000, 0)] == [True, True]
    assert not Span("t", 3001, 9999).touches(stats, "at", kind)
    assert not Span("t", None, -1).touches(stats, "at", kind)
    assert Span("t", 10**9, 10**9 + 1).touches({}, "at", kind)
    assert Span("t", 10**9, 10**9 + 1).touches({"minValues": {"at": "+12000-01-01T00:00:00Z"}, "maxValues": {"at": None}}, "at", kind)
    assert recorded("2013-06-01", T.DateType()) == (dt.date(2013, 6, 1) - dt.date(1970, 1, 1)).days * 24 * HOUR
    assert [recorded(value, T.LongType()) for value in (7, None, "x")] == [7, None, None]
