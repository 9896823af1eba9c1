"""What batch scoring costs: `boathouse.models.scoring.score` against `mlflow.pyfunc.spark_udf` and `mapInPandas` with the same pyfunc, in one run.

    python bench/scoring.py [--rows 300000] [--rounds 3] [--ways NAME ...] [--apart]

A linear model with its scaling, which `score` compiles to SQL, and 100 trees of LightGBM; both have three categories and nine numbers as inputs. Rows come from
Parquet, in eight files, and go nowhere (`noop`). The ways take turns in one session; the first two turns of each warm it up, and the predictions of the first
are compared: those of trees must be equal to the last bit, those of the linear model within 1e-12. The peak memory has the JVM of all ways in it; `--apart`
gives each way and round a process with a JVM instead, which scores up to four times, and the last time counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tasks import measured
from ways import Way, compare, show, tree_seconds, work

MODELS: dict[str, dict[str, Any]] = {"linear": {"learner": "logistic"}, "trees": {"n_estimators": 100}}
TOLERANCE = {"linear": 1e-12, "trees": 0.0}
FILES = 8


def use_registry(folder: Path) -> None:
    "Make the registry in `folder` that of this process."
    from boathouse.workspace.spark.session import state_environment

    os.environ.update({name: value for name, value in state_environment(folder / "registry").items() if "MLFLOW" in name})


def session(state: Path) -> Any:
    from boathouse.workspace.spark.session import local_session

    return local_session(state)


def make(folder: Path, rows: int) -> None:
    "Write the rows, and register both models."
    import mlflow
    from serving import CATEGORIES, NUMBERS, make_rows

    from boathouse.models.learners import Recipe, fit, log_pipeline
    from boathouse.registry.promotions import register

    (folder / "registry").mkdir(parents=True)
    (folder / "rows").mkdir()
    use_registry(folder)
    mlflow.set_experiment("/bench")
    found, recipe = make_rows(rows), Recipe(CATEGORIES, NUMBERS, "late")
    for name, parameters in MODELS.items():
        with mlflow.start_run() as run:
            uri = log_pipeline(fit(recipe, found.head(20_000), parameters), recipe, found.head(20_000), "model")
        register(name, uri, run.info.run_id)
    found = found.assign(id=range(rows))
    for n, part in enumerate(np.array_split(np.arange(rows), FILES)):
        found.iloc[part].to_parquet(folder / "rows" / f"{n}.parquet", index=False)


def ours(model: str, folder: Path, state: Path) -> Callable[[], Any]:
    from boathouse.models.scoring import pack_model, score

    use_registry(folder)
    spark = session(state)
    df, packed = spark.read.parquet(f"{folder}/rows"), pack_model(model, 1)
    return lambda: score(df, packed, keep=["id"])


def by_udf(model: str, folder: Path, state: Path) -> Callable[[], Any]:
    import mlflow
    from pyspark.sql import functions as F
    from serving import CATEGORIES, NUMBERS

    use_registry(folder)
    spark = session(state)
    df = spark.read.parquet(f"{folder}/rows")
    predict = mlflow.pyfunc.spark_udf(spark, f"models:/{model}/1", result_type="array<double>", env_manager="local")
    return lambda: df.select("id", predict(F.struct(*CATEGORIES, *NUMBERS))[1].alias("probability"))


def by_map(model: str, folder: Path, state: Path) -> Callable[[], Any]:
    import mlflow
    from serving import CATEGORIES, NUMBERS

    use_registry(folder)
    spark, inputs = session(state), [*CATEGORIES, *NUMBERS]
    df, files = spark.read.parquet(f"{folder}/rows"), mlflow.artifacts.download_artifacts(f"models:/{model}/1")

    def batches(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        loaded = mlflow.pyfunc.load_model(files)
        for frame in frames:
            yield pd.DataFrame({"id": frame["id"], "probability": loaded.predict(frame[inputs])[:, 1]})

    return lambda: df.mapInPandas(batches, "id bigint, probability double")


def scan(model: str, folder: Path, state: Path) -> Callable[[], Any]:
    spark = session(state)
    df = spark.read.parquet(f"{folder}/rows")
    return lambda: df.selectExpr("id", "n0 AS probability")


KINDS = {"boathouse": ours, "spark_udf": by_udf, "mapInPandas": by_map}
EVERY = {f"{model}: {kind}": Way(partial(begin, model)) for model in MODELS for kind, begin in KINDS.items()}
EVERY["only read"] = Way(partial(scan, ""))


def keep_predictions(name: str, folder: Path, found: Any) -> list[int]:
    "Write the predictions in the order of their rows, and return their number."
    rows = found.toPandas().sort_values("id")
    np.save(folder / f"{name.replace(': ', '_')}.npy", rows.probability.to_numpy())
    assert rows.id.is_unique
    return [len(rows)]


def print_differences(folder: Path) -> None:
    "Print the largest difference between the predictions of each way and those of `spark_udf`."
    for model, tolerance in TOLERANCE.items():
        theirs = folder / f"{model}_spark_udf.npy"
        for kind in KINDS:
            file = folder / f"{model}_{kind}.npy"
            if file.exists() and theirs.exists():
                differs = float(np.abs(np.load(file) - np.load(theirs)).max())
                verdict = "as exact as stated" if differs <= tolerance else "OTHER PREDICTIONS"
                print(f"{model}: {kind}: {verdict}, largest difference {differs:g}")


def interleave(folder: Path, names: Sequence[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    "Score by every way in one session: a warm-up that keeps the predictions, one more, and the rounds that count."
    state, results, counts = folder / "spark", dict[str, list[dict[str, Any]]](), dict[str, list[int]]()
    begun = {name: EVERY[name].begin(folder, state) for name in names}
    for number in range(-2, rounds):
        for name, make_rows in begun.items():
            with measured(lambda: [os.getpid()]) as cost:
                before, start = tree_seconds(), time.perf_counter()
                found = make_rows()
                if number == -2:
                    counts[name] = keep_predictions(name, folder, found)
                else:
                    found.write.format("noop").mode("overwrite").save()
                one = {"seconds": time.perf_counter() - start, "cpu": tree_seconds() - before, "sums": counts[name]}
            print(f"round {number + 1}: {name}: {one['seconds']:.2f} s, {one['cpu']:.2f} CPU s", file=sys.stderr, flush=True)
            if number >= 0:
                results.setdefault(name, []).append(one | {"peak": cost.peak})
    return results


def main(rows: int, rounds: int, ways: list[str], limit: float, apart: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as scratch:
        folder = Path(scratch)
        make(folder, rows)
        chosen = {name: how for name, how in EVERY.items() if not ways or any(w.lower() in name.lower() for w in ways)}
        if apart:
            results = compare(__file__, chosen, {"": sys.executable}, folder, rounds, limit)
        else:
            results = interleave(folder, list(chosen), rounds)
        for model in (*MODELS, "only read"):
            if some := {name: found for name, found in results.items() if name.startswith(model)}:
                against = {f"{model}: {kind}": kind for kind in ("spark_udf", "mapInPandas")}
                show(f"{model}: {rows:,} rows; load average {os.getloadavg()[0]:.1f}", some, against)
        print_differences(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(EVERY[sys.argv[2]], partial(keep_predictions, sys.argv[2], Path(sys.argv[3])), *sys.argv[3:])
    else:
        parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
        parser.add_argument("--rows", type=int, default=300_000)
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--ways", nargs="+", default=[], help="only ways whose name has one of these words")
        parser.add_argument("--limit", type=float, default=600, help="seconds that a process may take, with --apart")
        parser.add_argument("--apart", action="store_true", help="a process and a JVM for each way and round, for the peak memory")
        main(**vars(parser.parse_args()))
