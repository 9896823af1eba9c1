"""What a prediction costs over HTTP: `boathouse serve` against `mlflow models serve` and a plain FastAPI application with the same pyfunc, in one run.

    python bench/serving.py [--seconds 4]

One model is linear, the other has 100 trees; both have three categories and nine numbers as inputs. The load comes from this process, by one thread
per client over a connection that stays open. The servers run one after the other, each with one process.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import requests

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.registry.promotions import register
from boathouse.workspace.spark.session import state_environment

CATEGORIES, NUMBERS = ("carrier", "origin", "dest"), tuple(f"n{k}" for k in range(9))
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
PORT = 8741


def make_rows(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = pd.DataFrame({c: rng.choice([f"{c}{k}" for k in range(n)], rows) for c, n in zip(CATEGORIES, (16, 3, 100), strict=True)})
    found = found.assign(**{c: np.where(rng.random(rows) < 0.05, np.nan, rng.gamma(2, 2, rows)) for c in NUMBERS})
    return found.assign(late=rng.random(rows) < 1 / (1 + np.exp(3 - 0.5 * found.n0.fillna(0))))


@contextmanager
def serve(name: str, model: str, folder: Path) -> Iterator[psutil.Process]:
    python, uri = sys.executable, f"models:/{model}/1"
    words = {
        "boathouse serve": [str(Path(python).parent / "boathouse"), "serve", model, "--version", "1", "--port", str(PORT), "--no-token"],
        "mlflow models serve": [python, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(PORT), "-w", "1"],
        "FastAPI + pyfunc": [python, "-c", PLAIN, uri, str(PORT)],
    }[name]
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        for _ in range(900):
            try:
                if requests.get(f"http://127.0.0.1:{PORT}/ping", timeout=5).ok:
                    break
            except requests.RequestException:
                time.sleep(0.2)
        yield psutil.Process(process.pid)
    finally:
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
        process.wait()


def send(body: bytes, until: float, seconds: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    while time.perf_counter() < until:
        begun = time.perf_counter()
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content[:500]
        seconds.append(time.perf_counter() - begun)


def measure(rows: pd.DataFrame, clients: int, seconds: float) -> tuple[float, float, float]:
    "p50 and p99 in milliseconds, and requests per second."
    split = {"columns": list(rows), "data": rows.astype(object).where(rows.notna(), None).to_numpy().tolist()}
    body, taken = json.dumps({"dataframe_split": split}).encode(), list[float]()
    begun = time.perf_counter()
    threads = [threading.Thread(target=send, args=(body, begun + seconds, taken)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - begun
    return float(np.quantile(taken, 0.5)) * 1000, float(np.quantile(taken, 0.99)) * 1000, len(taken) / whole


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "databricks.yml").write_text("bundle:\n  name: bench\ntargets:\n  dev:\n    default: true\n")
        state = folder / ".boathouse" / "dev"
        state.mkdir(parents=True)
        os.environ.update(state_environment(state))
        rows, recipe = make_rows(20_000), Recipe(CATEGORIES, NUMBERS, "late")
        mlflow.set_experiment("/bench")
        learners: dict[str, dict[str, Any]] = {"linear": {"learner": "logistic"}, "trees": {"n_estimators": 100}}
        for name, parameters in learners.items():
            with mlflow.start_run() as run:
                uri = log_pipeline(fit(recipe, rows, parameters), recipe, rows, "model")
            register(name, uri, run.info.run_id)
        print(
            f"{'model':8}{'server':22}{'p50 ms':>8}{'p99 ms':>8}"
            + "".join(f"{f'req/s {n}':>10}" for n in (1, 8, 64))
            + f"{'p99 at 64':>11}{'krow/s':>8}{'MiB':>6}"
        )
        for model in learners:
            for server in ("boathouse serve", "FastAPI + pyfunc", "mlflow models serve"):
                with serve(server, model, folder) as process:
                    inputs = rows[recipe.inputs]
                    measure(inputs.head(1), 1, 1.0)
                    found = [measure(inputs.head(1), clients, seconds) for clients in (1, 8, 64)]
                    _, _, bodies = measure(inputs.head(1000), 2, seconds)
                    memory = sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 2**20
                rates = "".join(f"{rate:10.0f}" for _, _, rate in found)
                print(
                    f"{model:8}{server:22}{found[0][0]:8.2f}{found[0][1]:8.2f}{rates}{found[2][1]:11.0f}{bodies:8.0f}{memory:6.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
