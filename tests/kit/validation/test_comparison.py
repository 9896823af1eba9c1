"""Pairs, days, intervals: against counting every pair, leaving out every day, and drawing every row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from boathouse.validation.comparison import (
    Gain,
    check_better,
    check_not_worse,
    day_parts,
    drawn_gains,
    ordered_pairs,
    paired_gain,
    ranked,
    t_interval,
)

RNG = np.random.default_rng(3)
DAYS = np.repeat(np.arange(40), 60)
SIGNAL = RNG.normal(size=DAYS.size)
LATE = RNG.random(DAYS.size) < 1 / (1 + np.exp(1 - SIGNAL))
BLURRED = SIGNAL + RNG.normal(0, 1, SIGNAL.size)
SOME = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 4), st.booleans()), min_size=1, max_size=60)


def counted(late: np.ndarray, scores: np.ndarray, day: np.ndarray, days: int) -> np.ndarray:
    "C by its definition: pair by pair."
    pairs = np.zeros((days, days))
    for i in np.flatnonzero(late):
        for j in np.flatnonzero(~late):
            pairs[day[i], day[j]] += (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2
    return pairs


@settings(max_examples=150)
@given(SOME)
def test_pairs_of_days_are_those_that_counting_finds_with_ties_empty_days_and_one_outcome(rows: list) -> None:
    late, scores, day, _ = (np.array(x) for x in zip(*rows, strict=True))
    order, right = ranked(late, scores.astype(float), day), counted(late, scores, day, 6)
    parts = day_parts(order, 6)
    assert np.array_equal(ordered_pairs(order, 6), right)
    assert np.array_equal(parts.late_right, right.sum(axis=1))
    assert np.array_equal(parts.punctual_right, right.sum(axis=0))
    assert np.array_equal(parts.own, np.diag(right))


@settings(max_examples=60)
@given(SOME)
def test_a_slice_keeps_the_order_of_all_rows(rows: list) -> None:
    late, scores, day, inside = (np.array(x) for x in zip(*rows, strict=True))
    kept = ranked(late, scores.astype(float), day).only(inside)
    alone = counted(late[inside], scores[inside], day[inside], 6)
    assert np.array_equal(ordered_pairs(kept, 6), alone)
    assert np.array_equal(day_parts(kept, 6).own, np.diag(alone))


def test_without_a_day_the_auc_is_that_of_the_other_days() -> None:
    scores = np.round(SIGNAL, 1)
    without = day_parts(ranked(LATE, scores, DAYS), 40).without
    assert without == pytest.approx([roc_auc_score(LATE[d != DAYS], scores[d != DAYS]) for d in range(40)])


def test_drawn_gains_are_those_of_drawing_whole_days_row_by_row() -> None:
    rng, slow = np.random.default_rng(0), []
    for _ in range(300):
        index = np.concatenate([np.flatnonzero(d == DAYS) for d in rng.integers(0, 40, 40)])
        slow.append(roc_auc_score(LATE[index], SIGNAL[index]) - roc_auc_score(LATE[index], BLURRED[index]))
    drawn = drawn_gains(ranked(LATE, SIGNAL, DAYS), ranked(LATE, BLURRED, DAYS), 40)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.006)
    gain = paired_gain(LATE, SIGNAL, BLURRED, DAYS)
    assert gain.error == pytest.approx(drawn.std(), rel=0.15)


def test_the_order_of_the_rows_and_the_names_of_the_days_do_not_matter() -> None:
    order = RNG.permutation(len(LATE))
    named = np.array([f"day {d:02}" for d in DAYS])
    assert vars(paired_gain(LATE[order], SIGNAL[order], BLURRED[order], named[order])) == pytest.approx(
        vars(paired_gain(LATE, SIGNAL, BLURRED, DAYS))
    )


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="every row must have a score, but 1 of 3 rows have NaN"):
        ranked(np.array([True, False, True]), np.array([0.1, np.nan, 0.3]), np.zeros(3, int))


def test_one_day_and_days_that_hold_all_late_rows_are_inconclusive() -> None:
    one = paired_gain(LATE[:60], SIGNAL[:60], BLURRED[:60], DAYS[:60])
    assert check_better(one).outcome == "inconclusive"
    late = np.array([True, True, False, False])
    held = paired_gain(late, np.array([0.9, 0.8, 0.2, 0.1]), np.array([0.1, 0.2, 0.8, 0.9]), [1, 1, 2, 2])
    assert check_better(held).outcome == "inconclusive"
    assert np.isnan(t_interval(0.5, np.array([0.5, np.nan]))[0])


@pytest.mark.parametrize(
    ("low", "value", "high", "at_least", "outcome"),
    [
        (0.01, 0.02, 0.03, 0.002, "pass"),
        (0.0001, 0.001, 0.002, 0.005, "refuse"),  # sure, and too little
        (-0.002, 0.0, 0.001, 0.005, "refuse"),  # surely less than asked for
        (-0.01, 0.005, 0.02, 0.002, "inconclusive"),
        (-0.03, -0.02, -0.01, 0.0, "refuse"),
        (np.nan, 0.1, np.nan, 0.0, "inconclusive"),
    ],
)
def test_better_is_sure_worse_is_sure_and_the_rest_is_not(low: float, value: float, high: float, at_least: float, outcome: str) -> None:
    assert check_better(Gain(0.7 + value, 0.7, low, high, 28, 0.01), at_least).outcome == outcome


@pytest.mark.parametrize(
    ("low", "high", "outcome"), [(-0.001, 0.02, "pass"), (-0.004, -0.001, "pass"), (-0.03, -0.001, "refuse"), (-0.03, 0.01, "inconclusive")]
)
def test_not_worse_asks_for_no_gain(low: float, high: float, outcome: str) -> None:
    assert check_not_worse(Gain(0.7, 0.7, low, high, 28, 0.01), tolerance=0.005).outcome == outcome


def test_of_a_mean_over_days_it_is_the_interval_of_student() -> None:
    each = np.array([0.1, 0.4, 0.2, 0.7, 0.3])
    low, high, error = t_interval(each.mean(), np.array([np.delete(each, n).mean() for n in range(5)]), 0.9)
    assert (low, high) == pytest.approx(stats.ttest_1samp(each, 0).confidence_interval(0.9))
    assert error == pytest.approx(stats.sem(each))


def test_power_is_the_share_of_months_in_which_the_gain_is_seen() -> None:
    rng, error, days = np.random.default_rng(1), 0.01, 14
    gain = Gain(0.72, 0.70, 0.0, 0.0, days, error)
    seen = 0
    for _ in range(4000):  # a mean of as many normal days, with its own estimate of the error
        each = rng.normal(0.025, error * np.sqrt(days), days)
        low = each.mean() - 2.1603687 * each.std(ddof=1) / np.sqrt(days)
        seen += low > 0
    assert gain.power(0.025) == pytest.approx(seen / 4000, abs=0.025)
    assert gain.power(gain.detectable) == pytest.approx(0.8, abs=0.03)


def test_equal_models_are_rarely_called_better() -> None:
    rng, wrong = np.random.default_rng(8), 0
    for _ in range(200):
        mood = rng.normal(0, 1, 14)[DAYS[:840]]
        late = rng.random(840) < 1 / (1 + np.exp(1 - SIGNAL[:840] - mood))
        a, b = (SIGNAL[:840] + rng.normal(0, 0.5, 840) + rng.normal(0, 0.5, 14)[DAYS[:840]] for _ in range(2))
        wrong += check_better(paired_gain(late, a, b, DAYS[:840])).outcome == "pass"
    assert wrong <= 11  # 5 are expected; more than 11 come once in a hundred times


@pytest.mark.parametrize(("days", "known"), [(2, False), (6, False), (7, True), (30, True)])
def test_a_few_days_that_all_agree_give_no_interval(days: int, known: bool) -> None:
    low, high, error = t_interval(1.0, np.ones(days))
    assert (not np.isnan([low, high, error]).any()) == known
