"Groups are compared by figures that counting gives, and only a difference that the days support refuses a candidate."

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from boathouse.validation.gate import Evidence
from boathouse.validation.groups import check_group_disparity, compare_groups, measure_groups

RNG = np.random.default_rng(5)
DAYS = np.repeat(np.arange(30), 200)
SIGNAL = RNG.normal(size=DAYS.size)
LATE = RNG.random(DAYS.size) < expit(1.5 * SIGNAL - 1)
PORTS = np.where(np.arange(DAYS.size) % 60 == 0, "tiny", RNG.choice(["a", "b", "c"], DAYS.size))
FAIR = expit(1.5 * SIGNAL - 1)
BLIND = np.where(PORTS == "c", expit(1.5 * RNG.normal(size=DAYS.size) - 1), FAIR)
HARSH = np.where(PORTS == "a", np.clip(FAIR + 0.3, 0, 1), FAIR)


def evidence(scores: np.ndarray, kept: np.ndarray | slice = slice(None)) -> Evidence:
    rows = pd.DataFrame({"late": LATE, "at": pd.Timestamp("2013-06-01"), "day": DAYS, "port": PORTS})[kept].reset_index(drop=True)
    return Evidence("m", 1, rows, {"candidate": scores[kept]}, "late", "at", "day")


def test_the_measures_of_a_group_and_those_without_each_day_are_counted_by_hand() -> None:
    found = {m: {one.group: one for one in groups} for m, groups in measure_groups(evidence(HARSH), "port").items()}
    assert {m: sorted(groups) for m, groups in found.items()} == {
        measure: ["a", "b", "c"] for measure in ("auc", "bias", "rate")
    }  # tiny is pooled
    for port in "abc":
        inside = port == PORTS
        rest = [inside & (day != DAYS) for day in range(30)]
        by_hand = {
            "auc": lambda kept: roc_auc_score(LATE[kept], HARSH[kept]),
            "bias": lambda kept: HARSH[kept].mean() - LATE[kept].mean(),
            "rate": lambda kept: (HARSH[kept] >= 0.5).mean(),
        }
        for measure, value in by_hand.items():
            one = found[measure][port]
            assert one.value == pytest.approx(value(inside))
            assert one.without == pytest.approx([value(kept) for kept in rest])


@pytest.mark.parametrize(
    ("scores", "settings", "outcome", "words"),
    [
        (FAIR, {}, "pass", "limit 0.1"),
        (BLIND, {}, "refuse", "auc of port"),
        (HARSH, {}, "refuse", "bias of port a"),
        (HARSH, {"bias_gap": 1.0}, "pass", "of port"),
        (HARSH, {"bias_gap": 1.0, "rate_gap": 0.1}, "refuse", "rate of port a"),
        (BLIND, {"auc_gap": 0.5}, "pass", "of port"),
    ],
)
def test_the_largest_difference_in_its_limit_decides(scores: np.ndarray, settings: dict[str, float], outcome: str, words: str) -> None:
    found = check_group_disparity(evidence(scores), columns=["port"], **settings)
    assert (found.outcome, words in found.reason) == (outcome, True), found.reason


def test_a_few_rows_do_not_refuse_and_one_group_alone_cannot_be_compared() -> None:
    few = np.isin(DAYS, [0, 1, 2])
    assert check_group_disparity(evidence(HARSH, few), columns=["port"], at_least=100).outcome == "inconclusive"
    assert check_group_disparity(evidence(HARSH, PORTS == "a"), columns=["port"]).outcome == "inconclusive"
    assert compare_groups(evidence(HARSH, PORTS == "a"), ["port"]).empty


def test_groups_that_are_alike_are_seldom_refused() -> None:
    refused = 0
    for _ in range(40):
        late = RNG.random(DAYS.size) < FAIR
        rows = pd.DataFrame({"late": late, "at": pd.Timestamp("2013-06-01"), "day": DAYS, "port": RNG.choice(list("abcdef"), DAYS.size)})
        one = Evidence("m", 1, rows, {"candidate": FAIR}, "late", "at", "day")
        refused += check_group_disparity(one, columns=["port"], auc_gap=0.0, bias_gap=0.0).outcome == "refuse"
    assert refused <= 2
