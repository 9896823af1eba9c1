"""The match of arrays, against a plain loop: any keys, any instants, ties, rows known later than they happened."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boathouse.point_in_time.match import (
    NEVER,
    KeyedInstants,
    Terms,
    find_rows,
    find_rows_by_column,
    key_codes,
    micros_array,
    newest_rows,
    order_rows,
)

far = st.sampled_from([0, 1, 2, 3, -5, 10**9, -(2**61), 2**61])  # distances that do not fit into the bits left by a key
near = st.integers(0, 5)
instant = st.one_of(near, near, near, near, near, far, st.just(NEVER))
code = st.sampled_from([0, 0, 0, 0, 1, -1, 2**31])


def line(rows: list[tuple[int, ...]], known: bool = False) -> KeyedInstants:
    codes, at, seen = (np.array([row[n] for row in rows], np.int64) for n in range(3)) if known else (*columns(rows), None)
    return KeyedInstants(codes, at, seen)


def columns(rows: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.int64)


def plain(label: tuple, rows: list[tuple], ties: list[int], strict: bool = False) -> int:
    "The newest row that counts, by a look at every row."
    if label[0] < 0 or label[1] == NEVER:
        return -1
    late = label[1] - 1 if strict else label[1]
    counting = [
        (at, known, ties[n], n)
        for n, (key, at, known) in enumerate(rows)
        if key == label[0] and NEVER not in (at, known) and max(at, known) <= late
    ]
    return max(counting)[3] if counting else -1


@given(st.lists(st.tuples(code, instant), max_size=12), st.lists(st.tuples(code, instant), max_size=20), st.randoms())
def test_each_label_gets_the_newest_row_that_is_not_later(labels: list, rows: list, random: object) -> None:
    ties = list(range(len(rows)))
    random.shuffle(ties)
    found = newest_rows(line(labels), line(rows), lambda numbers: np.array(ties)[numbers])
    assert found.tolist() == [plain(label, [(k, at, at) for k, at in rows], ties) for label in labels]


@settings(max_examples=300)
@given(st.lists(st.tuples(code, instant), min_size=1, max_size=12), st.lists(st.tuples(code, instant, instant), max_size=20), st.booleans())
def test_a_row_counts_from_when_it_was_known_and_the_latest_of_those_that_count_wins(labels: list, rows: list, strict: bool) -> None:
    found = find_rows(line(labels), line(rows, known=True), Terms(strict=strict), settle=lambda numbers: -numbers)
    assert found.tolist() == [plain(label, rows, [-n for n in range(len(rows))], strict) for label in labels]


@given(
    st.lists(st.tuples(st.integers(0, 2), near), max_size=10), st.lists(st.tuples(st.integers(0, 2), near), unique=True), st.integers(0, 4)
)
def test_lookback_and_validity_judge_the_row_that_was_found(labels: list, rows: list, lookback: int) -> None:
    until = np.array([at + 2 if n % 2 else NEVER for n, (_, at) in enumerate(rows)], np.int64)
    best = [plain(label, [(k, at, at) for k, at in rows], [0] * len(rows)) for label in labels]
    fresh = [
        n if n >= 0 and at - rows[n][1] <= lookback and (until[n] == NEVER or at < until[n]) else -1
        for (_, at), n in zip(labels, best, strict=True)
    ]
    assert find_rows(line(labels), line(rows), Terms(lookback), until).tolist() == fresh


@given(
    st.lists(st.tuples(st.integers(0, 2), near), max_size=10),
    st.lists(st.tuples(st.integers(0, 2), near, st.booleans()), unique_by=lambda row: row[:2], max_size=20),
)
def test_a_column_is_matched_among_the_rows_that_have_a_value_in_it(labels: list, rows: list) -> None:
    column = pa.array([1 if there else None for *_, there in rows], pa.int64())
    best = [plain(label, [(k if there else -2, at, at) for k, at, there in rows], [0] * len(rows)) for label in labels]
    assert find_rows_by_column(column, line(labels), line(rows), Terms()).tolist() == best


values = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([-(2**62), 2**62, 10**12]))
texts = st.one_of(st.none(), st.sampled_from(["", "1", "12", "a", "ä", "a" * 40]))


@given(st.lists(st.tuples(values, texts, values), max_size=10), st.lists(st.tuples(values, texts, values), max_size=10))
def test_keys_get_one_number_exactly_if_all_their_parts_are_equal_and_none_is_null(ours: list, theirs: list) -> None:
    def parts(rows: list) -> list[pa.Array]:
        return [pa.array([row[n] for row in rows], kind) for n, kind in enumerate((pa.int64(), pa.string(), pa.int64()))]

    left, right = key_codes(parts(ours), parts(theirs))
    for a, x in zip(ours, left, strict=True):
        assert (x == -1) == (None in a)
        for b, y in zip(theirs, right, strict=True):
            assert (x == y and x >= 0) == (a == b and None not in a)


@given(st.lists(st.one_of(near, st.integers(0, 2**63 - 1), st.integers(2**62, 2**62 + 99)), min_size=1, max_size=300))
def test_integers_are_put_in_order_also_where_they_differ_only_in_bits_that_the_row_numbers_leave_no_room_for(values: list[int]) -> None:
    found = order_rows(np.array(values, np.int64))
    assert sorted(found.tolist()) == list(range(len(values)))
    assert [values[n] for n in found] == sorted(values)


def test_many_wide_keys_do_not_overflow_into_one_another() -> None:
    wide = 1 << 13  # six columns of thirteen bits: two keys that differ in the first alone are equal modulo 2**64
    rows = [[n << 20] * 6 for n in range(wide)] + [[0, *[5 << 20] * 5], [1 << 20, *[5 << 20] * 5]]
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    left, right = key_codes(columns, columns)
    assert len(set(left.tolist())) == wide + 2
    assert (left == right).all()


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_an_instant_is_microseconds_in_utc_whatever_the_columns_zone_or_unit(zone: str | None) -> None:
    moment = dt.datetime(2013, 3, 10, 7, 30)  # clocks changed in New York at seven, UTC
    for unit in ("s", "ms", "us", "ns"):
        column = pa.array([moment, None], pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
        assert micros_array(column).tolist() == [int(moment.replace(tzinfo=dt.UTC).timestamp()) * 10**6, NEVER]


def test_a_date_is_its_midnight_in_utc() -> None:
    assert micros_array(pa.array([dt.date(1969, 12, 31), None], pa.date32())).tolist() == [-86_400_000_000, NEVER]
