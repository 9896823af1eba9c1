"A service with an online store and a log: a key is a complete request, each version has its own spec, and each answer is a row of the inference table."

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from support.services import RECIPE, Service, harbour_rows, promote_version, running_service

from boathouse.features.lookups import FeatureLookup
from boathouse.features.training_sets import FeatureSpec
from boathouse.models.learners import fit, log_pipeline
from boathouse.models.scoring import load_packed, pack_model
from boathouse.online.store import OnlineStore, publish
from boathouse.registry.promotions import register
from boathouse.serving.feature_models import log_spec

TRIPS = pa.table({"trip": pa.array([7, 8], pa.int64()), "pier": ["east", "west"]})
WINDS = pa.table({"pier": ["east", "west"], "wind": [3.0, 11.5]})
GUSTS = pa.table({"pier": ["east", "west"], "wind": [30.0, 31.0]})


def register_with_features(name: str, table: str) -> int:
    rows = harbour_rows()
    with mlflow.start_run() as run:
        uri = log_pipeline(fit(RECIPE, rows, {"n_estimators": 5}), RECIPE, rows, "model")
        log_spec(uri.removeprefix("models:/"), FeatureSpec((FeatureLookup(table, "pier"),), versions={}))
    return register(name, uri, run.info.run_id)


@pytest.fixture(scope="module")
def folder(bundle: Path) -> Path:
    for name, rows, key in (("trips", TRIPS, "trip"), ("winds", WINDS, "pier"), ("gusts", GUSTS, "pier")):
        write_deltalake(bundle / name, rows)
        DeltaTable(bundle / name).alter.set_table_properties({"boathouse.primaryKey": key}, raise_if_not_exists=False)
        publish(OnlineStore(bundle / "online.db"), f"features.{name}", bundle / name)
    return bundle


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    register_with_features("keyed", "features.winds")
    register_with_features("keyed", "features.gusts")
    promote_version("keyed", 1)
    words = ("--port", "0", "--features", "online.db", "--entity", "features.trips:trip", "--log", "inference")
    with running_service(folder, "keyed", *words) as started:
        yield started


def predicted(version: int, pier: str, wind: float) -> float:
    return float(load_packed(pack_model("keyed", version)).predict(pd.DataFrame({"pier": [pier], "wind": [wind]}))[0, 1])


def ask(service: Service, *records: dict, path: str = "/invocations") -> tuple[int, object]:
    answer = service.post(path, json={"dataframe_records": list(records)})
    body = answer.json()
    return answer.status_code, [p["probability"] for p in body["predictions"]] if answer.status_code == 200 else str(body)


def test_a_key_is_a_complete_request_and_a_feature_that_is_sent_is_kept(service: Service, folder: Path) -> None:
    east, west = predicted(1, "east", 3.0), predicted(1, "west", 11.5)
    assert ask(service, {"trip": 7}, {"trip": 8}) == (200, [east, west])
    assert ask(service, {"pier": "east"}) == (200, [east])  # it has what the trip would give
    assert ask(service, {"trip": 8, "wind": 3.0, "pier": "east"}) == (200, [east])
    status, text = ask(service, {"boat": 7})
    assert (status, "a record must have trip to look up features in features.trips, got boat" in str(text)) == (400, True)
    status, text = ask(service, {"trip": "seven"})
    assert (status, "trip" in str(text)) == (400, True)
    metrics = service.get("/metrics").text
    assert 'boathouse_feature_table_version{table="features.winds"} 1.0' in metrics
    assert 'boathouse_log_entries_total{outcome="recorded"} 3.0' in metrics


def test_each_version_looks_up_by_its_own_spec_and_every_answer_is_logged_with_its_features(service: Service, folder: Path) -> None:
    promote_version("keyed", 2)
    for _ in range(200):
        if service.post(json={"dataframe_records": [{"trip": 7}]}).headers["served-model-version"] == "2":
            break
    assert ask(service, {"trip": 8}) == (200, [predicted(2, "west", 31.0)])
    assert ask(service, {"trip": 8}, path="/served-models/1/invocations") == (200, [predicted(1, "west", 11.5)])
    assert service.end(signal.SIGTERM) == 0
    logged = DeltaTable(folder / "inference" / "requests").to_pyarrow_table().to_pylist()
    last = [row for row in logged if json.loads(row["request"])["dataframe_split"]["data"] == [[8]]]
    found = [(dict(row["request_metadata"])["model_version"], json.loads(row["features"])[0]["wind"]) for row in last]
    assert sorted(found) == [("1", 11.5), ("2", 31.0)]
    assert {row["status_code"] for row in logged} == {200}


def test_a_service_without_a_model_answers_keys_with_features_their_ages_and_versions(folder: Path) -> None:
    words = (
        "--port",
        "0",
        "--features",
        "online.db",
        "--feature-tables",
        "features.winds,features.gusts",
        "--entity",
        "features.trips:trip",
    )
    with running_service(folder, *words) as service:
        answer = service.post(json={"dataframe_records": [{"trip": 7}, {"pier": "west", "trip": 9}, {"pier": "north", "trip": None}]})
        assert answer.json() == {
            "outputs": [
                {"trip": 7, "pier": "east", "wind": 3.0}, {"trip": 9, "pier": "west", "wind": 11.5}, {"pier": "north", "wind": None},
            ],
            "age_seconds": {name: [None] * 3 for name in ("features_trips", "features_winds", "features_gusts")},
            "versions": {"features.trips": 1, "features.winds": 1, "features.gusts": 1},
        }  # fmt: skip
        for body, status, said in (
            ({"dataframe_records": [{"boat": 7}]}, 400, "a record must have trip"),
            ({"dataframe_records": [{"trip": "seven"}]}, 400, "trip"),
            ({"dataframe_records": [7]}, 400, "part of an object, got the number 7"),
            ({"rows": []}, 400, "exactly one of"),
        ):
            refused = service.post(json=body)
            assert (refused.status_code, said in refused.json()["message"]) == (status, True), refused.text
        assert (
            service.session.post(f"{service.address}/invocations", json={}, headers={"Authorization": "no"}, timeout=60).status_code == 401
        )
        assert service.get("/health").json() == {"status": "ok", "tables": {"features.winds": 1, "features.gusts": 1}}
        assert 'boathouse_requests_total{route="features",status="200"} 1.0' in service.get("/metrics").text
        assert service.get("/v2/health/ready").json() == {"ready": True}
        assert service.end(signal.SIGTERM) == 0


def test_options_that_do_not_fit_are_refused_before_a_port_is_open(folder: Path) -> None:
    from boathouse.service.command import connect_features, connect_log, parse_serve_words

    for words, said in (
        (["keyed", "--entity", "gold.departures", "--features", "online.db"], "must be TABLE:KEY"),
        (["keyed", "--entity", "gold.departures:flight_id"], "without --features"),
    ):
        with pytest.raises(LookupError, match=said):
            connect_features(parse_serve_words(words))
    for words, said in (
        ([], "must have a model, an endpoint, or --features with --feature-tables"),
        (["keyed", "--feature-tables", "features.winds"], "and one of them only"),
    ):
        with pytest.raises(LookupError, match=said):
            parse_serve_words(words)
    with pytest.raises(LookupError, match=r"sampling must be a share from 0 to 1, got 2\.0"):
        connect_log(parse_serve_words(["keyed", "--log", str(folder / "other"), "--log-share", "2"]), "keyed")
