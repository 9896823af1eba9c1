"""Do the intervals hold what they say? Coverage and type-I error by simulation, on days that have a mood of their own, and how often good candidates are refused.

python bench/honesty.py [--draws N] [--twins N]     1,000 invented months for each number of days, 200 good candidates

True values come from one long simulation. "By row" is the same interval with each row as a day of its own, as if rows were independent.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import stats

from boathouse.validation.comparison import DayParts, Ranked, day_parts, drawn_gains, ranked, t_interval
from boathouse.validation.gate import Gate, run_gates
from boathouse.validation.metrics import gap_of, slope_of
from boathouse.validation.policy import gates_of

DAYS, A_DAY, LEVEL, RESAMPLED = (7, 14, 28, 60), 100, 0.95, 1000
METHODS = ("left-out days, t", "left-out days, normal", "percentile", "basic", "BCa", "by row")


@dataclass(frozen=True)
class Month:
    "Rows of some days: what happened, probabilities of two models, the day of each row."

    late: np.ndarray
    one: np.ndarray
    two: np.ndarray
    day: np.ndarray


def month(rng: np.random.Generator, days: int, noise: float, a_day: int = A_DAY) -> Month:
    "Days with a mood; each model sees the signal with noise, and mistakes each day's mood in its own way. `noise` is the second one's, the first has 0.7."
    day = np.repeat(np.arange(days), a_day)
    signal, mood = rng.normal(size=len(day)), rng.normal(0, 0.7, days)
    late = rng.random(len(day)) < 1 / (1 + np.exp(1 - signal - mood[day]))

    def seen(size: float) -> np.ndarray:
        view = signal + size * rng.normal(size=len(day)) + rng.normal(0, 0.6, days)[day]
        return 1 / (1 + np.exp(1 - 0.6 * view))

    return Month(late, seen(0.7), seen(noise), day)


def bca(drawn: np.ndarray, value: float, without: np.ndarray) -> tuple[float, float]:
    "The bias-corrected and accelerated interval (Efron 1987) from draws and left-out days."
    below = np.clip((drawn < value).mean(), 1e-3, 1 - 1e-3)
    off, far = stats.norm.ppf(below), without.mean() - without
    speed = (far**3).sum() / (6 * max((far**2).sum(), 1e-30) ** 1.5)
    z = stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return tuple(np.quantile(drawn, stats.norm.cdf(off + (off + z) / (1 - speed * (off + z)))))


def intervals(m: Month, days: int, seed: int) -> dict[str, tuple[float, float]]:
    "The interval of the gain in AUC, by each method."
    orders = [ranked(m.late, scores, m.day) for scores in (m.one, m.two)]
    one, two = (day_parts(order, days) for order in orders)
    value, without = one.auc - two.auc, one.without - two.without
    low, high, error = t_interval(value, without, LEVEL)
    drawn = drawn_gains(*orders, days, RESAMPLED, seed)
    least, most = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    normal = stats.norm.ppf((1 + LEVEL) / 2) * error
    alone = [day_parts(Ranked(order.position, order.late, order.position, order.tie), len(m.day)) for order in orders]
    by_row = t_interval(value, alone[0].without - alone[1].without, LEVEL)[:2]
    found = (
        (low, high),
        (value - normal, value + normal),
        (least, most),
        (2 * value - most, 2 * value - least),
        bca(drawn, value, without),
        by_row,
    )
    return dict(zip(METHODS, found, strict=True))


def truth_of(noise: float) -> tuple[float, float, float, float]:
    "The true gain, AUC, slope and gap of the first model, from days without number."
    m = month(np.random.default_rng(99), 20_000, noise, 50)
    parts: list[DayParts] = [day_parts(ranked(m.late, scores, m.day), 20_000) for scores in (m.one, m.two)]
    return parts[0].auc - parts[1].auc, parts[0].auc, slope_of(m.late, m.one, m.day)[0], gap_of(m.late, m.one, m.day)[0]


def coverage(draws: int, noise: float) -> dict[int, dict[str, tuple[float, float, float]]]:
    "Per number of days and method: share of intervals that hold the true gain, share that lie above zero, and median width."
    gain = 0.0 if noise == 0.7 else truth_of(noise)[0]
    found: dict[int, dict[str, tuple[float, float, float]]] = {}
    for days in DAYS:
        rng, kept = np.random.default_rng(days), {name: [] for name in METHODS}
        for n in range(draws):
            for name, (low, high) in intervals(month(rng, days, noise), days, n).items():
                kept[name].append((low <= gain <= high, low > 0, high - low))
        found[days] = {name: (*np.mean(rows, axis=0)[:2], float(np.median(np.array(rows)[:, 2]))) for name, rows in kept.items()}
        print(f"noise {noise}, {days} days: done", file=sys.stderr, flush=True)
    return found


def of_one_model(draws: int) -> dict[int, tuple[float, float, float]]:
    "Per number of days: share of intervals that hold the true AUC, the slope and the gap of calibration."
    _, auc, slope, gap = truth_of(0.7)
    found = {}
    for days in DAYS:
        rng, kept = np.random.default_rng(1000 + days), []
        for _ in range(draws):
            m = month(rng, days, 0.7)
            parts = day_parts(ranked(m.late, m.one, m.day), days)
            three = ((auc, parts.auc, parts.without), (slope, *slope_of(m.late, m.one, m.day)), (gap, *gap_of(m.late, m.one, m.day)))
            bounds = [(true, t_interval(value, without, LEVEL)) for true, value, without in three]
            kept.append([low <= true <= high for true, (low, high, _) in bounds])
        found[days] = tuple(np.mean(kept, axis=0))
    return found


def refusals(twins: int) -> dict[str, tuple[Counter[str], int]]:
    "How often each gate refuses a good candidate, and how many candidates are refused by any: as declared, and with all gates at 0.95 that refuse in doubt."
    from harbour import POLICY, candidate_of, ferries

    def strict(gate: Gate) -> Gate:
        return gate.configure(if_inconclusive="refuse", **({"level": LEVEL} if "level" in gate.limits else {}))

    stricter = [strict(gate) for gate in gates_of(POLICY)]
    found = {"as declared": (Counter(), 0), "all gates at 0.95, refusing in doubt": (Counter(), 0)}
    for seed in range(1000, 1000 + twins):
        evidence = candidate_of(ferries(seed))
        for name, gates in zip(found, (gates_of(POLICY), stricter), strict=True):
            verdict, (by_gate, refused) = run_gates(gates, evidence), found[name]
            by_gate.update(verdict.refusals)
            found[name] = (by_gate, refused + (not verdict.accepted))
    return found


def upper(hits: int, of: int) -> float:
    "The upper end of the exact 95 % interval of a share (Clopper and Pearson 1934)."
    return float(stats.beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0


def show(title: str, rows: dict[str, list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    table.add_column("interval")
    for days in DAYS:
        table.add_column(f"{days} days", justify="right")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    Console(width=120).print(table)


def main(draws: int = 1000, twins: int = 200) -> None:
    import psutil

    print(f"{draws} invented months of {A_DAY} rows a day ({os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB)")
    same, other = coverage(draws, 0.7), coverage(draws, 1.1)
    chance = 1.96 * np.sqrt(0.05 * 0.95 / draws)
    told = {name: [f"{1 - same[d][name][0]:.3f}" for d in DAYS] for name in METHODS}
    show(f"Two models equally good: share told apart (nominal 0.050, chance +-{chance:.3f})", told)
    show("... share called better (nominal 0.025)", {name: [f"{same[d][name][1]:.3f}" for d in DAYS] for name in METHODS})
    show(f"A model truly better by {truth_of(1.1)[0]:.4f}: share of intervals that hold the gain (nominal 0.950)", {
        name: [f"{other[d][name][0]:.3f}" for d in DAYS] for name in METHODS
    })  # fmt: skip
    show("... share in which the gain was seen (power)", {name: [f"{other[d][name][1]:.3f}" for d in DAYS] for name in METHODS})
    show("... median width", {name: [f"{other[d][name][2]:.4f}" for d in DAYS] for name in METHODS})
    one = of_one_model(draws)
    show("One model, left-out days, t: share of intervals that hold the true value (nominal 0.950)", {
        name: [f"{one[d][n]:.3f}" for d in DAYS] for n, name in enumerate(("AUC", "slope of calibration", "gap of calibration"))
    })  # fmt: skip
    for name, (by_gate, refused) in refusals(twins).items():
        share = f"{refused} of {twins} ({refused / twins:.1%}, at most {upper(refused, twins):.1%})"
        print(f"Good candidates refused, gates {name}: {share}; by gate: {dict(by_gate) or 'none'}")


if __name__ == "__main__":
    given = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True))
    main(given.get("--draws", 1000), given.get("--twins", 200))
