"""Windows are brought up to date by what changed in their source: the same as making them anew, reading no more than is needed."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession

from boathouse.features.definitions import TICK, TimeRange, WindowedFeatures, merge_ranges
from boathouse.features.refresh import RefreshResult, backfill, refresh_table
from boathouse.point_in_time.grid_windows import Grid, hop_of
from boathouse.tables.table import Column, Lakehouse, Table, drop_all, read
from boathouse.tables.writes import append, merge

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
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
AGGREGATES = {"boats": ("count", "1"), "late": ("avg", "late"), "worst": ("max", "late")}
MEASURES = [Column(f"{name}_{w}", t, "") for name, t in zip(AGGREGATES, ("bigint", "double", "bigint"), strict=True) for w in ("1h", "4h")]


def windows_table(name: str) -> Table:
    columns = (Column("pier", "string", "where", nullable=False), Column("tick", "timestamp", "when", nullable=False), *MEASURES)
    return Table(f"features.{name}", "One row per pier and tick.", columns, ("pier", "tick"), "tick")


DELAYS = WindowedFeatures(windows_table("delays"), RETURNS, "at", Grid(AGGREGATES, {"1h": HOUR, "4h": 4 * HOUR}, HOUR / 2))
SEVEN = Grid(AGGREGATES, {"1h": 70 * MINUTE, "4h": 280 * MINUTE}, 7 * MINUTE)
ODD = WindowedFeatures(windows_table("odd"), RETURNS, "at", SEVEN)
WIDER = WindowedFeatures(
    DELAYS.table, RETURNS, "at", Grid({**AGGREGATES, "worst": ("first", "late")}, {"1h": HOUR, "4h": 5 * HOUR}, HOUR / 2)
)


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


def returns(lake: Lakehouse, *rows: tuple[int, str | None, float, int | None]) -> DataFrame:
    "Returns from (id, pier, hours since the first of June, minutes late)."
    return lake.spark.createDataFrame([(n, p, at(h), v) for n, p, h, v in rows], RETURNS.schema)


def by_hand(events: list[Row], grid: Grid, since: dt.datetime | None, until: dt.datetime) -> dict[tuple, tuple]:
    "The measures of each pier and tick by a plain loop over the returns."
    ticks = [hop_of(at(0), grid.hop) + n * grid.hop for n in range((until - at(0)) // grid.hop + 2)]
    found = {}
    for pier in {row.pier for row in events if row.pier}:
        mine = sorted((row for row in events if row.pier == pier), key=lambda row: row.at)
        for tick in ticks:
            inside = [[row.late for row in mine if tick - span <= row.at < tick] for span in grid.windows.values()]
            if not inside[-1] or tick > until or (since and tick < since):
                continue
            known = [[v for v in values if v is not None] for values in inside]
            means = [sum(values) / len(values) if values else None for values in known]
            worst = [(values[0] if grid.aggregates["worst"][0] == "first" else max(values)) if values else None for values in known]
            found[pier, tick] = (*map(len, inside), *means, *worst)
    return found


class Step(NamedTuple):
    "What a refresh did, the rows of the table after it, and those of a plain loop over the source as it is."

    done: list[RefreshResult]
    rows: dict[tuple, tuple]
    wanted: dict[tuple, tuple]

    @property
    def kinds(self) -> list[str | None]:
        return [table.kind for table in self.done]


def step(
    lake: Lakehouse, windows: WindowedFeatures, done: list[RefreshResult], until: dt.datetime, since: dt.datetime | None = None
) -> Step:
    found = {(row.pier, row.tick): tuple(row)[2:] for row in read(lake, windows.table).collect()}
    return Step(done, found, by_hand(read(lake, RETURNS).collect(), windows.grid, since, until))


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    return Lakehouse(spark, prefix="test_windows_of_returns_")


@pytest.fixture(scope="module")
def played(lake: Lakehouse) -> dict[str, Step]:
    "A source that is corrected, and lives on for a second day, with two tables of windows that follow it: each step by its name."
    sql, name = lake.spark.sql, lake.name(RETURNS)
    found: dict[str, Step] = {}
    first = [(1, "east", 2.1, 5), (2, "east", 9.2, 7), (3, "west", 9.2, 8), (4, "east", 14.0, 1), (6, "west", 23.6, 3)]
    dense = [(100 + n, "north", n / 10, n) for n in range(240)]
    append(lake, RETURNS, returns(lake, *first, *dense), unique=True)
    refresh_table(lake, DELAYS, at(24))

    until, noon = hop_of(at(24), SEVEN.hop), hop_of(at(12), SEVEN.hop)
    found["odd hops since noon"] = step(lake, ODD, refresh_table(lake, ODD, until, since=at(12)), until, noon)
    found["odd hops since four"] = step(lake, ODD, backfill(lake, ODD, at(4.05), at(6.02)), until, hop_of(at(4.05), SEVEN.hop))

    # Moved by eight hours; new in the night before; new in a hop that an hour's end cuts; before all windows of ODD.
    merge(lake, RETURNS, returns(lake, (3, "west", 17.2, 60), (5, "east", 2.2, None), (80, "west", 8.05, 7), (81, "east", 0.0, 99)))
    sql(f"INSERT INTO {name} VALUES (7, 'west', timestamp '2013-06-01 20:00:00', -9)")
    sql(f"DELETE FROM {name} WHERE id IN (4, 7)")  # one was there before, one came and went
    found["corrected"] = step(lake, DELAYS, refresh_table(lake, DELAYS, at(24)), at(24))
    found["odd hops corrected"] = step(lake, ODD, refresh_table(lake, ODD, until), until, hop_of(at(4.05), SEVEN.hop))

    found["two hours later"] = step(lake, DELAYS, refresh_table(lake, DELAYS, at(26)), at(26))

    old = [Path(unquote(urlparse(file).path)) for file in read(lake, RETURNS).inputFiles()]
    append(lake, RETURNS, returns(lake, *[(n, "east", n / 2, n) for n in range(52, 60)]), unique=True)
    for path in old:
        shutil.move(path, f"{path}.away")
    try:
        done = refresh_table(lake, DELAYS, at(48))
    finally:
        for path in old:
            shutil.move(f"{path}.away", path)
    found["next day"] = step(lake, DELAYS, done, at(48))

    found["wider"] = step(lake, WIDER, refresh_table(lake, WIDER, at(48)), at(48))
    return found


def test_a_late_event_a_correction_and_a_deletion_change_the_hours_they_touch_and_no_others(played: dict[str, Step]) -> None:
    hops, ticks = played["corrected"].done
    assert list(hops.spans) == merge_ranges([TimeRange(at(h), at(h + 1)) for h in (0, 2, 8, 9, 14, 17)])
    assert list(ticks.spans) == merge_ranges([TimeRange(at(h), at(h + 4)) for h in (0.5, 2.5, 8.5, 9.5, 14.5, 17.5)])
    assert played["corrected"].rows == played["corrected"].wanted


def test_time_that_passes_moves_the_windows_though_no_event_comes(played: dict[str, Step]) -> None:
    later = played["two hours later"]
    assert [table.spans for table in later.done] == [(TimeRange(at(24), at(26)),), (TimeRange(at(24) + TICK, at(26) + TICK),)]
    assert later.rows == later.wanted != played["corrected"].rows


def test_a_daily_run_does_not_open_the_events_of_the_days_before(played: dict[str, Step]) -> None:
    assert played["next day"].kinds == ["changes", "changes"]
    assert played["next day"].rows == played["next day"].wanted


def test_windows_of_another_length_under_the_same_name_are_made_anew_and_other_parts_in_a_new_side_table(played: dict[str, Step]) -> None:
    assert played["wider"].kinds == ["everything", "everything"]
    assert played["wider"].rows == played["wider"].wanted != played["next day"].wanted


def test_a_table_begins_where_it_is_told_to_and_a_backfill_reaches_further_back(played: dict[str, Step]) -> None:
    noon, four = played["odd hops since noon"], played["odd hops since four"]
    assert noon.rows == noon.wanted
    assert four.kinds == ["backfill", "backfill"]
    assert four.rows == four.wanted != noon.wanted


def test_hops_that_do_not_divide_an_hour_are_made_of_all_their_events_and_what_lies_before_the_table_does_not_count(
    played: dict[str, Step],
) -> None:
    corrected = played["odd hops corrected"]
    assert corrected.kinds == ["changes", "changes"]
    assert corrected.rows == corrected.wanted != played["odd hops since four"].wanted


def test_a_backfill_of_nothing_is_refused(lake: Lakehouse) -> None:
    never = WindowedFeatures(windows_table("never"), RETURNS, "at", DELAYS.grid)
    with pytest.raises(ValueError, match="was never refreshed"):
        backfill(lake, never, at(1), at(2))
    with pytest.raises(ValueError, match="between two ticks"):
        refresh_table(lake, never, at(2.2))


OPERATION = st.tuples(
    st.sampled_from(["merge", "delete", "later"]),
    st.integers(0, 6),
    st.sampled_from(["east", "west", None]),
    st.integers(0, 95),
    st.integers(-9, 9),
)


@pytest.mark.long(order=5, minutes=4)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(portions=st.lists(st.lists(OPERATION, min_size=1, max_size=3), min_size=2, max_size=3))
def test_however_changes_come_in_the_result_is_that_of_starting_anew(spark: SparkSession, portions: list) -> None:
    lake, until = Lakehouse(spark, prefix="test_windows_of_returns_however_"), at(24)
    drop_all(lake)
    append(lake, RETURNS, returns(lake, *[(n, "east", 8 * n, n) for n in range(5)]))
    for portion in portions:
        for what, n, pier, half_hours, value in portion:
            if what == "merge":
                merge(lake, RETURNS, returns(lake, (n, pier, half_hours / 2, value)))
            elif what == "delete":
                spark.sql(f"DELETE FROM {lake.name(RETURNS)} WHERE id = {n}")
            else:
                until += 6 * HOUR
        found = step(lake, DELAYS, refresh_table(lake, DELAYS, until), until)
        assert found.rows == found.wanted
    drop_all(lake)
