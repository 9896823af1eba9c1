"Changed columns under each policy, batch against stream, and the reading of bytes against a plain one."

from __future__ import annotations

import datetime as dt
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from boathouse.ingest import Entry, Ingested, commits_of, ingest
from boathouse.lines import Delivery, tally
from boathouse.tables import Column, Lakehouse, Table, drop_all, read

NOON = dt.datetime(2013, 6, 1, 12)
KEPT = tuple(Column(c, "string", c) for c in ("boat", "berth", "_raw", "_source_file", "_malformed"))
STAMP = Column("_ingested_at", "timestamp", "when")


@dataclass(frozen=True)
class Changing(Table):
    "A table that says what a change of its files' columns leads to."

    on_change: str = "fail"


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_changes_")
    drop_all(lake)
    yield lake
    drop_all(lake)


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    "Files in the declared columns, with one more, with one less, with one renamed, in another order, and a page that is none."
    (tmp_path / "log").mkdir()
    files = {
        "declared": "boat,berth\nIda,4\n",
        "more": "boat,berth,crew\nTern,7,3\n",
        "less": "boat\nGull\n",
        "renamed": "boat,place\nSwan,2\n",
        "order": "crew,berth,boat\n5,8,Rook\n",
        "page": "<html>\n",
    }
    for name, text in files.items():
        (tmp_path / "log" / f"{name}.csv").write_text(text)
    return tmp_path


def test_under_fail_the_lines_of_a_changed_file_are_kept_and_marked(lake: Lakehouse, landing: Path) -> None:
    table = Changing("bronze.failing", "One row per line.", (*KEPT, STAMP))
    done = ingest(lake, table, landing, "log", NOON)
    assert (done.files, len(done.broken)) == (6, 5)
    rows = read(lake, table).collect()
    assert [(r.boat, r.berth) for r in rows if r._malformed is None] == [("Ida", "4")]
    assert {r._raw for r in rows if r._source_file == "log/renamed.csv"} == {"boat,place", "Swan,2"}
    assert {r._malformed for r in rows if r._source_file == "log/renamed.csv"} == {"the header differs; missing berth; unexpected place"}


def test_under_add_columns_unknown_columns_become_columns_of_text(lake: Lakehouse, landing: Path) -> None:
    table = Changing("bronze.adding", "One row per line.", (*KEPT, STAMP), on_change="add_columns")
    assert set(ingest(lake, table, landing, "log", NOON).broken) == {"log/page.csv"}
    rows = {r.boat: (r.berth, r.crew, r.place) for r in read(lake, table).where("_malformed IS NULL").collect()}
    assert rows == {
        "Ida": ("4", None, None),
        "Tern": ("7", "3", None),
        "Gull": (None, None, None),
        "Swan": (None, None, "2"),
        "Rook": ("8", "5", None),
    }
    (landing / "log" / "later.csv").write_text("boat,berth,crew\nWren,1,2\n")
    assert ingest(lake, table, landing, "log", NOON) == Ingested(1)
    assert read(lake, table).where("crew = 2").count() == 1


def test_under_rescue_unknown_fields_are_kept_as_json(lake: Lakehouse, landing: Path) -> None:
    table = Changing("bronze.rescuing", "One row per line.", (*KEPT, Column("_rescued", "string", "JSON"), STAMP), on_change="rescue")
    assert set(ingest(lake, table, landing, "log", NOON).broken) == {"log/page.csv"}
    rows = {r.boat: (r.berth, r._rescued and json.loads(r._rescued)) for r in read(lake, table).where("_malformed IS NULL").collect()}
    assert rows == {
        "Ida": ("4", None), "Tern": ("7", {"crew": "3"}), "Gull": (None, None), "Swan": (None, {"place": "2"}), "Rook": ("8", {"crew": "5"})
    }  # fmt: skip


def test_a_stream_takes_what_a_batch_takes_also_after_rewrites_and_without_its_checkpoint(
    lake: Lakehouse, landing: Path, tmp_path: Path
) -> None:
    batch, stream = (Table(f"bronze.{name}", "One row per line.", (*KEPT, STAMP)) for name in ("batch", "stream"))
    (landing / "log" / "folder.csv").mkdir()
    (landing / "log" / "a[1] b%.csv").write_text("boat,berth\nWren,1\n")

    def both(checkpoint: str) -> Ingested:
        done = ingest(lake, batch, landing, "log", NOON)
        assert ingest(lake, stream, landing, "log", NOON, stream=True, checkpoint=tmp_path / checkpoint) == done
        rows = [sorted(map(str, read(lake, table).collect())) for table in (batch, stream)]
        assert rows[0] == rows[1]
        return done

    assert both("one").files == 7
    (landing / "log" / "declared.csv").write_text("boat,berth\nIda,5\nTern,6\n")
    assert both("one").again == {"log/declared.csv": 2}
    assert both("another") == Ingested(left={"log/folder.csv": "it is a folder"})


def test_a_stream_without_a_checkpoint_is_refused(lake: Lakehouse, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a stream needs a checkpoint"):
        ingest(lake, Table("bronze.none", "One row per line.", (*KEPT, STAMP)), tmp_path, "log", NOON, stream=True)


def test_many_kinds_of_headers_are_spread_over_commits() -> None:
    entries = [Entry(Delivery(f"log/{n}.csv", 1, 1, "", 1, first=f"h{n % 25}"), 1) for n in range(100)]
    groups = commits_of(entries)
    assert [len({e.file.first for e in group}) for group in groups] == [10, 10, 5]
    assert {e.file.name for group in groups for e in group} == {e.file.name for e in entries}


@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"boat", b"boat,berth", b"x", b","]), max_size=12), st.integers(1, 9))
def test_a_file_is_read_the_same_whatever_the_size_of_the_pieces(parts: list[bytes], chunk: int) -> None:
    content = b"boat,berth" + b"".join(parts)
    lines = re.split(rb"\r\n|\r|\n", content)
    lines = lines[:-1] if lines[-1] == b"" else lines
    found = tally(io.BytesIO(content), chunk)
    assert found.content == tally(io.BytesIO(content)).content
    assert (found.lines, found.first, found.repeated) == (len(lines), lines[0], lines[1:].count(lines[0]))
