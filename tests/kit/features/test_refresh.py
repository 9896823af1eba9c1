"""Refreshing what changed: a table ends as if it had been made anew, whatever happened to it and to its source."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import replace as but
from typing import NamedTuple

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.features.definitions import ComputedFeatures, TimeRange, WindowedFeatures
from boathouse.features.refresh import RefreshResult, backfill, refresh_table
from boathouse.point_in_time.grid_windows import Grid
from boathouse.tables.table import Column, Lakehouse, Table, read
from boathouse.tables.versions import version_of
from boathouse.tables.writes import append, merge, replace

HOUR = dt.timedelta(hours=1)
RETURNS = Table(
    "silver.returns",
    "One row per boat and return.",
    (
        Column("id", "int", "of the return", nullable=False),
        Column("pier", "string", "where"),
        Column("at", "timestamp", "when"),
        Column("late", "int", "minutes"),
    ),
    primary_key=("id",),
    change_feed=True,
)
NEWEST = Table(
    "features.last",
    "One row per pier and return.",
    (
        Column("pier", "string", "where", nullable=False),
        Column("at", "timestamp", "when", nullable=False),
        Column("late", "int", "minutes"),
    ),
    ("pier", "at"),
    "at",
)


def last_of(events: DataFrame) -> DataFrame:
    "One row per pier and return: who came last."
    return events.where("pier IS NOT NULL").groupBy("pier", "at").agg(F.max("late").alias("late"))


def least_of(events: DataFrame) -> DataFrame:
    "One row per pier and return, as `last_of` has it where no two come at once."
    return events.where("pier IS NOT NULL").groupBy("pier", "at").agg(F.min("late").alias("late"))


WIDE = Grid({"late": ("avg", "late")}, {"1h": HOUR}, HOUR)
LAST = ComputedFeatures(NEWEST, RETURNS, "at", make=last_of, unique=True)
LEAST = ComputedFeatures(NEWEST, RETURNS, "at", make=least_of)


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


def returns(lake: Lakehouse, *rows: tuple[int, str, float, int]) -> DataFrame:
    "Returns from (id, pier, hours since the first of June, minutes late)."
    return lake.spark.createDataFrame([(n, p, at(h), v) for n, p, h, v in rows], RETURNS.schema)


class Step(NamedTuple):
    "What a refresh did, and the minutes in the table after it, by hour since the first of June."

    done: RefreshResult
    late: dict[float, int]


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    return Lakehouse(spark, prefix="test_last_returns_")


@pytest.fixture(scope="module")
def played(lake: Lakehouse) -> dict[str, Step]:
    "A source and a table that is refreshed from it, through all that can happen to both: each step by its name."
    sql, source, name = lake.spark.sql, lake.name(RETURNS), lake.name(NEWEST)
    found: dict[str, Step] = {}

    def step(named: str, done: list[RefreshResult]) -> None:
        found[named] = Step(done[0], {(row.at - at(0)) / HOUR: row.late for row in read(lake, NEWEST).collect()})

    written_by_another = lake.spark.createDataFrame([("west", at(1), 7)], NEWEST.schema)
    append(lake, NEWEST, written_by_another, note={"until": "2013-06-02T00:00:00", "silver_version": 3}, unique=True)
    rows = returns(lake, (1, "east", 2, 5), (2, "east", 9, 7), (3, "east", 30, 9))
    append(lake, RETURNS, rows, unique=True)
    step("first", refresh_table(lake, LAST, at(24)))

    merge(lake, RETURNS, rows)
    replace(lake, RETURNS, rows, "true", unique=True)
    sql(f"OPTIMIZE {source}")
    step("rewritten", refresh_table(lake, LAST, at(24)))
    step("again", refresh_table(lake, LAST, at(24)))

    source_was, table_was = version_of(lake, RETURNS), version_of(lake, NEWEST)
    append(lake, RETURNS, returns(lake, (4, "west", 33, 8)), unique=True)
    step("next day", refresh_table(lake, LAST, at(48)))
    sql(f"RESTORE TABLE {name} TO VERSION AS OF {table_was}")
    step("table restored", refresh_table(lake, LAST, at(48)))
    sql(f"RESTORE TABLE {source} TO VERSION AS OF {source_was}")
    step("source restored", refresh_table(lake, LAST, at(48)))

    sql(f"UPDATE {name} SET late = -1 WHERE at < timestamp '2013-06-01 06:00:00'")
    step("spoilt", refresh_table(lake, LAST, at(48)))
    step("backfill", backfill(lake, LAST, at(2), at(7)))
    step("backfill again", backfill(lake, LAST, at(2), at(7)))

    sql(f"DROP TABLE {source}")
    append(lake, RETURNS, returns(lake, (1, "east", 3, 5)), unique=True)
    step("another source", refresh_table(lake, LAST, at(48)))
    step("another definition", refresh_table(lake, LEAST, at(48)))
    sql(f"ALTER TABLE {source} SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
    sql(f"INSERT INTO {source} VALUES (2, 'east', timestamp '2013-06-01 09:00:00', 4)")
    step("no change feed", refresh_table(lake, LEAST, at(48)))
    return found


def kinds(played: dict[str, Step], *steps: str) -> list[str | None]:
    return [played[step].done.kind for step in steps]


def test_a_table_that_something_else_has_written_is_made_anew(played: dict[str, Step]) -> None:
    assert kinds(played, "first") == ["everything"]
    assert 1 not in played["first"].late


def test_an_event_of_the_future_is_not_known_before_its_time(played: dict[str, Step]) -> None:
    assert played["first"].late == {2: 5, 9: 7}
    assert played["next day"].late == {2: 5, 9: 7, 30: 9, 33: 8}


def test_a_commit_that_rewrites_rows_and_changes_none_makes_nothing_stale(played: dict[str, Step]) -> None:
    assert played["rewritten"] == Step(RefreshResult(NEWEST.name, "changes", ()), {2: 5, 9: 7})
    assert kinds(played, "again") == [None]


def test_a_restore_of_the_source_is_followed_back_and_one_of_the_feature_table_made_up_for(played: dict[str, Step]) -> None:
    assert kinds(played, "table restored", "source restored") == ["changes", "changes"]
    assert played["table restored"].late == {2: 5, 9: 7, 30: 9, 33: 8}
    assert played["source restored"].late == {2: 5, 9: 7, 30: 9}


def test_a_backfill_repairs_what_no_change_feed_tells_of(played: dict[str, Step]) -> None:
    assert kinds(played, "spoilt", "backfill", "backfill again") == [None, "backfill", "backfill"]
    assert [played[step].late for step in ("spoilt", "backfill", "backfill again")] == [
        {2: -1, 9: 7, 30: 9}, {2: 5, 9: 7, 30: 9}, {2: 5, 9: 7, 30: 9}
    ]  # fmt: skip


def test_rows_that_a_person_wrote_into_the_table_are_reported_until_the_next_commit_of_a_refresh(played: dict[str, Step]) -> None:
    assert [step for step in played if len(played[step].done.other_writes) == 1] == ["spoilt", "backfill"]
    said = str(played["spoilt"].done)
    assert said.startswith(f"{NEWEST.name}: nothing new; something other than a refresh has written version ")
    assert said.endswith("Rows of other writes stay: call backfill for their time, or drop the table")


def test_another_source_of_the_same_name_another_definition_and_a_missing_feed_make_everything_anew(played: dict[str, Step]) -> None:
    assert kinds(played, "another source", "another definition", "no change feed") == ["everything"] * 3
    assert played["another source"].late == {3: 5}
    assert played["no change feed"].late == {3: 5, 9: 4}


def test_without_a_change_feed_the_span_in_which_events_come_late_is_made_anew(lake: Lakehouse) -> None:
    plain = but(RETURNS, name="silver.plain", change_feed=False)
    late = ComputedFeatures(but(NEWEST, name="features.plain"), plain, "at", make=last_of, late=6 * HOUR)
    append(lake, plain, returns(lake, (1, "east", 2, 5), (2, "east", 20, 7)), unique=True)
    refresh_table(lake, late, at(24))
    append(lake, plain, returns(lake, (3, "east", 19, 9), (4, "east", 25, 1)), unique=True)
    (done,) = refresh_table(lake, late, at(30))
    assert (done.kind, done.spans) == ("time range", (TimeRange(at(18), at(30)),))
    assert {(row.at, row.late) for row in read(lake, late.table).collect()} == {(at(2), 5), (at(20), 7), (at(19), 9), (at(25), 1)}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda lake: refresh_table(lake, LAST, at(24).replace(tzinfo=dt.UTC)), "features.last: until must be a datetime in UTC without a time zone, got datetime.datetime"),
        (lambda lake: refresh_table(lake, LAST, at(24).date()), "features.last: until must be a datetime in UTC without a time zone, got datetime.date"),
        (lambda lake: refresh_table(lake, LAST, "2013-06-02"), "features.last: until must be a datetime in UTC without a time zone, got '2013-06-02'"),
        (lambda lake: refresh_table(lake, LAST, at(24), since=at(0).date()), "features.last: since must be a datetime"),
        (lambda lake: refresh_table(lake, LAST, at(24), anew=TimeRange(at(0).date(), at(1))), "features.last: anew.since must be a datetime"),
        (lambda lake: refresh_table(lake, but(LAST, table=but(NEWEST, time_key=None)), at(24)), "features.last: a refresh needs the time key of the table, got None"),
        (lambda lake: refresh_table(lake, but(LAST, time="att"), at(24)), "features.last: time must be a column of the events, got 'att': they have id, pier, at, late"),
        (lambda lake: refresh_table(lake, WindowedFeatures(but(NEWEST, name="features.wide"), RETURNS, "att", WIDE), at(24)), "features.wide: time must be a column of the events, got 'att': they have id, pier, at, late"),
        (lambda lake: refresh_table(lake, WindowedFeatures(but(NEWEST, name="features.wide"), RETURNS, "at", WIDE), at(24).replace(tzinfo=dt.UTC)), "features.wide: until must be a datetime in UTC"),
        (lambda lake: backfill(lake, LAST, at(1).date(), at(2)), "features.last: since must be a datetime"),
        (lambda lake: backfill(lake, LAST, at(1), at(2).replace(tzinfo=dt.UTC)), "features.last: until must be a datetime"),
        (lambda lake: but(LAST, lag=-HOUR, late=HOUR), "features.last: late, lag, back and early must not be negative, got lag=-1 day, 23:00:00: a row depends on no later event"),
    ],
)  # fmt: skip
def test_a_refresh_with_an_argument_that_cannot_be_used_says_which_one_in_a_sentence(
    lake: Lakehouse, played: dict[str, Step], call: Callable[[Lakehouse], object], said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        call(lake)
