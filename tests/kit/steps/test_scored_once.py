"""A batch and a stream that are killed without warning, at every commit, and a stream with a damaged offset: no row is lost or doubled."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema
from pyspark import cloudpickle
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from sklearn.tree import DecisionTreeRegressor

from boathouse.features.lookups import FeatureLookup
from boathouse.features.training_sets import Labels, create_training_set
from boathouse.models.integrity import TRUSTED, AllowedTypes
from boathouse.serving.feature_models import log_model
from boathouse.serving.predictions import read_dead_letters
from boathouse.serving.stream import StreamScorer, read_stream_id, score_stream
from boathouse.steps.score import score
from boathouse.tables.table import Column, Lakehouse, Table, drop_all, exists, read
from boathouse.tables.writes import append
from boathouse.workspace.cluster.cluster import Cluster, TaskSpec
from boathouse.workspace.spark.checkpoints import repair_checkpoint

MODEL, AT = "spark_catalog.test_ml.scored_once", datetime(2026, 2, 1)
CHAMPION = f"models:/{MODEL}@champion"
TRIPS = Table(
    "gold.trips",
    "One row per trip.",
    tuple(Column(n, t, "as named") for n, t in [("trip", "bigint"), ("pier", "string"), ("departs_at", "timestamp"), ("load", "string"), ("seats", "bigint")]),
)  # fmt: skip
WIND = Table(
    "features.wind",
    "One row per pier and measurement.",
    (
        Column("pier", "string", "pier", nullable=False),
        Column("measured_at", "timestamp", "time", nullable=False),
        Column("knots", "double", "wind"),
    ),
    primary_key=("pier", "measured_at"),
    time_key="measured_at",
)
ALLOWED = AllowedTypes(types=frozenset({*TRUSTED, "sklearn.tree._tree.Tree"}))
# The process ends itself with SIGKILL before or after a commit, which the last word names.
TASK = """
import os, signal, sys, threading
from datetime import datetime
from boathouse.runtime import get_spark
from boathouse.steps import score as score_function
from boathouse.serving import stream
from boathouse.tables.table import Lakehouse, read
import boathouse.steps.score

prefix, checkpoint, uri, point, source, to = sys.argv[1:]
if point.startswith("at "):
    threading.Timer(float(point[3:]), os.kill, (os.getpid(), signal.SIGKILL)).start()
lake, batch = Lakehouse(get_spark(), prefix=prefix), sys.modules["boathouse.steps.score"]

def deadly(commit, name):
    def changed(lake, table, rows, note, *words, **more):
        here = f"{table.name} {note['batch']}" if isinstance(note, dict) else table.name
        if point == f"before {here}":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(lake, table, rows, note, *words, **more)
        if point == f"after {here}":
            os.kill(os.getpid(), signal.SIGKILL)
    return changed

stream.commit_rows, batch.replace = deadly(stream.commit_rows, "stream"), deadly(batch.replace, "batch")
if checkpoint == "batch":
    rows = read(lake, "gold.trips").where("trip IN (1, 3) AND load != 'heavy'").selectExpr("trip", "pier", "departs_at", "double(load) AS load", "seats")
    score_function(lake, uri, rows, to="ml.batches", batch="one", key=["trip"], at=datetime(2026, 2, 1))
else:
    stream.score_stream(lake, source, uri, to=to, checkpoint=checkpoint, key=["trip"], at=datetime(2026, 2, 1))
"""


def announce(lake: Lakehouse, *rows: tuple[int | None, int | None, str | None, int | None], to: Table = TRIPS) -> None:
    "Append trips: number, hour of the departure, load, seats."
    times = [(t, "east", h if h is None else datetime(2026, 1, 1, h, 30), load, seats) for t, h, load, seats in rows]
    append(lake, to, lake.spark.createDataFrame(times, TRIPS.schema).coalesce(1))


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    "A model in two versions: the first takes seats as a whole number, the second as a double, which may be null."
    lake = Lakehouse(spark, prefix="test_scored_once_")
    drop_all(lake)
    hours = pd.date_range("2026-01-01", periods=24, freq="h")
    measured = pd.DataFrame({"pier": "east", "measured_at": hours, "knots": np.arange(24) % 7 + 0.1})
    append(lake, WIND, spark.createDataFrame(measured).select(*WIND.schema.names))
    some = pd.DataFrame({"pier": "east", "departs_at": hours[1:], "load": 1.5, "seats": np.arange(23), "delay": np.arange(23) / 3})
    lookup = FeatureLookup(WIND.name, "pier", timestamp_lookup_key="departs_at")
    made = create_training_set(lake, spark.createDataFrame(some), [lookup], "delay", exclude_columns=["pier", "departs_at"])
    rows = made.load_df().toPandas()
    mlflow.set_experiment("/test_scored_once")
    for kind, sign in (("long", 1), ("double", -1)):
        inputs = Schema([ColSpec("double", "knots"), ColSpec("double", "load"), ColSpec(kind, "seats")])
        with mlflow.start_run():
            fitted = DecisionTreeRegressor(max_depth=3, random_state=1).fit(rows[["knots", "load", "seats"]], sign * rows["delay"])
            signature = ModelSignature(inputs, Schema([ColSpec("double")]))
            log_model(
                fitted,
                "delay",
                flavor=mlflow.sklearn,
                training_set=made,
                registered_model_name=MODEL,
                signature=signature,
                allowed=ALLOWED,
                skops_trusted_types=sorted(ALLOWED.types),
            )
    yield lake
    drop_all(lake)
    MlflowClient().delete_registered_model(MODEL)


@pytest.fixture(scope="module")
def death(cluster: Cluster, lake: Lakehouse, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    "Score in a process of its own, which is killed at a point."
    home, numbers = tmp_path_factory.mktemp("killed"), itertools.count()
    (home / "task.py").write_text(TASK)

    def call(checkpoint: Path | str, point: str, source: str = TRIPS.name, to: str = "ml.predictions") -> None:
        folder = home / str(next(numbers))
        argv = (lake.prefix, str(checkpoint), CHAMPION, point, source, to)
        result = cluster.launch(TaskSpec(kind="script", folder=folder, project=home, file=home / "task.py", argv=argv)).wait(300)
        assert result is not None
        assert "SIGKILL" in (result.error or ""), f"{result.state}: {(folder / 'log.txt').read_text()}"

    return call


@dataclass(frozen=True)
class Streamed:
    "What a stream wrote that was killed four times: its predictions and dead letters, and the sentence of the repair."

    lake: Lakehouse
    predictions: pd.DataFrame
    dead: pd.DataFrame
    source: pd.DataFrame
    repaired: list[str]
    checkpoint: Path


@pytest.fixture(scope="module")
def streamed(lake: Lakehouse, death: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Streamed:
    "Two micro-batches with kills, a moved alias, a truncated offset and rows that came meanwhile."
    checkpoint = tmp_path_factory.mktemp("streams") / "trips"
    MlflowClient().set_registered_model_alias(MODEL, "champion", "1")
    announce(
        lake,
        *[(1, 1, "1.5", 3), (2, 2, "2", 4), (2, 2, "2", 4), (3, 3, "heavy", 5), (3, 3, "3", 5), (None, 4, "1", 1), (None, 4, "1", 1)],
        *[(5, 5, "1", None), (6, None, "1", 2)],
    )
    death(checkpoint, "before ml.predictions 0")
    death(checkpoint, "after ml.predictions 0")
    MlflowClient().set_registered_model_alias(MODEL, "champion", "2")
    death(checkpoint, "after ml.predictions_dead_letters 0")
    announce(lake, (11, 6, "1", None), (12, 7, "x", 1), (13, 8, None, 1))
    death(checkpoint, "after ml.predictions 1")
    (checkpoint / "offsets" / "1").write_bytes(b"")
    announce(lake, (14, 9, "4", 2), (15, 10, "y", 1))

    def again() -> None:
        score_stream(lake, TRIPS.name, CHAMPION, to="ml.predictions", checkpoint=checkpoint, key=["trip"], at=AT)

    with pytest.raises(StreamingQueryException):
        again()
    repaired = repair_checkpoint(checkpoint)
    again()
    lake.spark.sql(f"UPDATE {lake.name(TRIPS)} SET load = '9' WHERE trip = 1")  # a change of an old row scores nothing
    again()
    dead = read_dead_letters(lake, "ml.predictions_dead_letters", TRIPS.schema)
    predictions, source = read(lake, "ml.predictions").orderBy("trip").toPandas(), read(lake, TRIPS).toPandas()
    return Streamed(lake, predictions, dead.toPandas(), source, repaired, checkpoint)


def test_a_killed_and_repaired_stream_has_each_row_of_its_source_once_in_predictions_or_dead_letters(streamed: Streamed) -> None:
    columns = list(TRIPS.schema.names)
    found = pd.concat([streamed.predictions[columns].astype({"load": str}), streamed.dead[columns]])
    assert sorted(map(str, found.trip.fillna(-1).astype(int))) == sorted(map(str, streamed.source.trip.fillna(-1).astype(int)))
    assert list(streamed.predictions.trip) == [1, 2, 3, 11, 13, 14]
    assert sorted(streamed.dead.trip.fillna(0).astype(int)) == [0, 0, 2, 3, 5, 6, 12, 15]
    assert streamed.repaired == [
        f"{streamed.checkpoint}: offsets/1 is damaged (0 bytes), and was deleted; the query repeats its last micro-batch"
    ]


def test_a_repeated_micro_batch_keeps_the_version_of_its_first_attempt_though_the_alias_has_moved(streamed: Streamed) -> None:
    versions = dict(zip(streamed.predictions.trip, streamed.predictions.model_version, strict=True))
    assert versions == {1: 1, 2: 1, 3: 1, 11: 2, 13: 2, 14: 2}
    late = dict(zip(streamed.dead.trip.fillna(0).astype(int), streamed.dead.model_version, strict=True))
    assert late == {0: 1, 2: 1, 3: 1, 5: 1, 6: 1, 12: 2, 15: 2}
    assert streamed.predictions.input_versions[0] == {"features.wind": 1, "gold.trips": 1}


def test_a_dead_letter_has_the_row_as_it_came_and_every_reason(streamed: Streamed) -> None:
    reasons = {(row.trip, row.load): list(row.reasons) for row in streamed.dead.fillna({"trip": 0}).itertuples()}
    assert reasons == {
        (0, "1"): ["trip must not be null: it is part of the key"],
        (2, "2"): ["the key must come once in a micro-batch: another row with it was scored"],
        (3, "heavy"): ["load must be double, got 'heavy'"],
        (5, "1"): ["seats must not be null: the model takes long"],
        (6, "1"): ["departs_at must not be null: features of features.wind are looked up as of it"],
        (12, "x"): ["load must be double, got 'x'"],
        (15, "y"): ["load must be double, got 'y'"],
    }


def test_a_range_of_batches_has_the_predictions_of_the_stream_to_the_last_bit_and_a_shadow_beside_them(streamed: Streamed) -> None:
    lake, columns = streamed.lake, ("trip", "pier", "departs_at", "double(load) AS load", "seats", "if(trip < 10, 'old', 'new') AS part")
    old, new = f"models:/{MODEL}/1", f"models:/{MODEL}/2"
    how: dict[str, Any] = {"to": "ml.ranges", "key": ["trip"], "at": AT, "by": "part"}
    first = score(lake, new, Labels(TRIPS.name, 3, "trip IN (11, 13, 14)", columns), batch=["new"], **how).toPandas()
    some = Labels(TRIPS.name, 3, "trip = 1 OR trip = 3 AND load = '3'", columns)
    second = score(lake, old, some, batch=["old", "new"], shadow=new, **how).toPandas()
    found = {row.trip: row.probability for frame in (first, second) for row in frame.itertuples()}
    assert found == {row.trip: row.probability for row in streamed.predictions.itertuples() if row.trip != 2}
    assert sorted(read(lake, "ml.ranges").toPandas().trip) == [1, 3]  # the second call replaced both batches
    assert set(second.shadow_version) == {2}
    assert (second.shadow_probability == -second.probability).all()
    assert second.input_versions[0] == {"gold.trips": 3, "features.wind": 1}
    with pytest.raises(ValueError, match=r"several batches need `by`"):
        score(lake, old, some, batch=["old", "new"], **{**how, "by": ""})


def test_a_batch_that_is_killed_before_and_after_its_commit_has_each_row_once(
    lake: Lakehouse, streamed: Streamed, death: Callable[..., None]
) -> None:
    death("batch", "before ml.batches")
    assert not exists(lake, "ml.batches")
    death("batch", "after ml.batches")
    written = sorted(read(lake, "ml.batches").toPandas().trip)
    rows = read(lake, TRIPS, 3).where("trip IN (1, 3) AND load != 'heavy'").withColumn("load", F.col("load").cast("double"))
    score(lake, CHAMPION, rows, to="ml.batches", batch="one", key=["trip"], at=AT)
    assert written == sorted(read(lake, "ml.batches").toPandas().trip) == [1, 3]


def test_the_function_that_scores_a_micro_batch_can_be_sent_to_another_process(streamed: Streamed) -> None:
    made = StreamScorer(
        ("spark_catalog", streamed.lake.prefix), CHAMPION, "ml.sent", "ml.sent_dead", str(streamed.checkpoint), ("trip",), at=AT
    )
    cloudpickle.loads(cloudpickle.dumps(made))(read(streamed.lake, TRIPS).where("trip = 14"), 7)
    (sent,) = read(streamed.lake, "ml.sent").collect()
    stream = read_stream_id(streamed.lake.spark, str(streamed.checkpoint))
    assert (sent.trip, sent.batch_id) == (14, f"{stream}/7")
    assert sent.probability == streamed.predictions.set_index("trip").probability[14]


def test_a_running_query_scores_the_rows_of_a_streaming_dataframe_as_they_come(streamed: Streamed, tmp_path: Path) -> None:
    lake, later = streamed.lake, replace(TRIPS, name="gold.later_trips")
    announce(lake, (100, 1, "1", 1), (101, 1, "1", 1), to=later)
    source = lake.spark.readStream.table(lake.name(later)).where("trip != 101")
    query = score_stream(lake, source, CHAMPION, to="ml.running", checkpoint=tmp_path / "c", key=["trip"], every="0 seconds")
    query.processAllAvailable()
    announce(lake, (102, 1, "1", 1), to=later)
    query.processAllAvailable()
    query.stop()
    assert [(row.trip, row.input_versions) for row in read(lake, "ml.running").orderBy("trip").collect()] == [
        (trip, {"features.wind": 1}) for trip in (100, 102)
    ]


@pytest.mark.long(order=4, minutes=8)
def test_a_stream_that_is_killed_at_forty_random_times_has_each_row_once(
    lake: Lakehouse, death: Callable[..., None], tmp_path: Path
) -> None:
    many, chance = replace(TRIPS, name="gold.many_trips"), random.Random(7)
    MlflowClient().set_registered_model_alias(MODEL, "champion", "1")
    for number in range(40):
        announce(lake, (number, number % 20, "1" if number % 3 else "none", 1), (1000 + number, 1, "1", None), to=many)
        death(tmp_path / "c", f"at {chance.uniform(0.2, 8):.2f}", many.name, "ml.many")
        MlflowClient().set_registered_model_alias(MODEL, "champion", str(chance.choice([1, 2])))
    score_stream(lake, many.name, CHAMPION, to="ml.many", checkpoint=tmp_path / "c", key=["trip"], at=AT)
    scored, dead = read(lake, "ml.many").toPandas(), read_dead_letters(lake, "ml.many_dead_letters", TRIPS.schema).toPandas()
    assert sorted([*scored.trip, *dead.trip]) == sorted([*range(40), *range(1000, 1040)])
    assert set(dead.trip) >= {n for n in range(40) if n % 3 == 0}
    assert set(dead[dead.trip >= 1000].model_version) == {1}
    assert set(scored[scored.trip >= 1000].model_version) == {2}


@pytest.mark.long(order=4, minutes=5)
def test_a_batch_that_is_killed_at_thirty_random_times_has_all_its_rows_once_or_none(
    lake: Lakehouse, streamed: Streamed, death: Callable[..., None]
) -> None:
    chance, found = random.Random(11), []
    lake.spark.sql(f"DROP TABLE IF EXISTS {lake.name('ml.batches')}")
    for number in range(30):
        MlflowClient().set_registered_model_alias(MODEL, "champion", str(1 + number % 2))
        death("batch", f"at {chance.uniform(0.2, 6):.2f}")
        found.append(sorted(read(lake, "ml.batches").toPandas().trip) if exists(lake, "ml.batches") else [])
    rows = read(lake, TRIPS, 3).where("trip IN (1, 3) AND load != 'heavy'").withColumn("load", F.col("load").cast("double"))
    score(lake, CHAMPION, rows, to="ml.batches", batch="one", key=["trip"], at=AT)
    assert [trips for trips in found if trips not in ([], [1, 3])] == []
    assert found == sorted(found), "a batch that was there is gone"
    assert found[-1] == sorted(read(lake, "ml.batches").toPandas().trip) == [1, 3]
