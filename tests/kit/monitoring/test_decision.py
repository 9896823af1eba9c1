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

from boathouse.monitoring.decision import (
    DECISIONS,
    Action,
    ModelDecision,
    PreviousVersion,
    decide_action,
    find_holds,
    find_mistake,
    record_decision,
    retraining_dates,
)
from boathouse.monitoring.evidence import (
    DecisionPolicy,
    SliceGap,
    WindowEvidence,
    find_data_failures,
    find_symptoms,
    find_unknowns,
    weigh_drift,
)
from boathouse.tables.table import Lakehouse, read

GOOD = WindowEvidence("May", expected=0.74, observed=0.73, observed_high=0.76, gap=0.0, gap_low=-0.02, gap_high=0.02, labelled_share=0.98)
UNTRUE = replace(GOOD, gap=0.06, gap_low=0.02, gap_high=0.10)
UNRANKED = replace(GOOD, observed=0.68, observed_high=0.71)
DRIFTED = replace(GOOD, drifted_weight=0.4, drifted=("wind",))
JUNE = date(2026, 6, 1)


def retrain(*windows: WindowEvidence, **known: object) -> bool:
    return decide_action(windows, at=JUNE, **{"new_labels": 50_000, **known}).action == "retrain"  # type: ignore[arg-type]


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
    assert find_symptoms(evidence, DecisionPolicy()) == {}, kind


def test_forecasts_that_are_too_high_are_a_symptom_like_those_that_are_too_low() -> None:
    assert "fewer positives" in find_symptoms(replace(GOOD, gap=-0.06, gap_low=-0.10, gap_high=-0.02), DecisionPolicy())["calibration"]


@pytest.mark.parametrize(
    ("known", "word"),
    [
        ({"retrained": [date(2026, 1, 1), date(2026, 5, 1)]}, "31 days ago"),
        ({"retrained": [date(2026, 5, 28)], "policy": DecisionPolicy(cooldown_days=0)}, "1 times within a week, 1 is the limit"),
        ({"new_labels": 9_999}, "9,999 new labels"),
    ],
)
def test_each_hold_forbids_and_says_so_first(known: dict[str, object], word: str) -> None:
    decision = decide_action([UNRANKED, UNRANKED], at=JUNE, **{"new_labels": 50_000, **known})  # type: ignore[arg-type]
    assert decision.action == "keep"
    assert word in decision.reasons[0]
    assert len(decision.reasons) == 3


def test_the_newest_window_with_its_labels_decides_and_those_after_it_wait() -> None:
    early = replace(DRIFTED, observed=None, observed_high=None, gap=None, labelled_share=0.3)
    assert not retrain(UNRANKED, early)
    assert retrain(UNRANKED, UNRANKED, early, early)
    assert not retrain(UNRANKED, GOOD, early)
    stopped = decide_action([UNRANKED, UNRANKED, replace(early, rows=0)], at=JUNE, new_labels=50_000)
    assert (stopped.action, len(stopped.reasons)) == ("fix_data", 3)
    assert "30% of the labels" in decide_action([WindowEvidence("May", labelled_share=0.3)], at=JUNE).reasons[0]


@pytest.mark.parametrize("missing", [None, float("nan")])
@pytest.mark.parametrize(
    "names", [("observed_high",), ("observed", "observed_high"), ("expected",), ("gap_low", "gap_high"), ("gap",), ("drifted_weight",)]
)
def test_evidence_without_an_interval_or_with_nan_cannot_tell_that_the_model_is_as_expected(
    names: tuple[str, ...], missing: float | None
) -> None:
    poor = {"observed": 0.55, "observed_high": 0.9, "gap": 0.2, "gap_low": -0.1, "gap_high": 0.5}
    window = replace(GOOD, **{**poor, **dict.fromkeys(names, missing)})  # type: ignore[arg-type]
    assert find_symptoms(window, DecisionPolicy()) == {}
    decision = decide_action([window], at=JUNE, new_labels=50_000)
    assert (decision.action, decision.conclusive) == ("keep", False)
    assert "cannot tell" in decision.reasons[0]
    assert names[0] in decision.reasons[0]


def test_nan_everywhere_is_no_good_month_and_complete_figures_are_conclusive() -> None:
    nan = float("nan")
    nothing = WindowEvidence("May", nan, nan, nan, nan, nan, nan, nan, (), nan)
    assert nothing == WindowEvidence("May", drifted_weight=None)
    assert not decide_action([nothing], at=JUNE).conclusive
    assert len(find_unknowns(nothing)) == 3
    assert decide_action([GOOD], at=JUNE).conclusive
    assert decide_action([GOOD], at=JUNE).reasons == ("May: no symptom",)


def test_drift_counts_by_the_number_of_inputs_if_the_model_states_no_importance() -> None:
    names = ("wind", "pier", "hour")
    share, weighted = weigh_drift(["wind", "hour"], dict.fromkeys(names, 0.0))
    assert (share, weighted) == (round(2 / 3, 6), False)
    sentence = find_symptoms(replace(GOOD, drifted_weight=share, drifted=("wind", "hour"), weighted=weighted), DecisionPolicy())["inputs"]
    assert sentence == "May: 67% of the inputs drifted, each counts the same because the model states no importance (wind, hour)"
    assert weigh_drift(["wind"], dict.fromkeys(names, float("nan"))) == (round(1 / 3, 6), False)
    assert weigh_drift(["wind"], {"wind": 0.0, "pier": 1.0}) == (0.0, True)
    assert weigh_drift([], dict.fromkeys(names, 0.0)) == (0.0, True)


def test_a_cooldown_ends_on_its_day() -> None:
    policy = DecisionPolicy(cooldown_days=31)
    assert find_holds(JUNE, [date(2026, 5, 1)], 50_000, policy) == ()
    assert len(find_holds(JUNE, [date(2026, 5, 2)], 50_000, policy)) == 1


def test_the_limit_per_week_counts_the_days_of_the_last_seven() -> None:
    policy = DecisionPolicy(cooldown_days=0, per_week=2)
    assert find_holds(JUNE, [date(2026, 5, 25), date(2026, 5, 26)], 50_000, policy) == ()
    assert len(find_holds(JUNE, [date(2026, 5, 26), date(2026, 5, 30)], 50_000, policy)) == 1


@pytest.mark.parametrize("known", [{"open_failures": ["wind: in_range"]}, {}])
def test_broken_data_come_before_a_rollback_and_before_a_retraining(known: dict[str, list[str]]) -> None:
    mistake = PreviousVersion(1, date(2026, 5, 1), 0.05, 0.02, 0.08)
    newest = replace(UNRANKED, rows=0) if not known else UNRANKED
    decision = decide_action([UNRANKED, newest], at=JUNE, new_labels=50_000, previous=mistake, **known)  # type: ignore[arg-type]
    assert (decision.action, decision.conclusive) == ("fix_data", False)
    assert decision.reasons[0] == ("a data-quality failure is open: wind: in_range" if known else "May: no rows were scored")
    assert len(decision.reasons) == 3


def test_open_failures_are_reported_although_the_model_has_no_symptom_and_no_window() -> None:
    assert decide_action([GOOD], at=JUNE, open_failures=["feed: fresh"]).action == "fix_data"
    assert decide_action([], at=JUNE, open_failures=["feed: fresh"]).action == "fix_data"


@pytest.mark.parametrize(
    ("rows", "broken"), [((100, 110, 90, 169), False), ((100, 110, 90, 171), True), ((100, 110, 90, 58), True), ((100, 90, 200), False)]
)
def test_a_feed_that_doubles_or_halves_is_broken_data_once_three_windows_are_known(rows: tuple[int, ...], broken: bool) -> None:
    windows = [replace(GOOD, window=f"2026-0{n + 1}", rows=count) for n, count in enumerate(rows)]
    assert bool(find_data_failures(windows, DecisionPolicy())) == broken
    assert decide_action(windows, at=JUNE).action == ("fix_data" if broken else "keep")


def test_an_input_in_another_unit_is_broken_data_and_not_drift() -> None:
    decision = decide_action([replace(DRIFTED, rescaled=("wind looks like km/h instead of knots",)), UNRANKED], at=JUNE, new_labels=50_000)
    assert decision.action == "retrain"  # the newest window is sound
    decision = decide_action([UNRANKED, replace(DRIFTED, rescaled=("wind looks like km/h instead of knots",))], at=JUNE, new_labels=50_000)
    assert (decision.action, decision.reasons[0]) == ("fix_data", "May: wind looks like km/h instead of knots")


@pytest.mark.parametrize(
    ("previous", "is_mistake"),
    [
        (PreviousVersion(1, date(2026, 4, 15), 0.02, 0.01, 0.03), True),
        (PreviousVersion(1, date(2026, 3, 31), 0.02, 0.01, 0.03), True),
        (PreviousVersion(1, date(2026, 3, 30), 0.02, 0.01, 0.03), False),
        (PreviousVersion(1, date(2026, 4, 15), 0.02, 0.0, 0.04), False),
        (PreviousVersion(1, date(2026, 4, 15), 0.009, 0.001, 0.017), False),
        (PreviousVersion(1, date(2026, 4, 15), -0.02, -0.03, -0.01), False),
        (PreviousVersion(1, date(2026, 4, 15)), False),
        (None, False),
    ],
)
def test_a_rollback_needs_a_recent_promotion_a_gain_that_matters_and_an_interval_above_zero(
    previous: PreviousVersion | None, is_mistake: bool
) -> None:
    assert bool(find_mistake(previous, JUNE, DecisionPolicy())) == is_mistake
    decision = decide_action([UNRANKED, UNRANKED], at=JUNE, new_labels=50_000, previous=previous)
    assert decision.action == ("roll_back" if is_mistake else "retrain")


def test_drifted_inputs_alone_do_not_retrain_a_model_that_is_as_good_as_expected_unless_the_policy_says_so() -> None:
    decision = decide_action([DRIFTED, DRIFTED], at=JUNE, new_labels=50_000)
    assert (decision.action, decision.reasons[-1]) == ("keep", "inputs drifted, but calibration and quality are as expected")
    assert not retrain(DRIFTED, DRIFTED, DRIFTED)
    assert retrain(DRIFTED, DRIFTED, policy=DecisionPolicy(drift_alone=True))
    assert retrain(DRIFTED, UNTRUE)


def test_a_slice_that_fails_month_after_month_retrains_although_the_whole_is_as_expected() -> None:
    west = SliceGap("pier is west", -0.11, -0.15, -0.07, 400)
    failing = replace(GOOD, slices=(SliceGap("pier is east", 0.02, 0.01, 0.03, 900), west))
    assert find_symptoms(failing, DecisionPolicy())["slices"] == (
        "where pier is west, May: 11.0% fewer positives than predicted (95 % interval -15.0% to -7.0%)"
    )
    assert not retrain(GOOD, failing)
    assert retrain(failing, failing)
    for sound in (replace(west, rows=199), replace(west, gap=-0.059), replace(west, gap_high=0.01)):
        assert find_symptoms(replace(GOOD, slices=(sound,)), DecisionPolicy()) == {}


def test_a_rollback_needs_a_symptom_of_calibration_or_quality() -> None:
    mistake = PreviousVersion(1, date(2026, 5, 1), 0.05, 0.02, 0.08)
    assert [decide_action([one], at=JUNE, previous=mistake).action for one in (GOOD, DRIFTED, UNTRUE, UNRANKED)] == [
        "keep",
        "keep",
        "roll_back",
        "roll_back",
    ]


def test_a_model_that_was_never_measured_is_not_retrained() -> None:
    assert not retrain()


@given(st.lists(st.sampled_from([GOOD, UNTRUE, UNRANKED, DRIFTED, replace(UNTRUE, observed_high=0.7)]), min_size=1, max_size=14))
def test_retraining_month_after_month_keeps_to_the_cooldown(months: list[WindowEvidence]) -> None:
    made: list[date] = []
    for i, _ in enumerate(months):
        at = date(2026 + i // 12, i % 12 + 1, 1)
        if decide_action(months[: i + 1], at=at, retrained=made, new_labels=50_000).action == "retrain":
            made.append(at)
    assert all((b - a).days >= DecisionPolicy().cooldown_days for a, b in pairwise(made))


@given(st.lists(st.sampled_from([GOOD, UNTRUE, UNRANKED, DRIFTED]), min_size=1, max_size=6))
def test_only_the_last_windows_count_and_every_decision_has_a_reason(months: list[WindowEvidence]) -> None:
    decision = decide_action(months, at=JUNE, new_labels=50_000)
    assert decision == decide_action(months[-DecisionPolicy().among :], at=JUNE, new_labels=50_000)
    assert decision.reasons


def test_a_decision_is_kept_once_per_period_and_never_sees_itself_or_the_future(spark: SparkSession) -> None:
    lake = Lakehouse(spark, prefix="test_decisions_")
    new_year, february = datetime(2014, 1, 1), datetime(2014, 2, 1)
    assert retraining_dates(lake, "m", new_year) == ()
    actions: list[tuple[str, datetime, Action]] = [
        ("2013-10", datetime(2013, 11, 1), "keep"),
        ("2013-11", datetime(2013, 12, 1), "retrain"),
        ("2013-12", new_year, "retrain"),
        ("2013-10", datetime(2013, 11, 1), "roll_back"),
    ]
    for period, at, action in actions:
        record_decision(lake, "m", 1, period, at, ModelDecision(action, ("because",)), {"last": date(2013, 5, 1)})
    rows = read(lake, DECISIONS).orderBy("period").collect()
    assert [(r.period, r.action, r.decided_at) for r in rows] == [
        ("2013-10", "roll_back", datetime(2013, 11, 1)),
        ("2013-11", "retrain", datetime(2013, 12, 1)),
        ("2013-12", "retrain", new_year),
    ]
    assert json.loads(rows[0].evidence) == {"last": "2013-05-01"}
    found = [retraining_dates(lake, "m", before) for before in (datetime(2013, 12, 1), new_year, february)]
    assert found == [(), (date(2013, 12, 1),), (date(2013, 12, 1), date(2014, 1, 1))]
    assert retraining_dates(lake, "another", february) == ()


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
    assert find_symptoms(window, DecisionPolicy()) == {kind: sentence}


def test_a_mean_gap_of_a_regression_has_a_limit_of_its_own() -> None:
    small = WindowEvidence("May", gap=0.05, gap_low=0.04, gap_high=0.06, task="regression")
    assert find_symptoms(small, DecisionPolicy()) == {}
    assert list(find_symptoms(small, DecisionPolicy(mean_gap=0.05))) == ["calibration"]


@pytest.mark.parametrize("missing", [np.float32("nan"), float("inf"), pd.NA])
def test_a_figure_that_is_no_number_is_missing_and_a_share_in_percent_is_refused(missing: object) -> None:
    assert WindowEvidence("May", observed=missing).observed is None  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labelled_share must be a share from 0 to 1, got 95"):
        WindowEvidence("May", labelled_share=95)
