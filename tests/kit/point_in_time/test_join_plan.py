"""How an as-of join is planned: what is read from files, what fits on the driver, what is shuffled, what is refused."""

from __future__ import annotations

import datetime as dt
from functools import partial

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.point_in_time.join import as_of_join, join_all
from boathouse.point_in_time.parquet import Files, files_of
from boathouse.point_in_time.plan import AsOfLookup, plan_join
from boathouse.point_in_time.spark import Side
from boathouse.tables.table import Lakehouse, read

HOUR = dt.timedelta(hours=1)


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


def labels(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "n int, k string, t timestamp")


def readings(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "k string, at timestamp, a int, b int")


def joined(left: DataFrame, right: DataFrame, engine: str, **more: object) -> dict[int, tuple]:
    return {row.n: (row.a, row.b) for row in as_of_join(left, right, "k", "t", "at", ["a", "b"], engine=engine, **more).collect()}


def test_several_sides_of_one_key_shuffle_the_labels_once_and_the_walk_sorts_once(spark: SparkSession) -> None:
    left, rows = labels(spark, (1, "x", at(3))), readings(spark, ("x", at(1), 1, 1))
    sides = [AsOfLookup(("k",), "t", Side(rows, ("k",), "at", {"a": f"a{n}", "b": f"b{n}"}, lookback=n * HOUR or None)) for n in range(4)]
    out = join_all(left, sides, "union")
    plan = out._jdf.queryExecution().executedPlan().toString()
    assert (plan.count("Exchange hashpartitioning"), plan.count("Exchange"), plan.count("Sort [")) == (1, 1, 1), plan
    assert out.first()[3:] == (1, 1, None, None, 1, 1, 1, 1)


def test_a_row_from_before_the_first_label_is_read_as_far_back_as_the_lookback_reaches(spark: SparkSession) -> None:
    left, rows = labels(spark, (1, "x", at(3)), (2, "y", at(3))), readings(spark, ("x", at(1), 1, 1), ("y", at(0.9), 2, 2))
    for engine in ("local", "union"):
        assert joined(left, rows, engine, lookback=2 * HOUR) == {1: (1, 1), 2: (None, None)}


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_as_of_plan_")
    spark.sql("CREATE SCHEMA test_as_of_plan_f")
    return lake


def stored(lake: Lakehouse, name: str, sql: str, how: str = "") -> DataFrame:
    lake.spark.sql(f"CREATE TABLE {lake.name(f'f.{name}')} USING DELTA {how} AS {sql}")
    return read(lake, f"f.{name}")


ROWS = "SELECT 'x' AS k, timestamp_seconds(1370044800 + 3600 * id) AS at, int(id) AS a, string(id) AS b FROM range(100)"


@pytest.fixture(scope="module")
def hours(lake: Lakehouse) -> DataFrame:
    "A table with a row for each of a hundred hours: the first fifty in version 0, the others since version 1."
    stored(lake, "hours", ROWS + " WHERE id < 50")
    lake.spark.sql(f"INSERT INTO {lake.name('f.hours')} {ROWS} WHERE id >= 50")
    return read(lake, "f.hours")


def test_a_table_is_read_from_its_files_and_skips_those_that_no_label_can_match(spark: SparkSession, hours: DataFrame) -> None:
    asked = AsOfLookup(("k",), "t", Side(hours.withColumnRenamed("at", "when"), ("k",), "when", {"a": "a"}))
    plan = plan_join(labels(spark, (1, "x", at(10.5))), [asked], "auto")
    assert plan.engine == "local"
    assert isinstance(plan.sources[0], Files)
    assert plan.sources[0].rows == 50
    assert files_of(hours).rows == 100
    assert joined(labels(spark, (1, "x", at(10.5)), (2, "x", at(70))), hours, "auto") == {1: (10, "10"), 2: (70, "70")}


def test_files_that_are_not_the_rows_are_read_through_spark(spark: SparkSession, lake: Lakehouse, hours: DataFrame) -> None:
    left = labels(spark, (1, "x", at(10.5)))
    stored(lake, "deleted", ROWS, "TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
    spark.sql(f"DELETE FROM {lake.name('f.deleted')} WHERE a = 10")
    mapped = stored(lake, "mapped", ROWS, "TBLPROPERTIES ('delta.columnMapping.mode' = 'name')")
    parts = stored(lake, "parts", ROWS.replace("int(id) AS a", "int(id % 3) AS p, int(id) AS a"), "PARTITIONED BY (p)").drop("p")
    cases = [(read(lake, "f.deleted"), 9), (hours.where("a < 5"), 4), (mapped, 10), (parts, 10), (parts.limit(100), 10)]
    for rows, newest in cases:
        assert files_of(rows) is None
        assert joined(left, rows, "local") == {1: (newest, str(newest))}


def test_a_column_that_came_later_is_null_in_the_files_before_it(spark: SparkSession, lake: Lakehouse) -> None:
    stored(lake, "grown", "SELECT 'x' AS k, timestamp_seconds(1370044800) AS at, 1 AS a")
    spark.sql(f"ALTER TABLE {lake.name('f.grown')} ADD COLUMN b string")
    spark.sql(f"INSERT INTO {lake.name('f.grown')} VALUES ('x', timestamp_seconds(1370044800 + 7200), 2, 'new')")
    rows = read(lake, "f.grown")
    assert isinstance(files_of(rows), Files)
    assert joined(labels(spark, (1, "x", at(1)), (2, "x", at(3))), rows, "local") == {1: (1, None), 2: (2, "new")}


def test_an_older_version_is_read_from_the_files_of_that_version(spark: SparkSession, lake: Lakehouse, hours: DataFrame) -> None:
    left, older = labels(spark, (1, "x", at(70.5))), read(lake, "f.hours", 0)
    assert isinstance(files_of(older), Files)
    assert joined(left, older, "local") == {1: (49, "49")}


def test_what_does_not_fit_into_the_budget_goes_through_the_cluster_with_the_same_rows(spark: SparkSession, hours: DataFrame) -> None:
    rows, left = hours, labels(spark, *[(n, "x", at(2 * n + 0.5)) for n in range(50)])
    asked = [AsOfLookup(("k",), "t", Side(rows, ("k",), "at", {"a": "a", "b": "b"}))]
    for budget, engine, held in ((1 << 30, "local", True), (14_000, "union", False), (100, "union", False)):
        plan = plan_join(left, asked, "auto", budget)
        assert (plan.engine, plan.table is not None) == (engine, held), str(plan)
        assert joined(left, rows, "auto", budget=budget) == {n: (2 * n, str(2 * n)) for n in range(50)}
    through_spark = [AsOfLookup(("k",), "t", Side(rows.where("a >= 0"), ("k",), "at", {"a": "a", "b": "b"}))]
    assert plan_join(left, through_spark, "auto", 14_000).engine == "union"
    with pytest.raises(
        ValueError, match="engine 'local' has a budget of 0 MiB, and the labels and what they find need about 0 MiB: take 'auto'"
    ):
        as_of_join(left, rows, "k", "t", "at", engine="local", budget=100)


def test_a_type_that_arrow_lacks_is_joined_on_the_cluster(spark: SparkSession) -> None:
    left, rows = labels(spark, (1, "x", at(3))), readings(spark, ("x", at(1), 1, 1)).selectExpr("*", "make_interval(1) AS i")
    asked = [AsOfLookup(("k",), "t", Side(rows, ("k",), "at", {"a": "a", "i": "i"}))]
    assert plan_join(left, asked).engine == "union"
    with pytest.raises(ValueError, match="got i interval: take 'union'"):
        plan_join(left, asked, "local")


def test_explain_prints_the_engine_its_reason_and_what_is_read(
    spark: SparkSession, hours: DataFrame, capsys: pytest.CaptureFixture
) -> None:
    left = labels(spark, (1, "x", at(300)))
    as_of_join(left, hours, "k", "t", "at", explain=True)
    said = capsys.readouterr().out
    assert "as-of join of 1 labels: engine local, 0.0 of" in said
    assert "a, b by k as of t: 100 rows in" in said


def test_what_cannot_be_joined_is_refused_by_name(spark: SparkSession) -> None:
    left, rows = labels(spark, (1, "x", at(1))), readings(spark, ("x", at(1), 1, 1))
    join = partial(as_of_join, left, rows, "k", "t", "at")
    for call, said in (
        (lambda: as_of_join(left.withColumnRenamed("n", "a"), rows, "k", "t", "at"), "must have one source, got a from"),
        (lambda: as_of_join(left, rows.withColumnRenamed("k", "key"), "k", "t", "at"), "the features have no k: they have key, at, a, b"),
        (lambda: as_of_join(left, rows, "k", "time", "at"), "the labels have no time"),
        (lambda: as_of_join(left.withColumn("k", F.lit(1)), rows, "k", "t", "at"), "cast one"),
        (lambda: as_of_join(left.withColumn("k", F.lit(1.5)), rows.withColumn("k", F.lit(1.5)), "k", "t", "at"), "not float, double"),
        (lambda: as_of_join(left, rows, "k", "n", "at"), "timestamps or dates, or both whole numbers"),
        (lambda: as_of_join(left, rows, "k", "k", "at"), "'k' must be a timestamp, a date or a whole number, got string"),
        (lambda: join(boundary="lte"), "boundary must be 'le' or 'lt', got 'lte'"),
        (lambda: join(nulls="both"), "nulls must be 'row' or 'column', got 'both'"),
        (lambda: join(engine="cogroup"), "engine must be 'auto', 'local' or 'union', got 'cogroup'"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
