from __future__ import annotations

import datetime as dt
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from boathouse.quality.dataset_checks import (
    CheckFinding,
    check_freshness,
    check_references,
    check_row_count,
    check_schema,
    check_unique,
    finding_metrics,
    raise_on_findings,
    usual_range,
)
from boathouse.quality.rules import METRICS, QualityError
from boathouse.tables.table import Column, Lakehouse, Table
from boathouse.tables.writes import append

NOON = dt.datetime(2013, 6, 1, 12)
COUNTS = Table(
    "monitoring.counts", "One row per table, batch and rule.", tuple(Column(*pair.split(), comment="") for pair in METRICS.split(", "))
)


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_datasets_")
    return lake


def test_every_row_of_a_repeated_or_missing_key_is_counted(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(1, "a"), (1, "a"), (1, "b"), (2, None), (None, None)], "n int, s string")
    assert check_unique(rows, ["n", "s"]) == CheckFinding(
        "unique_n_s", "fail", 5, 4, "not unique or null: (1, a) x 2, (None, None) x 1, (2, None) x 1"
    )
    assert check_unique(rows.where("n = 1 AND s = 'b'"), ["n"]).failed == 0
    assert check_unique(rows.where("false"), ["n"]) == CheckFinding("unique_n", "fail", 0, 0)


def test_a_reference_to_nothing_is_found_and_a_null_or_doubled_one_is_not(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("oak",), ("elm",), ("elm",), (None,), ("fir",), ("fir",)], "club string")
    clubs = spark.createDataFrame([("oak",), ("elm",), ("elm",), (None,)], "name string")
    assert check_references(rows, ["club"], clubs, ["name"]) == CheckFinding(
        "refers_club", "fail", 6, 2, "not in the referenced table: (fir) x 2"
    )
    assert check_references(rows.where("club != 'fir'"), ["club"], clubs, ["name"]).failed == 0


@pytest.mark.parametrize(("hours", "failed"), [(-24.0, 0), (-24.001, 1), (0.0, 0), (0.001, 1)])
def test_the_newest_row_may_be_a_day_old_and_not_from_the_future(spark: SparkSession, hours: float, failed: int) -> None:
    rows = spark.createDataFrame([(NOON + dt.timedelta(hours=hours),), (dt.datetime(2013, 1, 1),), (None,)], "t timestamp")
    assert check_freshness(rows, "t", NOON, dt.timedelta(days=1)).failed == failed


def test_a_table_without_any_instant_is_not_fresh(spark: SparkSession) -> None:
    assert check_freshness(spark.createDataFrame([], "t timestamp"), "t", NOON, dt.timedelta(days=1)) == CheckFinding(
        "fresh_t", "warn", 0, 1, "t has no value at all"
    )


def test_a_count_is_judged_by_its_own_past_and_not_before_there_is_enough(lake: Lakehouse) -> None:
    def day(number: int, rows: int) -> CheckFinding:
        return check_row_count(lake, COUNTS, "silver.boats", rows, str(number), minimum=3)

    def metrics(number: int, found: CheckFinding, table: str = "silver.boats") -> DataFrame:
        return finding_metrics(lake.spark, table, [found], str(number), NOON + dt.timedelta(days=number))

    first = [day(number, rows) for number, rows in enumerate((100, 104, 96))]
    assert first[0].detail == "not judged: 0 batches before this one, 3 needed"
    pier = metrics(0, CheckFinding("usual_count", "warn", 7, 0), table="silver.piers")
    append(lake, COUNTS, reduce(DataFrame.unionByName, [metrics(n, found) for n, found in enumerate(first)], pier))
    few = day(3, 50)
    assert (day(3, 100).failed, day(3, 120).failed, few.failed) == (0, 0, 1)
    assert few.detail == "expected 76 to 124 rows, got 50"
    assert day(2, 50).detail.startswith("not judged")  # a batch is not compared with itself
    assert check_row_count(lake, COUNTS, "silver.boat", 7, "9", action="fail").detail == (
        "not judged: 0 batches before this one, 7 needed; monitoring.counts has no counts of silver.boat, only of silver.boats, silver.piers"
    )


@given(st.lists(st.integers(900, 1100), min_size=7, max_size=30), st.integers(0, 10**9))
def test_one_outlier_hardly_moves_the_band(counts: list[int], outlier: int) -> None:
    low, high = usual_range([*counts, *counts, outlier], 4, 0.05)
    assert 0 <= low <= high
    assert low >= 900 - 4 * 1.4826 * 200
    assert high <= 1100 + 4 * 1.4826 * 200


def test_a_count_that_never_varied_may_vary_by_the_slack() -> None:
    assert usual_range([200] * 9, 4, 0.05) == (190, 210)


def test_a_schema_is_compared_without_reading_a_row(spark: SparkSession) -> None:
    table = Table("harbour.boats", "One row per boat.", (Column("boat", "string", "name"), Column("berth", "int", "where")))
    assert check_schema(spark.sql("SELECT 'Ida' AS boat, 4 AS berth"), table) == CheckFinding("same_schema", "fail", 2, 0)
    assert "berth is string, not int" in check_schema(spark.sql("SELECT 'Ida' AS boat, '4' AS berth"), table).detail


def test_only_findings_with_action_fail_stop_the_job_and_all_of_them_are_named() -> None:
    warned = CheckFinding("fresh_t", "warn", 5, 1, "old")
    raise_on_findings("harbour.boats", [warned, CheckFinding("unique_boat", "fail", 5, 0)])
    with pytest.raises(QualityError, match=r"^harbour.boats: unique_boat \(2 of 5\): Ida twice; refers_pier \(1 of 5\): pier 9$"):
        raise_on_findings(
            "harbour.boats",
            [warned, CheckFinding("unique_boat", "fail", 5, 2, "Ida twice"), CheckFinding("refers_pier", "fail", 5, 1, "pier 9")],
        )
    with pytest.raises(ValueError, match="'warn' or 'fail'"):
        CheckFinding("unique_boat", "quarantine", 5, 1)
