"Pins of one harbour, made in one commit over tables of two versions; each test has tables of its own."

from __future__ import annotations

import os
import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession

from boathouse.tables.evolution import create
from boathouse.tables.maintenance import vacuum
from boathouse.tables.pins import (
    LASTING,
    PINS,
    RETENTION,
    Pin,
    PinError,
    delta_properties,
    extend_retention,
    list_pins,
    materialise,
    pin,
    pin_all,
    pins_holding,
    read_pin,
    restore_retention,
    unpin,
)
from boathouse.tables.table import Column, Lakehouse, Table, VersionGone, exists, read
from boathouse.tables.versions import check_version, fingerprint, version_of

BOATS = Table(
    name="harbour.boats",
    grain="One row per boat.",
    columns=(Column("boat", "string", "its name"), Column("berth", "int", "where it lies")),
    primary_key=("boat",),
    retention="interval 365 days",
)
AT, LATER = datetime(2013, 6, 1), datetime(2100, 1, 1)
WHY = "a model was trained on it"
# The retention of the tables, and what is pinned of them.
TABLES = {
    "kept": "1 seconds", "left": "1 seconds", "kept_log": "365 days", "left_log": "365 days",
    "twice": "365 days", "held": "365 days", "copied": "0 hours",
}  # fmt: skip
WANTED = {
    "outlives": ("harbour.kept", 1), "old": ("harbour.kept_log", 1), "twice": ("harbour.twice", 1),
    "held_1": ("harbour.held", 1), "held_2": ("harbour.held", 2), "copied": ("harbour.copied", 1), "other": ("harbour.copied", 2),
    "plain": ("harbour.plain", 0), "lost": ("harbour.boats", 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(state: Path) -> Path:
    return state / "warehouse" / "test_pins_harbour.db"


@pytest.fixture(scope="module")
def lake(spark: SparkSession, folder: Path) -> Lakehouse:
    "A table whose version 1 has Ida at 1, and whose version 2 has her at 2; its copies, some with another retention; and a table without any."
    lake = Lakehouse(spark, prefix="test_pins_")
    create(lake, BOATS)
    for berth in (1, 2):
        spark.sql(f"INSERT OVERWRITE {lake.name(BOATS)} VALUES ('Ida', {berth})")
    for name, kept in TABLES.items():
        shutil.copytree(folder / "boats", folder / name)
        spark.sql(f"CREATE TABLE {lake.name(f'harbour.{name}')} USING delta LOCATION '{folder / name}'")
        if f"interval {kept}" != BOATS.retention:
            values = ", ".join(f"'{key}' = 'interval {kept}'" for key in RETENTION)
            spark.sql(f"ALTER TABLE {lake.name(f'harbour.{name}')} SET TBLPROPERTIES ({values})")
    spark.sql(f"CREATE TABLE {lake.name('harbour.plain')} USING delta AS SELECT 1 AS n")
    return lake


@pytest.fixture(scope="module")
def pinned(lake: Lakehouse) -> dict[str, Pin]:
    "The pins, by name. Version 1 of `kept` is past its retention when it is pinned."
    time.sleep(1.1)  # the retention is one second, and a quick machine is here sooner
    with pytest.raises(VersionGone, match="older than"):
        read(lake, "harbour.kept", 1)
    return dict(zip(WANTED, pin_all(lake, WANTED, AT, WHY), strict=True))


def retention(lake: Lakehouse, table: str) -> set[str]:
    return {delta_properties(lake, table).get(name, "unset") for name in RETENTION}


def test_a_pinned_version_outlives_retention_and_vacuum_where_an_unpinned_one_is_blocked_and_then_gone(
    lake: Lakehouse, pinned: dict[str, Pin]
) -> None:
    with pytest.raises(VersionGone, match="older than"):
        read(lake, "harbour.left", 1)
    for name in ("kept", "left"):
        lake.spark.sql(f"VACUUM {lake.name(f'harbour.{name}')}")  # by anybody's hand
    assert read_pin(lake, "outlives").collect() == [Row(boat="Ida", berth=1)]
    extend_retention(lake, "harbour.left")
    with pytest.raises(VersionGone, match="files that it needs were deleted"):
        check_version(lake, "harbour.left", 1)
    assert read(lake, "harbour.left").first().berth == 2
    restore_retention(lake, "harbour.left")
    assert retention(lake, "harbour.left") == {"interval 1 seconds"}


def test_a_version_past_its_retention_whose_files_are_there_is_opened_again_by_its_pin(lake: Lakehouse, pinned: dict[str, Pin]) -> None:
    assert read_pin(lake, "outlives").first().berth == 1


def test_a_version_that_is_gone_is_not_pinned_and_its_table_stays_as_it_was(lake: Lakehouse) -> None:
    assert vacuum(lake, "harbour.left", LATER) is None
    for version in (1, 99):
        with pytest.raises(VersionGone, match=f"at version {version}"):
            pin(lake, "gone", "harbour.left", version, AT, WHY)
    assert "gone" not in list_pins(lake)
    assert retention(lake, "harbour.left") == {"interval 1 seconds"}


def test_a_pinned_version_outlives_the_cleaning_of_the_log_two_years_later(lake: Lakehouse, folder: Path, pinned: dict[str, Pin]) -> None:
    ago = time.time() - timedelta(days=730).total_seconds()
    for name in ("kept_log", "left_log"):
        lake.spark.sql(f"ALTER TABLE {lake.name(f'harbour.{name}')} SET TBLPROPERTIES ('delta.checkpointInterval' = '2')")
        for path in (folder / name).rglob("*.*"):
            number = int(path.stem) if path.suffix == ".json" else 0
            os.utime(path, (ago, ago + number))
    lake.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    for name in ("kept_log", "left_log"):
        for berth in (3, 4):
            lake.spark.sql(f"INSERT INTO {lake.name(f'harbour.{name}')} VALUES ('Tern', {berth})")
        lake.spark.sql(f"VACUUM {lake.name(f'harbour.{name}')}")
    assert read_pin(lake, "old").first().berth == 1
    with pytest.raises(VersionGone, match="the log holds versions"):
        read(lake, "harbour.left_log", 1)


def test_the_same_pin_twice_is_one_and_another_version_under_its_name_is_refused(lake: Lakehouse, pinned: dict[str, Pin]) -> None:
    before = version_of(lake, "harbour.twice")
    assert pin(lake, "twice", "harbour.twice", 1, LATER, "again") == pinned["twice"]
    with pytest.raises(PinError, match=r"the pin 'twice' is on harbour.twice at version 1: release it with unpin, or use another name"):
        pin(lake, "twice", "harbour.twice", 2, AT, WHY)
    with pytest.raises(PinError, match="the name of a pin must be"):
        pin(lake, "of july; DROP", "harbour.twice", 1, AT, WHY)
    assert version_of(lake, "harbour.twice") == before
    assert [row.action for row in read(lake, PINS).where("name = 'twice'").collect()] == ["pinned"]
    unpin(lake, "twice", LATER, "done with")
    assert pin(lake, "twice", "harbour.twice", 2, LATER, "a new life").step == 3


def test_a_table_is_held_until_the_last_of_its_pins_goes(lake: Lakehouse, pinned: dict[str, Pin]) -> None:
    unpin(lake, "held_1", LATER, "done with")
    assert retention(lake, "harbour.held") == {LASTING}
    with pytest.raises(PinError, match=r"held is pinned by held_2 \(version 2: a model was trained on it\). Release the pin with unpin"):
        vacuum(lake, "harbour.held", LATER)
    unpin(lake, "held_2", LATER, "done with")
    assert retention(lake, "harbour.held") == {"interval 365 days"}
    assert vacuum(lake, "harbour.held", LATER) is None
    with pytest.raises(PinError, match=r"the pin 'held_1' on harbour.held at version 1 was released: done with"):
        read_pin(lake, "held_1")
    with pytest.raises(PinError, match="there is no pin 'held_3'"):
        unpin(lake, "held_3", LATER, "never was")


def test_retention_that_was_never_set_is_unset_again(lake: Lakehouse, pinned: dict[str, Pin]) -> None:
    assert retention(lake, "harbour.plain") == {LASTING}
    unpin(lake, "plain", LATER, "done with")
    assert not set(RETENTION) & set(delta_properties(lake, "harbour.plain"))


def test_a_materialised_pin_frees_its_table_and_reads_the_same_rows_when_the_source_is_vacuumed(
    lake: Lakehouse, pinned: dict[str, Pin]
) -> None:
    before = fingerprint(read_pin(lake, "copied"))
    assert materialise(lake, "copied", LATER).fingerprint == before
    assert retention(lake, "harbour.copied") == {LASTING}  # the other one holds it
    unpin(lake, "other", LATER, "done with")
    assert vacuum(lake, "harbour.copied", LATER) is None
    with pytest.raises(VersionGone):
        read(lake, "harbour.copied", 1)
    assert fingerprint(read_pin(lake, "copied")) == before
    assert materialise(lake, "copied", LATER).step == 2  # once is enough
    copy = list_pins(lake)["copied"].copy
    unpin(lake, "copied", LATER, "done with")
    assert not exists(lake, copy)


def test_the_pin_of_a_table_that_was_dropped_or_made_anew_says_so_and_can_be_released(lake: Lakehouse, pinned: dict[str, Pin]) -> None:
    lake.spark.sql(f"DROP TABLE {lake.name(BOATS)}")
    with pytest.raises(PinError, match=r"the pin 'lost' is lost: harbour.boats was dropped"):
        read_pin(lake, "lost")
    create(lake, BOATS)
    with pytest.raises(PinError, match="another table now"):
        read_pin(lake, "lost")
    with pytest.raises(PinError, match="another table now"):
        pin(lake, "lost", BOATS, 1, AT, WHY)
    unpin(lake, "lost", LATER, "it is lost")
    assert pins_holding(lake, BOATS) == []
