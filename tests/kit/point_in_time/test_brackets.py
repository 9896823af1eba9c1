"""A key whose timeline is cut into brackets: the rows of an uncut one."""

from __future__ import annotations

import datetime as dt
import random
from typing import NamedTuple

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from boathouse.point_in_time import spark as engines
from boathouse.point_in_time.join import Asked, hot_keys
from boathouse.point_in_time.spark import Hot, Side, cogroup_join, union_join

HOUR = dt.timedelta(hours=1)


def at(hour: float) -> dt.datetime:
    return dt.datetime(2013, 6, 1) + hour * HOUR


def labels(spark: SparkSession, *rows: tuple) -> DataFrame:
    return spark.createDataFrame([*rows], "n int, k string, t timestamp")


class Uncut(NamedTuple):
    "Labels, a side whose key `hot` has most rows, where its timeline is cut, and what each label finds without a cut."

    labels: DataFrame
    side: Side
    hot: Hot
    found: dict[int, int | None]


@pytest.fixture(scope="module")
def uncut(spark: SparkSession) -> dict[str, Uncut]:
    "Of rows that count at once, and of rows that are known late."
    rng = random.Random(3)
    right = [
        ("hot" if rng.random() < 0.8 else "x", at(t), at(t + rng.choice([0, 0, 30])), n)
        for n, t in enumerate(rng.randrange(200) for _ in range(900))
    ]
    left = labels(spark, *[(n, rng.choice(["hot", "x", None]), at(rng.randrange(-5, 240))) for n in range(300)])
    rows = spark.createDataFrame(right, "k string, at timestamp, seen timestamp, a int")
    sides = {
        name: Side(rows, ("k",), "at", {"a": name}, known_by=by, lookback=20 * HOUR) for name, by in (("at_once", None), ("late", "seen"))
    }
    found = union_join(left, ["k"], "t", list(sides.values())).collect()
    assert len(found) == 300
    return {
        name: Uncut(left, side, hot_keys(left, Asked(("k",), "t", side), 900, most=200), {r.n: r[name] for r in found})
        for name, side in sides.items()
    }


@pytest.mark.parametrize("few", [0, engines.FEW])
@pytest.mark.parametrize("known", ["at_once", "late"])
def test_a_timeline_cut_into_brackets_gives_the_rows_of_an_uncut_one(
    uncut: dict[str, Uncut], known: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "FEW", few)  # cuts are joined, or compared with one by one
    left, side, hot, found = uncut[known]
    assert [row[0] for row in hot.rows] == ["hot"]
    assert len(hot.rows[0][1]) >= 3
    cut = cogroup_join(left, ["k"], "t", [side], 4, hot).collect()
    assert len(cut) == 300
    assert {r.n: r[known] for r in cut} == found


@pytest.mark.parametrize("few", [0, engines.FEW])
def test_a_bracket_without_rows_of_its_own_has_the_newest_of_all_before_it(
    spark: SparkSession, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "FEW", few)
    keys = [f"k{n}" for n in range(8)]
    rows = spark.createDataFrame([(k, at(h), n) for k in keys for n, h in enumerate((0, 3, 3.5, 4, 10))], "k string, at timestamp, a int")
    left = labels(spark, *[(hour, k, at(hour)) for k in keys for hour in (2, 5, 7, 9)])
    cuts = [int(at(hour).replace(tzinfo=dt.UTC).timestamp() * 10**6) for hour in (1.5, 3.2, 4.5, 6.5, 8.5)]
    schema = T.StructType([T.StructField("_key0", T.StringType()), T.StructField("_cuts", T.ArrayType(T.LongType()))])
    side = Side(rows, ("k",), "at", {"a": "a"})
    cut = cogroup_join(left, ["k"], "t", [side], 4, Hot(tuple((k, cuts) for k in keys), schema)).collect()
    assert {(row.n, row.a) for row in cut} == {(2, 0), (5, 3), (7, 3), (9, 3)}
    assert len(cut) == 32
