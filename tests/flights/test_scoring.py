"""A month is scored by the champion it had, one row per flight, and again only itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from boathouse.feature_models import rebuild_training_set, score_batch, spec_of
from boathouse.registry import promote
from boathouse.tables import Lakehouse, read
from boathouse.versions import fingerprint
from flights.features import LABELS, rehearsal
from flights.scoring import champion_of, score_month
from flights.tables import GOLD_DEPARTURES, ML_PREDICTIONS, OPS_PROMOTIONS
from flights.training import train

MODEL = "spark_catalog.test_ml.scored_flights"


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    "The rehearsal with two versions: the first is champion in August, the second from 15 August on."
    lake = Lakehouse(spark, prefix="rehearsal_")
    rehearsal(lake)
    for seed, since in ((7, dt.datetime(2013, 8, 1)), (8, dt.datetime(2013, 8, 15))):
        promote(lake, MODEL, train(lake, MODEL, "/test_flights_scoring", "2013-08-20", 1, seed).version, since, "test")
    yield lake
    for table, column in ((OPS_PROMOTIONS, "model_name"), (ML_PREDICTIONS, "model_name")):
        spark.sql(f"DELETE FROM {lake.name(table)} WHERE {column} = '{MODEL}'")
    MlflowClient().delete_registered_model(MODEL)


def test_the_champion_is_that_of_the_months_first_instant(lake: Lakehouse) -> None:
    assert (champion_of(lake, MODEL, "2013-08"), champion_of(lake, MODEL, "2013-09")) == (1, 2)
    with pytest.raises(ValueError, match="had no champion on 2013-07-01"):
        champion_of(lake, MODEL, "2013-07")


def test_every_scheduled_flight_is_scored_once_and_a_second_run_changes_nothing_of_it_or_of_another_month(lake: Lakehouse) -> None:
    version, august = score_month(lake, MODEL, "2013-08")
    before = fingerprint(august)
    score_month(lake, MODEL, "2013-09")
    score_month(lake, MODEL, "2013-09")
    rows = read(lake, ML_PREDICTIONS).where(f"model_name = '{MODEL}'")
    counts = {row.batch_id: row["count"] for row in rows.groupBy("batch_id").count().collect()}
    flights = {row.month: row["count"] for row in read(lake, GOLD_DEPARTURES).groupBy("month").count().collect()}
    assert counts == flights
    assert fingerprint(rows.where("batch_id = '2013-08'")) == before
    assert rows.select("flight_id").distinct().count() == sum(flights.values())

    facts = rows.groupBy("batch_id").agg({"model_version": "min", "scored_at": "max"}).orderBy("batch_id").collect()
    assert [tuple(row) for row in facts] == [("2013-08", version, dt.datetime(2013, 8, 1)), ("2013-09", 2, dt.datetime(2013, 9, 1))]
    assert rows.where("prediction != (probability >= 0.5) OR probability NOT BETWEEN 0 AND 1 OR alias != 'champion'").count() == 0


def test_a_scored_flight_scored_again_at_its_own_instant_gets_the_same_probability_and_the_training_set_is_made_again(
    lake: Lakehouse,
) -> None:
    version, rows = score_month(lake, MODEL, "2013-09")
    uri = f"models:/{MODEL}/{version}"
    again = score_batch(lake, uri, read(lake, GOLD_DEPARTURES).where("month = '2013-09'").select(*LABELS), engine="union")
    both = rows.join(again.select("flight_id", F.col("prediction").alias("now")), "flight_id", "full")
    # Of a linear model the last bit depends on how many rows are multiplied at once; trees are equal to the last bit.
    assert both.where("NOT coalesce(abs(probability - now) <= 1e-14, false)").count() == 0
    assert both.count() == rows.count() > 0
    assert fingerprint(rebuild_training_set(lake, uri)) == spec_of(uri).fingerprint
