"""Bad models, each refused by the gates that are there for it and by no other; the honest one beside them is accepted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from harbour import INPUTS, but, candidate_of, ferries, split, with_scores
from scipy.special import expit, logit

from boathouse.validation.gate import Evidence

Ask = Callable[[Evidence], set[str]]
CHAMPION, BASELINE = "beats_champion", "beats_baseline"
USELESS = {"auc_floor", "slice_floor", "cv_gap", "train_gap", BASELINE, CHAMPION}


def test_a_model_of_flipped_labels(harbour: pd.DataFrame, refused: Ask) -> None:
    train, _ = split(harbour)
    assert refused(candidate_of(harbour, trained=train.assign(late=~train.late))) == {*USELESS, "calibration"}


def test_shuffled_predictions(good: Evidence, refused: Ask) -> None:
    shuffled = np.random.default_rng(1).permutation(good.scores["candidate"])
    assert refused(with_scores(good, candidate=shuffled)) == {*USELESS, "calibration"}


def test_a_constant_model(good: Evidence, refused: Ask) -> None:
    constant = np.full(len(good.rows), good.truth.mean())
    assert refused(with_scores(good, candidate=constant)) == {*USELESS, "valid_probabilities"}


def test_swapped_classes(good: Evidence, refused: Ask) -> None:
    assert refused(with_scores(good, candidate=1 - good.scores["candidate"])) == {*USELESS, "calibration"}


def test_a_prediction_that_is_not_a_number_lets_no_gate_of_scores_pass(good: Evidence, refused: Ask) -> None:
    holed = np.where(np.arange(len(good.rows)) == 7, np.nan, good.scores["candidate"])
    assert refused(with_scores(good, candidate=holed)) == {*USELESS, "calibration", "valid_probabilities"}


def test_probabilities_out_of_range(good: Evidence, refused: Ask) -> None:
    assert refused(with_scores(good, candidate=good.scores["candidate"] * 1.3)) == {"valid_probabilities", "calibration"}


def test_probabilities_that_are_too_extreme(good: Evidence, refused: Ask) -> None:
    assert refused(with_scores(good, candidate=expit(2.5 * logit(good.scores["candidate"])))) == {"calibration"}


def test_probabilities_that_are_too_high_on_the_whole(good: Evidence, refused: Ask) -> None:
    assert refused(with_scores(good, candidate=expit(logit(good.scores["candidate"]) + 0.9))) == {"calibration"}


def test_one_bad_slice_of_a_first_model(good: Evidence, refused: Ask) -> None:
    scores, bad = good.scores["candidate"].copy(), (good.rows.line == "L04").to_numpy()
    first = but(good, scores={n: s for n, s in good.scores.items() if n != "champion"}, has_champion=False)
    assert refused(first) == set()
    scores[bad] = np.random.default_rng(1).permutation(scores[bad])
    assert refused(with_scores(first, candidate=scores)) == {"slice_floor"}


def test_a_model_that_is_no_better_than_the_timetable(harbour: pd.DataFrame, refused: Ask) -> None:
    assert refused(candidate_of(harbour, ["line", "hour"])) == {"auc_floor", BASELINE, CHAMPION}


def test_a_model_that_is_worse_than_the_champion_and_better_than_the_timetable(harbour: pd.DataFrame, refused: Ask) -> None:
    assert refused(candidate_of(harbour, [c for c in INPUTS if c not in ("waves", "traffic")])) == {CHAMPION}


def test_the_champion_itself_once_more_cannot_be_told_from_it(good: Evidence, refused: Ask) -> None:
    assert refused(with_scores(good, champion=good.scores["candidate"])) == {CHAMPION}


def test_a_model_that_knows_its_training_rows_by_heart(harbour: pd.DataFrame, refused: Ask) -> None:
    grown = candidate_of(harbour, num_leaves=255, min_child_samples=1, n_estimators=300)
    assert refused(grown) == {"train_gap", "calibration", CHAMPION}


def test_rows_split_at_random_promise_what_later_days_do_not_keep(refused: Ask) -> None:
    moody = ferries(1, mood=1.2)
    moody["pressure"] = np.random.default_rng(3).normal(size=98)[pd.factorize(moody.day)[0]]  # tells the days apart, and nothing else

    def at_random(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        return split(rows.sample(frac=1, random_state=1).assign(day=rows.day.to_numpy()))

    many = {"n_estimators": 300, "num_leaves": 15}
    assert "cv_gap" in refused(candidate_of(moody, [*INPUTS, "pressure"], promise=at_random, **many))
    assert "cv_gap" not in refused(candidate_of(moody, [*INPUTS, "pressure"], **many))  # its twin, which split by time


def test_a_model_trained_on_rows_of_the_days_that_it_is_tested_on(harbour: pd.DataFrame, refused: Ask) -> None:
    drawn = harbour.sample(frac=0.7, random_state=1)
    others = split(harbour)[1].query("ferry not in @drawn.ferry").reset_index(drop=True)
    assert refused(candidate_of(harbour, trained=drawn, tested=others)) == {"test_after_training"}
