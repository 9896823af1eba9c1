"""Whether batch, stream and REST predict the same: the first flights of a month of a finished run, scored in four ways by its champion, and compared.

    python bench/equality.py [--state .boathouse/local] [--flights 10000] [--month 2013-12]

batch: `score_batch`, features as of each flight's time of prediction. stream: gold.due_departures through `score_stream`. REST, looked up: a request names a
flight and its time, and `boathouse serve` looks the features up in an online store of SQLite, published from the same table versions. REST, sent: a request
has the features that the batch looked up. Trees must agree to the last bit, a linear model within 1e-12. The state is only read.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import requests
from load import free_port, served
from published import MODEL, make_bundle, publish_flights, records_body, split_body, table_folder
from rich.console import Console
from rich.table import Table

from boathouse.workspace.spark.session import local_session, state_environment

ROOT = Path(__file__).parent.parent
KEPT = timedelta(days=65)  # the rows of a month, and 28 days before it, beside the newest of their key
ROWS = 500  # per request


def attach(lake: Any, state: Path) -> None:
    "Name the flights' tables of a state in this lake, where they are."
    from flights.features import lookups
    from flights.tables import GOLD_DEPARTURES

    for name in {GOLD_DEPARTURES.name, *(one.table_name for one in lookups())}:
        lake.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {name.partition('.')[0]}")
        lake.spark.sql(f"CREATE TABLE {lake.name(name)} USING DELTA LOCATION '{table_folder(state, name)}'")


def by_batch(lake: Any, uri: str, month: str, flights: int) -> pd.DataFrame:
    "The first flights of a month with their features, by the number of the flight."
    from boathouse.serving.feature_models import score_batch
    from boathouse.tables.table import read
    from flights.features import LABELS, feature_versions
    from flights.tables import GOLD_DEPARTURES

    versions = feature_versions(lake)
    rows = read(lake, GOLD_DEPARTURES, versions[GOLD_DEPARTURES.name]).where(f"month = '{month}'").orderBy("predict_at", "flight_id")
    last = rows.limit(flights).agg({"predict_at": "max"}).first()[0]
    some = rows.where(f"predict_at <= timestamp'{last}Z'").select(*LABELS)
    return score_batch(lake, uri, some, versions).toPandas().set_index("flight_id").sort_index()


def by_stream(lake: Any, uri: str, month: str, batch: pd.DataFrame, folder: Path) -> pd.Series:
    from dataclasses import replace

    from boathouse.tables.table import read
    from flights.scoring import add_due, score_due
    from flights.tables import ML_PREDICTIONS

    to, last = replace(ML_PREDICTIONS, name="ml.streamed"), batch.predict_at.max().to_pydatetime()
    assert add_due(lake, month, last, to) == len(batch)
    score_due(lake, uri, str(folder / "checkpoint"), last, to)
    return read(lake, to).select("flight_id", "probability").toPandas().set_index("flight_id").probability


def by_requests(port: int, batch: pd.DataFrame, body: Callable[[pd.DataFrame], bytes]) -> pd.Series:
    "The predictions of a service, with `ROWS` rows per request."
    session, found = requests.Session(), list[float]()
    for start in range(0, len(batch), ROWS):
        some = batch.iloc[start : start + ROWS]
        answer = session.post(f"http://127.0.0.1:{port}/invocations", body(some), headers={"Content-Type": "application/json"}, timeout=120)
        assert answer.status_code == 200, answer.text[:1000]
        found += [one["probability"] for one in answer.json()["predictions"]]
    return pd.Series(found, batch.index)


def keys_body(rows: pd.DataFrame) -> bytes:
    return records_body([{"flight_id": int(n), "predict_at": f"{at.isoformat()}Z"} for n, at in rows.predict_at.items()])


def by_rest(state: Path, folder: Path, version: int, inputs: Sequence[str], batch: pd.DataFrame) -> dict[str, pd.Series]:
    from boathouse.online.store import OnlineStore

    store = OnlineStore(folder / "online.db")
    print(f"published rows: {publish_flights(state, store, KEPT)}", file=sys.stderr, flush=True)
    store.engine.dispose()
    port = free_port()
    words = [str(Path(sys.executable).parent / "boathouse"), "serve", MODEL, "--version", str(version), "--port", str(port), "--no-token"]
    with served([*words, "--features", "online.db", "--entity", "gold.departures:flight_id"], port, folder):
        return {
            "REST, features looked up": by_requests(port, batch, keys_body),
            "REST, features sent": by_requests(port, batch, lambda rows: split_body(rows[list(inputs)])),
        }


def main(state: Path, flights: int, month: str) -> int:
    if not (state / "mlflow.db").exists():
        print(f"{state} has no finished run: call `make run` first, or name another folder with --state")
        return 0
    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as made:
        folder, state = Path(made), state.resolve()
        os.environ.update(state_environment(make_bundle(folder, registry=state)))
        from mlflow.tracking import MlflowClient

        from boathouse.models.scoring import load_packed, pack_model
        from boathouse.registry.promotions import alias_version
        from boathouse.tables.table import Lakehouse

        version = alias_version(MlflowClient(), MODEL)
        assert version is not None, f"{MODEL} has no champion in {state}"
        lake, uri, packed = Lakehouse(local_session(folder / "spark")), f"models:/{MODEL}/{version}", pack_model(MODEL, version)
        last = type(load_packed(packed).get_raw_model()[-1]).__name__
        attach(lake, state)
        begun = time.monotonic()
        batch = by_batch(lake, uri, month, flights)
        found = {"stream": by_stream(lake, uri, month, batch, folder)}
        lake.spark.stop()
        found |= by_rest(state, folder, version, packed.inputs, batch)
        tolerance = 1e-12 if last in ("LogisticRegression", "Ridge", "LinearRegression") else 0.0
        print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    table = Table(title=f"{len(batch):,} flights of {month} by version {version}, {last}; {len(packed.inputs)} inputs")
    for name in ("against the batch", "flights", "equal to the last bit", "largest difference"):
        table.add_column(name, justify="left" if name == "against the batch" else "right")
    worst = 0.0
    for name, values in found.items():
        assert values.index.is_unique
        both = values.reindex(batch.index)
        differs = (both - batch.prediction).abs()
        worst = max(worst, float("inf") if both.isna().any() or len(values) != len(batch) else differs.max())
        table.add_row(name, f"{len(values):,}", f"{int((both == batch.prediction).sum()):,}", f"{np.nanmax(differs):g}")
    Console(width=110).print(table)
    return int(worst > tolerance)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state", type=Path, default=ROOT / ".boathouse" / "local")
    parser.add_argument("--flights", type=int, default=10_000)
    parser.add_argument("--month", default="2013-12")
    sys.exit(main(**vars(parser.parse_args())))
