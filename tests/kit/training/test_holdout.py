"""Who looked at held-out rows is written down before they look, once a look; another rule is another holdout."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pyspark.sql import SparkSession

from boathouse.features.training_sets import Labels
from boathouse.runtime import user_name
from boathouse.tables.table import Lakehouse, VersionGone, drop_all, read
from boathouse.tables.versions import version_of
from boathouse.training.holdout import HOLDOUT_OPENINGS, Holdout, open_holdout, versions_shown
from boathouse.training.splits import KeySplit, split_by_time

MODEL, AT = "late_ferry", dt.datetime(2013, 7, 1)
SPLIT = split_by_time(dt.date(2013, 6, 1), dt.date(2013, 7, 1), days=7)
HELD = Holdout(Labels("gold.trips", 0, SPLIT.where_holdout(), ("trip", "late")), SPLIT.to_json())


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    "Thirty trips, one a day of June."
    lake = Lakehouse(spark, prefix="test_holdout_")
    drop_all(lake)
    spark.sql(f"CREATE SCHEMA {lake.name('gold')}")
    trips = spark.range(30).selectExpr("int(id) AS trip", "date_add(date'2013-06-01', int(id)) AS day", "id % 3 = 0 AS late")
    trips.write.format("delta").saveAsTable(lake.name("gold.trips"))
    yield lake
    drop_all(lake)


def test_whoever_opens_gets_the_held_out_rows_alone_and_is_written_down_with_what_and_why(lake: Lakehouse) -> None:
    rows = open_holdout(lake, HELD, MODEL, 3, AT, "validation")
    assert rows.columns == ["trip", "late"]
    assert sorted(row.trip for row in rows.collect()) == [*range(22, 29)]
    (look,) = read(lake, HOLDOUT_OPENINGS).collect()
    assert look.asDict() == {
        "holdout": HELD.id, "model_name": MODEL, "version": 3, "opened_at": AT, "why": "validation", "label_table": "gold.trips",
        "condition": "day >= date'2013-06-23' AND day < date'2013-06-30'", "split": SPLIT.to_json(), "first_day": dt.date(2013, 6, 23),
        "end_day": dt.date(2013, 6, 30), "opened_by": user_name(lake.spark), "run_id": "interactive",
    }  # fmt: skip


def test_the_same_look_once_more_is_one_and_another_version_instant_or_purpose_is_another(lake: Lakehouse) -> None:
    for version, at, why in (
        (1, AT, "validation"),
        (1, AT, "validation"),
        (1, AT, "reproduction"),
        (1, AT + dt.timedelta(1), "validation"),
        (2, AT, "validation"),
    ):
        open_holdout(lake, HELD, MODEL, version, at, why)
    assert read(lake, HOLDOUT_OPENINGS).count() == 4
    assert versions_shown(lake, HELD, MODEL) == (1, 2)


def test_another_model_and_another_holdout_are_counted_apart_and_a_newer_version_of_the_labels_is_not(lake: Lakehouse) -> None:
    assert versions_shown(lake, HELD, MODEL) == ()
    later = replace(HELD, labels=replace(HELD.labels, version=1))
    other = replace(HELD, labels=replace(HELD.labels, where="day = date'2013-06-23'"))
    lake.spark.sql(f"INSERT INTO {lake.name('gold.trips')} VALUES (99, date'2013-06-24', true)")
    assert version_of(lake, "gold.trips") == 1
    assert [open_holdout(lake, held, MODEL, n, AT, "validation").count() for n, held in enumerate((HELD, later, other), start=1)] == [
        7,
        8,
        1,
    ]
    open_holdout(lake, HELD, "another_model", 9, AT, "validation")
    assert versions_shown(lake, HELD, MODEL) == versions_shown(lake, later, MODEL) == (1, 2)
    assert versions_shown(lake, other, MODEL) == (3,)


def test_a_look_is_written_down_also_where_the_rows_are_gone(lake: Lakehouse) -> None:
    with pytest.raises(VersionGone):
        open_holdout(lake, replace(HELD, labels=replace(HELD.labels, version=7)), MODEL, 1, AT, "validation")
    assert versions_shown(lake, HELD, MODEL) == (1,)


def test_a_split_by_key_has_no_days(lake: Lakehouse) -> None:
    split = KeySplit(("trip",))
    open_holdout(lake, Holdout(Labels("gold.trips", 0, split.where_holdout()), split.to_json()), MODEL, 1, AT, "validation")
    look = read(lake, HOLDOUT_OPENINGS).first()
    assert (look.first_day, look.end_day) == (None, None)
