"""A month of the invented airport by batch, by stream, and by requests to a service, with features looked up online and with features sent: the same bits.

`bench/equality.py` compares 10,000 real flights of a finished run.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import requests
import uvicorn
from mlflow.tracking import MlflowClient

from boathouse.models.scoring import pack_model
from boathouse.online.store import OnlineStore, publish
from boathouse.service.app import create_app, open_port
from boathouse.service.command import connect_features, parse_serve_words
from boathouse.service.prediction_service import ServiceSettings
from boathouse.service.served_versions import FollowedAlias, Traffic
from boathouse.serving.feature_models import score_batch
from boathouse.tables.table import Lakehouse, read
from flights.features import LABELS, feature_versions, lookups
from flights.scoring import add_due, score_due
from flights.tables import GOLD_DEPARTURES, GOLD_DUE_DEPARTURES, ML_PREDICTIONS
from flights.training import TrainedVersion

MODEL, MONTH, UNTIL = "spark_catalog.test_ml.equal_flights", "2013-09", dt.datetime(2013, 9, 20)


@dataclass(frozen=True)
class Answers:
    "The batch with its features, by flight; the predictions of the stream; and a service that looks features up."

    batch: pd.DataFrame
    stream: pd.Series
    address: str
    inputs: tuple[str, ...]


def publish_features(lake: Lakehouse, file: Path) -> None:
    "Publish gold.departures and every feature table, with the rows of two months."
    store = OnlineStore(file)
    for name in (GOLD_DEPARTURES.name, *dict.fromkeys(one.table_name for one in lookups())):
        location = lake.spark.sql(f"DESCRIBE DETAIL {lake.name(name)}").first().location
        publish(store, name, location, keep=dt.timedelta(days=62))
    store.engine.dispose()


@pytest.fixture(scope="module")
def service(
    airport: Lakehouse, earlier: TrainedVersion, registered: Callable[[str, TrainedVersion], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    "The address of a service whose model is made of trees alone."
    folder, version = tmp_path_factory.mktemp("served"), registered(MODEL, earlier)
    publish_features(airport, folder / "online.db")
    look_up = connect_features(parse_serve_words([MODEL, "--features", str(folder / "online.db"), "--entity", "gold.departures:flight_id"]))
    champion, port = FollowedAlias(MODEL, version=version), open_port("127.0.0.1", 0)
    champion.refresh()
    assert champion.current is not None, champion.refused
    server = uvicorn.Server(uvicorn.Config(create_app(Traffic(champion), ServiceSettings(), look_up), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [port]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port.getsockname()[1]}/invocations"
    server.should_exit = True
    thread.join()
    MlflowClient().delete_registered_model(MODEL)


@pytest.fixture(scope="module")
def answers(airport: Lakehouse, service: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    lake, uri, to = airport, f"models:/{MODEL}/1", replace(ML_PREDICTIONS, name="ml.equal_predictions")
    for table in (GOLD_DUE_DEPARTURES, to):
        lake.spark.sql(f"DROP TABLE IF EXISTS {lake.name(table)}")
    some = read(lake, GOLD_DEPARTURES).where(f"month = '{MONTH}' AND predict_at <= timestamp'{UNTIL}Z'").select(*LABELS)
    batch = score_batch(lake, uri, some, feature_versions(lake)).toPandas().set_index("flight_id").sort_index()
    assert add_due(lake, MONTH, UNTIL, to) == len(batch)
    score_due(lake, uri, str(tmp_path_factory.mktemp("stream")), UNTIL, to)
    stream = read(lake, to).select("flight_id", "probability").toPandas().set_index("flight_id").probability
    yield Answers(batch, stream, service, pack_model(MODEL, 1).inputs)
    for table in (GOLD_DUE_DEPARTURES, to):
        lake.spark.sql(f"DROP TABLE {lake.name(table)}")


def ask(answers: Answers, body: object) -> list[float]:
    answer = requests.post(answers.address, json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return [one["probability"] for one in answer.json()["predictions"]]


def test_the_stream_predicts_what_the_batch_predicts(answers: Answers) -> None:
    pd.testing.assert_series_equal(answers.stream.sort_index(), answers.batch.prediction, check_exact=True, check_names=False)
    assert len(answers.batch) > 1_000
    assert answers.batch.prediction.nunique() > 100


def test_a_request_with_the_number_of_a_flight_and_its_time_predicts_what_the_batch_predicts(answers: Answers) -> None:
    records = [{"flight_id": int(n), "predict_at": f"{at.isoformat()}Z"} for n, at in answers.batch.predict_at.items()]
    assert ask(answers, {"dataframe_records": records}) == answers.batch.prediction.tolist()


def test_a_request_with_the_features_of_the_batch_predicts_what_the_batch_predicts(answers: Answers) -> None:
    inputs = answers.batch[list(answers.inputs)]
    data = inputs.astype(object).where(inputs.notna(), None).to_numpy().tolist()
    assert ask(answers, {"dataframe_split": {"columns": list(inputs), "data": data}}) == answers.batch.prediction.tolist()
    assert inputs.isna().any().any(), "no flight has a missing feature"
