"The quality of predictions agrees with scikit-learn for each task; each case is a window of its own, so one Spark job measures all of them."

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.metrics import r2_score

from boathouse.models.tasks import Task, measure_predictions
from boathouse.monitoring.quality import measure_numbers, quality_rows
from boathouse.validation.comparison import t_interval
from boathouse.validation.gate import units_of

NAMES = ("bus", "tram", "walk")
START = datetime(2026, 1, 1)
LABEL = {"binary": "double", "multiclass": "string", "regression": "double"}
SCORE = {"binary": "probability double", "multiclass": "probabilities array<double>", "regression": "prediction double"}
METRICS = {
    "binary": {"auc": "roc_auc_score", "log_loss": "log_loss"},
    "multiclass": {"d2_log_loss": "metric_value", "log_loss": "log_loss", "accuracy": "accuracy_score", "macro_f1": "macro_f1", "weighted_f1": "weighted_f1"},
    "regression": {"r2": "r2_score", "mae": "mean_absolute_error", "rmse": "root_mean_squared_error"},
}  # fmt: skip
Case = list[tuple[int, Any, Any]]  # unit, label, prediction
MISSING = st.sampled_from([None, math.nan, math.inf])


def share(counts: tuple[int, int, int]) -> list[float]:
    return [n / sum(counts) for n in counts]


def sized(rows: st.SearchStrategy[tuple[int, Any, Any]]) -> st.SearchStrategy[list[Case]]:
    return st.lists(st.lists(rows, max_size=12), min_size=15, max_size=25)


UNIT = st.integers(0, 3)
CASES = {
    "binary": sized(st.tuples(UNIT, st.sampled_from([0.0, 1.0, 1.0, None]), st.integers(1, 96).map(lambda n: n / 97) | MISSING)),
    "multiclass": sized(
        st.tuples(
            UNIT,
            st.sampled_from([*NAMES, *NAMES, "ferry", None]),
            st.tuples(*[st.integers(0, 5)] * 3).filter(any).map(share) | st.sampled_from([None, [0.5, math.nan, 0.5], [None, 0.5, 0.5]]),
        )
    ),
    "regression": sized(
        st.tuples(UNIT, st.integers(-9, 9).map(lambda n: 1e6 + n / 4) | st.none(), st.integers(-9, 9).map(lambda n: 1e6 + n / 3) | MISSING)
    ),
}


def measure(spark: SparkSession, task: Task, cases: Sequence[Case], **options: Any) -> list[dict[str, Any]]:
    "One row per case, which is a day of its own."
    rows = [(START + timedelta(days=day), *row) for day, case in enumerate(cases) for row in case]
    df = spark.createDataFrame(rows, f"at timestamp, unit int, label {LABEL[task]}, {SCORE[task]}")
    windows = [(START + timedelta(days=day), START + timedelta(days=day + 1)) for day in range(len(cases))]
    options = {"unit": "unit", "classes": NAMES if task == "multiclass" else ()} | options
    return quality_rows(df, task, "label", "at", windows, granularity="1 day", **options)


def is_scored(prediction: Any) -> bool:
    return prediction is not None and all(v is not None and math.isfinite(v) for v in np.atleast_1d(np.array(prediction, dtype=object)))


def exact(task: Task, rows: Case) -> dict[str, float]:
    "The metrics of rows that have a label and a prediction, from scikit-learn, with the gap of each class as `gap_0`."
    if not rows:
        return {}
    truth = np.array([NAMES.index(label) if task == "multiclass" else label for _, label, _ in rows])
    predicted = np.array([prediction for *_, prediction in rows], dtype=float)
    if task == "multiclass":
        gaps = [(truth == k).mean() - predicted[:, k].mean() for k in range(len(NAMES))]
    else:
        spread = 1.0 if task == "binary" else truth.std(ddof=1) if len(set(truth)) > 1 else math.nan
        gaps = [(truth - predicted).mean() / spread]
    return measure_predictions(task, truth, predicted) | {f"gap_{k}": gap for k, gap in enumerate(gaps)}


def exact_interval(task: Task, rows: Case, name: str) -> tuple[float, float] | None:
    "The interval of a metric over left-out units, from scikit-learn on the rows that are left."
    without = [exact(task, [row for row in rows if row[0] != unit]).get(name, math.nan) for unit in sorted({unit for unit, *_ in rows})]
    level = 1 - 0.05 / len(NAMES) if task == "multiclass" and name.startswith("gap") else 0.95  # for all classes together
    low, high, _ = t_interval(exact(task, rows).get(name, math.nan), np.array(without), level)
    return None if math.isnan(low) else (low, high)


@settings(max_examples=3)
@given(st.data())
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_figures_and_intervals_are_those_of_scikit_learn_on_the_rows_with_label_and_prediction(
    spark: SparkSession, task: Task, data: st.DataObject
) -> None:
    cases = data.draw(CASES[task])
    found = measure(spark, task, cases)
    assert len(found) == len(cases)
    for row, case in zip(found, cases, strict=True):
        scored = [r for r in case if is_scored(r[2])]
        labelled = [r for r in scored if r[1] is not None]
        known = [r for r in labelled if r[1] in NAMES] if task == "multiclass" else labelled
        assert (row["count"], row["num_nulls"]) == (len(scored), len(case) - len(scored))
        assert row["labelled_share"] == (pytest.approx(len(labelled) / len(scored)) if scored else None)
        assert row.get("unknown_class", 0) == len(labelled) - len(known)
        expected = exact(task, known)
        for name, key in METRICS[task].items():
            value = expected.get(name, math.nan)
            assert row[key] == (None if math.isnan(value) else pytest.approx(value, rel=1e-7, abs=1e-8)), (name, case)
        place = NAMES.index(row["gap_class"]) if row.get("gap_class") else 0
        gap, gaps = expected.get(f"gap_{place}", math.nan), [abs(v) for name, v in expected.items() if name.startswith("gap_")]
        assert row["gap"] == (None if math.isnan(gap) else pytest.approx(gap, abs=1e-6))
        assert row["gap"] is None or abs(gap) == pytest.approx(max(gaps))
        primary = next(iter(METRICS[task]))
        for key, name in (("metric_interval", primary), ("gap_interval", f"gap_{place}")):
            ends = exact_interval(task, known, name)
            assert (row[key] and (row[key]["low"], row[key]["high"])) == (ends and pytest.approx(ends, rel=1e-5, abs=2e-6)), (key, case)
        assert not [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]


@pytest.fixture(scope="module")
def travellers(spark: SparkSession) -> DataFrame:
    "Ten thousand travellers choose as often as predicted on the first day. On the second, those who would walk take the bus."
    rng = np.random.default_rng(5)
    p = rng.dirichlet([1, 2, 3], 20_000)
    choice = (rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    choice[10_000:] = np.where(choice[10_000:] == 2, 0, choice[10_000:])
    at = [START + timedelta(days=n // 10_000, seconds=n % 10_000) for n in range(len(p))]
    rows = pd.DataFrame({"at": at, "probabilities": p.tolist(), "label": [NAMES[k] for k in choice], "town": rng.integers(0, 2, len(p))})
    return spark.createDataFrame(rows).persist()


def test_probabilities_that_are_right_reach_the_expected_metric_and_others_do_not(travellers: DataFrame) -> None:
    days = [(START + timedelta(days=n), START + timedelta(days=n + 1)) for n in range(2)]
    rows = quality_rows(travellers, "multiclass", "label", "at", days, granularity="1 day", classes=NAMES, slices=["town"])
    assert [(row["slice_key"], row["slice_value"]) for row in rows] == [(None, None), ("town", "0"), ("town", "1")] * 2
    right, wrong = rows[0], rows[3]
    for row, agrees in ((right, True), (wrong, False)):
        low, high = row["metric_interval"]["low"], row["metric_interval"]["high"]
        assert (low < row["metric_expected"] < high) == agrees
        assert (row["gap_interval"]["low"] < 0 < row["gap_interval"]["high"]) == agrees
    assert abs(right["gap"]) < 0.02
    assert wrong["gap_class"] in ("bus", "walk")
    assert abs(wrong["gap"]) == pytest.approx(0.5, abs=0.02)
    assert sum(row["count"] for row in rows[1:3]) == right["count"] == 10_000


FAULTS: dict[str, tuple[Task, Case, str]] = {
    "minutes as a binary label": (
        "binary", [(1, 1.0, 0.2), (1, 12.5, 0.2), (2, 30.0, 0.4)],
        "label label must be true and false, or 0 and 1, for a binary task, got 2 other values in 3 rows, such as 12.5",
    ),
    "a percentage as a probability": (
        "binary", [(1, 1.0, 0.2), (1, 0.0, 87.5)], "probability must be a probability from 0 to 1, got 1 other values in 2 rows, such as 87.5",
    ),
    "an infinite number": (
        "regression", [(1, math.inf, 0.2), (1, 2.0, 0.2)], "label label must be a finite number for a regression task, got 1 other values in 2 rows, such as Infinity",
    ),
    "probabilities that add up to two": (
        "multiclass", [(1, "bus", [1.0, 1.0, 0.0])], "probabilities must be 3 numbers from 0 to 1 that add up to 1, got 1 other values in 1 rows, such as [1.0, 1.0, 0.0]",
    ),
    "probabilities of two classes": (
        "multiclass", [(1, "bus", [1.0, 0.0, 0.0]), (1, "tram", [0.5, 0.5])], "probabilities must be 3 numbers from 0 to 1 that add up to 1, got 1 other values in 2 rows",
    ),
    "a row without a unit": ("regression", [(None, 1.0, 0.2), (1, 2.0, 0.2)], "unit unit must have a value in every row, got 1 other values in 2 rows, such as null"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_values_that_do_not_fit_the_task_are_refused_with_their_number_and_an_example(spark: SparkSession, fault: str) -> None:
    task, case, message = FAULTS[fault]
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        measure(spark, task, [case])


def test_a_column_that_is_absent_or_of_another_type_is_refused_before_rows_are_read(spark: SparkSession) -> None:
    rows = spark.sql(
        "SELECT timestamp'2026-01-01' at, 'bus' label, date'2026-01-01' day, 0.5D probability, 0.5D prediction, map('bus', 1.0D) probabilities"
    )
    one_day = [(START, START + timedelta(days=1))]
    for task, label, message in (
        ("binary", "label", "the label must be true and false, or 0 and 1, for a binary task, got the type string"),
        ("multiclass", "day", "the label must be text or whole numbers for a multiclass task, got the type date"),
        ("multiclass", "label", "probabilities must be an array of numbers for a multiclass task, got the type map<string,double>"),
        ("regression", "outcome", "the rows of a regression task must have the columns outcome, got at"),
        ("ranking", "label", "task must be one of binary, multiclass, regression, got 'ranking'"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            quality_rows(rows, task, label, "at", one_day, granularity="1 day", classes=NAMES)
    with pytest.raises(ValueError, match="pass `classes`"):
        quality_rows(rows, "multiclass", "label", "at", one_day, granularity="1 day")


def test_labels_as_booleans_whole_numbers_and_decimals_are_the_same_classes_as_their_texts(spark: SparkSession) -> None:
    rows = spark.sql(
        "SELECT timestamp'2026-01-01' at, id % 3 label, array(0.6D, 0.3D, 0.1D) probabilities, pmod(id, 7) / 7 probability, map('a', id) other FROM range(60)"
    )
    one_day = [(START, START + timedelta(days=1))]
    kinds = ("string", "tinyint", "double", "decimal(9,2)")
    found = [
        quality_rows(
            rows.withColumn("label", F.col("label").cast(kind)),
            "multiclass",
            "label",
            "at",
            one_day,
            granularity="1 day",
            classes=[0, 1, 2],
        )
        for kind in kinds
    ]
    assert [row["accuracy_score"] for (row,) in found] == [round(1 / 3, 9)] * len(kinds)
    for kind in ("boolean", "decimal(9,2)", "void"):
        label = F.lit(None) if kind == "void" else (F.col("label") > 0).cast("int").cast(kind)
        (row,) = quality_rows(rows.withColumn("label", label), "binary", "label", "at", one_day, granularity="1 day")
        assert row["share_positive"] == (None if kind == "void" else round(2 / 3, 9))
    with pytest.raises(
        ValueError,
        match=r"^label label must be text or whole numbers for a multiclass task, got 40 other values in 60 rows, such as 0\.25$",
    ):
        quality_rows(
            rows.withColumn("label", F.col("label") / 4), "multiclass", "label", "at", one_day, granularity="1 day", classes=[0, 1, 2]
        )
    (row,) = quality_rows(
        rows.withColumn("label", F.lit(None)), "multiclass", "label", "at", one_day, granularity="1 day", classes=[0, 1, 2]
    )
    assert (row["count"], row["labelled_share"], row["gap"], row["gap_class"], row["macro_f1"]) == (60, 0.0, None, None, None)
    assert row["metric_expected"] == 0.0  # each row has the same probabilities


def test_more_units_than_a_thousand_are_left_out_in_groups() -> None:
    rng = np.random.default_rng(2)
    y, error = rng.normal(size=3000), rng.normal(size=3000) / 2
    table = {"_unit": range(3000), "labelled": 1, "mean": y, "squares": 0.0, "low": y, "high": y, "error": error, "absolute": np.abs(error)}
    row = measure_numbers(pd.DataFrame(table | {"squared": error**2, "rows": 1, "unscored": 0}))
    groups = units_of(pd.DataFrame({"unit": range(3000)}), "unit")
    without = np.array([r2_score(y[groups != g], (y - error)[groups != g]) for g in range(100)])
    low, high, _ = t_interval(r2_score(y, y - error), without)
    assert row["metric_interval"] == {"low": pytest.approx(low, abs=1e-6), "high": pytest.approx(high, abs=1e-6)}
