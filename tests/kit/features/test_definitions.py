"""Spans of time: joined without losing an instant, and the same in every session's zone."""

from __future__ import annotations

import datetime as dt
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from boathouse.features.definitions import BEGINNING, TimeRange, merge_ranges, range_condition

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
START = dt.datetime(2013, 6, 1)


def at(hour: float) -> dt.datetime:
    return START + hour * HOUR


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12), st.integers(1, 5))
def test_joined_spans_hold_every_instant_of_theirs_in_order_and_are_no_more_than_allowed(pairs: list, most: int) -> None:
    spans = [TimeRange(at(a), at(b)) for a, b in pairs]
    found = merge_ranges(spans, most)
    inside = {h for a, b in pairs for h in range(a, b)}
    covered = {h for h in range(61) if any(s.since <= at(h) < s.until for s in found)}
    assert inside <= covered
    assert all(a.until < b.since for a, b in itertools.pairwise(found))
    assert len(found) <= most
    if len(merge_ranges(spans, 99)) <= most:
        assert covered == inside


def test_a_condition_says_utc_whatever_the_zone_of_the_session(spark: SparkSession) -> None:
    text = range_condition([TimeRange(BEGINNING, at(1)), TimeRange(at(2), at(3))], "at")
    rows = spark.createDataFrame([(START + m * MINUTE,) for m in (0, 59, 60, 119, 120, 179, 180)], "at timestamp")
    zone = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        assert rows.where(text).count() == 4
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone)
