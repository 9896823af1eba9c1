"""How fast models grow old, in worlds whose truth is known: one that turns, one that stands still, one in which only experience counts."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from PIL import Image
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from boathouse.models.learners import Recipe
from boathouse.monitoring.decay import (
    DecayResult,
    Scores,
    find_interval,
    fixed_learner,
    log_decay,
    loss_by_age,
    measure_decay,
    plan_periods,
    plot_decay,
    with_min_history,
)

LINE = fixed_learner(Recipe((), ("west", "south"), "late"), {"learner": "logistic"})


def world(turn: float, months: int = 12, a_day: int = 40, seed: int = 5) -> pd.DataFrame:
    "A harbour whose dangerous wind turns by so many degrees a month."
    rng = np.random.default_rng(seed)
    days = np.repeat(pd.date_range("2026-01-01", periods=30 * months), a_day)
    west, south = rng.normal(size=(2, days.size))
    angle = np.radians(turn * (days - days[0]).days.to_numpy() / 30)
    late = rng.random(days.size) < 1 / (1 + np.exp(1 - 1.5 * (west * np.cos(angle) + south * np.sin(angle))))
    return pd.DataFrame({"day": days.date, "west": west, "south": south, "late": late})


@pytest.fixture(scope="module")
def turning() -> DecayResult:
    return measure_decay(world(12), LINE, "day", "late", ages=5, window=30)


@pytest.fixture(scope="module")
def still() -> DecayResult:
    return measure_decay(world(0), LINE, "day", "late", ages=5, window=30)


def ages(*losses: tuple[float, float, float]) -> pd.DataFrame:
    "Rows of `loss_by_age`: (loss, low, high) of age 1, 2, ..."
    return pd.DataFrame([{"age": n + 1, "loss": x, "low": low, "high": high, "periods": 6} for n, (x, low, high) in enumerate(losses)])


@settings(max_examples=40, deadline=None)
@given(
    start=st.dates(date(2020, 1, 1), date(2025, 12, 31)),
    length=st.integers(220, 500),
    gap=st.integers(0, 10),
    window=st.none() | st.integers(1, 90),
    unit=st.sampled_from(["month", "week"]),
)
def test_no_model_learns_from_what_it_is_judged_on_nor_from_days_without_labels(
    start: date, length: int, gap: int, window: int | None, unit: str
) -> None:
    days = [start + timedelta(days=n) for n in range(length)]
    found = plan_periods(days, ages=3, gap=gap, window=window, least=20 if window is None else 1, unit=unit)
    begins = {one.period: date.fromisoformat(one.period if unit == "week" else f"{one.period}-01") for one in found}
    for one in found:
        first = begins[one.period]
        back = pd.Period(first, freq="M") - one.age
        trained = first - timedelta(weeks=one.age) if unit == "week" else back.start_time.date()
        assert one.until == trained - timedelta(days=gap)
        assert one.first >= start
        assert one.first == start if window is None else (one.until - one.first).days == window
    assert {one.age for one in found} == {0, 1, 2}
    assert unit == "month" or all(first.weekday() == 0 for first in begins.values())


def test_a_world_that_turns_costs_more_with_every_month_and_the_interval_is_found(turning: DecayResult) -> None:
    table = loss_by_age(turning)
    assert table.loss.is_monotonic_increasing
    assert (table.low > 0.015).all()
    between = (table.high[0] + table.low[1]) / 2  # surely more than age 1 loses, surely less than age 2 does
    found = find_interval(table, between)
    assert (found.verdict, found.periods) == ("found", 2)
    assert find_interval(table, table.low[0] / 2).periods == 1


def test_a_world_that_stands_still_costs_nothing_and_longer_than_measured_is_fine(still: DecayResult) -> None:
    table = loss_by_age(still)
    assert (table.low < 0).all()
    assert (table.loss.abs() < 0.003).all()
    found = find_interval(table, 0.005)
    assert (found.verdict, found.periods) == ("longer than measured", 5)
    assert "every 5 months is enough" in found.sentence


def test_where_experience_alone_counts_only_the_growing_window_shows_a_loss() -> None:
    rows = world(0, months=8, a_day=20)
    moods = [f"mood_{n}" for n in range(40)]
    rows[moods] = np.random.default_rng(1).normal(size=(len(rows), 40))
    hungry = fixed_learner(Recipe((), ("west", "south", *moods), "late"), {"learner": "logistic"})
    grown, same = (loss_by_age(measure_decay(rows, hungry, "day", "late", ages=5, window=window)) for window in (None, 30))
    assert grown.loss.is_monotonic_increasing
    assert grown.loss.iloc[-1] > 0.015 > same.loss.max()


def test_losses_are_of_the_same_rows_and_each_month_counts_alike() -> None:
    rows = world(12, months=5)
    fitted: dict[int, Scores] = {}

    def learn(known: pd.DataFrame) -> Scores:
        return fitted.setdefault(len(known), LINE(known))

    found = measure_decay(rows, learn, "day", "late", ages=2)
    assert len(fitted) == 4  # a model for each month but the first, whatever it serves
    months = pd.to_datetime(rows.day).dt.strftime("%Y-%m")
    losses = []
    for row in found.servings.itertuples():
        judged = rows[months == row.period]
        assert row.learned_rows == ((rows.day >= row.first) & (rows.day < row.until)).sum()
        assert row.rows == len(judged)
        assert row.auc == pytest.approx(roc_auc_score(judged.late, fitted[row.learned_rows](judged)))
        losses += [row.loss] * row.age
    assert loss_by_age(found).loss[0] == pytest.approx(np.mean(losses))
    assert loss_by_age(found).periods[0] == len(losses) == 3


def test_the_interval_covers_days_as_if_each_had_been_left_out_and_months_too() -> None:
    rows = world(12, months=4, a_day=15)
    found = measure_decay(rows, LINE, "day", "late", ages=2)
    table = loss_by_age(found)
    servings = found.servings[found.servings.age == 1]
    until = {(row.period, row.age): row.until for row in found.servings.itertuples()}
    months, without = pd.to_datetime(rows.day).dt.strftime("%Y-%m"), []
    for period in servings.period:
        judged = rows[months == period]
        scores = [LINE(rows[rows.day < until[period, age]])(judged) for age in (0, 1)]
        for day in judged.day.unique():
            rest = (judged.day != day).to_numpy()
            fresh, old = (roc_auc_score(judged.late[rest], s[rest]) for s in scores)
            others = servings[servings.period != period].loss.sum()
            without.append((fresh - old + others) / len(servings))
    days = len(without)
    error = np.sqrt((days - 1) / days * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert table.days[0] == days
    assert table.day_error[0] == pytest.approx(error, rel=0.02)
    assert table.period_error[0] == pytest.approx(servings.loss.std() / np.sqrt(len(servings)))
    assert table.high[0] - table.loss[0] >= 1.96 * max(table.day_error[0], table.period_error[0])


def test_an_age_that_has_served_one_month_alone_cannot_be_told() -> None:
    last = loss_by_age(measure_decay(world(0, months=3), LINE, "day", "late", ages=3))
    assert last.periods.tolist() == [1]
    assert last.low.isna().all()
    assert find_interval(last).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("table", "verdict", "periods"),
    [
        (ages((0.001, 0.000, 0.002), (0.003, 0.001, 0.004), (0.009, 0.006, 0.012)), "found", 3),
        (ages((0.009, 0.006, 0.012)), "found", 1),
        (ages((0.001, 0.000, 0.002), (0.004, 0.001, 0.007), (0.001, 0.000, 0.002)), "at least", 2),  # what lies behind is not asked
        (ages((0.001, 0.000, 0.002), (0.004, np.nan, np.nan)), "at least", 2),
        (ages((0.004, 0.001, 0.007), (0.009, 0.006, 0.012)), "cannot tell", None),
        (ages((0.001, -0.001, 0.002), (0.001, -0.003, 0.0049)), "longer than measured", 3),
        (ages((-0.02, -0.03, -0.01)), "longer than measured", 2),
        (ages((0.004, 0.003, 0.005)), "cannot tell", None),
        (ages(), "cannot tell", None),
    ],
)  # fmt: skip
def test_the_interval_ends_with_the_first_age_that_is_not_surely_fine(table: pd.DataFrame, verdict: str, periods: int | None) -> None:
    found = find_interval(table, 0.005)
    assert (found.verdict, found.periods) == (verdict, periods)
    shuffled = table.iloc[::-1]
    assert find_interval(shuffled, 0.005) == found


def test_experienced_models_are_those_that_saw_enough_days() -> None:
    grown = measure_decay(world(12, months=6), LINE, "day", "late", ages=4)
    some = with_min_history(grown, 85)
    rows = some.servings
    assert 0 < len(rows) < len(grown.servings)
    assert ((pd.to_datetime(rows["until"]) - pd.to_datetime(rows["first"])).dt.days >= 85).all()
    assert set(some.parts) == set(zip(rows.period, rows.age, strict=True))
    assert loss_by_age(some).periods.tolist() == [2, 1]
    assert loss_by_age(with_min_history(grown, 1000)).empty


def test_weeks_are_named_by_their_mondays_and_half_a_period_is_judged_and_less_is_not() -> None:
    rows = world(0, months=4)
    weekly = measure_decay(rows, LINE, "day", "late", ages=3, unit="week", workers=2)
    assert all(date.fromisoformat(period).weekday() == 0 for period in weekly.servings.period)
    assert "every 3 weeks" in find_interval(loss_by_age(weekly), 0.05, "week").sentence
    for keep, there in ((15, True), (14, False)):  # of the 30 days of April
        cut = rows[rows.day < date(2026, 4, 1) + timedelta(days=keep)]
        assert ("2026-04" in set(measure_decay(cut, LINE, "day", "late", ages=2).servings.period)) == there


def test_a_month_with_one_outcome_is_left_out() -> None:
    rows = world(0, months=6)
    may = pd.to_datetime(rows.day).dt.month == 5
    found = measure_decay(rows.assign(late=rows.late & ~may), LINE, "day", "late", ages=3)
    assert "2026-05" not in set(found.servings.period)
    assert "2026-06" in set(found.servings.period)
    assert found.servings.auc.notna().all()


def test_what_cannot_be_measured_is_refused_with_what_is_needed() -> None:
    rows = world(0, months=2)
    with pytest.raises(ValueError, match="needs 28 days of history and two months after them, got the days from "):
        measure_decay(rows, LINE, "day", "late")
    with pytest.raises(ValueError, match=r"ages must be at least 2, .* got ages=1"):
        measure_decay(rows, LINE, "day", "late", ages=1)
    with pytest.raises(ValueError, match="every row needs a day and a late, but 1 of "):
        measure_decay(rows.assign(late=rows.late.astype(object).where(rows.index != 3)), LINE, "day", "late")
    with pytest.raises(ValueError, match="unit must be 'month' or 'week' or 'day', got 'fortnight'"):
        measure_decay(rows, LINE, "day", "late", unit="fortnight")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tolerance must be positive, got 0\.0"):
        find_interval(ages((0.1, 0.1, 0.1)), 0.0)


def test_the_lines_told_come_in_the_order_of_time_and_two_workers_find_the_same() -> None:
    rows, lines = world(12, months=6), []
    two = measure_decay(rows, LINE, "day", "late", ages=3, workers=2, tell=lines.append)
    assert lines == sorted(lines, key=lambda line: line.split("before ")[1])
    assert len(lines) == 5
    assert two.servings.equals(measure_decay(rows, LINE, "day", "late", ages=3).servings)


def test_a_run_keeps_table_picture_and_interval(spark: SparkSession, turning: DecayResult, still: DecayResult, tmp_path: Path) -> None:
    table, client = loss_by_age(turning), MlflowClient()
    interval = find_interval(table, 0.05)
    mlflow.set_experiment("/test_decay")
    with mlflow.start_run() as run:
        log_decay(run.info.run_id, turning, table, interval)
        log_decay(
            run.info.run_id,
            measure_decay(world(0, months=3), LINE, "day", "late", ages=3),
            loss_by_age(still).assign(low=np.nan),
            interval,
            "other",
        )
    told = json.loads(Path(client.download_artifacts(run.info.run_id, "decay.json", str(tmp_path))).read_text())
    assert told["interval"]["sentence"] == interval.sentence
    assert [row["loss"] for row in told["ages"]] == pytest.approx(table.loss.tolist())
    assert len(told["servings"]) == len(turning.servings)
    other = Path(client.download_artifacts(run.info.run_id, "other.json", str(tmp_path))).read_text()
    assert "NaN" not in other
    with Image.open(client.download_artifacts(run.info.run_id, "decay.png", str(tmp_path))) as picture:
        assert picture.width > 1000


def test_the_picture_has_a_line_for_each_month_and_the_tolerance(turning: DecayResult) -> None:
    mean, single = plot_decay(turning, loss_by_age(turning), 0.02).axes
    months = sorted(set(turning.servings[turning.servings.age > 0].period))
    assert [text.get_text() for text in single.get_legend().get_texts()] == months
    assert any(list(line.get_ydata()) == [0.02, 0.02] for line in mean.get_lines())
