"""Refreshing what changed: the same as making everything anew, reading no more than it has to, whatever happened to the source."""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.computed import BEGINNING, Computed, Span, Windowed, condition, joined
from boathouse.freshness import FEATURE_REFRESHES, freshness, record
from boathouse.refresh import backfill, refresh
from boathouse.tables import Column, Lakehouse, Table, drop_all, read
from boathouse.versions import fingerprint, version_of
from boathouse.windows import Grid, hop_of
from boathouse.writes import append, merge, replace

HOUR, DAY, MINUTE = dt.timedelta(hours=1), dt.timedelta(days=1), dt.timedelta(minutes=1)
START = dt.datetime(2013, 6, 1)
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
    time_key="at",  # what files of other days are told by
    change_feed=True,
)
PIERS = Table(
    "silver.piers",
    "One row per pier.",
    (Column("pier", "string", "name", False), Column("berths", "int", "how many")),
    ("pier",),
    change_feed=True,
)


def features(name: str, key: str, *measures: str) -> Table:
    columns = (
        Column("pier", "string", "where", nullable=False),
        Column(key, "timestamp", "when", nullable=False),
        *(Column(m.split()[0], m.split()[1], "measure") for m in measures),
    )
    return Table(f"features.{name}", "One row per pier and instant.", columns, ("pier", key), key)


AGGREGATES = {"boats": ("count", "1"), "late": ("avg", "late"), "worst": ("max", "late")}
COLUMNS = [f"{name}_{w} {kind}" for name, kind in zip(AGGREGATES, ("bigint", "double", "bigint"), strict=True) for w in ("1h", "4h")]
DELAYS = Windowed(features("delays", "tick", *COLUMNS), RETURNS, "at", Grid(AGGREGATES, {"1h": HOUR, "4h": 4 * HOUR}, HOUR / 2))


def moored(events: DataFrame, piers: DataFrame) -> DataFrame:
    "One row per pier and return: who came last, and how many berths the pier has."
    return last_of(events).join(piers, "pier", "left")


def last_of(events: DataFrame) -> DataFrame:
    "One row per pier and return: who came last."
    return events.where("pier IS NOT NULL").groupBy("pier", "at").agg(F.max("late").alias("late"))


def least_of(events: DataFrame) -> DataFrame:
    "One row per pier and return, as `last_of` has it where no two come at once."
    return events.where("pier IS NOT NULL").groupBy("pier", "at").agg(F.min("late").alias("late"))


LAST = Computed(features("last", "at", "late int"), RETURNS, "at", make=last_of, unique=True)
MOORED = Computed(features("moored", "at", "late int", "berths int"), RETURNS, "at", make=moored, beside=(PIERS,))
names = itertools.count()


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix=f"test_refresh_{next(names)}_")
    drop_all(lake)
    yield lake
    drop_all(lake)


def returns(lake: Lakehouse, *rows: tuple[int, str | None, float | None, int | None]) -> DataFrame:
    "Returns from (id, pier, hours since START, minutes late)."
    return lake.spark.createDataFrame([(n, p, None if h is None else START + h * HOUR, v) for n, p, h, v in rows], RETURNS.schema)


def piers(lake: Lakehouse, **berths: int) -> DataFrame:
    return lake.spark.createDataFrame(list(berths.items()), PIERS.schema)


def at(hour: float) -> dt.datetime:
    return START + hour * HOUR


def anew(lake: Lakehouse, until: dt.datetime) -> str:
    "The fingerprint of the windows made from the source as it is, at once."
    return fingerprint(DELAYS.rows(read(lake, RETURNS), until=until))


def last_anew(lake: Lakehouse) -> str:
    return fingerprint(last_of(read(lake, RETURNS)).select("pier", "at", "late"))


def kinds(done: list) -> list[str | None]:
    return [table.kind for table in done]


def test_a_late_event_a_correction_and_a_deletion_change_the_hours_they_touch_and_no_others(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5), (2, "east", 9.2, 7), (3, "west", 9.2, 8), (4, "east", 14.0, 1)))
    refresh(lake, DELAYS, at(24))
    merge(lake, RETURNS, returns(lake, (3, "west", 17.2, 60), (5, "east", 2.2, None)))  # moved by eight hours; new, in the night before
    lake.spark.sql(f"DELETE FROM {lake.name(RETURNS)} WHERE id = 4")
    hops, ticks = refresh(lake, DELAYS, at(24))
    touched = [Span(at(h), at(h + 1)) for h in (2, 9, 14, 17)]
    assert list(hops.spans) == touched
    assert list(ticks.spans) == joined([Span(at(h), at(h + 4)) for h in (2.5, 9.5, 14.5, 17.5)])
    assert fingerprint(read(lake, DELAYS.table)) == anew(lake, at(24))


def test_a_commit_that_rewrites_rows_and_changes_none_makes_nothing_stale(lake: Lakehouse) -> None:
    rows = returns(lake, (1, "east", 2.1, 5), (2, "east", 9.2, 7))
    append(lake, RETURNS, rows)
    refresh(lake, LAST, at(24))
    merge(lake, RETURNS, rows)
    replace(lake, RETURNS, rows, "true")
    lake.spark.sql(f"OPTIMIZE {lake.name(RETURNS)}")
    assert [table.spans for table in refresh(lake, LAST, at(24))] == [()]
    assert kinds(refresh(lake, LAST, at(24))) == [None]


def test_time_that_passes_moves_the_windows_though_no_event_comes(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5)))
    refresh(lake, DELAYS, at(3))
    assert {r.tick for r in read(lake, DELAYS.table).collect()} == {at(2.5), at(3)}
    refresh(lake, DELAYS, at(5))
    assert max(r.tick for r in read(lake, DELAYS.table).collect()) == at(5)
    assert fingerprint(read(lake, DELAYS.table)) == anew(lake, at(5))


def test_an_event_of_the_future_is_not_known_before_its_time(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5), (2, "east", 30, 9)))
    refresh(lake, LAST, at(24))
    assert [r.late for r in read(lake, LAST.table).collect()] == [5]
    refresh(lake, LAST, at(48))
    assert fingerprint(read(lake, LAST.table)) == last_anew(lake)


def test_a_daily_run_does_not_open_the_events_of_the_days_before(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, *[(n, "east", n / 2, n) for n in range(40)]))
    refresh(lake, DELAYS, at(24))
    old = read(lake, RETURNS).inputFiles()
    append(lake, RETURNS, returns(lake, *[(n, "east", n / 2, n) for n in range(48, 60)]), unique=True)
    kept = {path: Path(f"{path}.away") for path in (unquote(urlparse(file).path) for file in old)}
    for path, away in kept.items():
        shutil.move(path, away)
    try:
        assert kinds(refresh(lake, DELAYS, at(48))) == ["changes", "changes"]
    finally:
        for path, away in kept.items():
            shutil.move(away, path)
    assert fingerprint(read(lake, DELAYS.table)) == anew(lake, at(48))


def test_a_restore_of_the_source_is_followed_back_and_one_of_the_feature_table_made_up_for(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5)))
    refresh(lake, LAST, at(24))
    source, mine = version_of(lake, RETURNS), version_of(lake, LAST.table)
    append(lake, RETURNS, returns(lake, (2, "east", 9.2, 7)))
    refresh(lake, LAST, at(24))
    lake.spark.sql(f"RESTORE TABLE {lake.name(LAST.table)} TO VERSION AS OF {mine}")
    assert kinds(refresh(lake, LAST, at(24))) == ["changes"]
    assert [r.late for r in read(lake, LAST.table).orderBy("at").collect()] == [5, 7]
    lake.spark.sql(f"RESTORE TABLE {lake.name(RETURNS)} TO VERSION AS OF {source}")
    assert kinds(refresh(lake, LAST, at(24))) == ["changes"]
    assert [r.late for r in read(lake, LAST.table).collect()] == [5]


def test_another_source_of_the_same_name_another_definition_and_a_missing_feed_make_everything_anew(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5)))
    refresh(lake, LAST, at(24))
    lake.spark.sql(f"DROP TABLE {lake.name(RETURNS)}")
    append(lake, RETURNS, returns(lake, (1, "east", 3.1, 5)))
    assert kinds(refresh(lake, LAST, at(24))) == ["everything"]
    least = Computed(LAST.table, RETURNS, "at", make=least_of)
    assert kinds(refresh(lake, least, at(24))) == ["everything"]
    lake.spark.sql(f"ALTER TABLE {lake.name(RETURNS)} SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
    lake.spark.sql(f"INSERT INTO {lake.name(RETURNS)} SELECT 2, 'east', timestamp '2013-06-01 09:00:00', 4")
    assert kinds(refresh(lake, least, at(24))) == ["everything"]
    assert fingerprint(read(lake, LAST.table)) == last_anew(lake)


def test_windows_of_another_length_under_the_same_name_are_made_anew_and_other_parts_in_a_new_side_table(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5), (2, "east", 3.1, 8)))
    refresh(lake, DELAYS, at(24))
    wider = Windowed(DELAYS.table, RETURNS, "at", Grid({**AGGREGATES, "worst": ("first", "late")}, {"1h": HOUR, "4h": 5 * HOUR}, HOUR / 2))
    assert kinds(refresh(lake, wider, at(24))) == ["everything", "everything"]
    assert fingerprint(read(lake, DELAYS.table)) == fingerprint(wider.rows(read(lake, RETURNS), until=at(24)))


def test_without_a_change_feed_the_span_in_which_events_come_late_is_made_anew(lake: Lakehouse) -> None:
    plain = Table(RETURNS.name, RETURNS.grain, RETURNS.columns, RETURNS.primary_key, RETURNS.time_key)
    late = Computed(LAST.table, plain, "at", make=last_of, late=6 * HOUR)
    append(lake, plain, returns(lake, (1, "east", 2.1, 5), (2, "east", 20, 7)))
    refresh(lake, late, at(24))
    append(lake, plain, returns(lake, (3, "east", 19, 9), (4, "east", 25, 1)))
    (done,) = refresh(lake, late, at(30))
    assert (done.kind, done.spans) == ("time range", (Span(at(18), at(30)),))
    assert fingerprint(read(lake, LAST.table)) == last_anew(lake)


def test_a_table_begins_where_it_is_told_to_and_a_backfill_reaches_further_back(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, *[(n, "east", n / 2, n) for n in range(96)]))
    refresh(lake, DELAYS, at(48), since=at(36))
    inside = DELAYS.rows(read(lake, RETURNS), since=at(36), until=at(48))
    assert fingerprint(read(lake, DELAYS.table)) == fingerprint(inside)
    assert kinds(backfill(lake, DELAYS, at(12), at(20))) == ["backfill", "backfill"]
    further = DELAYS.rows(read(lake, RETURNS), since=at(12), until=at(48))
    assert fingerprint(read(lake, DELAYS.table)) == fingerprint(further)
    merge(lake, RETURNS, returns(lake, (3, "east", 1.5, 99)))  # before the beginning of the table, and of its first window
    refresh(lake, DELAYS, at(48))
    assert fingerprint(read(lake, DELAYS.table)) == fingerprint(further)


def test_hops_that_do_not_divide_an_hour_are_made_of_all_their_events(lake: Lakehouse) -> None:
    grid = Grid(AGGREGATES, {"1h": 70 * MINUTE, "4h": 280 * MINUTE}, 7 * MINUTE)
    odd = Windowed(DELAYS.table, RETURNS, "at", grid)
    until = hop_of(at(12), grid.hop)

    def made_anew() -> str:
        return fingerprint(odd.rows(read(lake, RETURNS), until=until))

    append(lake, RETURNS, returns(lake, *[(n, "east", n / 10, n) for n in range(100)]))
    refresh(lake, odd, until)
    merge(lake, RETURNS, returns(lake, (41, "east", 4.1, 500), (80, "west", 8.05, 7)))  # one at 4:06, in the hop from 4:00 or before it
    refresh(lake, odd, until)
    assert fingerprint(read(lake, DELAYS.table)) == made_anew()
    backfill(lake, odd, at(4.05), at(6.02))
    assert fingerprint(read(lake, DELAYS.table)) == made_anew()


def test_a_backfill_repairs_what_no_change_feed_tells_of(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5), (2, "east", 9.2, 7)))
    refresh(lake, LAST, at(24))
    lake.spark.sql(f"UPDATE {lake.name(LAST.table)} SET late = -1 WHERE at < timestamp '2013-06-01 06:00:00'")
    assert kinds(refresh(lake, LAST, at(24))) == [None]
    for _ in range(2):
        assert kinds(backfill(lake, LAST, at(2), at(7))) == ["backfill"]
    assert fingerprint(read(lake, LAST.table)) == last_anew(lake)


def test_a_table_that_something_else_has_written_is_made_anew(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5)))
    rows = lake.spark.createDataFrame([("west", at(1), 7)], LAST.table.schema)
    append(lake, LAST.table, rows, note={"until": "2013-06-02T00:00:00", "silver_version": 3})
    assert kinds(refresh(lake, LAST, at(24))) == ["everything"]
    assert fingerprint(read(lake, LAST.table)) == last_anew(lake)


def test_a_backfill_of_nothing_is_refused(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5)))
    with pytest.raises(ValueError, match="was never refreshed"):
        backfill(lake, DELAYS, at(1), at(2))
    with pytest.raises(ValueError, match="between two ticks"):
        refresh(lake, DELAYS, at(2.2))


def test_rows_beside_the_source_count_when_they_differ_and_not_when_they_are_written_again(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5), (2, "west", 3.1, 6)))
    append(lake, PIERS, piers(lake, east=4, west=7))
    refresh(lake, MOORED, at(24))
    merge(lake, PIERS, piers(lake, east=4))
    append(lake, RETURNS, returns(lake, (3, "west", 5.1, 1)))
    assert [str(done) for done in refresh(lake, MOORED, at(24))] == [
        "features.moored: changes; rows replaced from 2013-06-01 05:00:00 to 2013-06-01 06:00:00"
    ]
    merge(lake, PIERS, piers(lake, west=9))
    assert kinds(refresh(lake, MOORED, at(24))) == ["everything"]
    assert {(r.pier, r.late, r.berths) for r in read(lake, MOORED.table).collect()} == {("east", 5, 4), ("west", 6, 9), ("west", 1, 9)}


OPERATION = st.tuples(
    st.sampled_from(["merge", "delete", "later"]),
    st.integers(0, 6),
    st.sampled_from(["east", "west", None]),
    st.integers(0, 95),
    st.integers(-9, 9),
)


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(portions=st.lists(st.lists(OPERATION, min_size=1, max_size=3), min_size=2, max_size=3))
def test_however_changes_come_in_the_result_is_that_of_starting_anew(spark: SparkSession, portions: list) -> None:
    lake, until = Lakehouse(spark, prefix=f"test_refresh_{next(names)}_"), at(24)
    append(lake, RETURNS, returns(lake, *[(n, "east", 8 * n, n) for n in range(5)]))
    for portion in portions:
        for what, n, pier, half_hours, value in portion:
            if what == "merge":
                merge(lake, RETURNS, returns(lake, (n, pier, half_hours / 2, value)))
            elif what == "delete":
                spark.sql(f"DELETE FROM {lake.name(RETURNS)} WHERE id = {n}")
            else:
                until += 6 * HOUR
        refresh(lake, DELAYS, until)
        assert fingerprint(read(lake, DELAYS.table)) == anew(lake, until)
    drop_all(lake)


def test_what_refreshes_did_and_how_fresh_tables_are_is_recorded_once(lake: Lakehouse) -> None:
    append(lake, RETURNS, returns(lake, (1, "east", 2.1, 5)))
    append(lake, PIERS, piers(lake, east=4))
    refresh(lake, MOORED, at(24), run="r1")
    assert record(lake, [MOORED, DELAYS]) == 1
    append(lake, RETURNS, returns(lake, (2, "east", 26.5, 7)))
    refresh(lake, MOORED, at(48), run="r2")
    refresh(lake, MOORED, at(48), run="r3")
    assert (record(lake, [MOORED]), record(lake, [MOORED])) == (1, 0)
    rows = read(lake, FEATURE_REFRESHES).orderBy("version").collect()
    assert [(r.table_name, r.kind, r.spans, r.until, r.newest, r.rows, r.run_id) for r in rows] == [
        ("features.moored", "everything", 1, at(24), at(2.1), 1, "r1"),
        ("features.moored", "changes", 1, at(48), at(26.5), 1, "r2"),
    ]
    assert all(r.seconds > 0 and r.bytes > 0 and r.committed_at.year >= 2026 for r in rows)
    assert [tuple(r) for r in freshness(lake, at(50)).collect()] == [("features.moored", at(48), at(26.5), 23.5)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12), st.integers(1, 5))
def test_joined_spans_hold_every_instant_of_theirs_in_order_and_are_no_more_than_allowed(pairs: list, most: int) -> None:
    spans = [Span(at(a), at(b)) for a, b in pairs]
    found = joined(spans, most)
    inside = {h for a, b in pairs for h in range(a, b)}
    covered = {h for h in range(61) if any(s.since <= at(h) < s.until for s in found)}
    assert inside <= covered
    assert all(a.until < b.since for a, b in itertools.pairwise(found))
    assert len(found) <= most
    if len(joined(spans, 99)) <= most:
        assert covered == inside


def test_a_condition_says_utc_whatever_the_zone_of_the_session(spark: SparkSession) -> None:
    text = condition([Span(BEGINNING, at(1)), Span(at(2), at(3))], "at")
    rows = spark.createDataFrame([(START + m * MINUTE,) for m in (0, 59, 60, 119, 120, 179, 180)], "at timestamp")
    zone = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        assert rows.where(text).count() == 4
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone)
