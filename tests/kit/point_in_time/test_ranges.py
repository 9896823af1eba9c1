"""Ranges of rows: each aggregate is that of a plain loop over the rows of the range."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.point_in_time.grid_windows import numbers_of
from boathouse.point_in_time.ranges import aggregate, blocks, moments, place_of, share_of, smallest

numbers = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**40)), max_size=40)
ranges = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=10)
values = st.lists(st.one_of(st.none(), st.integers(-50, 50)), max_size=25)


def within(rows: list, wanted: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    "The ranges, cut to the rows that are there."
    ends = np.array([sorted((min(a, len(rows)), min(b, len(rows)))) for a, b in wanted], np.int64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


PLAIN = {"sum": sum, "min": min, "max": max, "first": lambda rows: rows[0], "last": lambda rows: rows[-1]}


@given(values, ranges, st.booleans())
def test_a_range_of_rows_has_the_aggregates_of_a_plain_loop(rows: list, wanted: list, whole: bool) -> None:
    rows = rows if whole else [None if row is None else row / 7 for row in rows]
    column = pa.array(rows, pa.int64() if whole else pa.float64())
    start, end = within(rows, wanted)
    for function, plain in PLAIN.items():
        found = aggregate(function, column, *numbers_of(column), start, end).to_pylist()
        for a, b, got in zip(start, end, found, strict=True):
            inside = [row for row in rows[a:b] if row is not None]
            expected = plain(inside) if inside else None
            assert got == expected or math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-12), (function, inside)


@given(st.lists(st.floats(-100, 100), max_size=25), ranges)
def test_count_mean_and_squared_distances_are_those_of_a_plain_loop(rows: list, wanted: list) -> None:
    start, end = within(rows, wanted)
    parts = (np.ones(len(rows)), np.array(rows, float), np.zeros(len(rows)))
    for a, b, n, mean, distance in zip(start, end, *blocks(parts, start, end, moments, (0.0, 0.0, 0.0)), strict=True):
        assert n == b - a
        expected = sum(rows[a:b]) / n if n else 0.0
        assert mean == pytest.approx(expected, abs=1e-9)
        assert distance == pytest.approx(sum((row - expected) ** 2 for row in rows[a:b]), abs=1e-7)


def test_a_sum_does_not_depend_on_the_rows_outside_its_range() -> None:
    rows = [0.1, 0.2, 0.3, 0.7]
    alone, beside = (pa.array(each) for each in (rows, [1e15, *rows, 1e15]))
    (found,) = aggregate("sum", alone, *numbers_of(alone), np.array([0]), np.array([4])).to_pylist()
    assert aggregate("sum", beside, *numbers_of(beside), np.array([1]), np.array([5])).to_pylist() == [found]


@pytest.mark.parametrize("column", [pa.array(["b", None, "a"]), pa.array([[1], None, [1, 2]]), pa.array([None, None, None])])
def test_values_that_are_no_numbers_have_a_first_and_a_last(column: pa.Array) -> None:
    ends = np.array([0]), np.array([3])
    found = [aggregate(function, column, *numbers_of(column), *ends)[0].as_py() for function in ("first", "last")]
    assert found == [column[0].as_py(), column[2].as_py()]


@given(numbers, ranges, st.integers(0, 40))
def test_the_number_at_a_place_is_that_of_the_sorted_range(rows: list, wanted: list, place: int) -> None:
    start, end = within(rows, wanted)
    places = place % np.maximum(end - start, 1)
    found = smallest(np.array(rows, np.int64), start, end, places, np.ones(len(rows), np.int64))
    for a, b, k, got in zip(start, end, places, found, strict=True):
        assert a == b or got == sorted(rows[a:b])[k]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4)), min_size=1, max_size=30), st.data())
def test_a_number_that_weighs_more_stands_so_often_in_the_order(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    numbers, weights = (np.array(column) for column in zip(*pairs, strict=True))
    start = data.draw(st.integers(0, len(pairs) - 1))
    end = data.draw(st.integers(start + 1, len(pairs)))
    inside = sorted(np.repeat(numbers[start:end], weights[start:end]))
    place = data.draw(st.integers(0, len(inside) - 1))
    assert smallest(numbers, np.array([start]), np.array([end]), np.array([place]), weights) == [inside[place]]


def test_a_percentile_takes_the_decimal_fraction_as_it_is_written() -> None:
    assert share_of("percentile(0.07)") == Fraction(7, 100) < Fraction(0.07)
    assert place_of(Fraction(7, 100), np.array([100, 101, 1, 0])).tolist() == [6, 7, 0, 0]
    wrong = (
        "percentile(1.5)",
        "percentile(-0.1)",
        "percentile(x)",
        "percentile()",
        "percentile",
        "percentile(0.5",
        "percentile(nan)",
        "median",
    )
    assert [share_of(word) for word in wrong] == [None] * len(wrong)
