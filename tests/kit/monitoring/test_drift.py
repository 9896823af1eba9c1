"Sketches, distances, thresholds and quality hold against exact answers, computed another way."

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy.stats import ks_2samp
from scipy.stats import wasserstein_distance as exact_wasserstein
from sklearn.metrics import log_loss, roc_auc_score

from boathouse.monitoring.drift import bin_shares, compare_profiles, drift_distances, group_of_text, psi_noise_floor
from boathouse.monitoring.profiles import OTHER, histogram, merge_profiles, profile
from boathouse.monitoring.quality import calibration_by_score, interval, model_quality, score_buckets
from boathouse.validation.comparison import t_interval
from boathouse.validation.metrics import auc_from_counts

DAYS = [(datetime(2026, 1, d), datetime(2026, 1, d + 1)) for d in range(1, 4)]


def numeric(values: Any, nulls: int = 0, day: int = 1, name: str = "x") -> dict[str, Any]:
    "A profile row of numbers, exact: every value is a bucket of its own."
    values, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    n = int(counts.sum())
    mean = float((values * counts).sum() / n) if n else None
    spread = float(np.sqrt((counts * (values - mean) ** 2).sum() / max(n - 1, 1))) if n else None
    row: dict[str, Any] = dict.fromkeys(("slice_key", "slice_value", "median", "quantiles", "frequent_items"))
    row |= {
        "window": {"start": DAYS[day - 1][0], "end": DAYS[day - 1][1]},
        "granularity": "1 day",
        "model_id": "1",
        "log_type": "INPUT",
        "column_name": name,
        "data_type": "double",
    }
    row |= {"count": n, "num_nulls": nulls, "num_zeros": 0, "distinct_count": len(values), "avg": mean, "stddev": spread}
    row |= {
        "min": float(values.min()) if n else None,
        "max": float(values.max()) if n else None,
        "percent_null": 0.0,
        "percent_zeros": 0.0,
        "percent_distinct": 0.0,
    }
    return row | {"sketch": {"values": values.tolist(), "items": [], "counts": counts.tolist()}}


@pytest.fixture(scope="module")
def measured(spark: SparkSession) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    "Two days of skewed, shifted and broken columns, as pandas rows and as profile rows of one job."
    rng = np.random.default_rng(5)
    n = 6000
    rows = pd.DataFrame({
        "day": rng.integers(1, 3, n), "skewed": rng.lognormal(2, 1.5, n) * rng.choice([-1, 1], n), "far": 1.6e9 + rng.normal(0, 1, n),
        "minute": rng.integers(0, 1440, n).astype(float), "port": rng.choice(["JFK", "EWR", "LGA"], n, p=[0.6, 0.3, 0.1]),
    })  # fmt: skip
    rows.loc[rows.day == 2, "skewed"] *= 1.4
    rows.loc[rng.random(n) < 0.1, "minute"] = np.nan
    df = spark.createDataFrame(rows).withColumn("at", F.expr("timestamp'2026-01-01 12:00:00' + make_dt_interval(day - 1)"))
    return rows, profile(df, ["skewed", "far", "minute", "port"], "at", DAYS[:2], granularity="1 day", slices=["port"])


def of(rows: list[dict[str, Any]], column: str, day: int, port: str | None = None) -> dict[str, Any]:
    return next(r for r in rows if r["column_name"] == column and r["window"]["start"].day == day and r["slice_value"] == port)


def test_a_profile_says_what_pandas_says(measured: tuple[pd.DataFrame, list[dict[str, Any]]]) -> None:
    rows, found = measured
    for port in (None, "LGA"):
        for column in ("skewed", "far", "minute"):
            part = rows[(rows.day == 1) & ((rows.port == port) if port else True)][column]
            row = of(found, column, 1, port)
            assert (row["count"], row["num_nulls"]) == (part.count(), part.isna().sum())
            assert [row["avg"], row["stddev"], row["min"], row["max"]] == pytest.approx(
                [part.mean(), part.std(), part.min(), part.max()], rel=1e-7
            )


def test_quantiles_of_a_sketch_are_within_two_in_a_thousand(measured: tuple[pd.DataFrame, list[dict[str, Any]]]) -> None:
    rows, found = measured
    exact = np.quantile(rows[rows.day == 1].skewed, np.linspace(0, 1, 101), method="inverted_cdf")
    assert of(found, "skewed", 1)["quantiles"] == pytest.approx(exact, rel=0.002)


def test_distances_of_sketches_agree_with_distances_of_the_values(measured: tuple[pd.DataFrame, list[dict[str, Any]]]) -> None:
    rows, found = measured
    a, b = rows[rows.day == 2].skewed, rows[rows.day == 1].skewed
    got = drift_distances(of(found, "skewed", 2), of(found, "skewed", 1))
    assert got["ks_test"]["statistic"] == pytest.approx(ks_2samp(a, b).statistic, abs=0.002)
    assert got["wasserstein_distance"] == pytest.approx(exact_wasserstein(a, b), rel=0.01)


def test_texts_are_counted_and_the_tail_is_in_groups(spark: SparkSession) -> None:
    towns = spark.range(60).selectExpr("case when id < 40 then 'Oslo' when id < 55 then 'Bergen' else concat('village ', id) end town")
    cells = {row["item"]: row for row in histogram(towns, ["town"], keep=2).collect()}
    named = {item: row["count"] for item, row in cells.items() if not item.startswith(OTHER)}
    assert named == {"Oslo": 40, "Bergen": 15}
    assert {item: row["count"] for item, row in cells.items() if item not in named} == Counter(
        group_of_text(f"village {n}") for n in range(55, 60)
    )
    assert sum(row["distinct"] for row in cells.values()) == 7


def test_two_runs_over_rows_in_another_order_and_partitioning_agree_to_the_last_digit(spark: SparkSession) -> None:
    df = spark.range(4000).selectExpr("timestamp'2026-01-01 05:00:00' at", "rand(3) * 1000 x", "cast(id % 7 as string) y")
    kept = df.collect()
    ways = [spark.createDataFrame(kept).repartition(3), spark.createDataFrame(kept[::-1]).coalesce(1)]
    first, second = (profile(way, ["x", "y"], "at", DAYS[:1], granularity="1 day") for way in ways)
    assert first == second


def test_rows_at_the_end_of_a_window_belong_to_the_next(spark: SparkSession) -> None:
    df = spark.sql(
        "SELECT timestamp(at) at, x FROM VALUES ('2026-01-01 00:00:00', 1D), ('2026-01-02 00:00:00', 2D), ('2026-01-04 00:00:00', 9D) AS t(at, x)"
    )
    assert [row["avg"] for row in profile(df, ["x"], "at", DAYS, granularity="1 day")] == [1.0, 2.0, None]


@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30), min_size=1, max_size=4))
def test_merging_profiles_is_profiling_the_merged(parts: list[list[int]]) -> None:
    whole, joined = numeric([x for part in parts for x in part]), merge_profiles([numeric(part, nulls=1) for part in parts])
    assert joined["sketch"] == whole["sketch"]
    assert joined["num_nulls"] == len(parts)
    assert [joined["avg"], joined["stddev"]] == pytest.approx([whole["avg"], whole["stddev"]], abs=1e-6)


@given(st.lists(st.integers(0, 50), min_size=5, max_size=80), st.lists(st.integers(0, 50), min_size=5, max_size=80), st.integers(0, 20))
def test_distances_are_zero_to_oneself_symmetric_and_never_negative(a: list[int], b: list[int], nulls: int) -> None:
    one, two = numeric(a, nulls), numeric(b)
    assert drift_distances(one, one)["population_stability_index"] == 0
    there = drift_distances(one, two)
    assert all(there[name] >= 0 for name in ("population_stability_index", "js_distance", "tv_distance", "wasserstein_distance"))
    assert there["ks_test"] == drift_distances(two, one)["ks_test"]
    p, q = bin_shares(one, two)
    assert p.sum() == pytest.approx(1) == q.sum()


def test_a_column_that_falls_silent_has_drifted_though_its_values_have_not() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=2000)
    (row,) = compare_profiles([numeric(values[:1000], nulls=1000)], [numeric(values)])
    assert row["drifted"]
    assert row["percent_null_delta"] == 0.0  # as recorded by the rows themselves
    assert row["ks_test"]["statistic"] < 0.05


def test_small_windows_of_the_same_distribution_do_not_raise_the_alarm() -> None:
    rng = np.random.default_rng(1)
    base = numeric(np.round(rng.normal(size=20_000), 2))
    alarms = [compare_profiles([numeric(rng.normal(size=60))], [base])[0]["drifted"] for _ in range(100)]
    fixed = [drift_distances(numeric(rng.normal(size=60)), base)["population_stability_index"] > 0.1 for _ in range(100)]
    assert sum(alarms) <= 5  # 1 % is meant
    assert sum(fixed) > 25  # the fixed threshold cries wolf


def test_noise_is_the_99th_percentile_that_simulation_finds() -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.multinomial(2000, [0.1] * 10, size=4000) / 2000 for _ in range(2))
    simulated = np.quantile(((a - b) * np.log(a / b)).sum(axis=1), 0.99)
    assert psi_noise_floor(np.full((2, 10), 200)) == pytest.approx(simulated, rel=0.05)


def test_a_season_seen_in_training_is_no_drift_and_one_not_seen_is() -> None:
    rng = np.random.default_rng(3)
    winter, summer, heat = (numeric(rng.normal(m, 3, 3000), day=d) for m, d in ((0, 1), (20, 2), (40, 3)))
    next_winter = numeric(rng.normal(0, 3, 3000))
    assert not compare_profiles([next_winter], [winter, summer])[0]["drifted"]
    assert compare_profiles([next_winter], [summer])[0]["drifted"]
    assert compare_profiles([heat], [winter, summer])[0]["drifted"]


def scored(spark: SparkSession, rows: pd.DataFrame) -> DataFrame:
    return spark.createDataFrame(rows, "day int, p double, late boolean, said boolean")


def test_quality_agrees_with_sklearn_within_its_own_bound(spark: SparkSession) -> None:
    rng = np.random.default_rng(4)
    p = rng.beta(2, 6, 5000)
    rows = pd.DataFrame({"day": rng.integers(0, 30, 5000), "p": p, "late": rng.random(5000) < p, "said": p >= 0.5})
    buckets = score_buckets(scored(spark, rows), "p", "late", "said", by=["day"])
    found, step = model_quality(buckets), buckets.groupby("step")[["positives", "labelled"]].sum()
    value, bound = auc_from_counts(step.positives.to_numpy(), (step.labelled - step.positives).to_numpy())
    assert bound < 0.001
    assert abs(value - roc_auc_score(rows.late, rows.p)) <= bound
    assert found["log_loss"] == pytest.approx(log_loss(rows.late, rows.p), abs=1e-6)
    assert found["accuracy_score"] == pytest.approx((rows.late == rows.said).mean())
    assert found["estimated_roc_auc_score"] == pytest.approx(found["roc_auc_score"], abs=0.02)  # these scores are true probabilities
    assert found["gap"] == pytest.approx(rows.late.mean() - rows.p.mean(), abs=1e-6)


def test_rows_without_a_label_are_counted_and_not_judged(spark: SparkSession) -> None:
    rows = pd.DataFrame(
        {"day": 1, "p": [0.9, 0.2, 0.9, 0.9], "late": [True, False, None, None], "said": [True, False, True, True]}, dtype=object
    )
    found = model_quality(score_buckets(scored(spark, rows), "p", "late", "said"))
    assert (found["count"], found["labelled_share"], found["roc_auc_score"], found["accuracy_score"]) == (4, 0.5, 1.0, 1.0)
    nothing = model_quality(score_buckets(scored(spark, rows[2:]), "p", "late", "said"))
    assert nothing["labelled_share"] == 0
    assert nothing["log_loss"] is None


@pytest.fixture(scope="module")
def unscored(spark: SparkSession) -> pd.DataFrame:
    "A tenth of the probabilities is NaN, a tenth is null, and so are some labels and predictions; one row of counts per case."
    rng = np.random.default_rng(6)
    p = rng.beta(2, 6, 4000)
    rows = pd.DataFrame({"p": p, "late": (rng.random(4000) < p).astype(float), "said": (p >= 0.5).astype(float), "case": "all"})
    broken = rows.assign(case="broken")
    broken["p"] = broken["p"].astype(object)
    broken.loc[broken.index % 10 == 0, "p"] = float("nan")
    broken.loc[broken.index % 10 == 1, "p"] = None
    broken.loc[broken.index % 10 == 2, "said"] = float("nan")
    broken.loc[broken.index % 10 == 3, "late"] = float("nan")
    both = [tuple(row) for part in (rows, broken, rows[rows.index % 10 > 3].assign(case="rest")) for row in part.itertuples(index=False)]
    return score_buckets(spark.createDataFrame(both, "p double, late double, said double, case string"), "p", "late", "said", by=["case"])


def test_a_row_without_a_probability_is_counted_apart_and_changes_no_figure(unscored: pd.DataFrame) -> None:
    broken, rest = (model_quality(unscored[unscored["case"] == case]) for case in ("broken", "rest"))
    assert (broken["count"], broken["num_nulls"]) == (2800, 1200)
    assert model_quality(unscored[unscored["case"] == "all"])["num_nulls"] == 0
    assert broken["labelled_share"] == round(2400 / 2800, 9)
    for name in ("roc_auc_score", "log_loss", "accuracy_score", "gap", "precision", "share_positive"):
        assert broken[name] == pytest.approx(rest[name], abs=1e-9), name


def test_numbers_that_are_no_probabilities_are_refused_with_count_and_example(spark: SparkSession) -> None:
    rows = spark.range(200).selectExpr("id + 0.5D AS p", "id % 2 = 0 AS late", "true AS said")
    with pytest.raises(ValueError, match=r"p must be a probability from 0 to 1, got 199 other values of 200, such as 199\.5"):
        score_buckets(rows, "p", "late", "said")


def test_one_class_only_has_no_auc() -> None:
    assert np.isnan(auc_from_counts(np.array([1, 2]), np.array([0, 0]))[0])


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=60))
def test_auc_from_counts_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    late, punctual = [s for s, y in rows if y], [s for s, y in rows if not y]
    counts = [np.bincount(np.array(x, dtype=int), minlength=21) for x in (late, punctual)]
    if late and punctual:
        pairs = [(a > b) + (a == b) / 2 for a in late for b in punctual]
        assert auc_from_counts(*counts)[0] == pytest.approx(np.mean(pairs))


def test_days_that_are_bad_as_a_whole_widen_the_interval() -> None:
    def month(stormy: float) -> pd.DataFrame:
        rows = [
            {"day": d, "step": s, "labelled": 10.0, "positives": 10 * min(1, s / 100 + (stormy if d % 5 == 0 else 0)), "p_labelled": s / 10}
            for d in range(30)
            for s in range(0, 100, 5)
        ]
        return pd.DataFrame(rows)

    calm, stormy = (interval(month(storm), "day")["gap"] for storm in (0.0, 0.5))
    assert calm == (0.0, 0.0)
    assert 0.05 < stormy[1] - stormy[0] < 0.3
    assert stormy[0] > 0


def test_calibration_has_equal_groups_and_loses_no_row() -> None:
    buckets = pd.DataFrame({"step": range(100), "labelled": 7.0, "positives": 3.0, "p_labelled": [7 * s / 100 for s in range(100)]})
    curve = calibration_by_score(buckets)
    assert curve.rows.tolist() == [70.0] * 10
    assert curve.predicted.is_monotonic_increasing


def test_the_interval_is_that_of_student_over_left_out_days() -> None:
    rng = np.random.default_rng(2)
    rows = pd.DataFrame({"day": np.repeat(np.arange(20), 80), "step": rng.integers(0, 50, 1600)})
    rows["late"] = rng.random(1600) < rows.step / 70 + 0.2 * (rows.day % 3 == 0)
    rows["p"] = rows.step / 50

    def measured(part: pd.DataFrame) -> tuple[float, float]:
        return roc_auc_score(part.late, part.step), part.late.mean() - part.p.mean()

    without = [measured(rows[rows.day != d]) for d in range(20)]
    found = interval(rows.assign(labelled=1, positives=rows.late.astype(int), p_labelled=rows.p), "day")
    for n, name in enumerate(("roc_auc_score", "gap")):
        assert found[name] == pytest.approx(t_interval(measured(rows)[n], np.array([w[n] for w in without]))[:2], abs=1e-6)


def test_one_day_or_one_that_holds_all_late_rows_has_no_interval() -> None:
    rows = pd.DataFrame(
        {"day": [1, 1, 2, 2], "step": [5, 9, 1, 2], "labelled": 1, "positives": [1, 1, 0, 0], "p_labelled": [0.5, 0.9, 0.1, 0.2]}
    )
    assert np.isnan(interval(rows, "day")["roc_auc_score"]).all()
    assert np.isnan(interval(rows[rows.day == 1], "day")["gap"]).all()


def test_labels_and_predictions_that_are_neither_true_nor_false_are_refused_with_an_example(spark: SparkSession) -> None:
    rows = spark.sql("SELECT * FROM VALUES (0.1D, 0, '0', -1), (0.9D, 1, '1', 1), (0.5D, null, null, 1) AS t(p, good, text, sign)")
    assert score_buckets(rows, "p", "good", "text")["positives"].sum() == 1
    for label, predicted, why in (
        ("sign", "good", "sign must be true and false, or 0 and 1, got 1 rows"),
        ("good", "p", "p must be true and"),
    ):
        with pytest.raises(ValueError, match=why):
            score_buckets(rows, "p", label, predicted)
