"A decision follows from symptoms, hysteresis and holds, and from nothing else."

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from boathouse.monitoring.retraining import (
    DECISIONS,
    RetrainingDecision,
    RetrainingPolicy,
    WindowEvidence,
    decide_retraining,
    find_holds,
    find_symptoms,
    find_unknowns,
    last_retrained,
    record_decision,
    weigh_drift,
)
from boathouse.tables.table import Lakehouse, read

GOOD = WindowEvidence("May", expected=0.74, observed=0.73, observed_high=0.76, gap=0.0, gap_low=-0.02, gap_high=0.02, labelled_share=0.98)
UNTRUE = replace(GOOD, gap=0.06, gap_low=0.02, gap_high=0.10)
UNRANKED = replace(GOOD, observed=0.68, observed_high=0.71)
DRIFTED = replace(GOOD, drifted_weight=0.4, drifted=("wind",))
JUNE = date(2026, 6, 1)


def retrain(*windows: WindowEvidence, **known: object) -> bool:
    return decide_retraining(windows, at=JUNE, **{"new_labels": 50_000, **known}).retrain  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "windows", [(GOOD,), (UNTRUE, GOOD), (UNRANKED,), (DRIFTED,), (DRIFTED, GOOD, GOOD), (DRIFTED, GOOD, GOOD, UNRANKED)]
)
def test_a_good_month_or_a_single_symptom_does_not_retrain(windows: tuple[WindowEvidence, ...]) -> None:
    assert not retrain(*windows)


def test_windows_in_another_order_or_of_two_versions_are_refused() -> None:
    april, may = (replace(UNRANKED, window=name) for name in ("2026-04", "2026-05"))
    assert retrain(april, may)
    for wrong in ((may, april), (may, may), (april, may, may)):
        with pytest.raises(ValueError, match=r"must be in order of time, the newest last, each once, got 2026-0"):
            retrain(*wrong)


@pytest.mark.parametrize(
    "windows", [(replace(UNTRUE, observed_high=0.70),), (UNRANKED, UNRANKED), (DRIFTED, GOOD, UNRANKED), (GOOD, UNTRUE, DRIFTED)]
)
def test_two_symptoms_at_once_or_a_symptom_that_is_back_retrains(windows: tuple[WindowEvidence, ...]) -> None:
    assert retrain(*windows)


@pytest.mark.parametrize(
    ("kind", "evidence"),
    [
        ("a gap that matters but may be chance", replace(GOOD, gap=0.06, gap_low=-0.01, gap_high=0.13)),
        ("a gap that is certain but too small to matter", replace(GOOD, gap=0.01, gap_low=0.005, gap_high=0.015)),
        ("an AUC whose interval reaches the promise", replace(GOOD, observed=0.68, observed_high=0.745)),
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
    early = replace(DRIFTED, observed=None, observed_high=None, gap=None, labelled_share=0.3)
    assert not retrain(UNRANKED, early)
    assert "30% of the labels" in decide_retraining([WindowEvidence("May", labelled_share=0.3)], at=JUNE).reasons[0]


@pytest.mark.parametrize("missing", [None, float("nan")])
@pytest.mark.parametrize(
    "names", [("observed_high",), ("observed", "observed_high"), ("expected",), ("gap_low", "gap_high"), ("gap",), ("drifted_weight",)]
)
def test_evidence_without_an_interval_or_with_nan_cannot_tell_that_the_model_is_as_expected(
    names: tuple[str, ...], missing: float | None
) -> None:
    poor = {"observed": 0.55, "observed_high": 0.9, "gap": 0.2, "gap_low": -0.1, "gap_high": 0.5}
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


@given(st.lists(st.sampled_from([GOOD, UNTRUE, UNRANKED, DRIFTED, replace(UNTRUE, observed_high=0.7)]), min_size=1, max_size=14))
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


def test_a_decision_is_kept_once_per_period_and_never_sees_itself_or_the_future(spark: SparkSession) -> None:
    lake = Lakehouse(spark, prefix="test_decisions_")
    new_year, february = datetime(2014, 1, 1), datetime(2014, 2, 1)
    assert last_retrained(lake, "m", new_year) is None
    for period, at, retrain in (
        ("2013-10", datetime(2013, 11, 1), False),
        ("2013-11", datetime(2013, 12, 1), True),
        ("2013-12", new_year, True),
        ("2013-10", datetime(2013, 11, 1), False),
    ):
        record_decision(lake, "m", 1, period, at, RetrainingDecision(retrain, ("because",)), {"last": date(2013, 5, 1)})
    rows = read(lake, DECISIONS).orderBy("period").collect()
    assert [(r.period, r.retrain, r.decided_at) for r in rows] == [
        ("2013-10", False, datetime(2013, 11, 1)),
        ("2013-11", True, datetime(2013, 12, 1)),
        ("2013-12", True, new_year),
    ]
    assert json.loads(rows[0].evidence) == {"last": "2013-05-01"}
    found = [last_retrained(lake, "m", before) for before in (datetime(2013, 12, 1), new_year, february)]
    assert found == [None, date(2013, 12, 1), date(2014, 1, 1)]
    assert last_retrained(lake, "another", february) is None


@pytest.mark.parametrize(
    ("window", "kind", "sentence"),
    [
        (
            WindowEvidence("May", gap=-0.08, gap_low=-0.1, gap_high=-0.06, task="multiclass", gap_class="late"),
            "calibration",
            "May: 8.0% fewer rows of the class late than predicted (95 % interval -10.0% to -6.0%)",
        ),
        (
            WindowEvidence("May", gap=0.25, gap_low=0.2, gap_high=0.3, task="regression"),
            "calibration",
            "May: the mean label lies 0.25 standard deviations above the mean prediction (95 % interval +0.20 to +0.30)",
        ),
        (WindowEvidence("May", 0.6, 0.4, 0.5, task="regression"), "quality", "May: R2 0.400, at most 0.500, below the expected 0.600"),
        (
            WindowEvidence("May", 0.6, 0.4, 0.5, task="multiclass"),
            "quality",
            "May: D2 of the log loss 0.400, at most 0.500, below the expected 0.600",
        ),
    ],
)
def test_a_symptom_is_named_in_the_words_of_the_task(window: WindowEvidence, kind: str, sentence: str) -> None:
    assert find_symptoms(window, RetrainingPolicy()) == {kind: sentence}


def test_a_mean_gap_of_a_regression_has_a_limit_of_its_own() -> None:
    small = WindowEvidence("May", gap=0.05, gap_low=0.04, gap_high=0.06, task="regression")
    assert find_symptoms(small, RetrainingPolicy()) == {}
    assert list(find_symptoms(small, RetrainingPolicy(mean_gap=0.05))) == ["calibration"]


@pytest.mark.parametrize("missing", [np.float32("nan"), float("inf"), pd.NA])
def test_a_figure_that_is_no_number_is_missing_and_a_share_in_percent_is_refused(missing: object) -> None:
    assert WindowEvidence("May", observed=missing).observed is None  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labelled_share must be a share from 0 to 1, got 95"):
        WindowEvidence("May", labelled_share=95)
