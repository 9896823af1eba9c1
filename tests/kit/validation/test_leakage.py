"""Leaks and copies, each found by the column or row that holds it, and chance left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from sklearn.metrics import roc_auc_score

from boathouse.validation.gate import Evidence, GateResult
from boathouse.validation.leakage import (
    check_future_features,
    check_leaking_feature,
    check_train_test_overlap,
    key_hashes_of,
    log_training,
    out_of_fold_rates,
    row_hashes_of,
    training_facts,
    training_of,
    univariate_auc,
    univariate_aucs,
    unseen_share,
)

RNG = np.random.default_rng(3)
DAYS = np.repeat(np.arange(40), 60)
SIGNAL = RNG.normal(size=DAYS.size)
LATE = RNG.random(DAYS.size) < 1 / (1 + np.exp(1 - SIGNAL))


def future_features(times: pd.DataFrame, at: pd.Series) -> GateResult:
    "What the gate finds in feature rows of these times, for forecasts made at `at`."
    rows = pd.DataFrame({"late": True, "at": at, "day": 1})
    return check_future_features(Evidence("m", 1, rows, {}, "late", "at", "day", times=times))


def leaking_feature(rows: pd.DataFrame, *inputs: str) -> GateResult:
    "What the gate finds in these columns of the rows."
    held = rows.assign(late=LATE, at=pd.Timestamp("2013-06-01"), day=DAYS)
    return check_leaking_feature(Evidence("m", 1, held, {}, "late", "at", "day", inputs=inputs))


def test_one_row_from_the_future_is_enough_to_refuse() -> None:
    now = pd.Series(pd.to_datetime(["2013-06-01"] * 1000))
    good = pd.DataFrame({"wind": now, "legs": now - pd.Timedelta(hours=1)})
    assert future_features(good, now).outcome == "pass"
    assert future_features(good.assign(wind=pd.NaT), now).outcome == "pass"  # some rows found no wind
    bad = good.copy()
    bad.loc[7, "legs"] = now[7] + pd.Timedelta(microseconds=1)
    found = future_features(bad, now)
    assert found.outcome == "refuse"
    assert "'legs': 1" in found.reason


def test_rows_in_another_order_than_their_times_are_compared_by_place() -> None:
    now = pd.Series(pd.to_datetime(["2013-06-02", "2013-06-01"]), index=[1, 0])
    assert future_features(pd.DataFrame({"wind": now.to_numpy()}), now).outcome == "pass"


def test_times_that_are_all_missing_or_of_other_rows_prove_nothing() -> None:
    now = pd.Series(pd.to_datetime(["2013-06-01"] * 3))
    for times in (pd.DataFrame(index=range(3)), pd.DataFrame({"wind": [pd.NaT] * 3})):
        assert future_features(times, now).outcome == "inconclusive"
    assert future_features(pd.DataFrame({"wind": now}), pd.Series([pd.NaT] * 3)).outcome == "inconclusive"
    with pytest.raises(ValueError, match="times must have one row per held-out row, 3, got 1"):
        future_features(pd.DataFrame({"wind": now[:1]}), now)


def test_a_copy_of_the_outcome_is_refused_in_whatever_type_it_comes() -> None:
    wobble = RNG.random(LATE.size)
    numbers = np.where(LATE, 10.0, 0.0) + wobble
    rows = pd.DataFrame(
        {"decimal": [Decimal(f"{v:.6f}") for v in numbers], "text": numbers.astype(str), "time": pd.to_datetime(numbers, unit="h")}
    )
    for column in rows:
        assert leaking_feature(rows, column).outcome == "refuse", column
    assert leaking_feature(rows.assign(noise=wobble.astype(str)), "noise").outcome == "pass"


@pytest.mark.parametrize("days", [30, 1])
def test_a_copy_of_a_class_or_a_number_is_refused_in_whatever_type_it_comes(days: int) -> None:
    n = 600
    names = np.tile(["calm", "windy", "storm"], n // 3)
    delay = RNG.normal(size=n)
    rows = pd.DataFrame({"name": names, "delay": delay, "day": np.arange(n) % days, "noise": RNG.permutation(names)})
    rows["text"], rows["category"] = rows["name"] + "!", rows["name"].astype("category")
    rows["decimal"] = [Decimal(f"{v:.6f}") for v in delay]
    rows["digits"] = delay.astype(str)
    classes = ("calm", "storm", "windy")
    for label, task, column, outcome in (
        ("name", "multiclass", "text", "refuse"),
        ("name", "multiclass", "category", "refuse"),
        ("name", "multiclass", "noise", "pass"),
        ("delay", "regression", "decimal", "refuse"),
        ("delay", "regression", "digits", "refuse"),
        ("delay", "regression", "noise", "pass"),
    ):
        known = classes if task == "multiclass" else ()
        evidence = Evidence("m", 1, rows, {}, label, day="day", inputs=(column,), task=task, classes=known)  # type: ignore[arg-type]
        assert check_leaking_feature(evidence).outcome == outcome, (task, column)
    nothing = Evidence("m", 1, rows.assign(name="calm"), {}, "name", day="day", inputs=("text",), task="multiclass", classes=classes)
    assert check_leaking_feature(nothing).outcome == "inconclusive"


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=20, unique=True))
def test_a_key_is_known_again_in_another_type_and_order_and_never_taken_for_its_neighbour(ids: list[int]) -> None:
    at = pd.to_datetime("2026-01-01") + pd.to_timedelta(np.arange(len(ids)), unit="s")
    rows = pd.DataFrame({"id": ids, "at": at})
    hashes = key_hashes_of(rows, ["id", "at"])
    assert len(set(hashes)) == len(ids)
    for same in (
        rows.astype({"id": str}),
        rows.astype({"id": float}),
        rows.astype({"id": "category"}),
        rows.astype({"at": "datetime64[s]"}),
    ):
        assert (key_hashes_of(same, ["at", "id"]) == hashes).all()


def test_training_keys_are_found_when_a_null_made_the_key_a_float_and_without_a_key_nothing_is_proven() -> None:
    known = pd.DataFrame({"id": np.arange(600), "wind": RNG.normal(size=600), "late": RNG.random(600) < 0.5})
    facts = training_facts(known, ["id"], ["wind"], "late")
    tested = known.assign(id=known["id"].astype(float), wind=RNG.normal(size=600))
    evidence = Evidence("m", 1, tested, {}, "late", key=("id",), inputs=("wind",), training=facts)
    assert check_train_test_overlap(evidence).outcome == "refuse"
    other = replace(evidence, rows=tested.assign(id=tested["id"] + 600), key=("id",))
    assert check_train_test_overlap(other).outcome == "pass"
    assert check_train_test_overlap(replace(evidence, key=())).outcome == "inconclusive"


def test_a_column_that_sorts_the_outcome_is_refused_whichever_way_it_points() -> None:
    rows = pd.DataFrame({"signal": SIGNAL, "delay": np.where(LATE, 30.0, 0.0) + RNG.normal(0, 3, LATE.size), "empty": np.nan})
    rows["early"] = -rows.delay
    alone = univariate_aucs(rows, ["signal", "delay", "early", "empty"], LATE, DAYS)
    assert alone["signal"] == pytest.approx(roc_auc_score(LATE, SIGNAL))
    assert alone["empty"] == 0.5
    assert leaking_feature(rows, "signal", "empty").outcome == "pass"
    assert leaking_feature(rows, "signal", "early").outcome == "refuse"
    assert alone["early"] == pytest.approx(alone["delay"])
    assert leaking_feature(rows).outcome == "inconclusive"


@pytest.mark.parametrize("kind", ["object", "category", "bool"])
def test_a_category_that_tells_is_found_and_a_key_is_not(kind: str) -> None:
    telling = pd.Series(np.where(LATE, "t", "f")).eq("t") if kind == "bool" else pd.Series(np.where(LATE, "waiting", "moored")).astype(kind)
    rows = pd.DataFrame({"telling": telling, "key": [f"K{n}" for n in range(LATE.size)], "chance": RNG.choice(list("abc"), LATE.size)})
    alone = univariate_aucs(rows, list(rows), LATE, DAYS)
    assert alone["telling"] > 0.99
    assert max(alone["key"], alone["chance"]) < 0.56


def test_shares_of_a_category_come_from_other_folds_only() -> None:
    late, fold = np.array([True, True, False, False]), np.array([0, 1, 0, 1])
    rates = out_of_fold_rates(np.array([0, 0, 1, 1]), late, fold)
    assert rates[0] == pytest.approx((1 + 10 * 0.5) / (1 + 10))  # of its own row it knows nothing
    changed = out_of_fold_rates(np.array([0, 0, 1, 1]), np.array([False, True, False, False]), fold)
    assert changed[0] == rates[0]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=20))
def test_a_row_has_one_hash_whatever_the_noise_behind_six_digits(values: list[float]) -> None:
    centred = pd.DataFrame({"x": [float(f"{v:.3g}") for v in values]})  # away from the edges of rounding
    assert np.array_equal(row_hashes_of(centred, ["x"]), row_hashes_of(centred * (1 + 1e-10), ["x"]))


def test_hashes_tell_rows_apart_by_value_type_and_place() -> None:
    rows = pd.DataFrame({"a": [1.0, 1.001, np.nan, 0.0, -1.0], "b": ["x", "x", "x", None, "x"], "c": pd.to_datetime(["2013-06-01"] * 5)})
    assert len(set(row_hashes_of(rows, ["a", "b", "c"]))) == 5
    assert not np.array_equal(row_hashes_of(rows.assign(b="1", a=2.0), ["a", "b"]), row_hashes_of(rows.assign(b="2", a=1.0), ["a", "b"]))


def test_training_facts_say_what_was_seen_and_how_often_rows_repeat_by_chance() -> None:
    rows = pd.DataFrame({"k": range(4), "x": [1.0, 1.0, 2.0, 2.0], "pier": ["n", "n", "s", None], "late": True, "day": [1, 2, 2, 2]})
    facts = training_facts(rows, ["k"], ["x", "pier"], "late", "day")
    assert facts.input_domains == {"x": (1.0, 2.0), "pier": frozenset({"n", "s"})}
    assert facts.duplicate_rate == 0.5  # the first two, on two days; the others differ
    assert facts.days == {1, 2}


def test_a_missing_value_is_not_strange_and_a_new_one_is() -> None:
    assert unseen_share(pd.Series(["n", None, "e"]), frozenset({"n"})) == pytest.approx(1 / 3)
    assert unseen_share(pd.Series([0.5, np.nan, 7.0]), (0.0, 1.0)) == pytest.approx(1 / 3)


def test_an_outcome_that_never_happens_sorts_nothing() -> None:
    assert univariate_auc(pd.Series(np.arange(5.0)), np.zeros(5, bool), np.zeros(5, int)) == 0.5


def test_training_facts_come_back_as_they_were_stored_and_also_from_files_of_earlier_versions() -> None:
    mlflow.set_experiment("/test_training_facts")
    rows = pd.DataFrame({"k": range(4), "x": [1.0, 1.0, 2.0, 2.0], "pier": ["n", "n", "s", None], "late": True})
    rows["day"] = [date(2013, 6, n) for n in (1, 2, 2, 2)]
    facts = training_facts(rows, ["k"], ["x", "pier"], "late", "day", train_metric=0.8, cv_metric=0.7)
    with mlflow.start_run() as run:
        log_training(run.info.run_id, facts)
    stored = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/training_facts.json")
    assert set(stored) == {"days", "input_domains", "duplicate_rate", "train_metric", "cv_metric"}
    again = training_of(run.info.run_id)
    former = {"duplicate_rate": "repeats", "input_domains": "seen", "train_metric": "fitted", "cv_metric": "claimed"}
    MlflowClient().log_dict(run.info.run_id, {former.get(name, name): value for name, value in stored.items()}, "training_facts.json")
    for found in (again, training_of(run.info.run_id)):
        for name, value in vars(facts).items():
            assert np.array_equal(getattr(found, name), value), name


def test_a_value_where_training_had_none_and_a_text_where_it_had_numbers_are_unseen() -> None:
    values = pd.Series([1.0, 2.0, np.nan])
    assert unseen_share(values, (float("nan"), float("nan"))) == pytest.approx(2 / 3)
    assert unseen_share(pd.Series(["a", "b", None]), (0.0, 5.0)) == pytest.approx(2 / 3)
    assert unseen_share(values, (0.0, 5.0)) == 0
