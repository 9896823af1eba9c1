"""How close is the AUC that is estimated before the labels? Months of flights, scored by a model that is not trained again.

python bench/estimates.py [--state FOLDER]     a state in which `make run` has ended

A model learns from the first months and scores each month after them. The estimate of a month uses its scores, and the labels of the months before it.
"implied" is the AUC if every probability were right; "calibrated" is `monitoring.estimates`, with the interval of the realised AUC.
"""

from __future__ import annotations

import os
import time
from datetime import date
from pathlib import Path

import click
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from boathouse.models.learners import fit, probabilities
from boathouse.monitoring.estimates import estimate_auc, fit_calibration
from boathouse.monitoring.quality import interval, model_quality
from boathouse.tables.table import Lakehouse
from boathouse.workspace.spark.session import local_session
from flights.decay import decay_rows
from flights.training import DEFAULTS, recipe

SEED, STEPS = 7, 10_000


def counts(rows: pd.DataFrame) -> pd.DataFrame:
    "The counts of `score_buckets` per day, from rows with `p` and `late`."
    step = np.minimum((rows["p"] * STEPS).astype(int), STEPS - 1)
    clipped = rows["p"].clip(1e-15, 1 - 1e-15)
    loss = -np.log(clipped.where(rows["late"], 1 - clipped))
    table = {"p_sum": rows["p"], "p_labelled": rows["p"], "positives": rows["late"].astype(int), "loss": loss}
    frame = pd.DataFrame(table | {"day": rows["flight_date"], "step": step, "rows": 1, "labelled": 1, "tp": 0, "fp": 0, "fn": 0})
    return frame.groupby(["day", "step"], as_index=False).sum()


def judge(rows: pd.DataFrame, learned: int, screen: Console) -> None:
    "Train on the first `learned` months, and print one line per month after them."
    month = pd.to_datetime(rows["flight_date"]).dt.month
    model = fit(recipe(SEED), rows[month <= learned], DEFAULTS)
    later = rows[month > learned].assign(month=month[month > learned])
    later["p"] = probabilities(model, recipe(SEED), later)
    table = Table(*("month", "implied", "calibrated", "interval", "realised", "realised - calibrated", "inside"))
    inside, far = list[bool](), list[tuple[float, float]]()
    for number in range(learned + 1, 13):
        window = counts(later[later["month"] == number])
        found, calibration = model_quality(window), fit_calibration(counts(later[later["month"] < number]), "day")
        realised, implied = found["roc_auc_score"], found["estimated_roc_auc_score"]
        low, high = interval(window, "day")["roc_auc_score"]
        if calibration is None:
            table.add_row(f"{number}", f"{implied:.3f}", "no labels before", "", f"{realised:.3f} ({low:.3f}-{high:.3f})", "", "")
            continue
        value, least, most = estimate_auc(window, calibration, "day")
        inside.append(least <= realised <= most)
        far.append((abs(realised - implied), abs(realised - value)))
        ends, own = f"{least:.3f}-{most:.3f}", f"{realised:.3f} ({low:.3f}-{high:.3f})"
        table.add_row(f"{number}", f"{implied:.3f}", f"{value:.3f}", ends, own, f"{realised - value:+.3f}", "yes" if inside[-1] else "no")
    screen.print(f"trained on {learned} month{'s' * (learned > 1)}")
    screen.print(table)
    mean = np.mean(far, axis=0)
    screen.print(f"inside {sum(inside)} of {len(inside)}; mean distance {mean[0]:.4f} implied, {mean[1]:.4f} calibrated")


@click.command(help=__doc__)
@click.option("--state", type=click.Path(path_type=Path, exists=True), help="State folder; that of this project unless given.")
def main(state: Path | None) -> None:
    "Print the months for a model of January, of the first quarter and of the first half-year."
    if state is not None:
        os.environ["BOATHOUSE_STATE"] = str(state.resolve())
    screen, begun = Console(width=120), time.process_time()  # narrower columns would be cut
    rows = decay_rows(Lakehouse(local_session()), date(2014, 1, 1), 30_000, SEED)
    for learned in (1, 3, 6):
        judge(rows, learned, screen)
    screen.print(f"{len(rows):,} flights, {time.process_time() - begun:.0f} CPU seconds")


if __name__ == "__main__":
    main()
