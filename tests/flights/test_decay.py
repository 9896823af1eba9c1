"""The flights' models grow old on rows that are those of training, and every measurement is kept once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from sklearn.metrics import roc_auc_score

from boathouse.models.learners import fit, probabilities
from boathouse.tables.table import Lakehouse, read
from boathouse.training.splits import is_inside
from flights import decay
from flights.decay import DecayMeasurement, decay_rows, measure_windows
from flights.tables import MONITORING_DECAY
from flights.training import TrainingRows, recipe

EXPERIMENT, AS_OF = "/test_flights_decay", date(2013, 9, 28)


@pytest.fixture(scope="module")
def lake(airport: Lakehouse) -> Iterator[Lakehouse]:
    airport.spark.sql(f"DROP TABLE IF EXISTS {airport.name(MONITORING_DECAY)}")
    yield airport
    airport.spark.sql(f"DROP TABLE IF EXISTS {airport.name(MONITORING_DECAY)}")


@pytest.fixture(scope="module")
def rows(lake: Lakehouse) -> pd.DataFrame:
    return decay_rows(lake, AS_OF, 1000, 7)


@pytest.fixture(scope="module")
def told(lake: Lakehouse, quick: dict[str, Any]) -> Iterator[list[DecayMeasurement]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decay, "DEFAULTS", quick)
        yield measure_windows(lake, EXPERIMENT, AS_OF, window=28, experience=38, ages=3, per_month=1000, unit="week")


def test_a_sample_holds_flights_of_every_day_whose_label_was_known_and_their_rows_are_those_of_training(
    lake: Lakehouse, rows: pd.DataFrame, learned: TrainingRows
) -> None:
    assert rows.groupby("month").size().max() == 1000
    assert rows.flight_date.nunique() > 55
    assert (rows.label_time <= pd.Timestamp(AS_OF)).all()
    other = decay_rows(lake, AS_OF, 1000, 8)
    assert 100 < len(set(rows.flight_id) & set(other.flight_id)) < 1900
    both = sorted(set(rows.flight_id) & set(learned.frame.flight_id))
    assert len(both) > 800
    columns = [*recipe(7).inputs, "late"]
    ours, theirs = (frame.set_index("flight_id").loc[both, columns] for frame in (rows, learned.frame))
    pd.testing.assert_frame_equal(ours, theirs)


def test_what_the_table_says_is_found_again_by_hand(
    lake: Lakehouse, rows: pd.DataFrame, quick: dict[str, Any], told: list[DecayMeasurement]
) -> None:
    kept = read(lake, MONITORING_DECAY).toPandas()
    growing, experienced, same = told
    assert len(kept) == len(growing.found.servings) + len(same.found.servings)
    assert set(kept.window_days) == {0, 28}
    row = kept[(kept.window_days == 28) & (kept.period == "2013-09-16") & (kept.age == 2)].iloc[0]
    assert (str(row.learned_from), str(row.learned_until)) == ("2013-08-04", "2013-09-01")  # Monday 2 September less a day, and 28 more
    model = fit(recipe(7), rows[is_inside(rows.flight_date, row.learned_from, row.learned_until)], quick)
    week = rows[is_inside(rows.flight_date, pd.Timestamp("2013-09-16").date(), pd.Timestamp("2013-09-23").date())]
    assert (row.flights, row.days) == (len(week), 7)
    assert row.auc == pytest.approx(roc_auc_score(week.late.astype(bool), probabilities(model, recipe(7), week)))
    fresh = kept[(kept.window_days == 28) & (kept.period == "2013-09-16") & (kept.age == 0)].iloc[0]
    assert row.loss == pytest.approx(fresh.auc - row.auc)
    assert 0 < len(experienced.found.servings) < len(growing.found.servings)


def test_the_run_has_tables_pictures_and_intervals(told: list[DecayMeasurement]) -> None:
    run = mlflow.search_runs(experiment_names=[EXPERIMENT], order_by=["start_time"]).iloc[0]
    files = {found.path for found in MlflowClient().list_artifacts(run.run_id)}
    assert files == {f"{one.name}.{kind}" for one in told for kind in ("json", "png")}
    for one in told:
        said = mlflow.artifacts.load_dict(f"runs:/{run.run_id}/{one.name}.json")
        assert said["interval"]["sentence"] == one.interval.sentence
        assert len(said["servings"]) == len(one.found.servings)
    assert run["params.per_month"] == "1000"


def test_a_measurement_that_is_repeated_replaces_its_rows_and_no_others(lake: Lakehouse, told: list[DecayMeasurement]) -> None:
    lake.spark.sql(f"UPDATE {lake.name(MONITORING_DECAY)} SET as_of = date'2013-09-27' WHERE age = 1")
    before = read(lake, MONITORING_DECAY).where("age = 1").count()
    again = measure_windows(lake, EXPERIMENT, AS_OF, window=28, experience=1000, ages=2, per_month=300, unit="week")
    kept = read(lake, MONITORING_DECAY).toPandas()
    assert (kept.as_of.astype(str) == "2013-09-27").sum() == before
    mine = kept[kept.as_of == AS_OF]
    assert len(mine) == len(again[0].found.servings) + len(again[2].found.servings)
    assert set(mine.age) == {0, 1}
    assert again[1].interval.verdict == "cannot tell"  # nobody has a thousand days
    assert again[1].ages.empty
