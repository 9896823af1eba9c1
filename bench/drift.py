"""How often does drift raise a false alarm, and what does it notice? Simulated windows of columns with few to many categories, and of numbers.

python bench/drift.py [--draws N]     200 windows for each cell

A false alarm is a window in which a column has drifted although nothing changed; `level` states 1 %. The baseline has 50,000 rows, or as many as the window.
Power is the share of windows in which a change is noticed: a third of the rows moves to a third of the categories, normal numbers are shifted
by half a standard deviation, and the numbers among 90 % zeros are four times as large.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from boathouse.monitoring.drift import compare_profiles
from boathouse.monitoring.profiles import KEEP, column_statistics, round_array

ROWS, LEVELS, BASELINE = (8, 30, 100, 1_000, 10_000), (2, 10, 30, 100, 300, 1_000), 50_000
Draw = Callable[[np.random.Generator, int, bool], pd.Series]  # generator, rows, changed -> counts by value
WHERE = {"window": {"start": datetime(2026, 1, 1), "end": datetime(2026, 1, 2)}, "granularity": "1 day", "model_id": "1"}


def row_of(counts: pd.Series, column: int | str, nulls: int = 0) -> dict[str, Any]:
    "A profile row, as `profile` makes it."
    text, distinct = counts.index.dtype.kind not in "fi", len(counts)
    parts = (
        pd.DataFrame()
        if text
        else pd.DataFrame({"n": counts, "mean": counts.index, "squares": 0.0, "min": counts.index, "max": counts.index})
    )
    if not text and distinct > KEEP:
        counts = counts.groupby(round_array(counts.index.to_numpy())).sum()
    same = WHERE | {"column_name": str(column), "slice_key": None, "slice_value": None}
    return same | column_statistics("string" if text else "double", counts.astype("int64"), nulls, distinct, parts)


def categories(levels: int) -> Draw:
    names, third = [f"level {n:04}" for n in range(levels)], max(levels // 3, 1)

    def draw(rng: np.random.Generator, rows: int, changed: bool) -> pd.Series:
        shares = np.full(levels, 1 / levels)
        if changed:
            shares = shares * 2 / 3 + np.r_[np.full(third, 1 / (3 * third)), np.zeros(levels - third)]
        counts = pd.Series(rng.multinomial(rows, shares), names)
        return counts[counts > 0]

    return draw


def count_numbers(values: np.ndarray) -> pd.Series:
    found, counts = np.unique(round_array(values, 16), return_counts=True)
    return pd.Series(counts, found)


def normal(rng: np.random.Generator, rows: int, changed: bool) -> pd.Series:
    return count_numbers(rng.normal(0.5 * changed, 1, rows))


def rainy(rng: np.random.Generator, rows: int, changed: bool) -> pd.Series:
    return count_numbers(np.where(rng.random(rows) < 0.9, 0.0, rng.lognormal(size=rows) * (4 if changed else 1)))


KINDS: dict[str, tuple[Draw, int]] = {
    **{f"{n:,} categories": (categories(n), 1) for n in LEVELS},
    "normal numbers": (normal, 1),
    "90 % zeros": (rainy, 1),
    "30 columns of normal numbers": (normal, 30),
}


def share(draw: Draw, columns: int, rows: int, baseline: int, changed: bool, draws: int) -> float:
    "The share of windows with an alarm; with `changed`, those in which the first column has drifted."
    rng, hits = np.random.default_rng(rows), 0
    for _ in range(draws):
        base = [row_of(draw(rng, baseline, False), c) for c in range(columns)]
        fresh = [row_of(draw(rng, rows, changed and c == 0), c) for c in range(columns)]
        drifted = [row["drifted"] for row in compare_profiles(fresh, base)]
        hits += drifted[0] if changed else any(drifted)
    return hits / draws


def main(draws: int = 200) -> None:
    for title, baseline, changed in (
        ("False alarms, baseline of 50,000 rows", BASELINE, False),
        ("False alarms, baseline as large as the window", None, False),
        ("Power, baseline of 50,000 rows", BASELINE, True),
    ):
        began = time.process_time()
        print(f"\n{title}\n\n| rows of the window | {' | '.join(f'{n:,}' for n in ROWS)} |\n|{'---|' * (len(ROWS) + 1)}")
        for name, (draw, columns) in KINDS.items():
            times = draws if columns == 1 else draws // 4
            cells = [f"{share(draw, columns, n, baseline or n, changed, times):.1%}" for n in ROWS]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
        print(f"{time.process_time() - began:.0f} CPU s", file=sys.stderr)


if __name__ == "__main__":
    given = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True))
    main(given.get("--draws", 200))
