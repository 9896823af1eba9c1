from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse import ingest as ingest_module
from boathouse.ingest import Ingested, ingest, problem_of
from boathouse.tables import Column, Lakehouse, Table, drop_all, read

NOON = dt.datetime(2013, 6, 1, 12)


def log(name: str) -> Table:
    kept = [Column(c, "string", c) for c in ("boat", "berth", "_raw", "_source_file", "_malformed")]
    return Table(f"bronze.{name}", "One row per line.", (*kept, Column("_ingested_at", "timestamp", "when")))


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_ingest_")
    drop_all(lake)
    yield lake
    drop_all(lake)


def deliver(landing: Path, **files: str) -> None:
    for name, text in files.items():
        (landing / "log").mkdir(exist_ok=True)
        (landing / "log" / f"{name}.csv").write_text(text)


def test_a_file_is_ingested_once_and_every_line_is_kept(lake: Lakehouse, tmp_path: Path) -> None:
    deliver(tmp_path, a='boat,berth\nIda,4\n"Gull, the",NA\nTe\nTern,7,8\n\n')
    assert ingest(lake, log("once"), tmp_path, "log", NOON) == Ingested(1)
    assert ingest(lake, log("once"), tmp_path, "log", NOON) == Ingested(0)
    found = {(r._raw, r.boat, r.berth, r._malformed) for r in read(lake, log("once")).collect()}
    assert found == {
        ("Ida,4", "Ida", "4", None),
        ('"Gull, the",NA', "Gull, the", "NA", None),
        ("Te", None, None, "1 fields where 2 are declared"),
        ("Tern,7,8", None, None, "3 fields where 2 are declared"),
        ("", None, None, "1 fields where 2 are declared"),
    }


def test_broken_files_lose_no_line_and_do_not_stop_the_good_ones(lake: Lakehouse, tmp_path: Path) -> None:
    deliver(
        tmp_path,
        good="boat,berth\nIda,4\n",
        missing="boat\nTern\n",
        renamed="boat,place\nGull,3\n",
        empty="",
        header="boat,berth\n",
        page="<html>\n503\n",
    )
    (tmp_path / "log" / "binary.csv").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\n")
    done = ingest(lake, log("broken"), tmp_path, "log", NOON)
    assert done.files == 7
    rows = read(lake, log("broken")).collect()
    assert [(r.boat, r.berth) for r in rows if r._malformed is None] == [("Ida", "4")]
    assert (
        {r._source_file: r._malformed for r in rows if r._malformed}
        == done.broken
        == {
            "log/missing.csv": "the header differs; missing berth",
            "log/renamed.csv": "the header differs; missing berth; unexpected place",
            "log/empty.csv": "the file is empty",
            "log/page.csv": "the file is not CSV with a header: it begins with '<html>'",
            "log/binary.csv": "the file is not CSV: it has binary content",
        }
    )
    assert {r._raw for r in rows if r._source_file == "log/renamed.csv"} == {"boat,place", "Gull,3"}
    assert [f for f in ingest_module.waiting(lake, log("broken"), tmp_path, "log")] == ["log/header.csv"]


def test_columns_in_another_order_are_not_read_by_position(tmp_path: Path) -> None:
    deliver(tmp_path, swapped="berth,boat\n4,Ida\n", marked="\ufeffboat,berth\n")
    assert problem_of(tmp_path / "log" / "swapped.csv", ["boat", "berth"]) == "the header differs: the order is berth, boat"
    assert problem_of(tmp_path / "log" / "marked.csv", ["boat", "berth"]) is None


def test_an_ingestion_that_dies_before_its_commit_leaves_nothing_and_can_be_repeated(
    lake: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, a="boat,berth\nIda,4\n")
    with monkeypatch.context() as patch:
        patch.setattr(ingest_module, "append", lambda *args, **more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ingest(lake, log("died"), tmp_path, "log", NOON)
    assert ingest(lake, log("died"), tmp_path, "log", NOON) == Ingested(1)
    assert read(lake, log("died")).count() == 1


def test_files_that_begin_with_an_underscore_or_a_dot_are_not_data(lake: Lakehouse, tmp_path: Path) -> None:
    deliver(tmp_path, _planted="x\n", **{".half": "boat,berth\nIda"})
    assert ingest(lake, log("hidden"), tmp_path, "log", NOON) == Ingested(0)
