"The health of tables: every history has one of three statuses and a reason, false alarms are rare, and the log counts only commits that changed rows."

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from boathouse.monitoring.schema_health import TABLE_HEALTH, check_table_health, count_changes_of, summarize_health, windows_from_commits
from boathouse.monitoring.table_health import (
    CHECKS,
    HEALTHY,
    LEVEL,
    UNHEALTHY,
    UNKNOWN,
    HealthCheck,
    combine_checks,
    judge_freshness,
    judge_new_categories,
    judge_null_share,
    judge_row_count,
    predict_range,
)
from boathouse.tables.evolution import create
from boathouse.tables.table import Column, Lakehouse, Table, drop_all, read
from boathouse.tables.writes import append

AT = datetime(2026, 3, 16, 6)  # a Monday
STATUSES = {HEALTHY, UNHEALTHY, UNKNOWN}


def days(rows: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"window": range(1 - len(rows), 1), "rows": rows})


def nights(ages: list[float | None]) -> pd.DataFrame:
    "Windows that end at AT; each has its newest commit this many hours before its end, or none."
    ends = [AT - timedelta(days=len(ages) - 1 - i) for i in range(len(ages))]
    last = [pd.NaT if age is None else pd.Timestamp(end - timedelta(hours=age)) for end, age in zip(ends, ages, strict=True)]
    return pd.DataFrame({"window": range(1 - len(ages), 1), "rows": 100.0, "last": pd.to_datetime(pd.Series(last))})


def profile_days(values: list[tuple[dict[str, int] | None, int]], column: str = "pier") -> list[dict[str, Any]]:
    "One profile row per day, the newest last: texts with their counts (None: not all were counted), and missing values."
    out = []
    for i, (items, nulls) in enumerate(values):
        end = AT - timedelta(days=len(values) - 1 - i)
        count = 0 if items is None else sum(items.values())
        sketch = None if items is None else {"items": list(items), "counts": list(items.values())}
        out.append({"window": {"start": end - timedelta(days=1), "end": end}, "column_name": column, "count": count, "num_nulls": nulls, "sketch": sketch})  # fmt: skip
    return out


USUAL = [100.0, 108, 95, 102, 110, 99, 104]
WORKDAYS = [100.0, 108, 95, 102, 110, 0, 0]
ROWS: dict[str, tuple[list[float], str]] = {
    "a feed that goes on": ([*USUAL, *USUAL, 101], HEALTHY),
    "a feed that stops": ([*USUAL, *USUAL, 0], UNHEALTHY),
    "a feed that doubles": ([*USUAL, *USUAL, 203], UNHEALTHY),
    "a feed that halves": ([*USUAL, *USUAL, 50], UNHEALTHY),
    "a Sunday without rows, after four weeks": ([*WORKDAYS * 4, *WORKDAYS], HEALTHY),
    "a Sunday without rows, after ten days": ([*WORKDAYS[3:], *WORKDAYS], HEALTHY),
    "a Monday without rows, after four weeks": ([*WORKDAYS * 5, 0], UNHEALTHY),
    "an outage in the history, and the usual rows": ([*USUAL, 0, *USUAL, 101], HEALTHY),
    "an outage in the history, and another one": ([*USUAL, 0, *USUAL, *USUAL, 0], UNHEALTHY),
    "a steady growth": ([100 + 8.0 * i for i in range(36)], HEALTHY),
    "a steady growth that ends": ([*(100 + 8.0 * i for i in range(35)), 100], UNHEALTHY),
    "a constant count": ([72.0] * 20, HEALTHY),
    "a constant count and a clock change": ([*[72.0] * 20, 69], HEALTHY),
    "a few rows a day": ([0.0, 1, 0, 2, 1, 0, 1, 0, 1, 3, 1, 1, 0, 1, 4], HEALTHY),
    "one commit only": ([0.0] * 30 + [500], UNKNOWN),
    "an empty table": ([0.0] * 36, UNKNOWN),
    "no day at all": ([], UNKNOWN),
    "a monthly delivery": ([0.0] * 3 + [900] + [0.0] * 30 + [900, 0], UNKNOWN),
    "a commit without figures": ([*USUAL, *USUAL, math.nan], UNKNOWN),
    "commits without figures in the history": ([100, *[math.nan] * 20, 100.0], UNKNOWN),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_rows_of_a_day_have_the_status(name: str) -> None:
    rows, status = ROWS[name]
    check = judge_row_count(days(rows))
    assert (check.status, check.error_code is None) == (status, status != UNKNOWN), check.reason


BURSTS = [0.2, 0.1, 0.3, 0.2, 0.1, 0.2, 0.3, 0.1, 0.2]
AGES: dict[str, tuple[list[float | None], str]] = {
    "a nightly batch": ([4.0, 4.1, 3.9, 4.2, 4.0, 4.1, 4.0, 3.8, 4.0, 4.1], HEALTHY),
    "a nightly batch that is missing": ([4.0, 4.1, 3.9, 4.2, 4.0, 4.1, 4.0, 3.8, 4.0, None], UNHEALTHY),
    "a nightly batch after a clock change": ([4.0, 4.1, 3.9, 4.2, 4.0, 4.1, 4.0, 3.8, 4.0, 5.1], HEALTHY),
    "working days, on a Monday without the batch of the night": (
        [*[4.0, 4.1, 3.9, 4.2, 4.0, None, None] * 5, None],
        UNHEALTHY,
    ),
    "working days, on a Sunday": ([*[4.0, 4.1, 3.9, 4.2, 4.0, None, None] * 5], HEALTHY),
    "bursts of small commits": (BURSTS, HEALTHY),
    "bursts of small commits that stop": ([*BURSTS, None], UNHEALTHY),
    "a weekly delivery on time": ([2.0, *[None] * 6] * 9 + [2.0], HEALTHY),
    "a weekly delivery ten days late": ([2.0, *[None] * 6] * 9 + [None] * 10, UNHEALTHY),
    "one commit only": ([*[None] * 20, 3.0, *[None] * 5], UNKNOWN),
    "an empty table": ([None] * 30, UNKNOWN),
    "no window at all": ([], UNKNOWN),
    "an outage of three days in the history": ([*[4.0, 4.1, 3.9] * 4, None, None, None, *[4.0, 4.1, 3.9] * 4], HEALTHY),
}


@pytest.mark.parametrize("name", AGES)
def test_the_freshness_has_the_status(name: str) -> None:
    ages, status = AGES[name]
    check = judge_freshness(nights(ages), AT)
    assert (check.status, check.error_code is None) == (status, status != UNKNOWN), check.reason
    assert status == UNKNOWN or (check.predicted_time is not None and (check.predicted_time < AT) == (status == UNHEALTHY))


PIERS = {"north": 50, "south": 48}
SHARES: dict[str, tuple[list[tuple[dict[str, int] | None, int]], str, str]] = {
    "nothing changes": ([(PIERS, 2)] * 9, HEALTHY, HEALTHY),
    "class 11: 95 % of a column are missing": ([*[(PIERS, 2)] * 9, ({"north": 5}, 95)], UNHEALTHY, HEALTHY),
    "class 10: identical days": ([(PIERS, 0)] * 9, HEALTHY, HEALTHY),
    "class 7: a category that was not seen before": ([*[(PIERS, 2)] * 9, ({"north": 60, "harbour": 38}, 2)], HEALTHY, UNHEALTHY),
    "class 6: eight rows": ([*[({"north": 8}, 0)] * 9, ({"north": 6, "harbour": 1}, 1)], HEALTHY, HEALTHY),
    "class 2: a constant category": ([({"north": 98}, 2)] * 9, HEALTHY, HEALTHY),
    "classes 1 and 4: a column without any value": ([({}, 100)] * 9, HEALTHY, UNKNOWN),
    "a column that is filled from now on": ([*[({}, 100)] * 9, (PIERS, 2)], UNHEALTHY, UNKNOWN),
    "class 3: an empty newest window": ([*[(PIERS, 2)] * 9, ({}, 0)], UNKNOWN, UNKNOWN),
    "empty earlier windows": ([*[({}, 0)] * 9, (PIERS, 2)], UNKNOWN, UNKNOWN),
    "class 9: the first day of a table": ([(PIERS, 2)], UNKNOWN, UNKNOWN),
    "a new file name on each day": ([({f"2026-03-{i:02}.csv": 100}, 0) for i in range(12)], HEALTHY, HEALTHY),
    "a column of keys": ([(None, 0)] * 9, UNKNOWN, UNKNOWN),
    "a category that comes back": (
        [({"east": 50, "north": 50}, 0), *[({"north": 100}, 0)] * 9, ({"east": 50, "north": 50}, 0)],
        HEALTHY,
        HEALTHY,
    ),
}


@pytest.mark.parametrize("name", SHARES)
def test_missing_values_and_categories_have_the_status(name: str) -> None:
    values, missing, new = SHARES[name]
    found = judge_null_share(profile_days(values)), judge_new_categories(profile_days(values))
    assert [check.status for check in found] == [missing, new], [check.reason for check in found]


def test_class_8_a_missing_value_is_no_category_and_the_worst_of_several_columns_is_named() -> None:
    quiet = profile_days([(PIERS, 2)] * 10, "captain")
    loud = profile_days([*[(PIERS, 2)] * 9, (PIERS, 30)], "pier")
    check = judge_null_share([*loud, *quiet])
    assert (check.status, check.column_name) == (UNHEALTHY, "pier")
    assert judge_new_categories([*loud, *quiet]).status == HEALTHY


FEEDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "constant": lambda rng: np.full(36, 72.0),
    "counting noise": lambda rng: rng.poisson(30, 36).astype(float),
    "few rows": lambda rng: rng.poisson(2, 36).astype(float),
    "varies by 10 %": lambda rng: np.round(1000 * np.exp(0.1 * rng.normal(size=36))),
    "varies by 30 %": lambda rng: np.round(1000 * np.exp(0.3 * rng.normal(size=36))),
    "weekdays": lambda rng: np.round(1000 * np.roll([1, 1.1, 1.1, 1.1, 1.2, 0.6, 0.5], rng.integers(7))[np.arange(36) % 7] * np.exp(0.1 * rng.normal(size=36))),
    "working days": lambda rng: np.round(1000 * np.roll([1, 1, 1, 1, 1, 0, 0], rng.integers(7))[np.arange(36) % 7] * np.exp(0.1 * rng.normal(size=36))),
    "growth": lambda rng: np.round(1000 * np.exp(0.1 * rng.normal(size=36) + 0.02 * np.arange(36))),
}  # fmt: skip
SURE = {"constant", "varies by 10 %", "growth"}  # what is found nearly always: a doubling and a halving


@pytest.mark.parametrize("name", FEEDS)
@pytest.mark.parametrize("length", [10, 36])
def test_at_most_one_per_cent_of_the_days_without_a_change_have_an_alarm_and_a_stop_or_doubling_is_found(name: str, length: int) -> None:
    rng = np.random.default_rng(11)
    feeds = [FEEDS[name](rng)[-length:] for _ in range(200)]
    checks = [judge_row_count(days(list(rows)), LEVEL / len(CHECKS)) for rows in feeds]

    def share_outside(factor: float) -> float:
        known = [
            (c, factor * rows[-1]) for c, rows in zip(checks, feeds, strict=True) if c.low is not None and c.high is not None and rows[-1]
        ]
        return sum(not c.low <= value <= c.high for c, value in known) / max(len(known), 1)  # type: ignore[operator]

    assert sum(check.status == UNHEALTHY for check in checks) <= 2  # of 200
    if name in SURE and length == 36:
        assert min(share_outside(0), share_outside(2)) > 0.95
        assert share_outside(0.5) > 0.9


def test_at_most_one_per_cent_of_the_evaluations_call_a_feed_with_random_commits_stale_and_a_stop_is_found() -> None:
    rng, false, late = np.random.default_rng(5), 0, 0
    for _ in range(200):
        hours = np.cumsum(rng.exponential(6, 600))
        commits = pd.DataFrame({"timestamp": [AT - timedelta(hours=float(hours[-1] - h)) for h in hours], "rows": 10.0})
        at = AT - timedelta(hours=float(rng.uniform(0, 100)))
        false += judge_freshness(windows_from_commits(commits, at, 40), at, LEVEL / len(CHECKS)).status == UNHEALTHY
        gone = commits[commits["timestamp"] <= at - timedelta(days=6)]
        late += judge_freshness(windows_from_commits(gone, at, 40), at, LEVEL / len(CHECKS)).status == UNHEALTHY
    assert false <= 2
    assert late >= 190


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 10**12), st.floats(0, 1e6)), max_size=60),
    st.lists(st.one_of(st.none(), st.floats(0, 23.9)), max_size=60),
    st.lists(st.tuples(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), max_size=6), st.integers(0, 9)), max_size=40),
)
def test_class_9_no_history_gives_nan_or_an_exception(rows: list[Any], ages: list[Any], values: list[Any]) -> None:
    counts = [math.nan if n is None else float(n) for n in rows]
    found = [judge_row_count(days(counts)), judge_freshness(nights(ages), AT)]
    found += [judge_null_share(profile_days(values)), judge_new_categories(profile_days(values))]
    for check in found:
        figures = [n for n in (check.last_value, check.low, check.high) if n is not None]
        assert check.status in STATUSES
        assert check.reason
        assert all(math.isfinite(n) for n in figures)
        assert (check.error_code is None) == (check.status != UNKNOWN)


def test_values_without_a_number_are_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match="must contain at least one number, got 2 days"):
        predict_range([math.nan, math.nan])


def test_a_table_is_unhealthy_if_one_check_is_and_unknown_only_if_all_are() -> None:
    made = {status: HealthCheck("daily_row_count", status, "why") for status in STATUSES}
    assert combine_checks(made.values()) == UNHEALTHY
    assert combine_checks([made[UNKNOWN], made[HEALTHY]]) == HEALTHY
    assert combine_checks([made[UNKNOWN]]) == combine_checks([]) == UNKNOWN


@pytest.mark.parametrize(
    ("operation", "metrics", "expected"),
    [
        ("WRITE", {"numOutputRows": "7", "numFiles": "1"}, (True, 7)),
        ("WRITE", {"numOutputRows": "0"}, (False, 0)),
        ("STREAMING UPDATE", {"numOutputRows": "3", "numAddedFiles": "1"}, (True, 3)),
        (
            "MERGE",
            {"numOutputRows": "90", "numTargetRowsInserted": "4", "numTargetRowsUpdated": "1", "numTargetRowsDeleted": "0"},
            (True, 4),
        ),
        (
            "MERGE",
            {"numOutputRows": "0", "numTargetRowsInserted": "0", "numTargetRowsUpdated": "0", "numTargetRowsDeleted": "0"},
            (False, 0),
        ),
        ("DELETE", {"numDeletedRows": "5"}, (True, 0)),
        ("DELETE", {"numRemovedFiles": "2"}, (True, 0)),
        ("UPDATE", {"numUpdatedRows": "0"}, (False, 0)),
        ("CREATE TABLE AS SELECT", {"numOutputRows": "2"}, (True, 2)),
        *[(name, {"numRemovedFiles": "9"}, (False, 0)) for name in ("OPTIMIZE", "VACUUM END", "SET TBLPROPERTIES", "CREATE TABLE")],
    ],
)
def test_only_a_commit_that_changes_rows_counts(operation: str, metrics: dict[str, str], expected: tuple[bool, float]) -> None:
    assert count_changes_of(operation, metrics) == expected


def test_a_write_without_figures_is_a_change_of_unknown_size() -> None:
    changed, rows = count_changes_of("WRITE", {})
    assert changed
    assert math.isnan(rows)


def test_commits_after_the_evaluation_are_left_out_and_a_window_is_open_at_its_start() -> None:
    times = [AT + timedelta(seconds=1), AT, AT - timedelta(hours=23), AT - timedelta(days=1)]
    found = windows_from_commits(pd.DataFrame({"timestamp": times, "rows": [1.0, 2, 4, 8]}), AT, 2)
    assert list(found["rows"]) == [0, 8, 6]
    assert found["last"].iloc[-1] == AT


CATCHES = Table(
    "quay.catches", "One row per catch.",
    (Column("at", "timestamp", "when"), Column("pier", "string", "where"), Column("weight", "double", "kg"), Column("boat", "string", "name")),
    time_key="at",
)  # fmt: skip
PLAIN = Table("quay.reports", "One row per report.", (Column("pier", "string", "where"),))


@pytest.fixture(scope="module")
def quay(spark: SparkSession) -> dict[str, Any]:
    "Two evaluations of a schema, one day apart, with four Delta tables, a view and a table of another format."
    lake = Lakehouse(spark, prefix="thealth_")
    drop_all(lake)
    last = AT - timedelta(hours=2)
    catches = [
        (last - timedelta(days=d, minutes=n), "harbour" if d == 0 and n < 15 else "north", None if d == 0 and n > 20 else float(n), f"boat {n}{d}")
        for d in range(12) for n in range(40)
    ]  # fmt: skip
    append(lake, CATCHES, spark.createDataFrame(catches, CATCHES.schema))
    append(lake, PLAIN, spark.createDataFrame([("north",)] * 5, PLAIN.schema))
    log = Path(urlparse(spark.sql(f"DESCRIBE DETAIL {lake.name(PLAIN)}").first().location).path) / "_delta_log"  # type: ignore[union-attr]
    for version in range(2, 11):
        shutil.copy(log / f"{1:020d}.json", log / f"{version:020d}.json")
    spark.catalog.refreshTable(lake.name(PLAIN))
    spark.sql(f"ALTER TABLE {lake.name(PLAIN)} SET TBLPROPERTIES ('purpose' = 'test')")
    for version in range(12):  # the commits of ten nights, and properties that are set one day later
        when = (AT - timedelta(hours=3) - timedelta(days=10 - version)).timestamp()
        os.utime(log / f"{version:020d}.json", (when, when))
    for name in ("once", "empty"):
        create(lake, Table(f"quay.{name}", PLAIN.grain, PLAIN.columns))
    append(lake, Table("quay.once", PLAIN.grain, PLAIN.columns), spark.createDataFrame([("north",)], PLAIN.schema))
    spark.sql(f"CREATE VIEW {lake.name('quay.view')} AS SELECT pier FROM {lake.name(PLAIN)}")
    spark.sql(f"CREATE TABLE {lake.name('quay.foreign')} (pier STRING) USING parquet")
    found = {f"day {n}": check_table_health(lake, "quay", AT + timedelta(days=n)) for n in (0, 1)}
    again = check_table_health(lake, "quay", AT)
    written = read(lake, TABLE_HEALTH).toPandas()
    with pytest.raises(ValueError, match=r"times must name tables of quay, got quay\.nowhere") as error:
        check_table_health(lake, "quay", AT, times={"quay.nowhere": "at"})
    drop_all(lake)
    return {**found, "again": again, "written": written, "error": str(error.value)}


def statuses(rows: list[dict[str, Any]], table: str) -> dict[str, str]:
    return {row["check_name"]: row["status"] for row in rows if row["table_name"] == table}


def test_commits_of_the_log_have_a_rhythm_and_setting_properties_does_not_make_a_table_fresh(quay: dict[str, Any]) -> None:
    fresh, stale = (statuses(quay[day], "reports") for day in ("day 0", "day 1"))
    assert (fresh["commit_freshness"], fresh["daily_row_count"]) == (HEALTHY, HEALTHY)
    assert stale["commit_freshness"] == UNHEALTHY
    assert fresh["event_freshness"] == fresh["null_share"] == UNKNOWN


def test_the_time_key_of_a_table_gives_its_rows_missing_values_and_new_categories(quay: dict[str, Any]) -> None:
    found = statuses(quay["day 0"], "catches")
    assert [found[c] for c in ("event_freshness", "daily_row_count", "null_share", "new_categories")] == [
        HEALTHY,
        HEALTHY,
        UNHEALTHY,
        UNHEALTHY,
    ]
    columns = {row["check_name"]: row["column_name"] for row in quay["day 0"] if row["table_name"] == "catches"}
    assert (columns["null_share"], columns["new_categories"]) == ("weight", "pier")
    assert statuses(quay["day 1"], "catches")["event_freshness"] == UNHEALTHY
    assert statuses(quay["day 1"], "catches")["null_share"] == UNKNOWN


def test_classes_3_and_9_an_empty_table_and_one_with_a_single_commit_are_unknown_with_a_reason(quay: dict[str, Any]) -> None:
    for table in ("once", "empty"):
        rows = [row for row in quay["day 0"] if row["table_name"] == table]
        assert [row["check_name"] for row in rows] == list(CHECKS)
        assert {row["table_status"] for row in rows} == {UNKNOWN}
        assert all(row["error_code"] and row["reason"] for row in rows)


def test_views_and_tables_of_another_format_are_skipped_with_a_reason(quay: dict[str, Any]) -> None:
    skipped = {row["table_name"]: row["reason"] for row in quay["day 0"] if row["check_name"] == "skipped"}
    assert skipped == {"foreign": "a table of the format parquet, not Delta", "view": "a view, not a table"}


def test_a_repeated_evaluation_replaces_its_rows_and_each_table_and_check_has_one(quay: dict[str, Any]) -> None:
    assert quay["again"] == quay["day 0"]
    key = ["event_time", "schema_name", "table_name", "check_name"]
    assert len(quay["written"]) == len(quay["written"].drop_duplicates(key)) == 2 * (4 * len(CHECKS) + 2)


def test_the_summary_names_each_unhealthy_check_and_an_unknown_table_of_times_is_refused(quay: dict[str, Any]) -> None:
    assert summarize_health(quay["day 0"]).splitlines()[0] == "4 tables: 1 healthy, 1 unhealthy, 2 unknown; 2 skipped"
    assert "quay.catches null_share: weight: 47.5% of the values are missing" in summarize_health(quay["day 0"])
    assert "there is quay.catches" in quay["error"]
