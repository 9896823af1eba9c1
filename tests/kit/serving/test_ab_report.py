"The quality of served versions: the same figures as elsewhere, intervals by day, and no interval on too few days."

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from sklearn.metrics import r2_score, roc_auc_score

from boathouse.serving.ab_report import AB_QUALITY, compare_served_versions, count_versions, record_ab_report
from boathouse.tables.table import Lakehouse, drop_all, read
from boathouse.validation.comparison import paired_gain

DAYS, PER_DAY = 10, 60


def served() -> pd.DataFrame:
    "Ten days on which both versions scored the same rows; version 3 orders them better. Days differ. Some labels are missing."
    random = np.random.default_rng(3)
    day = np.repeat(np.arange(DAYS), PER_DAY)
    late = random.random(len(day)) < np.linspace(0.2, 0.5, DAYS)[day]
    rows = []
    for version, signal in ((2, 0.5), (3, 2.0)):
        p = 1 / (1 + np.exp(-(signal * late + random.normal(size=len(day)) + 0.2 * np.sin(day))))
        p = (np.floor(p * 10_000) + 0.5) / 10_000  # in the middle of a step, so that the counts lose nothing
        rows.append(
            pd.DataFrame({"v": version, "day": day, "probability": p, "late": late, "hours": late * 2.0 + p, "prediction": 2.5 * p})
        )
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return served()


@pytest.fixture(scope="module")
def frame(spark: SparkSession, rows: pd.DataFrame) -> Any:
    return spark.createDataFrame(
        rows.assign(day=[date(2013, 6, 1) + timedelta(int(n)) for n in rows["day"]], late=rows["late"].astype(bool))
    ).persist()


@pytest.fixture(scope="module")
def counts(frame: Any) -> pd.DataFrame:
    return count_versions(frame.drop("prediction"), "late", version="v")


def test_the_figures_are_those_of_the_rows_and_the_gain_is_that_of_the_gates(counts: pd.DataFrame, rows: pd.DataFrame) -> None:
    stable, canary = compare_served_versions(counts, stable=2)
    two, three = (rows[rows["v"] == version].reset_index(drop=True) for version in (2, 3))
    for row, part in ((stable, two), (canary, three)):
        assert row["value"] == pytest.approx(roc_auc_score(part["late"], part["probability"]), abs=1e-9)
        assert (row["rows"], row["days"], row["labelled_share"]) == (DAYS * PER_DAY, DAYS, 1.0)
    gain = paired_gain(two["late"], three["probability"].to_numpy(), two["probability"].to_numpy(), two["day"])
    assert canary["gain"] == pytest.approx(gain.value, abs=1e-9)
    assert canary["gain_interval"] == {"low": pytest.approx(gain.low, abs=2e-6), "high": pytest.approx(gain.high, abs=2e-6)}
    assert canary["verdict"].startswith("better: AUC")
    assert compare_served_versions(counts, stable=3)[1]["verdict"].startswith("worse: AUC")
    assert (stable["gain"], stable["verdict"]) == (None, "the stable version")


def test_with_too_few_days_of_labels_there_is_a_value_and_no_interval(counts: pd.DataFrame) -> None:
    for days in (1, 6):
        early = counts[counts["_unit"] < f"2013-06-{days + 1:02}"]
        stable, canary = compare_served_versions(early, stable=2)
        assert (stable["value_interval"], canary["value_interval"], canary["gain_interval"], canary["gap_interval"]) == (None,) * 4
        assert canary["verdict"] == f"too few days: both versions have labels on {days}, 7 are needed"
        assert canary["gain"] is not None
    assert compare_served_versions(counts[counts["_unit"] < "2013-06-08"], stable=2)[1]["gain_interval"] is not None
    # The canary began late: its own days count.
    late = counts[(counts["_version"] == 2) | (counts["_unit"] > "2013-06-07")]
    assert compare_served_versions(late, stable=2)[1]["verdict"].startswith("too few days: both versions have labels on 3")


def test_rows_without_a_label_are_counted_and_decide_nothing(frame: Any, counts: pd.DataFrame) -> None:
    waiting = frame.drop("prediction").withColumn("late", F.when(F.col("day") < "2013-06-09", F.col("late")))
    _, canary = compare_served_versions(count_versions(waiting, "late", version="v"), stable=2)
    known = compare_served_versions(counts[counts["_unit"] < "2013-06-09"], stable=2)[1]
    assert (canary["rows"], canary["labelled_share"], canary["days"]) == (600, 0.8, 8)
    assert (canary["value"], canary["gain_interval"]) == (known["value"], known["gain_interval"])
    none = compare_served_versions(
        count_versions(frame.withColumn("late", F.lit(None).cast("boolean")).drop("prediction"), "late", version="v"), stable=2
    )
    assert [(row["value"], row["gain"], row["days"]) for row in none] == [(None, None, 0)] * 2


def test_a_regression_is_compared_by_r2_and_a_multiclass_model_by_d2(frame: Any, rows: pd.DataFrame) -> None:
    stable, canary = compare_served_versions(count_versions(frame, "hours", version="v", task="regression"), stable=2, task="regression")
    part = rows[rows["v"] == 3]
    assert canary["value"] == pytest.approx(r2_score(part["hours"], part["prediction"]), abs=1e-6)
    assert canary["gain"] == pytest.approx(canary["value"] - stable["value"], abs=1e-6)
    assert canary["gain_interval"] is not None
    three = frame.selectExpr("v", "day", "if(late, 'late', 'on time') AS state", "array(probability, 1 - probability) AS probabilities")
    classes = ("late", "on time")
    found = compare_served_versions(
        count_versions(three, "state", version="v", task="multiclass", classes=classes), stable=2, task="multiclass", classes=classes
    )
    assert found[1]["verdict"].startswith("better: D2")


def test_rows_that_do_not_fit_are_refused(frame: Any, counts: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"must have predictions of the stable version 7, got those of 2, 3"):
        compare_served_versions(counts, stable=7)
    with pytest.raises(ValueError, match=r"must have the column model_version with the number of the version, got v, day"):
        count_versions(frame, "late")
    with pytest.raises(ValueError, match=r"v must be the number of a version, got 600 other values in 1200 rows, such as champion"):
        count_versions(frame.drop("prediction").withColumn("v", F.expr("if(v = 2, 'champion', '3')")), "late", version="v")
    with pytest.raises(ValueError, match="unit day must have a value in every row"):
        count_versions(frame.drop("prediction").withColumn("day", F.lit(None).cast("date")), "late", version="v")


def test_a_report_of_the_same_window_replaces_its_rows(spark: SparkSession, counts: pd.DataFrame) -> None:
    lake, window = Lakehouse(spark, prefix="test_ab_"), (datetime(2013, 6, 1), datetime(2013, 6, 11))
    drop_all(lake)
    for part in (counts[counts["_unit"] < "2013-06-05"], counts):
        record_ab_report(lake, "late", window, compare_served_versions(part, stable=2))
    found = read(lake, AB_QUALITY).orderBy("version").select("version", "days", "gain_interval.low").collect()
    drop_all(lake)
    assert [(row["version"], row["days"]) for row in found] == [(2, 10), (3, 10)]
    assert found[1]["low"] > 0
