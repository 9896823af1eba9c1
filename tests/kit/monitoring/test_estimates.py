"The AUC that is estimated before the labels: its interval holds the realised one as often as stated, and no label of the window or after it is used."

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from boathouse.monitoring.estimates import ScoreCalibration, estimate_auc, fit_calibration
from boathouse.monitoring.quality import quality_rows
from boathouse.validation.metrics import auc_from_counts


def days(rng: np.random.Generator, numbers: Sequence[int], rows: int = 200) -> pd.DataFrame:
    "Counts of score_buckets for days on which the scores order the rows better or worse, and are too sure of themselves."
    out = []
    for day in numbers:
        signal = rng.normal(-1, 1, rows)
        late = rng.random(rows) < 1 / (1 + np.exp(-(rng.normal(0.8, 0.3) * signal + rng.normal(0, 0.5))))
        step = (1000 / (1 + np.exp(-2 * signal))).astype(int)
        one = pd.DataFrame({"step": step, "rows": 1, "labelled": 1, "positives": late.astype(int)})
        out.append(one.groupby("step", as_index=False).sum().assign(day=day))
    return pd.concat(out, ignore_index=True)


def realised(buckets: pd.DataFrame) -> float:
    counts = buckets.groupby("step")[["positives", "labelled"]].sum().to_numpy(float)
    return auc_from_counts(counts[:, 0], counts[:, 1] - counts[:, 0])[0]


@pytest.fixture(scope="module")
def learned() -> ScoreCalibration:
    found = fit_calibration(days(np.random.default_rng(0), range(60)), "day")
    assert found is not None
    return found


def test_the_interval_holds_the_realised_auc_about_as_often_as_stated() -> None:
    rng, inside = np.random.default_rng(1), 0
    for _ in range(100):
        calibration = fit_calibration(days(rng, range(40), 60), "day")
        assert calibration is not None
        window = days(rng, range(20), 60)
        _, low, high = estimate_auc(window, calibration, "day")
        inside += low <= realised(window) <= high
    assert 85 <= inside < 100  # 95 are meant


def test_a_shorter_window_and_fewer_days_of_learning_have_a_wider_interval(learned: ScoreCalibration) -> None:
    window = days(np.random.default_rng(2), range(30))

    def width(window: pd.DataFrame, calibration: ScoreCalibration) -> float:
        _, low, high = estimate_auc(window, calibration, "day")
        return high - low

    assert width(window[window["day"] < 5], learned) > width(window, learned)
    assert width(window, replace(learned, units=10, error=learned.error * 6**0.5)) > width(window, learned)


def test_the_labels_of_the_window_change_nothing(learned: ScoreCalibration) -> None:
    window = days(np.random.default_rng(3), range(30))
    assert estimate_auc(window.assign(labelled=0, positives=0), learned, "day") == estimate_auc(window, learned, "day")


def test_a_higher_score_never_means_a_smaller_share(learned: ScoreCalibration) -> None:
    shares = learned.shares_at(np.arange(-1, 1001))
    assert (np.diff(shares) >= 0).all()
    assert 0 <= shares.min() < 0.4 < 0.6 < shares.max() <= 1


def test_too_few_labels_or_days_or_one_class_give_no_map() -> None:
    known = days(np.random.default_rng(4), range(6))
    assert fit_calibration(known, "day") is not None
    few = {
        "4 days": known[known["day"] < 4],
        "no row": known.iloc[:0],
        "no label": known.assign(labelled=0, positives=0),
        "600 labels": days(np.random.default_rng(4), range(6), 100),
        "never late": known.assign(positives=0),
        "always late": known.assign(positives=known["labelled"]),
    }
    assert [name for name, rows in few.items() if fit_calibration(rows, "day") is not None] == []


@pytest.fixture(scope="module")
def months(spark: SparkSession) -> list[dict[str, Any]]:
    "The quality of four months: the second has no labels yet, and in the last every label is wrong."
    rng = np.random.default_rng(5)
    month = np.repeat([1, 2, 3, 4], 3000)
    p = rng.random(month.size)
    late = (rng.random(month.size) < p) ^ (month == 4)
    rows = pd.DataFrame({"month": month, "day": rng.integers(1, 28, month.size), "probability": p, "late": late})
    df = spark.createDataFrame(rows).selectExpr(
        "make_timestamp(2026, month, day, 12, 0, 0) at", "make_date(2026, month, day) day", "probability", "if(month = 2, null, late) late"
    )
    windows = [(datetime(2026, m, 1), datetime(2026, m + 1, 1)) for m in range(1, 5)]
    return quality_rows(df, "binary", "late", "at", windows, granularity="1 month", unit="day")


def test_each_window_is_estimated_from_the_labels_of_the_windows_before_it(months: list[dict[str, Any]]) -> None:
    found = [row.get("calibrated_roc_auc_score") for row in months]
    assert found[0] is None  # nothing was known before
    assert found[1:] == pytest.approx([0.833] * 3, abs=0.015)  # 5/6 for scores that are true shares
    assert [row["roc_auc_score"] is None for row in months] == [False, True, False, False]


def test_a_window_whose_labels_come_true_otherwise_lies_outside_of_its_interval(months: list[dict[str, Any]]) -> None:
    inside = [
        row["calibrated_roc_auc_interval"]["low"] <= row["roc_auc_score"] <= row["calibrated_roc_auc_interval"]["high"]
        for row in months[2:]
    ]
    assert inside == [True, False]
