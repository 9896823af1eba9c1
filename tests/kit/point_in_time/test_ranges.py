"""Ranges of rows: the number at a place and the count below a limit, as a sorted list of each range has them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from boathouse.point_in_time.ranges import below, since_last, smallest

numbers = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**40)), max_size=40)
ranges = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=10)


def within(rows: list[int], wanted: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    "The ranges, cut to the rows that are there."
    ends = np.array([sorted((min(a, len(rows)), min(b, len(rows)))) for a, b in wanted], np.int64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


@given(numbers, ranges, st.integers(0, 40))
def test_the_number_at_a_place_is_that_of_the_sorted_range(rows: list, wanted: list, place: int) -> None:
    start, end = within(rows, wanted)
    places = place % np.maximum(end - start, 1)
    found = smallest(np.array(rows, np.int64), start, end, places)
    for a, b, k, got in zip(start, end, places, found, strict=True):
        assert a == b or got == sorted(rows[a:b])[k]


@given(numbers, ranges, st.one_of(st.integers(0, 6), st.integers(0, 2**41)))
def test_the_count_below_a_limit_is_that_of_a_look_at_each_row(rows: list, wanted: list, limit: int) -> None:
    start, end = within(rows, wanted)
    found = below(np.array(rows, np.int64), start, end, np.full(len(start), limit))
    assert found.tolist() == [sum(n < limit for n in rows[a:b]) for a, b in zip(start, end, strict=True)]


@given(st.lists(st.integers(0, 4), max_size=30))
def test_a_row_knows_the_one_of_equal_rank_before_it(ranks: list) -> None:
    last = [next((m + 1 for m in range(n - 1, -1, -1) if ranks[m] == ranks[n]), 0) for n in range(len(ranks))]
    assert since_last(np.array(ranks, np.int32)).tolist() == last


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4)), min_size=1, max_size=30), st.data())
def test_a_number_that_weighs_more_stands_so_often_in_the_order(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    numbers, weights = (np.array(column) for column in zip(*pairs, strict=True))
    start = data.draw(st.integers(0, len(pairs) - 1))
    end = data.draw(st.integers(start + 1, len(pairs)))
    inside = sorted(np.repeat(numbers[start:end], weights[start:end]))
    place = data.draw(st.integers(0, len(inside) - 1))
    assert smallest(numbers, np.array([start]), np.array([end]), np.array([place]), weights) == [inside[place]]
