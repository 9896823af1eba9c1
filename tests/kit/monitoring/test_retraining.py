"A decision follows from symptoms, hysteresis and holds, and from nothing else."

from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.monitoring.retraining import (
    RetrainingPolicy,
    WindowEvidence,
    decide_retraining,
    find_holds,
    find_symptoms,
    find_unknowns,
    weigh_drift,
)

GOOD = WindowEvidence("May", promised_auc=0.74, auc=0.73, auc_high=0.76, gap=0.0, gap_low=-0.02, gap_high=0.02, labelled_share=0.98)
UNTRUE = replace(GOOD, gap=0.06, gap_low=0.02, gap_high=0.10)
UNRANKED = replace(GOOD, auc=0.68, auc_high=0.71)
DRIFTED = replace(GOOD, drifted_weight=0.4, drifted=("wind",))
JUNE = date(2026, 6, 1)


def retrain(*windows: WindowEvidence, **known: object) -> bool:
    return decide_retraining(windows, at=JUNE, **{"new_labels": 50_000, **known}).retrain  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "windows", [(GOOD,), (UNTRUE, GOOD), (UNRANKED,), (DRIFTED,), (DRIFTED, GOOD, GOOD), (DRIFTED, GOOD, GOOD, UNRANKED)]
)
def test_a_good_month_or_a_single_symptom_does_not_retrain(windows: tuple[WindowEvidence, ...]) -> None:
    assert not retrain(*windows)


@pytest.mark.parametrize(
    "windows", [(replace(UNTRUE, auc_high=0.70),), (UNRANKED, UNRANKED), (DRIFTED, GOOD, UNRANKED), (GOOD, UNTRUE, DRIFTED)]
)
def test_two_symptoms_at_once_or_a_symptom_that_is_back_retrains(windows: tuple[WindowEvidence, ...]) -> None:
    assert retrain(*windows)


@pytest.mark.parametrize(
    ("kind", "evidence"),
    [
        ("a gap that matters but may be chance", replace(GOOD, gap=0.06, gap_low=-0.01, gap_high=0.13)),
        ("a gap that is certain but too small to matter", replace(GOOD, gap=0.01, gap_low=0.005, gap_high=0.015)),
        ("an AUC whose interval reaches the promise", replace(GOOD, auc=0.68, auc_high=0.745)),
        ("drift of what the model does not use", replace(GOOD, drifted_weight=0.1, drifted=("colour",))),
        ("nothing measured yet", WindowEvidence("May")),
    ],
)
def test_these_are_no_symptoms(kind: str, evidence: WindowEvidence) -> None:
    assert find_symptoms(evidence, RetrainingPolicy()) == {}, kind


def test_forecasts_that_are_too_high_are_a_symptom_like_those_that_are_too_low() -> None:
    assert "fewer positives" in find_symptoms(replace(GOOD, gap=-0.06, gap_low=-0.10, gap_high=-0.02), RetrainingPolicy())["calibration"]


@pytest.mark.parametrize(
    ("known", "word"),
    [
        ({"open_failures": ["wind: in_range"]}, "wind: in_range"),
        ({"last_retrained": date(2026, 5, 1)}, "31 days ago"),
        ({"new_labels": 9_999}, "9,999 new labels"),
    ],
)
def test_each_hold_forbids_and_says_so_first(known: dict[str, object], word: str) -> None:
    decision = decide_retraining([UNRANKED, UNRANKED], at=JUNE, **{"new_labels": 50_000, **known})  # type: ignore[arg-type]
    assert not decision.retrain
    assert word in decision.reasons[0]
    assert len(decision.reasons) == 3


def test_labels_that_are_not_in_hold_back_and_promise_nothing() -> None:
    early = replace(DRIFTED, auc=None, auc_high=None, gap=None, labelled_share=0.3)
    assert not retrain(UNRANKED, early)
    assert "30% of the labels" in decide_retraining([WindowEvidence("May", labelled_share=0.3)], at=JUNE).reasons[0]


@pytest.mark.parametrize("missing", [None, float("nan")])
@pytest.mark.parametrize(
    "names", [("auc_high",), ("auc", "auc_high"), ("promised_auc",), ("gap_low", "gap_high"), ("gap",), ("drifted_weight",)]
)
def test_evidence_without_an_interval_or_with_nan_cannot_tell_that_the_model_is_as_expected(
    names: tuple[str, ...], missing: float | None
) -> None:
    poor = {"auc": 0.55, "auc_high": 0.9, "gap": 0.2, "gap_low": -0.1, "gap_high": 0.5}
    window = replace(GOOD, **{**poor, **dict.fromkeys(names, missing)})  # type: ignore[arg-type]
    assert find_symptoms(window, RetrainingPolicy()) == {}
    decision = decide_retraining([window], at=JUNE, new_labels=50_000)
    assert (decision.retrain, decision.conclusive) == (False, False)
    assert "cannot tell" in decision.reasons[0]
    assert names[0] in decision.reasons[0]


def test_nan_everywhere_is_no_good_month_and_complete_figures_are_conclusive() -> None:
    nan = float("nan")
    nothing = WindowEvidence("May", nan, nan, nan, nan, nan, nan, nan, (), nan)
    assert nothing == WindowEvidence("May", drifted_weight=None)
    assert not decide_retraining([nothing], at=JUNE).conclusive
    assert len(find_unknowns(nothing)) == 3
    assert decide_retraining([GOOD], at=JUNE).conclusive
    assert decide_retraining([GOOD], at=JUNE).reasons == ("May: no symptom",)


def test_drift_counts_by_the_number_of_inputs_if_the_model_states_no_importance() -> None:
    names = ("wind", "pier", "hour")
    share, weighted = weigh_drift(["wind", "hour"], dict.fromkeys(names, 0.0))
    assert (share, weighted) == (round(2 / 3, 6), False)
    sentence = find_symptoms(replace(GOOD, drifted_weight=share, drifted=("wind", "hour"), weighted=weighted), RetrainingPolicy())["inputs"]
    assert sentence == "May: 67% of the inputs drifted, each counts the same because the model states no importance (wind, hour)"
    assert weigh_drift(["wind"], dict.fromkeys(names, float("nan"))) == (round(1 / 3, 6), False)
    assert weigh_drift(["wind"], {"wind": 0.0, "pier": 1.0}) == (0.0, True)
    assert weigh_drift([], dict.fromkeys(names, 0.0)) == (0.0, True)


def test_a_cooldown_ends_on_its_day() -> None:
    policy = RetrainingPolicy(cooldown_days=31)
    assert find_holds(GOOD, JUNE, date(2026, 5, 1), 50_000, [], policy) == ()
    assert len(find_holds(GOOD, JUNE, date(2026, 5, 2), 50_000, [], policy)) == 1


def test_a_model_that_was_never_measured_is_not_retrained() -> None:
    assert not retrain()


@given(st.lists(st.sampled_from([GOOD, UNTRUE, UNRANKED, DRIFTED, replace(UNTRUE, auc_high=0.7)]), min_size=1, max_size=14))
def test_retraining_month_after_month_keeps_to_the_cooldown(months: list[WindowEvidence]) -> None:
    last, made = None, []
    for i, _ in enumerate(months):
        at = date(2026 + i // 12, i % 12 + 1, 1)
        if decide_retraining(months[: i + 1], at=at, last_retrained=last, new_labels=50_000).retrain:
            made.append(at)
            last = at
    assert all((b - a).days >= RetrainingPolicy().cooldown_days for a, b in pairwise(made))


@given(st.lists(st.sampled_from([GOOD, UNTRUE, UNRANKED, DRIFTED]), min_size=1, max_size=6))
def test_only_the_last_windows_count_and_every_decision_has_a_reason(months: list[WindowEvidence]) -> None:
    decision = decide_retraining(months, at=JUNE, new_labels=50_000)
    assert decision == decide_retraining(months[-RetrainingPolicy().among :], at=JUNE, new_labels=50_000)
    assert decision.reasons
