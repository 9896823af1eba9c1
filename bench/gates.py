"""What the gates cost on a large hold-out: scored in one pass and judged, against scoring alone with the same models, and against a pass a model.

python bench/gates.py [--rows N] [--rounds N]     1,000,000 rows of 30 days, 3 rounds

TrainedVersion and champion are LightGBM of 200 trees on 20 inputs, the baseline is a small one. Each way has a process and a JVM of its own; the rounds are interleaved.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ways import Way, compare, show, work

KEEP = ["ferry", "late", "forecast_at", "day", "pier", "line", "hour", "sea_at"]
MORE = [f"x{n:02}" for n in range(14)]
ONE_IN = 10


def make_data(folder: Path, rows: int) -> None:
    "The hold-out as Parquet, the models as folders, and what is known of the training."
    import pickle

    from harbour import INPUTS, KEY, ferries
    from mlflow.models import infer_signature
    from mlflow.sklearn import save_model

    from boathouse.models.learners import TRUSTED, Recipe, fit
    from boathouse.validation.leakage import training_facts

    frame = ferries(7, 60, rows // 30)
    rng = np.random.default_rng(7)
    frame = frame.assign(**{c: rng.normal(size=len(frame)) for c in MORE}, sea_at=frame.forecast_at - pd.Timedelta(hours=1))
    first = frame.day.min() + timedelta(days=30)
    train, test = frame[frame.day < first], frame[frame.day >= first].reset_index(drop=True)
    (folder / "data").mkdir()
    for n, part in enumerate(np.array_split(np.arange(len(test)), 8)):
        times = {"coerce_timestamps": "us", "allow_truncated_timestamps": True}
        test.iloc[part].to_parquet(folder / f"data/part-{n}.parquet", index=False, **times)
    some = train.sample(100_000, random_state=1) if len(train) > 100_000 else train
    inputs = [*INPUTS, *MORE]
    models = {"candidate": (inputs, 200), "champion": ([c for c in inputs if c != "waves"], 200), "timetable": (["line", "hour"], 20)}
    for name, (columns, trees) in models.items():
        recipe = Recipe(tuple(c for c in columns if c in ("pier", "line")), tuple(c for c in columns if c not in ("pier", "line")), "late")
        model = fit(recipe, some, {"n_estimators": trees, "num_leaves": 31}, threads=2)
        x = some[recipe.inputs].head(1000)
        save_model(
            model, folder / name, signature=infer_signature(x, model.predict_proba(x)), serialization_format="skops",
            skops_trusted_types=list(TRUSTED), pip_requirements=["lightgbm", "scikit-learn"], pyfunc_predict_fn="predict_proba",
        )  # fmt: skip
    facts = training_facts(train, KEY, inputs, "late", "day", train_metric=0.82, cv_metric=0.8)
    (folder / "facts").write_bytes(pickle.dumps(facts))


def begin(folder: Path, state: Path) -> tuple[Any, dict[str, Any]]:
    "The rows, and the models packed."
    from boathouse.models.scoring import pack_folder
    from boathouse.workspace.spark.session import local_session

    spark = local_session(state)
    models = {name: pack_folder(folder / name, name, 1) for name in ("candidate", "champion", "timetable")}
    return spark.read.parquet(str(folder / "data")), models


def a_pass_each(folder: Path, state: Path) -> Callable[[], Any]:
    from boathouse.models.scoring import score

    rows, models = begin(folder, state)

    def make() -> list[int]:
        sums = []
        for model in models.values():
            scored = score(rows, model, KEEP)
            sums.append(scored.selectExpr("sum(cast(round(probability * 1e6) as bigint))").first()[0])
        return sums

    return make


def together(folder: Path, state: Path) -> Callable[[], Any]:
    from boathouse.models.scoring import score_together

    rows, models = begin(folder, state)

    def make() -> list[int]:
        scored = score_together(rows, models, KEEP)
        return list(scored.selectExpr(*[f"sum(cast(round({name} * 1e6) as bigint))" for name in models]).first())

    return make


def judged(folder: Path, state: Path, fresh: bool) -> Callable[[], Any]:
    import pickle

    from harbour import KEY

    from boathouse.models.scoring import collect_scores, load_packed, positive_probability, score_together
    from boathouse.validation import artifact
    from boathouse.validation.artifact import describe_model, fresh_process
    from boathouse.validation.gate import Evidence, format_results, run_gates
    from boathouse.validation.policy import Policy, gates_of

    rows, models = begin(folder, state)
    facts = pickle.loads((folder / "facts").read_bytes())
    policy = Policy(
        {
            "slice_floor": {"columns": ("pier", "line", "hour")},
            "beats_baseline": {"baselines": ("timetable",)},
            "beats_champion": {"at_least": 0.002},
        }
    )
    inputs = tuple(models["candidate"].inputs)

    def make() -> list[int]:
        held, scores, sample = collect_scores(score_together(rows, models, KEEP, inputs, ONE_IN), list(models))
        known, tried = None, None
        if fresh:
            some = sample[[*inputs]].head(100)
            known = describe_model(folder / "candidate", "Is the ferry late?", {"owner": "harbour"})
            tried = fresh_process(folder / "candidate", some, positive_probability(load_packed(models["candidate"]).predict(some)))
        evidence = Evidence(
            "late_ferry", 2, held, scores, "late", "forecast_at", "day", KEY, inputs, sample, held[["sea_at"]].rename(columns={"sea_at": "sea"}),
            np.full(len(held), True), known, facts, tried, (), held.day.max(), (2,),
        )  # fmt: skip
        verdict = run_gates([g for g in gates_of(policy) if fresh or g.check.__module__ != artifact.__name__], evidence)
        print(format_results(verdict.results), file=sys.stderr)
        return [int(np.round(found * 1e6).sum()) for found in scores.values()]

    return make


WAYS = {
    "scored, a pass a model": Way(a_pass_each),
    "scored, one pass": Way(together),
    "scored in one pass, and judged": Way(lambda folder, state: judged(folder, state, False)),
    "the same, with files and a fresh process": Way(lambda folder, state: judged(folder, state, True)),
}


def main(rows: int = 1_000_000, rounds: int = 3) -> None:
    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as scratch:
        make_data(Path(scratch), rows)
        results = compare(__file__, WAYS, {"": sys.executable}, Path(scratch), rounds, 900)
        show(f"Three models on {rows:,} held-out rows of 30 days", results, {"scored, one pass": "scoring"})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(WAYS[sys.argv[2]], lambda sums: sums, sys.argv[3], sys.argv[4])
    else:
        given = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True))
        main(given.get("--rows", 1_000_000), given.get("--rounds", 3))
