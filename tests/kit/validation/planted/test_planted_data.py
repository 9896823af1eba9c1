"""Bad data, each refused by the gates that are there for it and by no other; the honest candidate beside it is accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pandas as pd
from harbour import INPUTS, KEY, POLICY, but, candidate_of, split

from boathouse.validation.gate import Evidence, run_gates
from boathouse.validation.leakage import training_facts
from boathouse.validation.policy import gates_of

Ask = Callable[[Evidence], set[str]]


def test_a_column_that_was_measured_afterwards(harbour: pd.DataFrame, refused: Ask) -> None:
    rng = np.random.default_rng(5)
    leaking = harbour.assign(delay=harbour.late * 30.0 + rng.normal(0, 15, len(harbour)))
    assert refused(candidate_of(leaking, [*INPUTS, "delay"])) == {"leaking_feature"}


def test_a_category_that_tells_the_outcome(harbour: pd.DataFrame, refused: Ask) -> None:
    rng = np.random.default_rng(5)
    leaking = harbour.assign(pier=np.where(harbour.late & (rng.random(len(harbour)) < 0.9), "waiting", harbour.pier))
    assert "leaking_feature" in refused(candidate_of(leaking))


def test_a_gap_that_tells_the_outcome(harbour: pd.DataFrame, refused: Ask) -> None:
    rng = np.random.default_rng(5)
    leaking = harbour.assign(moored=np.where(rng.random(len(harbour)) < np.where(harbour.late, 0.9, 0.1), np.nan, 1.0))
    assert refused(candidate_of(leaking, [*INPUTS, "moored"])) == {"leaking_feature"}


def test_a_join_that_reaches_into_the_future(good: Evidence, refused: Ask) -> None:
    times = good.times.copy()
    times.loc[11, "features.sea"] = good.rows.forecast_at[11] + pd.Timedelta(microseconds=1)
    assert refused(but(good, times=times)) == {"future_features"}


def test_keys_that_were_trained_on(harbour: pd.DataFrame, good: Evidence, refused: Ask) -> None:
    train, test = split(harbour)
    test.loc[:2, "ferry"] = train.ferry[:3].to_numpy()
    assert refused(but(good, rows=test)) == {"train_test_overlap"}


def test_copies_of_training_rows_under_another_key(harbour: pd.DataFrame, good: Evidence, refused: Ask) -> None:
    rng = np.random.default_rng(5)
    train, test = split(harbour)
    copied = rng.choice(len(test), 140, replace=False)  # one row in twenty, with noise far behind the point
    for column in (*INPUTS, "late"):
        values = train[column].to_numpy()[: len(copied)]
        test.loc[copied, column] = values * (1 + 1e-9) if values.dtype.kind == "f" else values
    assert "train_test_overlap" in refused(but(good, rows=test))


def test_coarse_inputs_that_repeat_by_chance_are_no_copies(harbour: pd.DataFrame, refused: Ask) -> None:
    coarse = harbour.assign(wind=harbour.wind.round(), waves=harbour.waves.round(), traffic=harbour.traffic.round())
    assert "train_test_overlap" not in refused(candidate_of(coarse))


def test_a_column_in_other_units(harbour: pd.DataFrame, refused: Ask) -> None:
    _, test = split(harbour)
    knots = candidate_of(harbour, tested=test.assign(wind=test.wind * 1.94))
    assert {"unseen_inputs", "calibration"} <= refused(knots)


def test_a_category_that_training_never_saw(harbour: pd.DataFrame, refused: Ask) -> None:
    train, _ = split(harbour)
    assert refused(candidate_of(harbour, trained=train[train.line != "L01"])) == {"unseen_inputs"}


def test_a_training_of_months_ago(good: Evidence, refused: Ask) -> None:
    assert refused(but(good, as_of=good.as_of + timedelta(days=60))) == {"training_recency"}


def test_open_failures_of_data_quality(good: Evidence, refused: Ask) -> None:
    assert refused(but(good, open_failures=("silver.ferries: wind is negative",))) == {"open_quality_failures"}


def test_a_holdout_that_six_versions_were_evaluated_on_warns_and_one_of_five_does_not(good: Evidence) -> None:
    def warned(evidence: Evidence) -> tuple[str, ...]:
        verdict = run_gates(gates_of(POLICY), evidence)
        assert verdict.accepted, "a reused holdout is no fault of the candidate"
        return verdict.warnings

    assert warned(good) == ()
    assert warned(but(good, version=9, shown=(2, 3, 5, 7, 9))) == ()
    assert warned(but(good, version=9, shown=(2, 3, 5, 7, 8, 9))) == ("holdout_reuse",)
    assert warned(but(good, version=9, shown=(2, 3))) == ("holdout_reuse",), "this version was evaluated, and it is not recorded"
    assert warned(but(good, shown=None)) == ("holdout_reuse",)


def test_what_was_not_measured_is_not_passed(good: Evidence, refused: Ask) -> None:
    assert refused(but(good, times=None)) == {"future_features"}
    assert refused(but(good, open_failures=None)) == {"open_quality_failures"}
    assert refused(but(good, fresh=None)) == {"loads_in_clean_process", "latency"}


def test_rows_whose_labels_are_not_known_yet(good: Evidence, refused: Ask) -> None:
    rows = good.rows.astype({"late": object})
    rows.loc[3, "late"] = None
    assert {"auc_floor", "calibration", "slice_floor", "beats_baseline", "beats_champion"} <= refused(but(good, rows=rows))


def test_days_that_the_champion_was_trained_on_do_not_count(good: Evidence, refused: Ask) -> None:
    fewer = (good.rows.day >= good.rows.day.max() - timedelta(days=4)).to_numpy()
    assert refused(but(good, unseen=fewer)) == {"beats_champion"}
    assert refused(but(good, unseen=(good.rows.day >= good.rows.day.max() - timedelta(days=20)).to_numpy())) == set()


def test_the_facts_of_other_training_rows_are_other_facts(harbour: pd.DataFrame) -> None:
    train, test = split(harbour)
    ours, theirs = (training_facts(rows, KEY, INPUTS, "late", "day") for rows in (train, test))
    assert not np.isin(ours.keys, theirs.keys).any()
    assert not ours.days & theirs.days
