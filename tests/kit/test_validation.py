"""Gates refuse what they should, and let its good twin pass."""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from boathouse.validation import Gate, beats, calibration, nothing_later, paired_gain, plausible, predicts, record, single_aucs, slices

RNG = np.random.default_rng(3)
DAYS = np.repeat(np.arange(40), 60)
SIGNAL = RNG.normal(size=DAYS.size)
LATE = RNG.random(DAYS.size) < 1 / (1 + np.exp(1 - SIGNAL))


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), min_size=4, max_size=60).filter(
        lambda r: len({x[0] for x in r}) == 2
    )
)
def test_the_matrix_of_pairs_gives_the_auc_that_sorting_gives_also_with_ties(rows: list) -> None:
    late, a, b, day = (np.array(x) for x in zip(*rows, strict=True))
    gain = paired_gain(late, a.astype(float), b.astype(float), day, draws=50)
    assert gain.candidate == pytest.approx(roc_auc_score(late, a))
    assert gain.other == pytest.approx(roc_auc_score(late, b))


def test_the_interval_is_that_of_resampling_whole_days_row_by_row() -> None:
    other = SIGNAL + RNG.normal(0, 1, SIGNAL.size)
    gain, rng, slow = paired_gain(LATE, SIGNAL, other, DAYS), np.random.default_rng(0), []
    for _ in range(300):
        index = np.concatenate([np.flatnonzero(d == DAYS) for d in rng.integers(0, 40, 40)])
        slow.append(roc_auc_score(LATE[index], SIGNAL[index]) - roc_auc_score(LATE[index], other[index]))
    assert (gain.low, gain.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.006)


def test_a_clearly_better_model_passes_and_the_same_worse_and_noisier_ones_do_not() -> None:
    blurred = SIGNAL + RNG.normal(0, 1, SIGNAL.size)
    assert beats("x", paired_gain(LATE, SIGNAL, blurred, DAYS)).passed
    worse, same = beats("x", paired_gain(LATE, blurred, SIGNAL, DAYS)), beats("x", paired_gain(LATE, SIGNAL, SIGNAL, DAYS))
    assert not worse.passed
    assert worse.reason.startswith("worse")
    assert not same.passed
    assert same.reason.startswith("cannot tell")


def test_a_sure_gain_that_is_too_small_to_matter_is_refused() -> None:
    gain = paired_gain(LATE, SIGNAL, SIGNAL + RNG.normal(0, 1, SIGNAL.size), DAYS)
    assert beats("x", gain, at_least=0.001).passed
    assert not beats("x", gain, at_least=0.5).passed


def test_equal_models_are_rarely_told_apart() -> None:
    # Type-I error: two equally noisy views of the same signal, on days that have a mood of their own.
    rng, wrong = np.random.default_rng(8), 0
    for _ in range(60):
        mood = rng.normal(0, 1, 40)[DAYS]
        late = rng.random(DAYS.size) < 1 / (1 + np.exp(1 - SIGNAL - mood))
        a, b = (SIGNAL + rng.normal(0, 0.5, DAYS.size) for _ in range(2))
        wrong += beats("x", paired_gain(late, a, b, DAYS, draws=500)).passed
    assert wrong <= 5  # 2.5% of 60 are expected on this side


def test_one_row_from_the_future_is_enough_to_refuse() -> None:
    now = pd.Series(pd.to_datetime(["2013-06-01"] * 1000))
    good = pd.DataFrame({"wind": now, "legs": now - pd.Timedelta(hours=1)})
    assert nothing_later(good, now).passed
    assert nothing_later(good.assign(wind=pd.NaT), now).passed
    bad = good.copy()
    bad.loc[7, "legs"] = now[7] + pd.Timedelta(microseconds=1)
    gate = nothing_later(bad, now)
    assert not gate.passed
    assert "'legs': 1" in gate.reason


def test_a_column_that_sorts_the_outcome_is_refused_whichever_way_it_points() -> None:
    rows = pd.DataFrame({"signal": SIGNAL, "delay": np.where(LATE, 30.0, 0.0) + RNG.normal(0, 3, LATE.size), "empty": np.nan})
    rows["early"] = -rows.delay
    alone = single_aucs(rows, ["signal", "delay", "early", "empty"], LATE)
    assert alone["signal"] == pytest.approx(roc_auc_score(LATE, SIGNAL))
    assert alone["empty"] == 0.5
    assert plausible({k: alone[k] for k in ("signal", "empty")}).passed
    assert not plausible({k: alone[k] for k in ("signal", "early")}).passed
    assert alone["early"] == pytest.approx(alone["delay"])


@pytest.mark.parametrize("scores", [[0.1, np.nan], [0.4, 0.4], [-0.1, 0.5], [0.5, 1.1], [], [np.nan, np.nan]])
def test_what_is_not_a_probability_for_every_row_is_refused(scores: list[float]) -> None:
    assert not predicts(np.array(scores)).passed
    assert predicts(np.array([0.0, 1.0])).passed


def test_calibration_groups_hold_all_rows_and_small_slices_are_pooled() -> None:
    chance = 1 / (1 + np.exp(1 - SIGNAL))
    groups = calibration(LATE, chance)
    assert sum(g["rows"] for g in groups) == LATE.size
    assert all(abs(g["predicted"] - g["observed"]) < 0.1 for g in groups)
    port = pd.DataFrame({"port": np.where(np.arange(LATE.size) < 100, "tiny", np.where(SIGNAL > 0, "a", "b"))})
    found = {row["value"]: row["rows"] for row in slices(port, ["port"], LATE, chance)}
    assert found["(other)"] == 100
    assert "tiny" not in found
    assert sum(found.values()) == LATE.size


def test_the_verdict_and_its_reasons_stay_with_run_and_version(spark: SparkSession) -> None:
    client, name = MlflowClient(), "spark_catalog.test_ml.judged"
    mlflow.set_experiment("/test_validation")
    with mlflow.start_run() as run:
        pass
    client.create_registered_model(name)
    for version, gates in ((1, [Gate("a", True, 1, 0, "fine"), Gate("b", False, 0, 1, "too slow")]), (2, [Gate("a", True, 1, 0, "fine")])):
        client.create_model_version(name, source=f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
        assert record(run.info.run_id, name, version, gates, {"rows": 5}) is (version == 2)
    tags = [client.get_model_version(name, str(v)).tags for v in (1, 2)]
    assert [t["validation"] for t in tags] == ["refused", "accepted"]
    assert tags[0]["refused_because"] == "b: too slow"
    assert tags[1]["refused_because"] == ""
    stored = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/validation.json")
    assert stored["accepted"]
    assert stored["rows"] == 5
    assert stored["gates"][0]["name"] == "a"
    client.delete_registered_model(name)
