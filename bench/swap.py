"""What promotions and rollbacks cost the requests that are under way: `boathouse serve` at half of its capacity while the alias moves.

    python bench/swap.py [--minutes 10] [--moves 30] [--clients 16] [--model trees] [--share 0.5]

Four versions predict different numbers for the same rows. First the capacity is measured, then requests come at that share of it; each is due at a moment,
and its latency counts from then. Meanwhile the alias moves at even distances: to the version before (a rollback), or to another one, which must be loaded.
Every answer is held against all moves: the version in its header had the alias at a moment from `--lag` seconds before the request was sent until it was
answered, no answer goes back behind one that had ended before it was sent, and the prediction is that of this version for this row, to the last bit.
Memory (PSS) is that of the service and all that it started, every ten seconds; its slope is over the last two thirds of the time.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from load import Load, cpu_of, free_port, memory_of, read_records, served
from mlflow.tracking import MlflowClient
from published import make_bundle, split_body
from rich.console import Console
from rich.table import Table
from serving import CATEGORIES, NUMBERS, make_rows

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.models.scoring import load_packed, pack_model
from boathouse.registry.promotions import CHAMPION, register
from boathouse.serving.deployment import log_reference_rows
from boathouse.workspace.spark.session import state_environment

MODEL, VERSIONS, ROWS, EVERY = "swapped", 4, 200, 10.0
LEARNERS: dict[str, dict[str, Any]] = {"trees": {"n_estimators": 100}, "linear": {"learner": "logistic"}}


@dataclass(frozen=True)
class Move:
    "The alias pointed to `version` from a moment between `begun` and `ended` on."

    version: int
    begun: float
    ended: float
    kind: str = "start"


@dataclass(frozen=True)
class Findings:
    "What was wrong with the answers of a run, and how long the service took to follow a move, in seconds."

    answers: int
    failed: int
    wrong_version: int
    went_back: int
    wrong_prediction: int
    followed: np.ndarray


def register_versions(learner: str) -> tuple[pd.DataFrame, np.ndarray]:
    "Register versions that differ in their training rows; return rows for requests, and the predictions of each version for them."
    rows, recipe = make_rows(20_000), Recipe(CATEGORIES, NUMBERS, "late")
    inputs, predicted = rows[recipe.inputs].head(ROWS), [np.full(ROWS, np.nan)]
    mlflow.set_experiment("/bench")
    for number in range(VERSIONS):
        some = rows.sample(10_000, random_state=number)
        fitted = fit(recipe, some, LEARNERS[learner])
        with mlflow.start_run() as run:
            uri = log_pipeline(fitted, recipe, some, "model")
            log_reference_rows(uri.rsplit("/", 1)[-1], inputs.head(50), fitted.predict_proba(inputs.head(50))[:, 1])
        register(MODEL, uri, run.info.run_id)
        by_row = [load_packed(pack_model(MODEL, number + 1)).predict(inputs.iloc[[n]])[0, 1] for n in range(ROWS)]
        predicted.append(np.array(by_row))
    assert all((predicted[a] != predicted[b]).mean() > 0.9 for a in range(1, VERSIONS + 1) for b in range(1, a)), (
        "versions predict the same"
    )
    return inputs, np.array(predicted)


def choose_move(chance: random.Random, at: int, before: int | None) -> tuple[int, str]:
    "The version to which the alias moves next, and whether that is a rollback."
    if before is not None and before != at and chance.random() < 0.4:
        return before, "rollback"
    return chance.choice([v for v in range(1, VERSIONS + 1) if v not in (at, before)]), "promotion"


def move_alias(moves: list[Move], count: int, seconds: float, begun: float, ended: threading.Event) -> None:
    "Move the alias `count` times at even distances."
    client, chance, before = MlflowClient(), random.Random(5), None
    for number in range(count):
        if ended.wait(max(0.0, begun + (number + 0.5) * seconds / count - time.monotonic())):
            return
        at = moves[-1].version
        version, kind = choose_move(chance, at, before)
        start = time.monotonic()
        client.set_registered_model_alias(MODEL, CHAMPION, str(version))
        moves.append(Move(version, start, time.monotonic(), kind))
        before = at


def check_answers(found: np.ndarray, moves: list[Move], predicted: np.ndarray, lag: float) -> Findings:
    "Hold every answer against the moves of the alias and the predictions of its version."
    good = found[found["status"] == 200]
    good = good[np.argsort(good["sent"], kind="stable")]
    until = [one.ended for one in moves[1:]] + [np.inf]
    allowed = np.zeros(len(good), bool)
    for one, end in zip(moves, until, strict=True):  # a version is right from its move until the next one, and `lag` seconds longer
        allowed |= (good["version"] == one.version) & (good["answered"] >= one.begun) & (good["sent"] <= end + lag)
    back, followed = np.zeros(len(good), bool), []
    before = [one.begun for one in moves[2:]] + [np.inf]
    for one, end in zip(moves[1:], before, strict=True):  # once the new version has answered, no request sent later may get another one
        new = good[(good["version"] == one.version) & (good["answered"] >= one.begun) & (good["sent"] < end)]
        if len(new) == 0:
            continue
        first = new["answered"].min()
        followed.append(first - one.begun)
        back |= (good["version"] != one.version) & (good["sent"] > first) & (good["answered"] < end)
    known = (good["version"] >= 1) & (good["version"] <= VERSIONS)
    right = known & (good["predicted"] == predicted[np.where(known, good["version"], 0), good["body"]])
    return Findings(
        len(found), int((found["status"] != 200).sum()), int((~allowed).sum()), int(back.sum()), int((~right).sum()), np.array(followed)
    )


def watch_memory(pid: int, found: list[tuple[float, float]], ended: threading.Event) -> None:
    while True:
        found.append((time.monotonic(), memory_of(pid)))
        if ended.wait(EVERY):
            return


def show(run: dict[str, Any], findings: Findings, memory: list[tuple[float, float]], facts: dict[str, str], moves: list[Move]) -> None:
    at, mib = np.array(memory).T
    late = at >= at[0] + (at[-1] - at[0]) / 3
    slope = np.polyfit((at[late] - at[0]) / 60, mib[late], 1)[0] if late.sum() > 2 else float("nan")
    followed = findings.followed if len(findings.followed) else np.array([np.nan])
    other = {status: n for status, n in run["statuses"].items() if status != "200"}
    rows = facts | {
        "promotions, rollbacks": f"{sum(m.kind == 'promotion' for m in moves)}, {sum(m.kind == 'rollback' for m in moves)}",
        "moves that answers followed": f"{len(findings.followed)} of {len(moves) - 1}",
        "seconds until the first answer of the new version": f"{np.median(followed):.2f} in the middle, {followed.max():.2f} at most",
        "answers": f"{findings.answers:,}, {run['rate']:,.0f} a second",
        "failed requests": f"{findings.failed + sum(n for status, n in other.items() if not status.isdigit())} {other or ''}",
        "wrong version numbers": str(findings.wrong_version),
        "answers that went back to the version before": str(findings.went_back),
        "predictions of another version or row": str(findings.wrong_prediction),
        "latency p50, p99, p99.9, largest (ms)": ", ".join(f"{run[name]:.1f}" for name in ("p50", "p99", "p999", "max")),
        "memory at the start, at most, at the end (MiB)": f"{mib[0]:.0f}, {mib.max():.0f}, {mib[-1]:.0f}",
        "slope of the memory (MiB a minute)": f"{slope:+.2f}",
        "CPU of the clients' core": f"{run['busy']:.0%}",
    }
    table = Table(title=f"promotions and rollbacks under load; {os.cpu_count()} cores, load average at the end {os.getloadavg()[0]:.1f}")
    table.add_column("")
    table.add_column("")
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console(width=130)
    console.print(table)
    console.print("memory every ten seconds (MiB): " + " ".join(f"{one:.0f}" for one in mib), soft_wrap=True)


def main(minutes: float, moves: int, clients: int, model: str, share: float, lag: float) -> int:
    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as made, Load() as load:
        folder = Path(made)
        os.environ.update(state_environment(make_bundle(folder)))
        inputs, predicted = register_versions(model)
        MlflowClient().set_registered_model_alias(MODEL, CHAMPION, "1")
        bodies, port, record = [split_body(inputs.iloc[[n]]) for n in range(ROWS)], free_port(), folder / "answers"
        words = [str(Path(sys.executable).parent / "boathouse"), "serve", MODEL, "--port", str(port), "--no-token"]
        with served(words, port, folder) as pid:
            load.run(port, bodies, 4, 2.0)
            capacity = load.run(port, bodies, clients, 8.0)["rate"]
            print(f"capacity with {clients} clients: {capacity:,.0f} requests/s", file=sys.stderr, flush=True)
            done, memory, ended, cpu = [Move(1, 0.0, 0.0)], list[tuple[float, float]](), threading.Event(), cpu_of(pid)
            load.begin(port, bodies, clients, minutes * 60, rate=capacity * share, record=str(record))
            begun = time.monotonic()
            threads = [
                threading.Thread(target=watch_memory, args=(pid, memory, ended)),
                threading.Thread(target=move_alias, args=(done, moves, minutes * 60, begun, ended)),
            ]
            for thread in threads:
                thread.start()
            try:
                run = load.end()
            finally:
                ended.set()
                for thread in threads:
                    thread.join()
            busy = (cpu_of(pid) - cpu) / (time.monotonic() - begun)
        findings = check_answers(read_records(record), done, predicted, lag)
    facts = {
        "model, clients": f"{model}, {clients}",
        "capacity, and the load (requests/s)": f"{capacity:,.0f}, {capacity * share:,.0f} for {minutes:g} minutes",
        "CPU of the service": f"{busy:.0%} of a core",
    }
    show(run, findings, memory, facts, done)
    wrong = findings.failed + findings.wrong_version + findings.went_back + findings.wrong_prediction
    return int(wrong > 0 or set(run["statuses"]) != {"200"} or len(done) != moves + 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--moves", type=int, default=30)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--model", default="trees", choices=list(LEARNERS))
    parser.add_argument("--share", type=float, default=0.5, help="of the capacity")
    parser.add_argument("--lag", type=float, default=5.0, help="seconds that the service may take to follow a move")
    sys.exit(main(**vars(parser.parse_args())))
