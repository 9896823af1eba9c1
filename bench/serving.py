"""What a prediction costs over HTTP: `boathouse serve` against `mlflow models serve` and a plain FastAPI application with the same pyfunc, in one run.

    python bench/serving.py [--seconds 4] [--rounds 1] [--state .boathouse/local] [--only boathouse]

One model is linear, the other has 100 trees; both have three categories and nine numbers as inputs. In the case `key`, a request of the second one is
{"trip": number}, and the features are looked up in SQLite: four tables, three of them as of a time. With `--state`, the case `flights` is the champion of
a finished run: a request of `boathouse serve` is a flight's number with its time, the other servers are sent the features.
The servers run one after the other on the first core, each with one process; the clients run in one process on the second core. CPU is that of the server
per request, with 64 clients. The state is only read.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from load import Load, cpu_of, free_port, memory_of, served
from published import AT, MODEL, make_bundle, publish_example, publish_flights, read_departures, records_body, split_body

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.registry.promotions import register
from boathouse.serving.feature_models import log_spec
from boathouse.workspace.spark.session import state_environment

CATEGORIES, NUMBERS, CLIENTS = ("carrier", "origin", "dest"), tuple(f"n{k}" for k in range(9)), (1, 8, 64)
PLAIN = """
import mlflow, pandas as pd, sys, uvicorn
from fastapi import FastAPI
model, app = mlflow.pyfunc.load_model(sys.argv[1]), FastAPI()
@app.post("/invocations")
def invoke(body: dict):
    split = body["dataframe_split"]
    return {"predictions": model.predict(pd.DataFrame(split["data"], columns=split["columns"])).tolist()}
@app.get("/ping")
def ping(): return "ok"
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""
SERVERS = ("boathouse serve", "FastAPI + pyfunc", "mlflow models serve")


@dataclass(frozen=True)
class Case:
    "A model with the bodies of one row and of 1,000 rows that each server is sent, and further words of `boathouse serve`."

    name: str
    folder: Path
    model: str
    version: int
    ours: tuple[Sequence[bytes], bytes]
    theirs: tuple[Sequence[bytes], bytes] | None
    words: tuple[str, ...] = ()


def make_rows(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = pd.DataFrame({c: rng.choice([f"{c}{k}" for k in range(n)], rows) for c, n in zip(CATEGORIES, (16, 3, 100), strict=True)})
    found = found.assign(**{c: np.where(rng.random(rows) < 0.05, np.nan, rng.gamma(2, 2, rows)) for c in NUMBERS})
    return found.assign(late=rng.random(rows) < 1 / (1 + np.exp(3 - 0.5 * found.n0.fillna(0))))


def bodies_of(inputs: pd.DataFrame) -> tuple[list[bytes], bytes]:
    return [split_body(inputs.iloc[[n]]) for n in range(200)], split_body(inputs.head(1000))


def example_cases(folder: Path) -> list[Case]:
    "A linear model, trees, and the same trees with a feature spec and a store."
    os.environ.update(state_environment(make_bundle(folder)))
    mlflow.set_experiment("/bench")
    rows, recipe = make_rows(20_000), Recipe(CATEGORIES, NUMBERS, "late")
    learners: dict[str, dict[str, Any]] = {"linear": {"learner": "logistic"}, "trees": {"n_estimators": 100}, "key": {"n_estimators": 100}}
    spec = publish_example(folder, rows, CATEGORIES, NUMBERS)
    for name, parameters in learners.items():
        with mlflow.start_run() as run:
            uri = log_pipeline(fit(recipe, rows, parameters), recipe, rows, "model")
            if name == "key":
                log_spec(uri.removeprefix("models:/"), spec)
        register(name, uri, run.info.run_id)
    sent = bodies_of(rows[recipe.inputs])
    keys = [records_body([{"trip": n, "departs_at": AT.isoformat()}]) for n in range(200)]
    many = records_body([{"trip": n, "departs_at": AT.isoformat()} for n in range(1000)])
    store = ("--features", "online.db", "--entity", "gold.trips:trip")
    return [
        *(Case(name, folder, name, 1, sent, sent) for name in ("linear", "trees")),
        Case("key", folder, "key", 1, (keys, many), None, store),
    ]


def flights_case(folder: Path, state: Path, month: str) -> Case:
    "The champion of a finished run, with the flights of one month by number."
    from boathouse.online.request_features import complete_records
    from boathouse.online.store import OnlineStore
    from boathouse.registry.promotions import alias_version
    from boathouse.service.command import connect_features, parse_serve_words
    from boathouse.serving.feature_models import read_spec

    os.environ.update(state_environment(make_bundle(folder, registry=state)))
    version = alias_version(mlflow.MlflowClient(), MODEL)
    assert version is not None, f"{MODEL} has no champion in {state}"
    store = OnlineStore(folder / "online.db")
    publish_flights(state, store, timedelta(days=40))
    flights = read_departures(state, month, 1000)
    records = [{"flight_id": int(one.flight_id), "predict_at": one.predict_at.isoformat()} for one in flights.itertuples()]
    words = ("--features", "online.db", "--entity", "gold.departures:flight_id")
    entities = connect_features(parse_serve_words([MODEL, "--features", str(folder / "online.db"), *words[2:]])).entities  # type: ignore[union-attr]
    uri = f"models:/{MODEL}/{version}"
    complete = complete_records(store, read_spec(uri), records, AT, entities).records
    signature = mlflow.models.get_model_info(uri).signature
    kinds = {column.name: column.type.name for column in signature.inputs.inputs}
    inputs = pd.DataFrame(complete)[list(kinds)].astype({name: float for name, kind in kinds.items() if kind == "double"})
    store.engine.dispose()
    return Case(
        "flights", folder, MODEL, version, ([records_body([one]) for one in records[:200]], records_body(records)), bodies_of(inputs), words
    )


def command(server: str, case: Case, port: int) -> list[str]:
    python, uri = sys.executable, f"models:/{case.model}/{case.version}"
    return {
        "boathouse serve": [str(Path(python).parent / "boathouse"), "serve", case.model, "--version", str(case.version), "--port", str(port), "--no-token", *case.words],
        "mlflow models serve": [python, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port), "-w", "1"],
        "FastAPI + pyfunc": [python, "-c", PLAIN, uri, str(port)],
    }[server]  # fmt: skip


def measure(server: str, case: Case, seconds: float) -> dict[str, float]:
    "One start of a server: latencies, requests per second, rows per second, CPU and memory."
    one, many = case.ours if server == "boathouse serve" else case.theirs or ((), b"")
    port, found = free_port(), dict[str, float]()
    os.environ.update(state_environment(case.folder / ".boathouse" / "dev"))
    with Load() as load, served(command(server, case, port), port, case.folder) as pid:
        load.run(port, one, 2, 1.0)
        for clients in CLIENTS:
            before = cpu_of(pid)
            run = load.run(port, one, clients, seconds)
            wrong = {status: n for status, n in run["statuses"].items() if status != "200"}
            assert not wrong, f"{server}, {case.name}, {clients} clients: {wrong}"
            found |= {f"rate {clients}": run["rate"], f"p50 {clients}": run["p50"], f"p99 {clients}": run["p99"]}
            found |= {"cpu": 1000 * (cpu_of(pid) - before) / run["answers"], "load": max(found.get("load", 0.0), run["busy"])}
        run = load.run(port, [many], 2, seconds)
        assert set(run["statuses"]) == {"200"}, f"{server}, {case.name}, 1,000 rows: {run['statuses']}"
        return found | {"rows": run["rate"] * 1000, "memory": memory_of(pid)}


def show(results: Mapping[tuple[str, str], list[dict[str, float]]], rounds: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"medians of {rounds} round{'s' * (rounds > 1)}; {os.cpu_count()} cores; load average at the end {os.getloadavg()[0]:.1f}"
    )
    columns = (
        "model",
        "server",
        "p50 ms",
        "p99 ms",
        *[f"req/s {n}" for n in CLIENTS],
        "x mlflow",
        "p99 at 64",
        "CPU ms",
        "krow/s",
        "MiB",
        "clients' CPU",
    )
    for column in columns:
        table.add_column(column, justify="left" if column in ("model", "server") else "right")
    middle = {key: {part: statistics.median(one[part] for one in found) for part in found[0]} for key, found in results.items()}
    for (case, server), at in middle.items():
        other = middle.get((case if case != "key" else "trees", "mlflow models serve"))
        ratio = f"{at['rate 8'] / other['rate 8']:.1f}" if other else "-"
        table.add_row(
            case, server, f"{at['p50 1']:.2f}", f"{at['p99 1']:.2f}", *[f"{at[f'rate {n}']:,.0f}" for n in CLIENTS], ratio, f"{at['p99 64']:.0f}",
            f"{at['cpu']:.2f}", f"{at['rows'] / 1000:.0f}", f"{at['memory']:.0f}", f"{at['load']:.0%}",
        )  # fmt: skip
    Console(width=160).print(table)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--month", default="2013-12")
    parser.add_argument("--only", default="", help="a part of the names of the servers to measure")
    parser.add_argument("--cases", default="linear,trees,key,flights")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        cases = [case for case in example_cases(Path(first)) if case.name in given.cases.split(",")]
        if given.state is not None and "flights" in given.cases.split(","):
            cases.append(flights_case(Path(second), given.state.resolve(), given.month))
        results: dict[tuple[str, str], list[dict[str, float]]] = {}
        for number in range(given.rounds):
            for case in cases:
                for server in SERVERS:
                    if given.only in server and (server == "boathouse serve" or case.theirs is not None):
                        found = measure(server, case, given.seconds)
                        print(
                            f"round {number}: {case.name}, {server}: {found['rate 8']:,.0f} requests/s with 8 clients",
                            file=sys.stderr,
                            flush=True,
                        )
                        results.setdefault((case.name, server), []).append(found)
        show(results, given.rounds)


if __name__ == "__main__":
    main()
