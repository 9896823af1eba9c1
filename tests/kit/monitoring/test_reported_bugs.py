"Twelve classes of faults that users of other monitoring libraries have reported, each with the answer that is given here."

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from boathouse.monitoring.drift import bin_counts, compare_profiles, psi_from_counts
from boathouse.monitoring.profiles import merge_profiles
from boathouse.monitoring.quality import measure_buckets
from tests.kit.monitoring.test_verdicts import missing_numbers, row_of, texts, verdict

RNG = np.random.default_rng(21)
MANY = RNG.normal(size=5000)
DISTANCES = ("population_stability_index", "js_distance", "tv_distance", "l_infinity_distance")


def test_a_window_without_one_value_beside_a_large_baseline_has_a_verdict() -> None:
    "Evidently 330 divided by zero."
    assert verdict(row_of([], nulls=300), row_of(MANY)) == "missing_share"


def test_a_category_that_never_changes_is_constant_and_no_figure_is_nan() -> None:
    "Evidently 1929 printed NaN as its p-value, and then in every summary."
    (found,) = compare_profiles([texts("red", 300)], [texts("red", 900)])
    assert (found["verdict"], found["population_stability_index"]) == ("constant", 0.0)
    assert not missing_numbers(found)


def test_a_window_without_rows_is_empty_and_is_not_called_free_of_drift() -> None:
    "Evidently 1900 crashed, or returned a distance of 0 and no drift."
    (found,) = compare_profiles([row_of([])], [row_of(MANY)])
    assert (found["verdict"], found["population_stability_index"]) == ("empty", None)


def test_one_column_without_values_leaves_the_verdicts_of_the_others() -> None:
    "Evidently 1480 lost the whole report to one such column."
    window = [row_of([], nulls=400, column="gone"), row_of(MANY[:400] + 2, column="moved"), row_of(MANY[400:800], column="steady")]
    found = compare_profiles(window, [row_of(MANY, column=name) for name in ("gone", "moved", "steady")])
    assert {row["column_name"]: row["verdict"] for row in found} == {"gone": "missing_share", "moved": "drift", "steady": "ok"}


@pytest.mark.parametrize("rows", [1_000, 10_000, 100_000])
def test_a_verdict_depends_on_the_change_and_not_on_the_number_of_rows(rows: int) -> None:
    "Evidently 50: with enough rows a p-value calls every difference drift."
    base = row_of(["a"] * 50_000 + ["b"] * 50_000, kind="string")
    for share, expected in ((0.53, "ok"), (0.75, "drift")):
        one = round(share * rows)
        assert verdict(row_of(["a"] * one + ["b"] * (rows - one), kind="string"), base) == expected


def test_eight_rows_are_too_few() -> None:
    "Evidently 509 and 710 found drift in them."
    assert verdict(row_of(MANY[:8] + 4), row_of(MANY)) == "too_few"


def test_a_category_that_the_baseline_has_never_seen_is_counted_and_named() -> None:
    "Alibi-detect 191 and 193 failed, or left such rows out."
    (found,) = compare_profiles([row_of(["a"] * 300 + ["new"] * 100, kind="string")], [texts("a b", 400)])
    assert found["verdict"] == "new_categories"
    assert found["reason"] == "25.0% of the rows have one of 1 new texts, such as 'new'"


def test_missing_values_count_in_every_distance_and_no_side_is_taken_for_the_other() -> None:
    "Deepchecks 1842 counted them in one distance only, and 2643 had the two sides swapped."
    (found,) = compare_profiles([row_of(MANY[:600], nulls=400)], [row_of(MANY[600:1600])])
    assert [name for name in DISTANCES if not found[name] > 0.1] == []
    assert found["reason"] == "40.0% of the values are missing, 0.0% in the baseline"
    assert (found["count_delta"], found["percent_null_delta"]) == (-400, 40.0)


def test_a_last_window_of_one_class_has_figures_or_none_and_never_nan() -> None:
    "NannyML 88 and 279: a chunk with one class, or too short a last one, ended in NaN."
    counts = {"rows": 3, "unscored": 0, "labelled": 3, "p_sum": 0.9, "p_labelled": 0.9, "loss": 1.07, "positives": 0}
    part = pd.DataFrame([counts | {"_unit": "day", "step": 3000, "tp": 0, "fp": 0, "fn": 0}])
    found = measure_buckets(part)
    assert (found["roc_auc_score"], found["metric_interval"], found["accuracy_score"]) == (None, None, 1.0)
    assert not missing_numbers(found)


def test_identical_data_have_a_distance_of_zero_and_merged_windows_keep_their_missing_values() -> None:
    "Whylogs 563 called identical data a minimal drift, and 232 lost the missing values when profiles were merged."
    (found,) = compare_profiles([row_of(MANY, nulls=7)], [row_of(MANY, nulls=7)])
    assert [found[name] for name in (*DISTANCES, "wasserstein_distance")] == [0.0] * 5
    assert merge_profiles([row_of(MANY, nulls=7, day=1), row_of(MANY, nulls=5, day=2)])["num_nulls"] == 12


def test_a_column_that_is_nearly_always_missing_is_noticed_although_the_values_that_are_left_look_as_before() -> None:
    "Fair-Code 461 had a PSI of 0 with 95 % missing."
    assert verdict(row_of(MANY[:200], nulls=3800), row_of(MANY)) == "missing_share"


def test_all_windows_together_have_drifted_no_further_than_the_worst_of_them() -> None:
    "Phoenix 730 had a larger PSI for the whole than for any part."
    base = row_of(MANY)
    windows = [row_of(MANY[:1000] + shift, day=day) for day, shift in enumerate((0.2, 0.6, 1.0), start=1)]
    parts = [float(psi_from_counts(*bin_counts(one, base))) for one in windows]
    whole = float(psi_from_counts(*bin_counts(merge_profiles(windows), base)))
    assert min(parts) < whole < max(parts)
