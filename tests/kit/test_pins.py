from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.maintenance import vacuum
from boathouse.pins import (
    LASTING,
    PINS,
    RETENTION,
    PinError,
    holding,
    materialise,
    pin,
    pins,
    properties,
    protect,
    read_pin,
    release,
    unpin,
)
from boathouse.tables import Column, Lakehouse, Table, VersionGone, create, drop_all, exists, read
from boathouse.versions import check_version, fingerprint, version_of
from boathouse.writes import append

BOATS = Table(
    name="harbour.boats",
    grain="One row per boat.",
    columns=(Column("boat", "string", "its name"), Column("berth", "int", "where it lies")),
    primary_key=("boat",),
    retention="interval 1 seconds",
)
AT, LATER = datetime(2013, 6, 1), datetime(2100, 1, 1)
WHY = "a model was trained on it"


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_pins_")
    drop_all(lake)
    yield lake
    drop_all(lake)


def boats(lake: Lakehouse, *values: tuple[str, int]) -> DataFrame:
    return lake.spark.createDataFrame(list(values), BOATS.schema)


def two_versions(lake: Lakehouse, name: str, retention: str = "interval 365 days") -> Table:
    "A table whose version 1 has Ida at 1, and whose version 2 has her at 2."
    table = dataclasses.replace(BOATS, name=f"harbour.{name}", retention=retention)
    create(lake, table)
    for berth in (1, 2):
        lake.spark.sql(f"INSERT OVERWRITE {lake.name(table)} VALUES ('Ida', {berth})")
    return table


def retention(lake: Lakehouse, table: Table) -> set[str]:
    return {properties(lake, table).get(name, "unset") for name in RETENTION}


def test_a_pinned_version_outlives_retention_and_vacuum_where_an_unpinned_one_is_blocked_and_then_gone(lake: Lakehouse) -> None:
    kept, left = (two_versions(lake, name, "interval 1 seconds") for name in ("kept", "left"))
    pin(lake, "outlives", kept, 1, AT, WHY)
    time.sleep(1.1)  # both versions are past the retention that was declared
    with pytest.raises(VersionGone, match="older than"):
        read(lake, left, 1)
    for table in (kept, left):
        lake.spark.sql(f"VACUUM {lake.name(table)}")  # by anybody's hand
    assert read_pin(lake, "outlives").collect() == boats(lake, ("Ida", 1)).collect()
    protect(lake, left)
    with pytest.raises(VersionGone, match="files that it needs were deleted"):
        check_version(lake, left, 1)
    assert read(lake, left).first().berth == 2
    release(lake, left)
    assert retention(lake, left) == {"interval 1 seconds"}


def test_a_pinned_version_outlives_the_cleaning_of_the_log_two_years_later(lake: Lakehouse) -> None:
    kept, left = (two_versions(lake, name) for name in ("kept_log", "left_log"))
    pin(lake, "old", kept, 1, AT, WHY)
    ago = time.time() - timedelta(days=730).total_seconds()
    for table in (kept, left):
        lake.spark.sql(f"ALTER TABLE {lake.name(table)} SET TBLPROPERTIES ('delta.checkpointInterval' = '2')")
        location = Path(lake.spark.sql(f"DESCRIBE DETAIL {lake.name(table)}").first()["location"].removeprefix("file:"))
        for path in location.rglob("*.*"):
            number = int(path.stem) if path.suffix == ".json" else 0
            os.utime(path, (ago, ago + number))
    lake.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    for table in (kept, left):
        for berth in range(4):
            append(lake, table, boats(lake, (f"Tern {berth}", berth)))
        lake.spark.sql(f"VACUUM {lake.name(table)}")
    assert read_pin(lake, "old").first().berth == 1
    with pytest.raises(VersionGone, match="the log holds versions"):
        read(lake, left, 1)


def test_a_version_past_its_retention_whose_files_are_there_is_opened_again_by_its_pin(lake: Lakehouse) -> None:
    table = two_versions(lake, "opened", "interval 0 hours")
    with pytest.raises(VersionGone):
        read(lake, table, 1)
    pin(lake, "opened", table, 1, AT, WHY)
    assert read_pin(lake, "opened").first().berth == 1


def test_a_version_that_is_gone_is_not_pinned_and_its_table_stays_as_it_was(lake: Lakehouse) -> None:
    table = two_versions(lake, "gone", "interval 0 hours")
    assert vacuum(lake, table, LATER) is None
    for version in (1, 99):
        with pytest.raises(VersionGone, match=f"at version {version}"):
            pin(lake, "gone", table, version, AT, WHY)
    assert "gone" not in pins(lake)
    assert retention(lake, table) == {"interval 0 hours"}


def test_the_same_pin_twice_is_one_and_another_version_under_its_name_is_refused(lake: Lakehouse) -> None:
    table = two_versions(lake, "twice")
    first = pin(lake, "twice", table, 1, AT, WHY)
    before = version_of(lake, table)
    assert pin(lake, "twice", table, 1, LATER, "again") == first
    with pytest.raises(PinError, match=r"the pin 'twice' is on harbour.twice at version 1: release it, or take another name"):
        pin(lake, "twice", table, 2, AT, WHY)
    with pytest.raises(PinError, match="does not name a pin"):
        pin(lake, "of july; DROP", table, 1, AT, WHY)
    assert version_of(lake, table) == before
    assert [row.action for row in read(lake, PINS).where("name = 'twice'").collect()] == ["pinned"]
    unpin(lake, "twice", LATER, "done with")
    assert pin(lake, "twice", table, 2, LATER, "a new life").step == 3


def test_a_table_is_held_until_the_last_of_its_pins_goes(lake: Lakehouse) -> None:
    table = two_versions(lake, "held")
    for version in (1, 2):
        pin(lake, f"held_{version}", table, version, AT, WHY)
    unpin(lake, "held_1", LATER, "done with")
    assert retention(lake, table) == {LASTING}
    with pytest.raises(PinError, match=r"held is pinned by held_2 \(version 2: a model was trained on it\). Unpin, or materialise"):
        vacuum(lake, table, LATER)
    unpin(lake, "held_2", LATER, "done with")
    assert retention(lake, table) == {"interval 365 days"}
    assert vacuum(lake, table, LATER) is None
    with pytest.raises(PinError, match=r"the pin 'held_1' on harbour.held at version 1 was released: done with"):
        read_pin(lake, "held_1")
    with pytest.raises(PinError, match="there is no pin 'held_3'"):
        unpin(lake, "held_3", LATER, "never was")


def test_retention_that_was_never_set_is_unset_again(lake: Lakehouse) -> None:
    lake.spark.sql(f"CREATE TABLE {lake.name('harbour.plain')} USING delta AS SELECT 1 AS n")
    pin(lake, "plain", "harbour.plain", 0, AT, WHY)
    unpin(lake, "plain", LATER, "done with")
    assert not set(RETENTION) & set(properties(lake, "harbour.plain"))


def test_a_materialised_pin_frees_its_table_and_reads_the_same_rows_when_the_source_is_vacuumed(lake: Lakehouse) -> None:
    table = two_versions(lake, "copied", "interval 0 hours")
    pin(lake, "copied", table, 1, AT, WHY)
    pin(lake, "other", table, 2, AT, WHY)
    before = fingerprint(read_pin(lake, "copied"))
    assert materialise(lake, "copied", LATER).fingerprint == before
    assert retention(lake, table) == {LASTING}  # the other one holds it
    unpin(lake, "other", LATER, "done with")
    assert vacuum(lake, table, LATER) is None
    with pytest.raises(VersionGone):
        read(lake, table, 1)
    assert fingerprint(read_pin(lake, "copied")) == before
    assert materialise(lake, "copied", LATER).step == 2  # once is enough
    copy = pins(lake)["copied"].copy
    unpin(lake, "copied", LATER, "done with")
    assert not exists(lake, copy)


def test_the_pin_of_a_table_that_was_dropped_or_made_anew_says_so_and_can_be_released(lake: Lakehouse) -> None:
    table = two_versions(lake, "dropped")
    pin(lake, "lost", table, 1, AT, WHY)
    lake.spark.sql(f"DROP TABLE {lake.name(table)}")
    with pytest.raises(PinError, match=r"the pin 'lost' is lost: harbour.dropped was dropped"):
        read_pin(lake, "lost")
    two_versions(lake, "dropped")
    with pytest.raises(PinError, match="another table now"):
        read_pin(lake, "lost")
    with pytest.raises(PinError, match="another table now"):
        pin(lake, "lost", table, 1, AT, WHY)
    unpin(lake, "lost", LATER, "it is lost")
    assert holding(lake, table) == []
