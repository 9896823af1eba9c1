"Each column of a window has one verdict, on any input; chance raises an alarm as rarely as stated."

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from boathouse.monitoring.drift import DRIFTED, VERDICTS, bin_counts, compare_profiles, group_of_text, psi_noise_floor
from boathouse.monitoring.profiles import KEEP, OTHER, array_digits, column_statistics, digits_for, merge_profiles, profile, round_array

Row = dict[str, Any]
DAYS = [(datetime(2026, 1, d), datetime(2026, 1, d + 1)) for d in range(1, 6)]
RNG = np.random.default_rng(8)


def row_of(
    values: Sequence[Any] | np.ndarray, nulls: int = 0, kind: str = "double", day: int = 5, column: str = "x", part: str | None = None
) -> Row:
    "A profile row as `profile` makes it: exact up to `KEEP` values, beyond that rounded or folded."
    points = pd.Series(values, dtype=object if kind == "string" else float).value_counts().sort_index().astype("int64")
    if kind != "string":
        exact = points.index.to_numpy(dtype=float)
        with np.errstate(over="ignore", invalid="ignore"):
            spread = float(np.sqrt(np.cov(exact, fweights=points, ddof=0))) if len(points) > 1 else 0.0
            digits = digits_for(float(np.average(exact, weights=points)), spread) if len(points) else 9
        points = points.groupby(np.where(exact == np.rint(exact), exact, round_array(exact, max(16, digits + 7)))).sum()
    distinct = len(points)
    parts = pd.DataFrame({"n": points, "mean": points.index, "squares": 0.0, "min": points.index, "max": points.index})
    if distinct > KEEP and kind == "string":
        top = set(points.sort_values(ascending=False, kind="stable").index[:KEEP])
        points = points.groupby([item if item in top else group_of_text(item) for item in points.index]).sum()
    elif distinct > KEEP:
        spread = float(np.sqrt(np.cov(points.index, fweights=points, ddof=0))) if len(points) > 1 else 0.0
        points = points.groupby(
            round_array(points.index.to_numpy(), digits_for(float(np.average(points.index, weights=points)), spread))
        ).sum()
    where = {"window": {"start": DAYS[day - 1][0], "end": DAYS[day - 1][1]}, "granularity": "1 day", "model_id": "1", "column_name": column}
    return where | {"slice_key": part and "pier", "slice_value": part} | column_statistics(kind, points, nulls, distinct, parts)


def verdict(window: Row, *baseline: Row) -> str:
    (found,) = compare_profiles([window], baseline)
    assert found["drifted"] == (found["verdict"] in DRIFTED)
    assert found["reason"]
    return found["verdict"]


def texts(words: str, times: int) -> Row:
    return row_of(words.split() * times, kind="string")


NORMAL = RNG.normal(size=2000)
DRY = np.where(RNG.random(2000) < 0.92, 0.0, RNG.lognormal(size=2000))
CASES: dict[str, tuple[Row, Row, str]] = {
    "the same": (row_of(RNG.normal(size=500)), row_of(NORMAL), "ok"),
    "a constant that spreads": (row_of(NORMAL), row_of([3.0] * 2000), "drift"),
    "a spread that becomes constant": (row_of([0.0] * 500), row_of(NORMAL), "drift"),
    "a constant that moves": (row_of([3.001] * 500), row_of([3.0] * 500), "drift"),
    "a constant": (row_of([3.0] * 200), row_of([3.0] * 500), "constant"),
    "a constant text": (texts("a", 200), texts("a", 500), "constant"),
    "missing on both sides": (row_of([], nulls=80), row_of([], nulls=500), "constant"),
    "zeros, the rest times a hundred": (row_of(DRY * 100), row_of(DRY), "drift"),
    "zeros, the rest halved": (row_of(np.where(DRY > 0, 0.1 * DRY, 0.0)), row_of(DRY), "drift"),
    "97 % zeros, the rest times a hundred": (row_of([0.0] * 9700 + list(100 * NORMAL[:300])), row_of([0.0] * 9700 + list(NORMAL[:300])), "drift"),
    "a hole in every second value": (row_of([0.0, 2.0, 4.0, 6.0] * 100), row_of(list(range(8)) * 100), "drift"),
    "year after year": (row_of([2021.0] * 500, kind="int"), row_of([2019.0] * 500, kind="int"), "drift"),
    "dates as numbers": (row_of([20260102.0] * 500, kind="int"), row_of([20260101.0] * 500, kind="int"), "drift"),
    "large numbers, small spread": (row_of(101_325 + 20 * NORMAL + 60), row_of(101_325 + 20 * NORMAL), "drift"),
    "all texts new": (texts("x y", 150), texts("a b c", 200), "new_categories"),
    "one text new": (row_of(["a"] * 900 + ["z"] * 100, kind="string"), row_of(["a"] * 500 + ["b"] * 5, kind="string"), "new_categories"),
    "1,500 texts new": (
        row_of([f"new {i}" for i in range(1500)] * 2, kind="string"),
        row_of([f"old {i}" for i in range(1500)] * 2, kind="string"),
        "new_categories",
    ),
    "shares of known texts": (row_of(["a"] * 200 + ["b"] * 800, kind="string"), row_of(["a"] * 500 + ["b"] * 500, kind="string"), "drift"),
    "texts that are gone": (texts("a", 300), texts("a b c", 200), "drift"),
    "half missing": (row_of(NORMAL[:500], nulls=500), row_of(NORMAL), "missing_share"),
    "all missing": (row_of([], nulls=500), row_of(NORMAL), "missing_share"),
    "no longer missing": (row_of(NORMAL), row_of(NORMAL[:200], nulls=1800), "missing_share"),
    "missing texts": (row_of(["a", "b"] * 100, nulls=200, kind="string"), texts("a b", 300), "missing_share"),
    "numbers became texts": (texts("1 2", 100), row_of([1.0, 2.0] * 100), "type_changed"),
    "booleans became numbers": (row_of([0.0, 1.0] * 100), row_of([0.0, 1.0] * 100, kind="boolean"), "type_changed"),
    "int and double are numbers": (row_of([0.0, 1.0] * 100, kind="int"), row_of([0.0, 1.0] * 100, kind="double"), "ok"),
    "eight rows": (row_of(NORMAL[:8] + 5), row_of(RNG.normal(size=100_000)), "too_few"),
    "a baseline of eight rows": (row_of(NORMAL), row_of(NORMAL[:8] + 5), "too_few"),
    "eight values among missing ones": (row_of(NORMAL[:8], nulls=792), row_of(NORMAL[:20], nulls=1980), "too_few"),
    "thirty rows": (row_of(NORMAL[:30] + 5), row_of(RNG.normal(size=100_000)), "drift"),
    "an empty window": (row_of([]), row_of(NORMAL), "empty"),
    "an empty baseline": (row_of(NORMAL), row_of([]), "empty"),
    "nothing on both sides": (row_of([]), row_of([]), "empty"),
    "as large as a number can be": (row_of([1e308, -1e308] * 50), row_of([1e308, 1e308, -1e308] * 50), "ok"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_pair_of_columns_has_the_verdict_that_a_person_would_give(case: str) -> None:
    window, baseline, expected = CASES[case]
    assert verdict(window, baseline) == expected


def test_too_few_states_the_least_number_and_where_it_is_missed() -> None:
    (found,) = compare_profiles([row_of(NORMAL[:8])], [row_of(NORMAL)], min_rows=20)
    assert (found["reason"], found["threshold"]) == ("8 rows in the window, at least 20 are needed", None)
    assert compare_profiles([row_of(NORMAL[:20])], [row_of(NORMAL)], min_rows=20)[0]["verdict"] == "ok"


def test_missing_values_are_noticed_where_the_seasons_of_the_values_hide_everything() -> None:
    winter, summer = (row_of(RNG.normal(m, 3, 3000), day=d) for m, d in ((0, 1), (20, 2)))
    (found,) = compare_profiles([row_of(RNG.normal(20, 3, 2900), nulls=100)], [winter, summer])
    assert found["population_stability_index"] < found["threshold"]
    assert found["verdict"] == "missing_share"
    assert found["reason"] == "3.3% of the values are missing, 0.0% in the baseline"


def test_a_column_on_one_side_only_has_a_row_that_says_so() -> None:
    found = compare_profiles([row_of(NORMAL, column="new")], [row_of(NORMAL, column="old")])
    assert {row["column_name"]: (row["verdict"], row["reason"]) for row in found} == {
        "new": ("empty", "the baseline has no row of this column"),
        "old": ("empty", "the window has no row of this column"),
    }
    assert compare_profiles([row_of(NORMAL)], [])[0]["verdict"] == "empty"


def test_a_slice_is_compared_with_the_same_slice_and_none_is_lost() -> None:
    north, south = RNG.normal(0, 1, 400), RNG.normal(9, 1, 400)
    baseline = [row_of([*north, *south]), row_of(north, part="north"), row_of(south, part="south"), row_of(north, part="closed")]
    fresh = [row_of([*south, *north]), row_of(north[::2], part="north"), row_of(south[::2], part="south"), row_of(north, part="opened")]
    found = {row["slice_value"]: row["verdict"] for row in compare_profiles(fresh, baseline)}
    assert found == {None: "ok", "north": "ok", "south": "ok", "closed": "empty", "opened": "empty"}
    assert verdict(row_of(south, part="north"), *baseline[1:2]) == "drift"


def test_a_column_that_changed_its_type_during_training_is_compared_with_the_windows_of_its_own_type() -> None:
    assert verdict(row_of([1.0, 2.0] * 50), texts("1 2", 100), row_of([1.0, 2.0] * 100)) == "ok"


def test_training_windows_of_different_resolution_merge_into_one_grid() -> None:
    many, few = row_of(np.arange(2000.0) + 100_000, day=1), row_of([100_001.0] * 400, day=2)
    joined = merge_profiles([many, few])
    assert (joined["count"], joined["distinct_count"] > KEEP) == (2400, True)
    digits = array_digits(np.array(joined["sketch"]["values"]))
    assert 9 < digits < 20
    assert joined["sketch"]["values"] == sorted(set(round_array(np.arange(2000.0) + 100_000, digits)))
    assert bin_counts(few, joined)[0].max() == 400


def alarms(windows: int, columns: int, draw: Any, baseline_rows: int, rows: int, kind: str) -> float:
    "The share of windows in which one of the columns drifted although nothing had changed."
    hits = 0
    for _ in range(windows):
        names = [str(c) for c in range(columns)]
        base, fresh = ([row_of(draw(n), kind=kind, column=c) for c in names] for n in (baseline_rows, rows))
        hits += any(row["drifted"] for row in compare_profiles(fresh, base))
    return hits / windows


@pytest.mark.parametrize(
    ("levels", "rows", "baseline_rows"), [(2, 40, 100_000), (200, 1000, 1000), (500, 2500, 2500), (1000, 300, 3000), (3000, 5000, 5000)]
)
def test_chance_raises_no_alarm_over_many_levels(levels: int, rows: int, baseline_rows: int) -> None:
    names = np.array([f"level {i}" for i in range(levels)])
    assert (
        alarms(30, 1, lambda n: names[RNG.integers(0, levels, n)], baseline_rows, rows, "string") <= 0.07
    )  # 1 % is meant, two of thirty happen


def test_chance_raises_no_alarm_over_many_columns() -> None:
    assert alarms(8, 30, lambda n: RNG.normal(size=n), 2000, 100, "double") <= 0.125  # 1 % is meant, 45 % without the correction


def test_a_shift_of_one_standard_deviation_is_noticed_among_many_columns() -> None:
    base = [row_of(RNG.normal(size=2000), column=str(c)) for c in range(30)]
    fresh = [row_of(RNG.normal(c == 3, 1, 300), column=str(c)) for c in range(30)]
    assert [row["column_name"] for row in compare_profiles(fresh, base) if row["drifted"]] == ["3"]


@pytest.mark.parametrize(("shares", "draws"), [([0.5, 0.5], 400), ([0.01, 0.99], 400), ([1 / 300] * 300, 60)])
def test_the_noise_floor_is_exceeded_as_often_as_stated(shares: list[float], draws: int) -> None:
    rng = np.random.default_rng(4)
    drawn = [np.array([rng.multinomial(size, shares) for size in (200, 5000)]) for _ in range(draws)]
    over = [_psi(counts) > psi_noise_floor(counts, 0.05) for counts in drawn]
    assert np.mean(over) <= 0.1


def _psi(counts: np.ndarray) -> float:
    p, q = np.maximum(counts[:, counts.sum(axis=0) > 0], 0.5)
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


NUMBER = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([2019.0, 2021.0, 1e308, -1e308, 1e-308, 0.1, 1e15]), st.floats(-1e3, 1e3))


@st.composite
def columns(draw: st.DrawFn, day: int) -> Row:
    kind = draw(st.sampled_from(["double", "int", "string", "boolean"]))
    one: Any = {"string": st.sampled_from([*"abc", "", f"{OTHER} 5)", "ü"]), "boolean": st.sampled_from([0.0, 1.0])}.get(kind, NUMBER)
    values = draw(st.lists(one, max_size=30)) * draw(st.sampled_from([1, 1, 7, 2000]))
    extra = [f"id {i}" for i in range(1200)] if kind == "string" else [i / 7 for i in range(1200)]
    if kind != "boolean" and draw(st.booleans()):
        values = [*values, *extra]
    return row_of(values, draw(st.sampled_from([0, 0, 1, 40, 5000])), kind, day)


def missing_numbers(value: Any) -> bool:
    "Whether a value holds NaN or an infinite number."
    if isinstance(value, dict):
        return any(map(missing_numbers, value.values()))
    return isinstance(value, float) and not math.isfinite(value)


@settings(max_examples=60, deadline=None)
@given(columns(5), st.lists(st.integers(1, 3).flatmap(columns), max_size=3))
def test_any_pair_of_columns_has_one_verdict_and_no_figure_is_nan(window: Row, baseline: list[Row]) -> None:
    (found,) = compare_profiles([window], baseline)
    assert found["verdict"] in VERDICTS
    assert found["drifted"] == (found["verdict"] in DRIFTED)
    assert not missing_numbers(found)
    if found["verdict"] in ("empty", "type_changed"):
        assert found["population_stability_index"] is None
        assert found["threshold"] is None
    if found["threshold"] is not None and found["population_stability_index"] > found["threshold"]:
        assert found["drifted"]


@pytest.fixture(scope="module")
def compared(spark: SparkSession) -> dict[str, str]:
    "The verdicts of one frame with a column per case; 3 January has no row, and the last two windows overlap."
    rng, n = np.random.default_rng(9), 1200
    day = np.repeat([1, 2, 4], n // 3)
    later = day > 1
    dry = np.where(rng.random(n) < 0.92, 0.0, rng.lognormal(size=n))
    rows = pd.DataFrame({
        "day": day, "year": np.where(later, 2021, 2019), "spread": np.where(later, rng.normal(size=n), 3.0), "rain": dry * np.where(later, 100, 1),
        "same": rng.normal(size=n), "infinite": np.where(later, np.inf, rng.normal(size=n)), "nan": np.where(later, np.nan, 1.0),
        "flag": rng.random(n) < np.where(later, 0.9, 0.1), "pier": np.where(later, "east", "west"), "word": "a",
        "moved": 5_400_000 + rng.normal(size=n) + later, "steady": 5_400_000 + rng.normal(size=n),
    })  # fmt: skip
    df = spark.createDataFrame(rows).withColumn("at", F.expr("timestamp'2026-01-01 12:00:00' + make_dt_interval(day - 1)"))
    df = df.withColumn("price", F.lit(Decimal("12.50"))).withColumn("gone", F.lit(None).cast("double"))
    names = [name for name in rows.columns if name != "day"] + ["price", "gone"]
    windows = [*DAYS[:4], (DAYS[3][0], DAYS[4][1])]
    made = profile(df, names, "at", windows, granularity="1 day")
    found: dict[str, str] = {}
    for row in compare_profiles(made[len(names) :], made[: len(names)]):
        span = f"{row['window']['start']:%d}-{row['window']['end']:%d}"
        found[f"{row['column_name']} {span}"] = row["verdict"]
    return found


def test_what_spark_profiles_has_the_same_verdicts(compared: dict[str, str]) -> None:
    expected = {"year": "drift", "spread": "drift", "rain": "drift", "same": "ok", "infinite": "missing_share", "nan": "missing_share", "flag": "drift",
                "pier": "new_categories", "word": "constant", "price": "constant", "gone": "constant",
                "moved": "drift", "steady": "ok"}  # fmt: skip
    assert {name: compared[f"{name} 02-03"] for name in expected} == expected


def test_a_window_without_rows_has_a_verdict_for_each_column(compared: dict[str, str]) -> None:
    assert {verdict for name, verdict in compared.items() if name.endswith(" 03-04")} == {"empty"}


def test_windows_that_overlap_each_have_their_rows(compared: dict[str, str]) -> None:
    assert {name: v for name, v in compared.items() if name.endswith("04-05")} == {
        name.replace("04-06", "04-05"): v for name, v in compared.items() if name.endswith("04-06")
    }
    assert compared["year 04-05"] == "drift"


def test_a_column_that_the_rows_do_not_have_is_named(spark: SparkSession) -> None:
    rows = spark.range(3).selectExpr("timestamp'2026-01-01' at", "id")
    with pytest.raises(ValueError, match="must be one of at, id, got nope"):
        profile(rows, ["id", "nope"], "at", DAYS[:1], granularity="1 day")


def test_numbers_beyond_a_thousand_different_ones_are_rounded_and_keep_mean_and_spread(spark: SparkSession) -> None:
    rows = spark.range(5000).selectExpr(
        "timestamp'2026-01-01 12:00:00' at", "id + 20260000 code", "id / 7 fraction", "(id + 1) * 1e-200 tiny"
    )
    made = {row["column_name"]: row for row in profile(rows, ["code", "fraction", "tiny"], "at", DAYS[:1], granularity="1 day")}
    assert (made["tiny"]["count"], made["tiny"]["stddev"]) == (5000, 0.0)  # the squares are smaller than any number
    for name, values in (("code", np.arange(5000) + 20_260_000.0), ("fraction", np.arange(5000) / 7)):
        assert len(made[name]["sketch"]["values"]) < 2000
        assert made[name]["distinct_count"] == 5000
        assert [made[name]["avg"], made[name]["stddev"]] == pytest.approx([values.mean(), values.std(ddof=1)], rel=1e-7)
        digits = digits_for(values.mean(), values.std())
        assert made[name]["sketch"]["values"] == pytest.approx(sorted(set(round_array(values, digits))), rel=1e-9)
    assert len(made["code"]["sketch"]["values"]) > 50  # with nine digits it would have one value


@pytest.mark.parametrize(("mean", "digits"), [(1.0, 9), (0.0, 9), (16.0, 9), (17.0, 10), (-1e6, 25), (1e18, 50)])
def test_values_that_lie_close_together_keep_the_digits_that_their_spread_needs(mean: float, digits: int) -> None:
    assert digits_for(mean, 1.0) == digits
    assert array_digits(round_array(mean + (1 + abs(mean) / 4) * RNG.normal(size=5000), digits)) == digits


def test_merged_windows_of_close_values_see_a_move_that_nine_digits_would_hide() -> None:
    parts = [row_of(1_000_000 + RNG.normal(size=3000), day=d) for d in (1, 2)]
    assert len(merge_profiles(parts)["sketch"]["values"]) > 50
    assert [verdict(row_of(1_000_000 + RNG.normal(size=3000) + by), *parts) for by in (0, 1)] == ["ok", "drift"]
