"""A month is scored by the champion it had, one row per flight, and again only itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from boathouse.registry.promotions import promote
from boathouse.serving.feature_models import read_spec, rebuild_training_set, score_batch
from boathouse.tables.table import Lakehouse, exists, read
from boathouse.tables.versions import fingerprint
from flights.features import LABELS
from flights.scoring import add_due, champion_of, score_due, score_month
from flights.tables import GOLD_DEPARTURES, GOLD_DUE_DEPARTURES, ML_PREDICTIONS
from flights.training import TrainedVersion

MODEL = "spark_catalog.test_ml.scored_flights"


@dataclass(frozen=True)
class Scored:
    "A lake in which August was scored, and then September twice: the version that served in each, all rows, and August's from before September was scored."

    lake: Lakehouse
    versions: dict[str, int]
    rows: pd.DataFrame
    august: pd.DataFrame


@pytest.fixture(scope="module")
def scored(
    airport: Lakehouse, earlier: TrainedVersion, candidate: TrainedVersion, registered: Callable[[str, TrainedVersion], int]
) -> Iterator[Scored]:
    "Two versions: the first is champion in August, the second from 15 August on."
    for trained, since in ((earlier, dt.datetime(2013, 8, 1)), (candidate, dt.datetime(2013, 8, 15))):
        promote(airport, MODEL, registered(MODEL, trained), since, "test")
    version, rows = score_month(airport, MODEL, "2013-08")
    august = rows.toPandas()
    once, twice = (score_month(airport, MODEL, "2013-09")[0] for _ in range(2))
    assert once == twice
    rows = read(airport, ML_PREDICTIONS).where(f"model_name = '{MODEL}'").toPandas()
    yield Scored(airport, {"2013-08": version, "2013-09": twice}, rows, august)
    airport.spark.sql(f"DELETE FROM {airport.name(ML_PREDICTIONS)} WHERE model_name = '{MODEL}'")
    MlflowClient().delete_registered_model(MODEL)


def test_the_champion_is_that_of_the_months_first_instant(scored: Scored) -> None:
    assert (champion_of(scored.lake, MODEL, "2013-08"), champion_of(scored.lake, MODEL, "2013-09")) == (1, 2)
    with pytest.raises(ValueError, match=r"needs a champion of .* on 2013-07-01, found none"):
        champion_of(scored.lake, MODEL, "2013-07")


def test_every_scheduled_flight_is_scored_once_and_a_second_run_changes_nothing_of_it_or_of_another_month(scored: Scored) -> None:
    rows, september = scored.rows, scored.rows[scored.rows.batch_id == "2013-09"]
    flights = {row.month: row["count"] for row in read(scored.lake, GOLD_DEPARTURES).groupBy("month").count().collect()}
    assert rows.batch_id.value_counts().to_dict() == flights
    assert rows.flight_id.is_unique
    august = rows[rows.batch_id == "2013-08"]
    pd.testing.assert_frame_equal(*(frame.sort_values("flight_id", ignore_index=True) for frame in (august, scored.august)))

    assert scored.versions == {"2013-08": 1, "2013-09": 2}
    for month, version in ((august, 1), (september, 2)):
        assert set(month.model_version) == {version}
        assert set(month.scored_at) == {pd.Timestamp(f"{month.batch_id.iloc[0]}-01")}
    assert (rows.prediction == (rows.probability >= 0.5)).all()
    assert rows.probability.between(0, 1).all()
    assert set(rows.alias) == {"champion"}


def test_a_scored_flight_scored_again_at_its_own_instant_gets_the_same_probability_and_the_training_set_is_made_again(
    scored: Scored,
) -> None:
    lake, uri = scored.lake, f"models:/{MODEL}/{scored.versions['2013-09']}"
    rows = scored.rows[scored.rows.batch_id == "2013-09"]
    again = score_batch(lake, uri, read(lake, GOLD_DEPARTURES).where("month = '2013-09'").select(*LABELS), engine="union")
    both = rows.merge(again.select("flight_id", "prediction").toPandas(), "outer", "flight_id", suffixes=("", "_now"))
    # Of a linear model the last bit depends on how many rows are multiplied at once; trees are equal to the last bit.
    assert ((both.probability - both.prediction_now).abs() <= 1e-14).all()
    assert len(both) == len(rows) > 0
    assert fingerprint(rebuild_training_set(lake, uri)) == read_spec(uri).fingerprint


def test_a_month_by_the_stream_in_two_portions_has_the_predictions_of_the_batch_to_the_last_bit(scored: Scored, tmp_path: Path) -> None:
    lake, streamed = scored.lake, replace(ML_PREDICTIONS, name="ml.streamed_august")
    for table in (GOLD_DUE_DEPARTURES, streamed):
        lake.spark.sql(f"DROP TABLE IF EXISTS {lake.name(table)}")
    for until in (dt.datetime(2013, 8, 16), dt.datetime(2013, 9, 2)):
        assert add_due(lake, "2013-08", until, streamed) > 0
        assert add_due(lake, "2013-08", until, streamed) == 0
        score_due(lake, f"models:/{MODEL}/1", str(tmp_path), until, streamed)
    assert add_due(lake, "2013-08", dt.datetime(2013, 9, 2), ML_PREDICTIONS) == 0
    columns = [c for c in ML_PREDICTIONS.schema.names if c not in ("run_id", "scored_at", "input_versions")]
    batch, stream = (rows[columns].sort_values("flight_id", ignore_index=True) for rows in (scored.august, read(lake, streamed).toPandas()))
    pd.testing.assert_frame_equal(stream, batch, check_exact=True)
    assert not exists(lake, f"{streamed.name}_dead_letters")
    for table in (GOLD_DUE_DEPARTURES, streamed):
        lake.spark.sql(f"DROP TABLE {lake.name(table)}")
