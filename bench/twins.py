"""How often would the gates refuse a model that is as good as the champion? Twins of the flights' champion, re-seeded, judged by every gate of the policy.

python bench/twins.py [-t TARGET | --state FOLDER] [--model NAME] [--version N] [--twins N] [--days] [--folds] [--json]     200 twins

It needs a state with a registered champion, as `boathouse run lifecycle` or `boathouse run training` leaves it, and reads the champion's manifest: training rows, held-out rows and parameters are those of its training.

A twin has the champion's rows and parameters, and another seed of learner and folds, so it is good by construction: only chance differs (seeds alone move the AUC by 0.005). Scores and the AUC on its training rows are its own, and with `--folds`, which doubles the time, what its folds promise;
otherwise that is the champion's. Files, signature, fresh process, data and their answers are the champion's, as a seed changes nothing that those gates ask. With `--days`, its training days are drawn with replacement too: a third of the days is missing, so such twins are worse by
construction, and a refusal of one need not be false. All twins are judged on the same held-out days, so this is the rate on these days; `bench/honesty.py` draws the days as well.

Asked twice: as a first model, where a refusal is a false one, and beside the champion, where `beats_champion` asks for proof of a gain that a twin has not: it refuses nearly all of them, by design, and a twin that it lets pass is a mistake.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from honesty import upper
from mlflow.tracking import MlflowClient
from sklearn.metrics import roc_auc_score

LEVEL = 0.05  # of false refusals, to stay under
CHAMPION_GATE = "beats_champion"


@dataclass(frozen=True)
class Model:
    "A registered version: what it was made of, its training rows, and what the gates see of it."

    name: str
    version: int
    manifest: Any
    rows: pd.DataFrame
    evidence: Any


@dataclass(frozen=True)
class Twin:
    "One twin: its probabilities of the held-out rows, its AUC on its training rows, and the mean AUC of its folds."

    scores: np.ndarray
    train_metric: float
    cv_metric: float


def champion_of(name: str, version: int | None) -> Model:
    "The champion, or another version, with its rows made again by its manifest; LookupError if there is none."
    from boathouse.features.training_sets import with_features
    from boathouse.registry.manifest import collect_training_rows, read_manifest
    from boathouse.registry.promotions import alias_version
    from boathouse.registry.reproduce import labels_from_manifest, recipe_from_manifest
    from boathouse.runtime import get_spark
    from boathouse.tables.table import Lakehouse
    from flights.features import IDENTITY
    from flights.validation import evidence_of

    lake, client = Lakehouse(get_spark(), name.partition(".")[0]), MlflowClient()
    if not client.search_registered_models(f"name = '{name}'") or (number := version or alias_version(client, name)) is None:
        raise LookupError(f"{name} has no champion here: run `boathouse run lifecycle` first, or name a --state, --model or --version")
    manifest = read_manifest(client.get_model_version(name, str(number)).run_id)
    spec = manifest.features
    made = with_features(lake, labels_from_manifest(manifest).rows(lake), spec, spec.versions)
    rows = collect_training_rows(made, recipe_from_manifest(manifest), manifest.order, keep=IDENTITY)
    return Model(name, number, manifest, rows, evidence_of(lake, name, number, date.fromisoformat(manifest.as_of)))


def twin_of(model: Model, seed: int, days: bool, folds: bool) -> Twin:
    "A twin of another seed; with `days`, of training days drawn with replacement; with `folds`, promising what its own folds say."
    from boathouse.models.learners import fit, probabilities
    from boathouse.registry.reproduce import recipe_from_manifest
    from boathouse.training.search import fold_rows, fold_scores
    from boathouse.training.splits import split_from_json
    from flights.training import SEARCH_ROWS_PER_FOLD

    recipe, split, rows = (
        replace(recipe_from_manifest(model.manifest), seed=seed),
        split_from_json(json.dumps(dict(model.manifest.split))),
        model.rows,
    )
    if days:
        of_day = pd.Series(np.arange(len(rows))).groupby(rows[split.time].to_numpy()).apply(np.asarray)
        drawn = np.random.default_rng(seed).choice(len(of_day), len(of_day))
        rows = rows.iloc[np.sort(np.concatenate([of_day.iloc[n] for n in drawn]))].reset_index(drop=True)
    fitted = fit(recipe, rows, model.manifest.parameters)
    learned = float(roc_auc_score(rows[recipe.label].astype(bool), probabilities(fitted, recipe, rows)))
    cv_metric = model.evidence.training.cv_metric
    if folds:
        cv_metric = float(np.mean(fold_scores(recipe, fold_rows(recipe, rows, split, SEARCH_ROWS_PER_FOLD), model.manifest.parameters)))
    return Twin(probabilities(fitted, recipe, model.evidence.sample), learned, cv_metric)


def judged(model: Model, twin: Twin) -> tuple[Any, Any]:
    "The verdict on a twin as a first model, and beside the champion."
    from boathouse.validation.gate import CANDIDATE, CHAMPION, run_gates
    from boathouse.validation.policy import gates_of
    from flights.validation import POLICY

    known = model.evidence
    facts = replace(known.training, train_metric=twin.train_metric, cv_metric=twin.cv_metric)
    alone = {name: values for name, values in known.scores.items() if name != CHAMPION} | {CANDIDATE: twin.scores}
    first = replace(known, scores=alone, training=facts, unseen=None, _cache={})
    beside = replace(first, scores={**alone, CHAMPION: known.scores[CANDIDATE]}, unseen=np.full(len(known.rows), True), _cache={})
    return run_gates(gates_of(POLICY), first), run_gates(gates_of(POLICY), beside)


def asked(model: Model, twins: int, days: bool, folds: bool) -> dict[str, Any]:
    "What the gates said of so many twins."
    from boathouse.validation.gate import CANDIDATE

    began, first, beside, aucs = datetime.now(), [], [], []
    itself = twin_of(model, model.manifest.recipe["seed"], days=False, folds=False).scores
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for n, twin in enumerate(pool.map(lambda seed: twin_of(model, seed, days, folds), range(1000, 1000 + twins)), start=1):
            aucs.append(float(roc_auc_score(model.evidence.truth, twin.scores)))
            for verdicts, verdict in zip((first, beside), judged(model, twin), strict=True):
                verdicts.append(verdict)
            if n % 10 == 0 or n == twins:
                print(f"{n} of {twins} twins, {sum(not v.accepted for v in first)} refused", file=sys.stderr, flush=True)
    refused = sum(not v.accepted for v in first)
    compared = [set(v.refusals) for v in beside]
    return {
        "model": model.name, "version": model.version, "as_of": model.manifest.as_of, "learner": model.manifest.parameters.get("learner", "lightgbm"),
        "trained_rows": len(model.rows), "held_out_rows": len(model.evidence.rows), "held_out_days": int(model.evidence.units.max()) + 1,
        "drawn": "seeds and training days" if days else "seeds", "twins": twins, "champion_auc": float(roc_auc_score(model.evidence.truth, model.evidence.scores[CANDIDATE])),
        "auc": [min(aucs), float(np.median(aucs)), max(aucs)], "different": len(set(aucs)), "itself": bool((itself == model.evidence.scores[CANDIDATE]).all()), "refused": refused, "at_most": upper(refused, twins), "level": LEVEL,
        "by_gate": dict(Counter(name for v in first for name in v.refusals)), "warned": dict(Counter(name for v in first for name in v.warnings)),
        "beside_champion": {
            "refused_by_comparison": sum(CHAMPION_GATE in found for found in compared), "refused_by_others": sum(bool(found - {CHAMPION_GATE}) for found in compared),
            "let_pass": sum(not found for found in compared),
        },
        "seconds": (datetime.now() - began).total_seconds(),
    }  # fmt: skip


def told(found: dict[str, Any]) -> str:
    "What was found, in sentences."
    least, middle, most = found["auc"]
    beside, twins = found["beside_champion"], found["twins"]
    under = "under" if found["at_most"] < found["level"] else "not shown to be under"
    return "\n".join((
        f"{twins} twins of {found['model']} version {found['version']} ({found['learner']}, as of {found['as_of']}; other {found['drawn']}), "
        f"{found['held_out_rows']} rows of {found['held_out_days']} days; {os.cpu_count()} cores, {found['seconds']:.0f} s.",
        f"AUC: champion {found['champion_auc']:.4f}; twins {least:.4f} to {most:.4f}, median {middle:.4f}; {found['different']} of {twins} differ from each other. "
        f"With the champion's own seed: {'its predictions, to the last bit' if found['itself'] else 'OTHER PREDICTIONS THAN ITS OWN, so these are no twins of it'}.",
        f"As first models: {found['refused']} of {twins} refused ({found['refused'] / twins:.1%}, at most {found['at_most']:.1%}), "
        f"{under} the level of {found['level']:.0%}; by gate: {found['by_gate'] or 'none'}; warned: {found['warned'] or 'none'}.",
        f"Beside the champion: {beside['refused_by_comparison']} refused by the comparison, which is by design; {beside['refused_by_others']} by other gates; "
        f"{beside['let_pass']} let pass, though it is no better.",
    ))  # fmt: skip


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-t", "--target", default="local", help="target whose state it is")
    parser.add_argument("--state", type=Path, help="state folder, instead of the target's")
    parser.add_argument("--model", default="spark_catalog.ml.late_arrival")
    parser.add_argument("--version", type=int, help="a version; the champion, if none is named")
    parser.add_argument("--twins", type=int, default=200)
    parser.add_argument("--days", action="store_true", help="draw training days with replacement too")
    parser.add_argument("--folds", action="store_true", help="score each twin's folds anew")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(words)
    state = (given.state or Path(__file__).parent.parent / ".boathouse" / given.target).resolve()
    if not (state / "mlflow.db").exists():
        print(f"{state} holds no models: run `boathouse run lifecycle` first, or name another --state", file=sys.stderr)
        return 2
    os.environ["BOATHOUSE_STATE"] = str(state)
    from boathouse.runtime import get_spark

    get_spark()
    try:
        model = champion_of(given.model, given.version)
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    found = asked(model, given.twins, given.days, given.folds)
    print(json.dumps(found) if given.json else told(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
