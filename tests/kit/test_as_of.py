"""As-of joins: one contract for three engines, the defects that other systems were seen to have, and what the planner decides."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from functools import partial

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from boathouse import engines
from boathouse.as_of import Asked, as_of_join, hot_keys, join_all, plan_join
from boathouse.engines import Hot, Side, cogroup_join, row_hash, union_join
from boathouse.files import Files, files_of
from boathouse.tables import Lakehouse, drop_all, read

HOUR, MICROSECOND = dt.timedelta(hours=1), dt.timedelta(microseconds=1)
ENGINES = ("local", "cogroup", "union")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


def labels(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "n int, k string, t timestamp")


def readings(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "k string, at timestamp, a int, b int")


def joined(left: DataFrame, right: DataFrame, engine: str, **more: object) -> dict[int, tuple]:
    return {row.n: (row.a, row.b) for row in as_of_join(left, right, "k", "t", "at", ["a", "b"], engine=engine, **more).collect()}


def test_a_feature_at_the_labels_own_instant_counts_and_one_microsecond_later_does_not(spark: SparkSession, engine: str) -> None:
    rows = readings(spark, ("x", at(1), 1, 1), ("x", at(2) + MICROSECOND, 2, 2))
    left = labels(spark, (1, "x", at(2)), (2, "x", at(1)), (3, "x", at(0.5)))
    assert joined(left, rows, engine) == {1: (1, 1), 2: (1, 1), 3: (None, None)}


def test_with_the_boundary_lt_only_what_was_there_before_counts(spark: SparkSession, engine: str) -> None:
    rows = readings(spark, ("x", at(1), 1, 1), ("x", at(2), 2, 2))
    left = labels(spark, (1, "x", at(2)), (2, "x", at(2) + MICROSECOND), (3, "x", at(1)))
    assert joined(left, rows, engine, boundary="lt") == {1: (1, 1), 2: (2, 2), 3: (None, None)}


def test_ties_do_not_multiply_labels_and_are_settled_the_same_way_in_any_order(spark: SparkSession, engine: str) -> None:
    # Feast 0.67 on Spark returned 7 rows for 4 labels when two feature rows shared a timestamp.
    tied = [("x", at(1), 1, 1), ("x", at(1), 2, 2), ("x", at(1), 3, None), ("x", at(1), None, 3)]
    left = labels(spark, *[(n, "x", at(1)) for n in range(4)])
    forwards, backwards = joined(left, readings(spark, *tied), engine), joined(left, readings(spark, *tied[::-1]), engine)
    assert len(forwards) == 4
    assert len(set(forwards.values())) == 1
    assert forwards == backwards
    winner = readings(spark, *tied).orderBy(row_hash(readings(spark, *tied)).desc()).first()
    assert forwards[0] == (winner.a, winner.b)


def test_composite_keys_are_compared_part_by_part(spark: SparkSession, engine: str) -> None:
    # Feast 0.67 on Spark glued keys: (1, 12) and (11, 2) became one entity.
    left = spark.createDataFrame([(1, 12, at(2)), (11, 2, at(2))], "p int, q int, t timestamp")
    right = spark.createDataFrame(
        [(1, 12, at(1), "one-twelve"), (11, 2, at(1), "eleven-two")], "p int, q bigint, at timestamp, name string"
    )
    got = {(row.p, row.q): row.name for row in as_of_join(left, right, ["p", "q"], "t", "at", engine=engine).collect()}
    assert got == {(1, 12): "one-twelve", (11, 2): "eleven-two"}


def test_the_whole_row_is_taken_and_rows_are_never_mixed(spark: SparkSession, engine: str) -> None:
    # tempo's default carried the last value of each column: `a` of one day beside `b` of another.
    rows = readings(spark, ("x", at(1), 1, 1), ("x", at(2), 2, None))
    assert joined(labels(spark, (1, "x", at(3))), rows, engine) == {1: (2, None)}


def test_columns_are_taken_one_by_one_where_that_is_asked_for_each_no_older_than_its_lookback(spark: SparkSession, engine: str) -> None:
    rows = readings(spark, ("x", at(1), 1, 1), ("x", at(2), 2, None), ("x", at(2.5), None, None))
    left = labels(spark, (1, "x", at(3)), (2, "x", at(3.5)), (3, "x", at(9)))
    out = as_of_join(left, rows, "k", "t", "at", ["a", "b"], 2 * HOUR, nulls="column", engine=engine, with_match_info=True)
    assert {r.n: (r.a, r.b, r.match_time) for r in out.collect()} == {
        1: (2, 1, at(2.5)), 2: (2, None, at(2.5)), 3: (None, None, None)
    }  # fmt: skip


def test_null_keys_match_nothing_and_labels_without_time_are_kept(spark: SparkSession, engine: str) -> None:
    # tempo matched null keys to null keys, and dropped labels without a timestamp.
    rows = readings(spark, (None, at(1), 9, 9), ("x", at(1), 1, 1), ("x", None, 8, 8))
    left = labels(spark, (1, None, at(2)), (2, "x", None), (3, "x", at(2)))
    assert joined(left, rows, engine) == {1: (None, None), 2: (None, None), 3: (1, 1)}


def test_equal_labels_are_all_kept_with_their_columns_untouched(spark: SparkSession, engine: str) -> None:
    # Feast's Dask store dropped labels that shared key and timestamp.
    left = labels(spark, (7, "x", at(2)), (7, "x", at(2)), (7, "x", at(2)))
    more = left.selectExpr(
        "*", "array(n, null) AS `an array`", "map('k', k) AS m", "named_struct('t', t) AS s", "cast(n AS decimal(9,2)) AS d"
    )
    out = as_of_join(more, readings(spark, ("x", at(1), 1, 1)), "k", "t", "at", engine=engine)
    assert out.columns == [*more.columns, "a", "b"]
    assert [f.dataType for f in out.schema][: len(more.columns)] == [f.dataType for f in more.schema]
    assert [tuple(r) for r in out.collect()] == [(*more.first(), 1, 1)] * 3


def test_lookback_is_inclusive_and_a_stale_row_is_not_replaced_by_a_staler_one(spark: SparkSession, engine: str) -> None:
    rows = readings(spark, ("x", at(0), 0, 0), ("x", at(1), 1, 1))
    left = labels(spark, (1, "x", at(3)), (2, "x", at(3) + MICROSECOND), (3, "x", at(1)))
    assert joined(left, rows, engine, lookback=2 * HOUR) == {1: (1, 1), 2: (None, None), 3: (1, 1)}
    assert joined(left, rows, engine, lookback=0 * HOUR) == {1: (None, None), 2: (None, None), 3: (1, 1)}


def test_a_row_counts_only_from_when_it_was_known_and_never_hides_a_newer_one(spark: SparkSession, engine: str) -> None:
    rows = spark.createDataFrame(
        [("x", at(1), at(5), 1), ("x", at(2), at(3), 2), ("x", at(2), at(6), 20), ("x", at(4), None, 4)],
        "k string, at timestamp, seen timestamp, a int",
    )
    left = labels(spark, *[(n, "x", at(n)) for n in range(1, 8)])
    got = as_of_join(left, rows, "k", "t", "at", ["a"], known_by="seen", engine=engine)
    assert {r.n: r.a for r in got.collect()} == {1: None, 2: None, 3: 2, 4: 2, 5: 2, 6: 20, 7: 20}


def test_a_row_with_an_end_of_validity_is_not_found_after_it(spark: SparkSession, engine: str) -> None:
    rows = spark.createDataFrame(
        [("x", at(1), at(3), 1), ("x", at(4), None, 4)], "k string, valid_from timestamp, valid_to timestamp, a int"
    )
    left = labels(spark, *[(n, "x", at(n)) for n in range(5)], (5, "x", at(3) - MICROSECOND))
    got = as_of_join(left, rows, "k", "t", "valid_from", ["a"], until="valid_to", engine=engine)
    assert {r.n: r.a for r in got.collect()} == {0: None, 1: 1, 2: 1, 3: None, 4: 4, 5: 1}


def test_instants_are_utc_in_any_session_zone_for_dates_and_in_the_night_when_clocks_change(spark: SparkSession, engine: str) -> None:
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        # 5:30 and 6:30 UTC are both half past one in New York: the clocks went back in between.
        rows = spark.sql("SELECT 'x' AS k, timestamp_seconds(1383456600 + 3600 * id) AS at, int(id) AS a, 0 AS b FROM range(3)")
        left = spark.sql("SELECT int(id) AS n, 'x' AS k, timestamp_seconds(1383456599 + 3600 * id) AS t FROM range(4)")
        assert joined(left, rows, engine) == {0: (None, None), 1: (0, 0), 2: (1, 0), 3: (2, 0)}
        days = spark.sql("SELECT 'x' AS k, date'2013-11-03' AS at, 1 AS a, 1 AS b")
        midnight = spark.sql("SELECT int(id) AS n, 'x' AS k, timestamp_micros(1383436800000000 - 1 + id) AS t FROM range(2)")
        assert joined(midnight, days, engine) == {0: (None, None), 1: (1, 1)}
        local = rows.withColumn("at", F.expr("timestamp_ntz'2013-11-03 05:30:00'")).where("a = 0")
        assert joined(left, local, engine) == {0: (None, None), 1: (0, 0), 2: (0, 0), 3: (0, 0)}
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


def test_whole_numbers_are_a_clock_too(spark: SparkSession, engine: str) -> None:
    rows = spark.createDataFrame([("x", 3, 1, 1), ("x", 5, 2, 2)], "k string, at bigint, a int, b int")
    left = spark.createDataFrame([(n, "x", n) for n in (2, 3, 4, 5)], "n int, k string, t int")
    assert joined(left, rows, engine) == {2: (None, None), 3: (1, 1), 4: (1, 1), 5: (2, 2)}


def test_no_features_and_no_labels_are_no_trouble(spark: SparkSession, engine: str) -> None:
    rows, left = readings(spark, ("x", at(1), 1, 1)), labels(spark, (1, "x", at(2)))
    assert joined(left, rows.where("a > 1"), engine) == {1: (None, None)}
    assert joined(left.where("n > 1"), rows, engine) == {}


def oracle(
    left: list, right: list, hashes: list[int], lookback: dt.timedelta | None, boundary: str, nulls: str, late: bool
) -> dict[int, tuple]:
    "A look at every pair of rows."

    def best(key: tuple, t: dt.datetime | None, column: int | None) -> int | None:
        counting = [
            (r[2], r[3] if late else r[2], hashes[i], i)
            for i, r in enumerate(right)
            if t is not None and None not in key and None not in r[:3] and r[:2] == key and (not late or r[3] is not None)
            and (max(r[2], r[3] if late else r[2]) <= t if boundary == "le" else max(r[2], r[3] if late else r[2]) < t)
            and (column is None or r[column] is not None)
        ]  # fmt: skip
        found = max(counting)[3] if counting else None
        return None if found is None or (lookback is not None and right[found][2] < t - lookback) else found

    out = {}
    for n, p, q, t in left:
        rows = [best((p, q), t, c if nulls == "column" else None) for c in (4, 5)]
        out[n] = tuple(None if i is None else right[i][c] for i, c in zip(rows, (4, 5), strict=True))
    return out


@pytest.mark.parametrize(
    ("lookback", "boundary", "nulls", "late"),
    [(None, "le", "row", False), (5, "lt", "row", False), (5, "le", "column", False), (None, "lt", "row", True), (8, "le", "column", True)],
)
def test_every_engine_gives_the_rows_of_a_plain_loop(
    spark: SparkSession, lookback: int | None, boundary: str, nulls: str, late: bool
) -> None:
    rng = random.Random(f"{lookback} {boundary} {nulls} {late}")

    def maybe(value: object, odds: float = 0.1) -> object:
        return None if rng.random() < odds else value

    left = [(n, maybe(rng.choice("xyz")), maybe(rng.randrange(3)), maybe(at(rng.randrange(24)))) for n in range(200)]
    right = [
        (maybe(rng.choice("xyzw")), maybe(rng.randrange(4)), maybe(at(t)), maybe(at(t + rng.randrange(-3, 9))), maybe(rng.randrange(9), 0.3), maybe("v", 0.3))
        for t in (rng.randrange(24) for _ in range(250))
    ]  # fmt: skip
    frame = spark.createDataFrame(left, "n int, p string, q int, t timestamp")
    rows = spark.createDataFrame(right, "p string, q bigint, at timestamp, seen timestamp, a int, b string")
    hashes = [row[0] for row in rows.select(row_hash(rows)).collect()]
    back = None if lookback is None else lookback * HOUR
    wanted = oracle(left, right, hashes, back, boundary, nulls, late)
    assert sum(value != (None, None) for value in wanted.values()) > 80
    for engine in ENGINES:
        known = "seen" if late else None
        out = as_of_join(frame, rows, ["p", "q"], "t", "at", ["a", "b"], back, boundary, nulls, engine, known_by=known)
        assert {r.n: (r.a, r.b) for r in out.collect()} == wanted, engine


@pytest.mark.parametrize("few", [0, engines.FEW])
def test_a_timeline_cut_into_brackets_gives_the_rows_of_an_uncut_one(
    spark: SparkSession, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "FEW", few)  # cuts are joined, or compared with one by one
    rng = random.Random(3)
    right = [
        ("hot" if rng.random() < 0.8 else "x", at(t), at(t + rng.choice([0, 0, 30])), n)
        for n, t in enumerate(rng.randrange(200) for _ in range(900))
    ]
    left = [(n, rng.choice(["hot", "x", None]), at(rng.randrange(-5, 240))) for n in range(300)]
    rows, frame = spark.createDataFrame(right, "k string, at timestamp, seen timestamp, a int"), labels(spark, *left)
    for known in (None, "seen"):
        side = Side(rows, ("k",), "at", {"a": "a"}, known_by=known, lookback=20 * HOUR)
        hot = hot_keys(frame, Asked(("k",), "t", side), 900, most=200)
        assert [row[0] for row in hot.rows] == ["hot"]
        assert len(hot.rows[0][1]) >= 3
        cut = cogroup_join(frame, ["k"], "t", [side], 4, hot)
        assert {r.n: r.a for r in cut.collect()} == {r.n: r.a for r in union_join(frame, ["k"], "t", [side]).collect()}


@pytest.mark.parametrize("few", [0, engines.FEW])
def test_a_bracket_without_rows_of_its_own_has_the_newest_of_all_before_it(
    spark: SparkSession, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "FEW", few)
    keys = [f"k{n}" for n in range(8)]
    rows = readings(spark, *[(k, at(hour), n, n) for k in keys for n, hour in enumerate((0, 3, 3.5, 4, 10))])
    left = labels(spark, *[(hour, k, at(hour)) for k in keys for hour in (2, 5, 7, 9)])
    cuts = [int(at(hour).replace(tzinfo=dt.UTC).timestamp() * 10**6) for hour in (1.5, 3.2, 4.5, 6.5, 8.5)]
    schema = T.StructType([T.StructField("_key0", T.StringType()), T.StructField("_cuts", T.ArrayType(T.LongType()))])
    side = Side(rows, ("k",), "at", {"a": "a"})
    cut = cogroup_join(left, ["k"], "t", [side], 4, Hot(tuple((k, cuts) for k in keys), schema)).collect()
    assert {(row.n, row.a) for row in cut} == {(2, 0), (5, 3), (7, 3), (9, 3)}
    assert len(cut) == 32


def test_several_sides_of_one_key_shuffle_the_labels_once_and_the_walk_sorts_once(spark: SparkSession) -> None:
    left, rows = labels(spark, (1, "x", at(3))), readings(spark, ("x", at(1), 1, 1))
    sides = [Asked(("k",), "t", Side(rows, ("k",), "at", {"a": f"a{n}", "b": f"b{n}"}, lookback=n * HOUR or None)) for n in range(4)]
    for engine, sorts in (("union", 1), ("cogroup", 0)):
        out = join_all(left, sides, engine)
        plan = out._jdf.queryExecution().executedPlan().toString()
        assert (plan.count("Exchange hashpartitioning"), plan.count("Exchange"), plan.count("Sort [")) == (1, 1, sorts), plan
        assert out.first()[3:] == (1, 1, None, None, 1, 1, 1, 1)


# What the planner decides.


@pytest.fixture
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix="test_as_of_")
    drop_all(lake)
    spark.sql("CREATE SCHEMA test_as_of_f")
    yield lake
    drop_all(lake)


def stored(lake: Lakehouse, name: str, sql: str, how: str = "") -> DataFrame:
    lake.spark.sql(f"CREATE TABLE {lake.name(f'f.{name}')} USING DELTA {how} AS {sql}")
    return read(lake, f"f.{name}")


ROWS = "SELECT 'x' AS k, timestamp_seconds(1370044800 + 3600 * id) AS at, int(id) AS a, string(id) AS b FROM range(100)"


def test_a_table_is_read_from_its_files_and_skips_those_that_no_label_can_match(spark: SparkSession, lake: Lakehouse) -> None:
    stored(lake, "plain", ROWS + " WHERE id < 50")
    spark.sql(f"INSERT INTO {lake.name('f.plain')} {ROWS} WHERE id >= 50")
    rows = read(lake, "f.plain")
    asked = Asked(("k",), "t", Side(rows.withColumnRenamed("at", "when"), ("k",), "when", {"a": "a"}))
    plan = plan_join(labels(spark, (1, "x", at(10.5))), [asked], "auto")
    assert plan.engine == "local"
    assert isinstance(plan.sources[0], Files)
    assert plan.sources[0].rows == 50
    assert files_of(rows).rows == 100
    assert joined(labels(spark, (1, "x", at(10.5)), (2, "x", at(70))), rows, "auto") == {1: (10, "10"), 2: (70, "70")}


def test_files_that_are_not_the_rows_are_read_through_spark(spark: SparkSession, lake: Lakehouse) -> None:
    left = labels(spark, (1, "x", at(10.5)))
    deleted = stored(lake, "deleted", ROWS, "TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
    spark.sql(f"DELETE FROM {lake.name('f.deleted')} WHERE a = 10")
    mapped = stored(lake, "mapped", ROWS, "TBLPROPERTIES ('delta.columnMapping.mode' = 'name')")
    parts = stored(lake, "parts", ROWS.replace("int(id) AS a", "int(id % 3) AS p, int(id) AS a"), "PARTITIONED BY (p)").drop("p")
    cases = [(read(lake, "f.deleted"), 9), (deleted.where("a < 5"), 4), (mapped, 10), (parts, 10), (parts.limit(100), 10)]
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


def test_an_older_version_is_read_from_the_files_of_that_version(spark: SparkSession, lake: Lakehouse) -> None:
    stored(lake, "moving", ROWS)
    spark.sql(f"INSERT OVERWRITE {lake.name('f.moving')} SELECT 'x', timestamp_seconds(1370044800), -1, 'new'")
    left = labels(spark, (1, "x", at(10.5)))
    assert joined(left, read(lake, "f.moving", 0), "local") == {1: (10, "10")}
    assert joined(left, read(lake, "f.moving"), "local") == {1: (-1, "new")}


def test_what_does_not_fit_into_the_budget_goes_through_the_cluster_with_the_same_rows(spark: SparkSession, lake: Lakehouse) -> None:
    rows, left = stored(lake, "big", ROWS), labels(spark, *[(n, "x", at(n + 0.5)) for n in range(50)])
    asked = [Asked(("k",), "t", Side(rows, ("k",), "at", {"a": "a", "b": "b"}))]
    for budget, engine, held in ((1 << 30, "local", True), (14_000, "cogroup", False), (100, "cogroup", False)):
        plan = plan_join(left, asked, "auto", budget)
        assert (plan.engine, plan.table is not None) == (engine, held), str(plan)
        assert joined(left, rows, "auto", budget=budget) == {n: (n, str(n)) for n in range(50)}
    through_spark = [Asked(("k",), "t", Side(rows.where("a >= 0"), ("k",), "at", {"a": "a", "b": "b"}))]
    assert plan_join(left, through_spark, "auto", 14_000).engine == "cogroup"
    with pytest.raises(
        ValueError, match="engine 'local' has a budget of 0 MiB, and the labels and what they find need about 0 MiB: take 'auto'"
    ):
        as_of_join(left, rows, "k", "t", "at", engine="local", budget=100)


def test_a_type_without_an_arrow_twin_takes_the_walk(spark: SparkSession) -> None:
    left, rows = labels(spark, (1, "x", at(3))), readings(spark, ("x", at(1), 1, 1)).selectExpr("*", "make_interval(1) AS i")
    asked = [Asked(("k",), "t", Side(rows, ("k",), "at", {"a": "a", "i": "i"}))]
    assert plan_join(left, asked).engine == "union"
    with pytest.raises(ValueError, match="take 'union'"):
        plan_join(left, asked, "local")


def test_explain_prints_the_engine_its_reason_and_what_is_read(spark: SparkSession, lake: Lakehouse, capsys: pytest.CaptureFixture) -> None:
    rows, left = stored(lake, "told", ROWS), labels(spark, (1, "x", at(300)))
    as_of_join(left, rows, "k", "t", "at", explain=True)
    said = capsys.readouterr().out
    assert "as-of join of 1 labels: engine local, 0.0 of" in said
    assert "a, b by k as of t: 100 rows in" in said


def test_what_cannot_be_joined_is_refused_by_name(spark: SparkSession) -> None:
    left, rows = labels(spark, (1, "x", at(1))), readings(spark, ("x", at(1), 1, 1))
    join = partial(as_of_join, left, rows, "k", "t", "at")
    for call, said in (
        (lambda: as_of_join(left.withColumnRenamed("n", "a"), rows, "k", "t", "at"), "already have a"),
        (lambda: as_of_join(left, rows.withColumnRenamed("k", "key"), "k", "t", "at"), "the features have no k: they have key, at, a, b"),
        (lambda: as_of_join(left, rows, "k", "time", "at"), "the labels have no time"),
        (lambda: as_of_join(left.withColumn("k", F.lit(1)), rows, "k", "t", "at"), "cast one"),
        (lambda: as_of_join(left.withColumn("k", F.lit(1.5)), rows.withColumn("k", F.lit(1.5)), "k", "t", "at"), "keys are equal values"),
        (lambda: as_of_join(left, rows, "k", "n", "at"), "timestamps or dates, or both whole numbers"),
        (lambda: as_of_join(left, rows, "k", "k", "at"), "'k' is string: rows are ordered by"),
        (lambda: join(boundary="lte"), "one of le, lt"),
        (lambda: join(nulls="both"), "one of row, column"),
        (lambda: join(engine="polars"), "one of auto, local, cogroup, union"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
