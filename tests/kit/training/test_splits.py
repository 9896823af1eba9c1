"""Splits are rules: the same parts for any order, partitioning and engine, no row in two of them, and none of the held-out ones in training."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from boathouse.training.splits import (
    HoldoutError,
    KeySplit,
    SplitError,
    TimeSplit,
    hash_place,
    hash_place_sql,
    refuse_holdout,
    split_by_time,
    split_from_json,
)

FIRST = dt.date(2013, 1, 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KEYS = st.tuples(
    st.none() | TEXTS, st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.dates(dt.date(1600, 1, 1)), st.none() | st.booleans()
)
KEY_SCHEMA = "boat string, berth bigint, day date, crewed boolean"
DAYS = st.lists(st.none() | st.dates(FIRST - dt.timedelta(days=40), FIRST + dt.timedelta(days=400)), min_size=1, max_size=60)


@st.composite
def time_splits(draw: st.DrawFn) -> TimeSplit:
    length, gap = draw(st.integers(9, 300)), draw(st.integers(0, 5))
    try:
        return split_by_time(FIRST, FIRST + dt.timedelta(days=length + gap), draw(st.integers(3, 60)), draw(st.integers(1, 5)), gap)
    except ValueError:
        assume(False)
        raise


def key_splits(*keys: str) -> st.SearchStrategy[KeySplit]:
    return st.builds(KeySplit, st.just(keys), st.floats(0.01, 0.99), st.sampled_from([0, 2, 3, 4, 5]), TEXTS)


@given(days=st.integers(9, 800), length=st.integers(3, 60), folds=st.integers(1, 5), gap=st.integers(0, 3))
def test_folds_lie_in_order_before_the_held_out_days_and_those_before_the_gap(days: int, length: int, folds: int, gap: int) -> None:
    as_of = FIRST + dt.timedelta(days=days + gap)
    try:
        split = split_by_time(FIRST, as_of, length, folds, gap)
    except ValueError:
        assert days < 30, "a month of history has room for five folds with gaps of three days"
        return
    edges = [edge for fold in split.folds for edge in fold]
    assert edges == sorted(edges)
    assert edges[0] - dt.timedelta(days=gap) > FIRST
    assert edges[-1] == split.holdout < split.end == as_of - dt.timedelta(days=gap)
    assert 2 <= (split.end - split.holdout).days <= max(2, length)
    assert (split.end - split.holdout).days * 4 <= days + 3


def test_too_short_a_history_is_refused_in_days() -> None:
    with pytest.raises(ValueError, match=r"needs at least 2 days, got 1: .* the 5 days from 2013-01-01 to 2013-01-06"):
        split_by_time(FIRST, dt.date(2013, 1, 7))
    with pytest.raises(
        ValueError, match=r"5 folds of 1 days, each with a gap of 3 days .* need more than the days from 2013-01-01 to 2013-01-08"
    ):
        split_by_time(FIRST, dt.date(2013, 1, 13), folds=5, gap=3)


@given(split=time_splits(), days=DAYS)
def test_whole_gaps_lie_between_what_is_learned_from_and_what_is_judged(split: TimeSplit, days: list[dt.date | None]) -> None:
    rows = pd.DataFrame({"day": pd.Series(days, dtype=object)})
    for learned, judged in [(split.training(rows), split.held_out(rows)), *split.folded(rows)]:
        assert not (learned & judged).any()
        before, after = rows.day[learned], rows.day[judged]
        if len(before) and len(after):
            assert min(after) - max(before) > dt.timedelta(days=split.gap)
        assert not (learned | judged)[rows.day.isna()].any(), "a row without a day is in a part"


@settings(max_examples=15)
@given(split=time_splits(), days=DAYS)
def test_spark_and_pandas_agree_on_the_days_of_a_part(spark: SparkSession, split: TimeSplit, days: list[dt.date | None]) -> None:
    rows = pd.DataFrame({"n": range(len(days)), "day": pd.Series(days, dtype=object)})
    conditions = [split.where_training(), split.where_holdout(), *(sql for fold in split.where_folds() for sql in fold)]
    masks = [split.training(rows), split.held_out(rows), *(mask for fold in split.folded(rows) for mask in fold)]
    there = spark.createDataFrame(list(enumerate(days)), "n int, day date").selectExpr(
        "n", *[f"coalesce({sql}, false)" for sql in conditions]
    )
    found = np.array([row[1:] for row in sorted(there.collect())], bool).T
    assert (found == np.array(masks)).all()


@settings(max_examples=15)
@given(
    split=key_splits("boat", "berth", "day", "crewed"),
    keys=st.lists(KEYS, min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_a_key_is_in_the_same_part_whatever_the_order_the_partitioning_and_the_engine(
    spark: SparkSession, split: KeySplit, keys: list[tuple[object, ...]], order: object
) -> None:
    rows = pd.DataFrame({name: pd.Series([key[i] for key in keys], dtype=object) for i, name in enumerate(split.keys)})
    masks = [split.held_out(rows), split.training(rows), *(mask for fold in split.folded(rows) for mask in fold)]
    mixed = rows.sample(frac=1, random_state=1)
    assert (split.held_out(mixed) == masks[0][mixed.index]).all()
    conditions = [split.where_holdout(), split.where_training(), *(sql for fold in split.where_folds() for sql in fold)]
    there = spark.createDataFrame([(n, *key) for n, key in enumerate(keys)], f"n int, {KEY_SCHEMA}").repartition(3, "crewed")
    found = sorted(there.selectExpr("n", *conditions).collect())
    assert (np.array(masks) == np.array([row[1:] for row in found], bool).T).all()
    assert (masks[0] ^ masks[1]).all(), "a key is held out and learned from, or neither"
    judged = [inside for _, inside in split.folded(rows)]
    assert (np.sum(judged, axis=0) == masks[1]).all() if judged else True, "a key that may be learned from is judged in one fold"


def test_places_are_those_of_the_day_they_were_written_down(spark: SparkSession) -> None:
    # sha2-256 of '0:,3:Ada,1:7,', '4:2013,3:Ada,1:7,', '0:,-,1:7,', '0:,4:null,1:7,' and '0:,1:🛶,2:-1,'
    written = [
        ("", "Ada", 7, 456190092364873721),
        ("2013", "Ada", 7, 895711092551436462),
        ("", None, 7, 199181686544835538),
        ("", "null", 7, 843732471636682457),
        ("", "🛶", -1, 1109787782012557404),
    ]
    for salt, boat, berth, expected in written:
        assert hash_place(salt, (boat, berth)) == expected, f"{salt!r}, {boat!r}, {berth}"
        there = spark.createDataFrame([(boat, berth)], "boat string, berth int").selectExpr(hash_place_sql(salt, ["boat", "berth"]))
        assert there.first()[0] == expected, f"Spark: {salt!r}, {boat!r}, {berth}"


def test_keys_that_look_alike_when_glued_together_are_other_keys() -> None:
    glued = [("ab", "c"), ("a", "bc"), ("abc", None), (None, "abc"), ("a", "1:b,1:c"), ("a,1:b", "c"), ("abc", ""), ("abc", "-")]
    assert len({hash_place("", key) for key in glued}) == len(glued)
    assert hash_place("a", ("b",)) != hash_place("ab", ("",))


@pytest.mark.parametrize("given", [{"folds": 1}, {"folds": -1}, {"share": 0.0}, {"share": 1.0}, {"keys": ()}, {"keys": "boat"}], ids=str)
def test_a_split_by_key_whose_folds_or_parts_would_be_empty_is_refused(given: dict) -> None:
    with pytest.raises(SplitError, match="no folds or at least two"):
        KeySplit(**{"keys": ("boat",), **given})


def day(n: int) -> dt.date:
    return FIRST + dt.timedelta(days=n)


@pytest.mark.parametrize(
    ("first", "holdout", "end", "folds", "gap"),
    [
        (0, 40, 40, (), 0),
        (0, 0, 10, (), 0),
        (0, 2, 10, (), 2),
        (0, 40, 50, ((0, 10),), 0),
        (0, 40, 50, ((2, 10),), 2),
        (0, 40, 50, ((20, 20),), 0),
        (0, 40, 50, ((30, 41),), 0),
        (0, 40, 50, (), -1),
    ],
)
def test_a_split_by_time_whose_parts_or_folds_would_be_empty_or_see_held_out_days_is_refused(
    first: int, holdout: int, end: int, folds: tuple, gap: int
) -> None:
    with pytest.raises(SplitError, match="a split by time needs days in each part, training days before each fold"):
        TimeSplit(day(first), day(holdout), day(end), tuple((day(start), day(stop)) for start, stop in folds), gap)


def test_the_error_about_held_out_rows_has_the_whole_condition_of_the_training_part() -> None:
    split = KeySplit(("boat", "berth", "day"), 0.5, salt="2013")
    rows = pd.DataFrame({"boat": [str(n) for n in range(20)], "berth": 1, "day": FIRST})
    with pytest.raises(HoldoutError) as caught:
        refuse_holdout(split, rows)
    assert str(caught.value).endswith(split.where_training())


def test_about_the_share_of_keys_is_held_out_and_another_salt_holds_out_others() -> None:
    rows = pd.DataFrame({"boat": [f"boat {n}" for n in range(4000)]})
    one, two = (KeySplit(("boat",), 0.2, salt=salt).held_out(rows) for salt in ("2013", "2014"))
    assert 0.17 < one.mean() < 0.23
    assert 0.02 < (one & two).mean() < 0.06


@pytest.mark.parametrize("column", ["double(1)", "timestamp'2013-01-01'", "decimal(1)", "array(1)"])
def test_a_key_that_engines_write_differently_is_refused_by_both(spark: SparkSession, column: str) -> None:
    rows, split = spark.range(1).selectExpr(f"{column} AS berth"), KeySplit(("berth",))
    with pytest.raises(PySparkException, match="cannot be part of a split: cast it to text"):
        rows.where(split.where_holdout()).collect()
    with pytest.raises(SplitError, match="a key of a split must be text, a whole number, a boolean or a day, got the "):
        split.held_out(rows.toPandas())


@given(split=time_splits() | key_splits("boat") | key_splits("boat", "odd `name`"))
def test_a_split_comes_back_from_its_json(split: TimeSplit | KeySplit) -> None:
    assert split_from_json(split.to_json()) == split


def test_an_odd_name_and_an_odd_salt_are_sql_too(spark: SparkSession) -> None:
    split = KeySplit(("odd `name`",), 0.5, salt="it's \\ odd")
    rows = pd.DataFrame({"odd `name`": [str(n) for n in range(40)]})
    there = spark.createDataFrame(rows).where(split.where_holdout()).toPandas()
    assert list(there["odd `name`"]) == list(rows["odd `name`"][split.held_out(rows)])


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"kind": "random"}',
        '{"kind": "time", "first": "2013-01-01"}',
        KeySplit(("boat",)).to_json().replace("60 bits", "32 bits"),
        KeySplit(("boat",)).to_json().replace("0.2", "2.0"),
        KeySplit(("boat",)).to_json().replace('"folds": 3', '"folds": 1'),
        split_by_time(FIRST, dt.date(2013, 5, 1)).to_json().replace('"gap": 1', '"gap": 200'),
        split_by_time(FIRST, dt.date(2013, 5, 1)).to_json().replace('"gap"', '"hole"'),
    ],
)
def test_json_of_something_else_is_not_taken_for_a_split(text: str) -> None:
    with pytest.raises(SplitError):
        split_from_json(text)


@pytest.mark.parametrize(
    ("day", "held_out", "nowhere"),
    [
        (dt.date(2013, 9, 2), 1, 0),
        (dt.date(2013, 9, 29), 1, 0),
        (dt.date(2013, 9, 1), 0, 1),
        (dt.date(2013, 9, 30), 0, 1),
        (dt.date(2012, 12, 31), 0, 1),
        (None, 0, 1),
    ],
)
def test_one_row_that_is_not_for_training_among_many_that_are_is_refused(day: dt.date | None, held_out: int, nowhere: int) -> None:
    split = split_by_time(FIRST, dt.date(2013, 10, 1))
    rows = pd.DataFrame({"day": pd.Series([*[FIRST + dt.timedelta(days=n) for n in range(243)], day], dtype=object)})
    refuse_holdout(split, rows[:-1])
    with pytest.raises(HoldoutError, match=f"{held_out} of 244 rows are held out, {nowhere} are in no part") as caught:
        refuse_holdout(split, rows)
    assert (caught.value.held_out, caught.value.nowhere) == (held_out, nowhere)


def test_a_key_that_is_held_out_is_refused_however_often_it_comes() -> None:
    split, rows = KeySplit(("boat",), 0.5), pd.DataFrame({"boat": [str(n) for n in range(20)] * 2})
    refuse_holdout(split, rows[split.training(rows)])
    with pytest.raises(HoldoutError) as caught:
        refuse_holdout(split, rows)
    assert caught.value.held_out == split.held_out(rows).sum() > 0
    assert caught.value.held_out % 2 == 0


def test_ends_with_a_time_of_day_and_no_folds_are_refused() -> None:
    with pytest.raises(SplitError, match="must be dates without a time of day"):
        split_by_time(dt.datetime(2026, 1, 1), dt.datetime(2026, 6, 1, 7))
    with pytest.raises(ValueError, match="days and folds must be at least 1 and gap at least 0, got days=28, folds=-1, gap=1"):
        split_by_time(dt.date(2026, 1, 1), dt.date(2026, 6, 1), folds=-1)
