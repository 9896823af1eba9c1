"""Which of scikit-learn's own estimators pass the whole way: fit, log, load, score, explain. Prints a line per failure with its reason, and the counts.

    python bench/estimators.py

Binary rows are the breast cancer data, classes the wines, numbers the diabetes data; all ship with scikit-learn.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.utils import all_estimators
from skops.io import dumps, get_untrusted_types

from boathouse.models.learners import Recipe, fit, importances, log_pipeline, predict
from boathouse.models.tasks import METRICS, Task, check_predictions

DATA = {"binary": load_breast_cancer, "multiclass": load_wine, "regression": load_diabetes}
TASKS_OF: dict[str, tuple[Task, ...]] = {"classifier": ("binary", "multiclass"), "regressor": ("regression",)}
STEPS = ("fit", "log", "load", "score", "explain")


def data_of(task: Task) -> tuple[Recipe, pd.DataFrame]:
    "The rows of a task, with names of columns that MLflow takes."
    found = DATA[task](as_frame=True)
    rows = found.frame.rename(columns=lambda c: c.replace("/", "_").replace(" ", "_")).sample(150, random_state=1).reset_index(drop=True)
    return Recipe((), tuple(c for c in rows if c != "target"), "target", task=task), rows


def passes(name: str, estimator: type, task: Task) -> Iterator[str]:
    "Each step that the estimator has passed; the first one that fails raises."
    recipe, rows = data_of(task)
    model = fit(recipe, rows, {"learner": name}, estimators={name: estimator})
    here = predict(model, recipe, rows)
    check_predictions(task, here, len(rows), len(model.classes_) if task == "multiclass" else None)
    yield "fit"
    with mlflow.start_run():
        uri = log_pipeline(model, recipe, rows, "model", trusted=get_untrusted_types(data=dumps(model)))
    yield "log"
    back = mlflow.pyfunc.load_model(uri)
    yield "load"
    there = np.asarray(back.predict(rows[recipe.inputs]))
    there = there[:, -1] if task == "binary" else there
    if not np.allclose(there, here, atol=1e-9):
        raise ValueError(f"the loaded model predicts other values, by up to {np.abs(there - here).max():.2g}")
    yield "score"
    shares = importances(model, recipe, rows)
    if not np.isfinite(list(shares.values())).all():
        raise ValueError(f"the importances are {shares}")
    yield "explain"


def main() -> None:
    "Try every estimator on the data of its tasks."
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{Path(folder, 'mlflow.db')}")
        mlflow.set_experiment("estimators")
        done: dict[str, Counter[str]] = {}
        for kind, tasks in TASKS_OF.items():
            for (name, estimator), task in product(all_estimators(type_filter=kind), tasks):
                counts, passed = done.setdefault(task, Counter()), list[str]()
                counts["tried"] += 1
                try:
                    for step in passes(name, estimator, task):
                        passed.append(step)
                        counts[step] += 1
                except Exception as error:
                    print(
                        f"{task:10} {name:32} {STEPS[len(passed)]:8} {type(error).__name__}: {str(error).splitlines()[0][:150]}", flush=True
                    )
    print(pd.DataFrame(done).T[["tried", *STEPS]].to_string())
    print("metrics:", {task: [metric.name for metric in metrics] for task, metrics in METRICS.items()})


if __name__ == "__main__":
    main()
