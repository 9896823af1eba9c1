"""An invented harbour, for measurements and tests of gates: ferries of many days, each day with a mood that nobody sees, and an honest candidate to judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from boathouse.models.learners import Recipe, fit, probabilities
from boathouse.validation.gate import Evidence, FreshProcessCheck, RegisteredVersion
from boathouse.validation.leakage import training_facts
from boathouse.validation.policy import Policy

FIRST, TRAINED, TESTED = date(2013, 3, 1), 70, 28
CATEGORIES, NUMBERS = ("pier", "line"), ("wind", "waves", "traffic", "hour")
INPUTS, KEY = (*CATEGORIES, *NUMBERS), ("ferry",)
PARAMETERS = {"n_estimators": 50, "num_leaves": 7, "learning_rate": 0.1, "min_child_samples": 40}
POLICY = Policy(
    {
        "auc_floor": {"floor": 0.62},
        "slice_floor": {"columns": ("pier", "line", "hour"), "floor": 0.55},
        "beats_baseline": {"baselines": ("timetable",)},
    }
)


def ferries(seed: int, days: int = TRAINED + TESTED, a_day: int = 100, mood: float = 0.25) -> pd.DataFrame:
    "One row per ferry: inputs, whether it came late, and the instant of the forecast; ferries of one day share its mood."
    rng, rows = np.random.default_rng(seed), days * a_day
    day = np.repeat(np.arange(days), a_day)
    frame = pd.DataFrame(
        {
            "ferry": np.arange(rows),
            "pier": rng.choice(["north", "east", "south"], rows),
            "line": rng.choice([f"L{n:02}" for n in range(9)], rows, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.06, 0.02, 0.01, 0.01]),
            "wind": rng.gamma(4, 2.0, rows),
            "waves": rng.normal(size=rows),
            "traffic": rng.normal(size=rows),
            "hour": rng.choice([6, 9, 12, 15, 18], rows),
        }
    )
    tilt = 0.3 * (frame.wind - 8) + 0.8 * frame.waves + 0.5 * frame.traffic + 0.06 * (frame.hour - 12) + 0.3 * (frame.line == "L01")
    frame["late"] = rng.random(rows) < 1 / (1 + np.exp(1.1 - tilt - rng.normal(0, mood, days)[day]))
    frame["forecast_at"] = pd.Timestamp(FIRST) + pd.to_timedelta(day, "D") + pd.to_timedelta(frame.hour - 2, "h")
    frame["day"] = frame.forecast_at.dt.date
    return frame


def split(frame: pd.DataFrame, tested: int = TESTED) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Training rows, and the rows of the last `tested` days."
    first = frame.day.max() - timedelta(days=tested - 1)
    return frame[frame.day < first].reset_index(drop=True), frame[frame.day >= first].reset_index(drop=True)


def scores_of(train: pd.DataFrame, test: pd.DataFrame, recipe: Recipe, **parameters: Any) -> tuple[np.ndarray, float]:
    "Probabilities on the test rows of a model of the training rows, and its AUC on the latter."
    model = fit(recipe, train, {**PARAMETERS, **parameters})
    return probabilities(model, recipe, test), float(roc_auc_score(train.late, probabilities(model, recipe, train)))


def recipe_of(columns: Sequence[str]) -> Recipe:
    "A recipe of those columns."
    return Recipe(tuple(c for c in columns if c in CATEGORIES), tuple(c for c in columns if c not in CATEGORIES), "late")


def timetable(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    "The share of late ferries of the same line and hour."
    rates = train.groupby(["line", "hour"]).late.mean()
    return test.join(rates.rename("rate"), on=["line", "hour"]).rate.fillna(train.late.mean()).to_numpy()


def candidate_of(
    frame: pd.DataFrame,
    inputs: Sequence[str] = INPUTS,
    promise: Callable[[pd.DataFrame], tuple[pd.DataFrame, pd.DataFrame]] = split,
    trained: pd.DataFrame | None = None,
    tested: pd.DataFrame | None = None,
    **parameters: Any,
) -> Evidence:
    "The evidence of a candidate trained on all but the last days of `frame`, or on `trained`; `promise` says how its search split the training rows."
    train, test = split(frame)
    known, test = train if trained is None else trained, test if tested is None else tested
    recipe = recipe_of(inputs)
    scores, train_metric = scores_of(known, test, recipe, **parameters)
    fold, judged = promise(known)
    cv_metric = float(roc_auc_score(judged.late, scores_of(fold, judged, recipe, **parameters)[0]))
    champion, _ = scores_of(train[train.day < FIRST + timedelta(days=45)], test, recipe_of([c for c in INPUTS if c != "waves"]))
    return Evidence(
        "late_ferry", 1, test, {"candidate": scores, "champion": champion, "timetable": timetable(train, test)},
        "late", "forecast_at", "day", KEY, tuple(inputs),
        times=pd.DataFrame({"features.sea": test.forecast_at - pd.Timedelta(hours=1)}),
        unseen=np.full(len(test), True),
        registered=RegisteredVersion("Is the ferry late?", {"owner": "harbour"}, {c: type_of(test[c]) for c in inputs}, 2, 40_000, (), "a", "a"),
        training=training_facts(known, KEY, inputs, "late", "day", train_metric, cv_metric),
        fresh=FreshProcessCheck("", tuple(scores[:20]), (20, 2), 0.0, tuple(inputs), 0.01, 0.002),
        open_failures=(), shown=(1,), as_of=frame.day.max() + timedelta(days=2), has_champion=True,
    )  # fmt: skip


def type_of(column: pd.Series) -> str:
    "The type that MLflow gives a column."
    return "string" if column.dtype == object else "long" if column.dtype.kind == "i" else "double"


def but(evidence: Evidence, **changed: Any) -> Evidence:
    "The same evidence with some of it changed, and nothing computed yet."
    return dataclasses.replace(evidence, **changed, _cache={})


def with_scores(evidence: Evidence, **scores: np.ndarray) -> Evidence:
    "The same evidence with other scores of some models."
    every: Mapping[str, np.ndarray] = {**evidence.scores, **scores}
    return but(evidence, scores=every)
