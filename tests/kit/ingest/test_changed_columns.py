"Changed columns under each policy, batch against stream, and the reading of bytes against a plain one."

from __future__ import annotations

import datetime as dt
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import Row, SparkSession

from boathouse.ingest.csv_lines import Delivery, file_statistics
from boathouse.ingest.files import IngestResult, LedgerEntry, group_into_commits, ingest, read_ledger
from boathouse.tables.table import Column, Lakehouse, Table, read

NOON = dt.datetime(2013, 6, 1, 12)
KEPT = tuple(Column(c, "string", c) for c in ("boat", "berth", "_raw", "_source_file", "_malformed"))
STAMP = Column("_ingested_at", "timestamp", "when")


@dataclass(frozen=True)
class Changing(Table):
    "A table that says what a change of its files' columns leads to."

    on_change: str = "fail"


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_changes_")
    return lake


# In the declared columns, with one more, with one less, with one renamed, in another order, and a page that is none.
FILES = {
    "declared": "boat,berth\nIda,4\n",
    "more": "boat,berth,crew\nTern,7,3\n",
    "less": "boat\nGull\n",
    "renamed": "boat,place\nSwan,2\n",
    "order": "crew,berth,boat\n5,8,Rook\n",
    "page": "<html>\n",
}


def deliver(landing: Path, files: dict[str, str]) -> None:
    (landing / "log").mkdir(exist_ok=True)
    for name, text in files.items():
        (landing / "log" / f"{name}.csv").write_text(text)


def test_under_add_columns_unknown_columns_become_columns_of_text(lake: Lakehouse, tmp_path: Path) -> None:
    table = Changing("bronze.adding", "One row per line.", (*KEPT, STAMP), on_change="add_columns")
    deliver(tmp_path, FILES)
    assert set(ingest(lake, table, tmp_path, "log", NOON).broken) == {"log/page.csv"}
    deliver(tmp_path, {"later": "boat,berth,crew\nWren,1,2\n"})
    assert ingest(lake, table, tmp_path, "log", NOON) == IngestResult(1)
    rows = {r.boat: (r.berth, r.crew, r.place) for r in read(lake, table).where("_malformed IS NULL").collect()}
    assert rows == {
        "Ida": ("4", None, None),
        "Tern": ("7", "3", None),
        "Gull": (None, None, None),
        "Swan": (None, None, "2"),
        "Rook": ("8", "5", None),
        "Wren": ("1", "2", None),
    }


def test_a_new_column_in_two_spellings_or_of_another_type_breaks_its_file_and_holds_nobody_up(lake: Lakehouse, tmp_path: Path) -> None:
    table = Changing("bronze.spelled", "One row per line.", (*KEPT, STAMP), on_change="add_columns")
    deliver(tmp_path, {"a": "boat,crew\nIda,1\n", "b": "boat,Crew\nTern,2\nboat,Crew\n", "c": "boat,crew,mast\nGull,3,9\n"})
    first = ingest(lake, table, tmp_path, "log", NOON)
    assert first == IngestResult(3, broken={"log/b.csv": "the header has Crew, which is spelled crew"})
    lake.spark.sql(f"ALTER TABLE {lake.name(table)} ADD COLUMNS (anchor int)")
    deliver(tmp_path, {"d": "boat,CREW\nSwan,4\n", "e": "boat,anchor\nRook,5\n", "f": "boat,crew\nWren,6\n"})
    second = ingest(lake, table, tmp_path, "log", NOON)
    assert second.broken == {
        "log/d.csv": "the header has CREW, which is spelled crew",
        "log/e.csv": "anchor is int in the table, not text",
    }
    rows = read(lake, table).collect()
    assert {row.boat: row.crew for row in rows if row._malformed is None} == {"Ida": "1", "Gull": "3", "Wren": "6"}
    assert [sum(row._source_file == f"log/{name}.csv" for row in rows) for name in "abcdef"] == [1, 3, 1, 2, 2, 1]
    assert {e.file.name: (e.file.problem, e.file.rows) for e in read_ledger(lake, table)}["log/b.csv"] == (first.broken["log/b.csv"], 3)
    assert ingest(lake, table, tmp_path, "log", NOON) == IngestResult()


def test_under_rescue_unknown_fields_are_kept_as_json(lake: Lakehouse, tmp_path: Path) -> None:
    table = Changing("bronze.rescuing", "One row per line.", (*KEPT, Column("_rescued", "string", "JSON"), STAMP), on_change="rescue")
    deliver(tmp_path, FILES)
    assert set(ingest(lake, table, tmp_path, "log", NOON).broken) == {"log/page.csv"}
    rows = {r.boat: (r.berth, r._rescued and json.loads(r._rescued)) for r in read(lake, table).where("_malformed IS NULL").collect()}
    assert rows == {
        "Ida": ("4", None), "Tern": ("7", {"crew": "3"}), "Gull": (None, None), "Swan": (None, {"place": "2"}), "Rook": ("8", {"crew": "5"})
    }  # fmt: skip


class Taken(NamedTuple):
    "What a batch and a stream did at three times, and the rows of both after each."

    done: list[tuple[IngestResult, IngestResult]]
    rows: list[tuple[list[Row], list[Row]]]


@pytest.fixture(scope="module")
def taken(lake: Lakehouse, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    "The files, a folder and a name with the signs of patterns; one file rewritten; nothing new, and the stream's checkpoint lost. Under `fail`."
    landing, checkpoints = tmp_path_factory.mktemp("landing"), tmp_path_factory.mktemp("checkpoints")
    batch, stream = (Changing(f"bronze.{name}", "One row per line.", (*KEPT, STAMP)) for name in ("batch", "stream"))
    found = Taken([], [])

    def both(checkpoint: str) -> None:
        one = ingest(lake, batch, landing, "log", NOON)
        other = ingest(lake, stream, landing, "log", NOON, stream=True, checkpoint=checkpoints / checkpoint)
        found.done.append((one, other))
        found.rows.append((read(lake, batch).collect(), read(lake, stream).collect()))

    deliver(landing, FILES | {"a[1] b%": "boat,berth\nWren,1\n"})
    (landing / "log" / "folder.csv").mkdir()
    both("one")
    deliver(landing, {"declared": "boat,berth\nIda,5\nTern,6\n"})
    both("one")
    both("another")
    return found


def test_under_fail_the_lines_of_a_changed_file_are_kept_and_marked(taken: Taken) -> None:
    done, rows = taken.done[0][0], taken.rows[0][0]
    assert (done.files, len(done.broken)) == (7, 5)
    assert sorted((r.boat, r.berth) for r in rows if r._malformed is None) == [("Ida", "4"), ("Wren", "1")]
    assert {r._raw for r in rows if r._source_file == "log/renamed.csv"} == {"boat,place", "Swan,2"}
    assert {r._malformed for r in rows if r._source_file == "log/renamed.csv"} == {"the header differs; missing berth; unexpected place"}


def test_a_stream_takes_what_a_batch_takes_also_after_rewrites_and_without_its_checkpoint(taken: Taken) -> None:
    assert [batch for batch, _ in taken.done] == [stream for _, stream in taken.done]
    for batch, stream in taken.rows:
        assert sorted(map(str, batch)) == sorted(map(str, stream))
    first, second, third = (done for done, _ in taken.done)
    assert first.files == 7
    assert second.again == {"log/declared.csv": 2}
    assert third == IngestResult(left={"log/folder.csv": "it is a folder"})


def test_a_stream_without_a_checkpoint_is_refused(lake: Lakehouse, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a stream needs a `checkpoint`"):
        ingest(lake, Table("bronze.none", "One row per line.", (*KEPT, STAMP)), tmp_path, "log", NOON, stream=True)


def test_many_kinds_of_headers_are_spread_over_commits() -> None:
    entries = [LedgerEntry(Delivery(f"log/{n}.csv", 1, 1, "", 1, first=f"h{n % 25}"), 1) for n in range(100)]
    groups = group_into_commits(entries)
    assert [len({e.file.first for e in group}) for group in groups] == [10, 10, 5]
    assert {e.file.name for group in groups for e in group} == {e.file.name for e in entries}


@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"boat", b"boat,berth", b"x", b","]), max_size=12), st.integers(1, 9))
def test_a_file_is_read_the_same_whatever_the_size_of_the_pieces(parts: list[bytes], chunk: int) -> None:
    content = b"boat,berth" + b"".join(parts)
    lines = re.split(rb"\r\n|\r|\n", content)
    lines = lines[:-1] if lines[-1] == b"" else lines
    found = file_statistics(io.BytesIO(content), chunk)
    assert found.content == file_statistics(io.BytesIO(content)).content
    assert (found.lines, found.first, found.repeated) == (len(lines), lines[0], lines[1:].count(lines[0]))
