"""Calibration and slices: against fits of scikit-learn, every day left out in earnest, and slices scored one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from boathouse.validation.gate import Evidence, GateResult
from boathouse.validation.metrics import (
    calibration,
    check_calibration,
    check_slice_floor,
    check_valid_probabilities,
    gap_of,
    pooled,
    slice_table,
    slices,
    slope_of,
)

RNG = np.random.default_rng(3)
DAYS = np.repeat(np.arange(40), 60)
SIGNAL = RNG.normal(size=DAYS.size)
LATE = RNG.random(DAYS.size) < expit(SIGNAL - 1 + RNG.normal(0, 0.3, 40)[DAYS])
CHANCE = expit(SIGNAL - 1)
PORTS = np.where(np.arange(LATE.size) % 24 == 0, "tiny", np.where(RNG.random(LATE.size) < 0.3, "a", "b"))


def evidence(scores: np.ndarray) -> Evidence:
    rows = pd.DataFrame({"late": LATE, "at": pd.Timestamp("2013-06-01") + pd.to_timedelta(DAYS, "D"), "day": DAYS, "port": PORTS})
    return Evidence("m", 1, rows, {"candidate": scores}, "late", "at", "day")


@pytest.mark.parametrize("scores", [[0.1, np.nan], [0.4, 0.4], [-0.1, 0.5], [0.5, 1.1], [], [np.nan, np.nan]])
def test_what_is_not_a_probability_for_every_row_is_refused(scores: list[float]) -> None:
    def outcome(values: list[float]) -> str:
        rows = pd.DataFrame({"late": [True] * len(values), "at": pd.Timestamp("2013-06-01"), "day": 1})
        return check_valid_probabilities(Evidence("m", 1, rows, {"candidate": np.array(values)}, "late", "at", "day")).outcome

    assert outcome(scores) == "refuse"
    assert outcome([0.0, 1.0]) == "pass"


@pytest.mark.parametrize("scores", [CHANCE, expit(4 * logit(CHANCE)), 1 - CHANCE, expit(0.1 * logit(CHANCE)), np.round(CHANCE)])
def test_the_slope_is_that_of_a_logistic_regression_also_for_wild_scores(scores: np.ndarray) -> None:
    slope, _ = slope_of(LATE, scores, DAYS)
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(np.clip(scores, 1e-6, 1 - 1e-6))[:, None], LATE)
    assert slope == pytest.approx(fitted.coef_[0, 0], rel=1e-3)


def test_slope_and_gap_without_a_day_are_those_of_the_other_days() -> None:
    slopes, gaps = slope_of(LATE, CHANCE, DAYS)[1], gap_of(LATE, CHANCE, DAYS)[1]
    rest = [d != DAYS for d in range(40)]
    assert slopes == pytest.approx([slope_of(LATE[r], CHANCE[r], DAYS[r])[0] for r in rest], abs=2e-3)
    assert gaps == pytest.approx([CHANCE[r].mean() - LATE[r].mean() for r in rest])


def test_calibration_groups_hold_all_rows() -> None:
    groups = calibration(LATE, CHANCE)
    assert groups.rows.tolist() == [LATE.size / 10] * 10
    assert (groups.predicted - groups.observed).abs().max() < 0.1
    parts = np.array_split(np.sort(CHANCE), 10)
    assert groups.predicted.tolist() == pytest.approx([part.mean() for part in parts])


def test_swapped_and_shifted_probabilities_are_surely_off() -> None:
    verdicts = [check_calibration(evidence(s), level=0.95).outcome for s in (CHANCE, 1 - CHANCE, expit(logit(CHANCE) + 1))]
    assert verdicts == ["pass", "refuse", "refuse"]
    assert check_calibration(evidence(np.full(LATE.size, LATE.mean()))).outcome == "inconclusive"  # no slope at all


def test_small_values_missing_ones_and_those_of_one_outcome_are_pooled() -> None:
    values = pd.Series(["a"] * 300 + ["b"] * 300 + ["c"] * 10 + [None] * 10)
    late = np.array(([True, False] * 150) + [True] * 300 + [False] * 20)
    codes, names = pooled(values, late)
    assert names == ["a", "(other)"]
    assert np.array_equal(codes, [0] * 300 + [1] * 320)


def test_each_slice_has_the_auc_that_it_has_alone() -> None:
    table = slice_table(evidence(CHANCE), ["port"])
    for _, row in table.iterrows():
        inside = ~np.isin(PORTS, ["a", "b"]) if row["value"] == "(other)" else row["value"] == PORTS
        assert row.auc == pytest.approx(roc_auc_score(LATE[inside], CHANCE[inside]))
        assert row["rows"] == inside.sum()
    found = {row["value"]: row["rows"] for row in slices(pd.DataFrame({"port": PORTS}), ["port"], LATE, CHANCE)}
    assert found == dict(zip(table["value"], table["rows"], strict=True))


def test_noise_of_a_small_slice_does_not_refuse_and_a_blind_slice_does() -> None:
    def found(scores: np.ndarray) -> GateResult:
        return check_slice_floor(evidence(scores), columns=["port"], floor=0.6, gap=0.1, level=0.95)

    assert found(CHANCE).outcome in ("pass", "inconclusive")
    noisy, blind = CHANCE.copy(), CHANCE.copy()
    for scores, port in ((noisy, "tiny"), (blind, "a")):
        scores[port == PORTS] = RNG.permutation(scores[port == PORTS])
    assert found(noisy).outcome == "inconclusive"
    assert found(blind).outcome == "refuse"
    assert "port a" in found(blind).reason


def test_a_slice_may_be_refused_for_its_distance_alone() -> None:
    blind = CHANCE.copy()
    blind[PORTS == "a"] = RNG.permutation(blind[PORTS == "a"])
    assert check_slice_floor(evidence(blind), columns=["port"], floor=0.0, gap=0.1, level=0.95).outcome == "refuse"
    assert check_slice_floor(evidence(blind), columns=["port"], floor=0.0, gap=0.5, level=0.95).outcome != "refuse"
