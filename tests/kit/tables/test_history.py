from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from boathouse.tables.evolution import create
from boathouse.tables.history import read_states
from boathouse.tables.table import Column, Lakehouse, Table, VersionGone, drop_all, read

BOATS = Table(
    name="harbour.boats",
    grain="One row per boat.",
    columns=(Column("boat", "string", "its name"), Column("berth", "int", "where it lies")),
    primary_key=("boat",),
    retention="interval 1 seconds",
)


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_states_")
    yield lake
    drop_all(lake)


def test_states_reach_back_to_the_first_version_that_can_still_be_read(lake: Lakehouse) -> None:
    def move(berth: int) -> None:
        lake.spark.sql(f"INSERT OVERWRITE {lake.name(BOATS)} VALUES ('Ida', {berth})")

    create(lake, BOATS)
    move(1)
    time.sleep(1.2)
    move(2)
    with pytest.raises(VersionGone):
        read(lake, BOATS, 1)
    assert [(row.berth, row._version) for row in read_states(lake, BOATS, "boat = 'Ida'").collect()] == [(2, 2)]
