"""How often does a table raise a false alarm, and is a change noticed? Drift of this project beside Evidently and NannyML, on the same frames.

python bench/false_alarms.py [--replays N] [--rows N ...] [--seconds S] [--evidently PYTHON] [--nannyml PYTHON]

A table of twenty columns is simulated: normal and skewed numbers, many zeros, integers, and 2, 10 and 100 categories.
Two columns have missing values. A replay is a window from the same distribution as its baseline of 50,000 rows.
A false alarm is a window in which any column has drifted. Power is the share of windows in which `normal_0` has drifted
after a shift by half a standard deviation; every fourth round is repeated with it.
Five baselines share the replays, so that one unlucky baseline does not decide.

Evidently and NannyML do not belong to this project. Each needs an environment; without its option a tool is left out:

    python3 -m venv .boathouse/bench/evidently
    .boathouse/bench/evidently/bin/pip install evidently==0.7.23 "pandas<3" pyarrow
    python3 -m venv .boathouse/bench/nannyml
    .boathouse/bench/nannyml/bin/pip install nannyml==0.13.1 "pandas<3" pyarrow statsmodels

Ours is `compare_profiles` with its defaults: at most 1 % of the windows have a false alarm, over all columns together.
Evidently is `DataDriftPreset` with its defaults: the normed Wasserstein distance for numbers, the Jensen-Shannon distance
for texts, and drift from 0.1 on. Its verdict for a whole table, half of the columns, is not used.
NannyML is `UnivariateDriftCalculator` with its defaults: the Jensen-Shannon distance, and drift above the mean of the
baseline's chunks by three standard deviations. A chunk has as many rows as the window, but at most a tenth of the baseline:
that is what NannyML chooses itself, and a single chunk has no spread. So a window of 50,000 rows is ten chunks.
Neither of the two states a rate. Both are given the kind of each column, and send no report to their makers.

Each tool is a process with one thread. Its time is the median of CPU milliseconds for a window; what is done once for a
baseline is on stderr. Ours counts the values in pandas, in place of Spark. Another tool that has used `--seconds` for a
size gets no more of its windows; each share names how many windows it is from.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROWS, BASELINE, BASELINES = (50, 500, 5_000, 50_000), 50_000, 5
POWER, CHANGED = 4, "normal_0"  # every fourth round of the baselines is repeated with a change in this column
Judge = Callable[[pd.DataFrame], list[str]]  # a window -> its columns that have drifted


def simulated(rng: np.random.Generator, rows: int) -> pd.DataFrame:
    "A table of twenty columns."

    def zeros(share: float) -> np.ndarray:
        return np.where(rng.random(rows) < share, 0.0, rng.lognormal(size=rows))

    def texts(levels: int, decay: float) -> np.ndarray:
        weights = np.arange(1, levels + 1) ** -float(decay)
        return np.array([f"level {n:02}" for n in range(levels)], dtype=object)[rng.choice(levels, rows, p=weights / weights.sum())]

    normal = {
        f"normal_{n}": rng.normal(mean, spread, rows) for n, (mean, spread) in enumerate([(0, 1), (10, 3), (100, 15), (-5, 2), (0, 50)])
    }
    skewed = {"lognormal_0": rng.lognormal(0, 0.5, rows), "lognormal_1": rng.lognormal(3, 1, rows), "waiting": rng.exponential(20, rows)}
    rainy = {f"zeros_{share}": zeros(share / 100) for share in (70, 90, 99)}
    whole = {"few": rng.poisson(3, rows), "many": rng.poisson(200, rows), "uniform": rng.integers(0, 1_000, rows)}
    names = {f"texts_{levels}_{kind}": texts(levels, decay) for levels in (2, 10, 100) for kind, decay in (("even", 0), ("uneven", 1))}
    frame = pd.DataFrame(normal | skewed | rainy | whole | names)
    for column in ("normal_4", "texts_10_uneven"):
        frame.loc[rng.random(rows) < 0.05, column] = None
    return frame


def boathouse(base: pd.DataFrame, rows: int) -> Judge:
    from drift import count_numbers, row_of

    from boathouse.monitoring.drift import compare_profiles

    def profiled(frame: pd.DataFrame) -> list[dict[str, Any]]:
        found = []
        for name, column in frame.items():
            there = column.dropna()
            counts = there.value_counts().sort_index() if there.dtype == object else count_numbers(there.to_numpy(float))
            found.append(row_of(counts, str(name), len(column) - len(there)))
        return found

    usual = profiled(base)
    return lambda window: [row["column_name"] for row in compare_profiles(profiled(window), usual) if row["drifted"]]


def evidently(base: pd.DataFrame, rows: int) -> Judge:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    kinds = DataDefinition(numerical_columns=numbers(base), categorical_columns=[c for c in base if c not in numbers(base)])
    usual, report = Dataset.from_pandas(base, data_definition=kinds), Report([DataDriftPreset()])

    def judge(window: pd.DataFrame) -> list[str]:
        result = report.run(Dataset.from_pandas(window, data_definition=kinds), usual).dict()["metrics"]
        columns = [m for m in result if "column" in m["config"]]
        assert all("distance" in m["config"]["method"] for m in columns), "a p-value would be drift below its threshold, not above"
        found = [m["config"]["column"] for m in columns if m["value"] >= m["config"]["threshold"]]
        assert len(found) == result[0]["value"]["count"], "Evidently counts other columns as drifted"
        return found

    return judge


def nannyml(base: pd.DataFrame, rows: int) -> Judge:
    import nannyml

    texts = [c for c in base if c not in numbers(base)]
    size = min(rows, len(base) // 10)
    tool = nannyml.UnivariateDriftCalculator(column_names=list(base), treat_as_categorical=texts, chunk_size=size)
    tool.fit(base)

    def judge(window: pd.DataFrame) -> list[str]:
        found = tool.calculate(window).filter(period="analysis").to_df()
        assert len(found) == len(window) // size
        return [c for c in base if found[c, "jensen_shannon", "alert"].any()]

    return judge


def numbers(frame: pd.DataFrame) -> list[str]:
    return list(frame.select_dtypes("number"))


TOOLS = {"boathouse": boathouse, "evidently": evidently, "nannyml": nannyml}


def work(name: str) -> None:
    "A tool's process: a file of a baseline or a window in, the columns that have drifted and CPU seconds out."
    answers, sys.stdout = sys.stdout, sys.stderr
    judges: list[Judge] = []
    for line in sys.stdin:
        path, rows, baseline = json.loads(line)
        frame, columns = pd.read_parquet(path), list[str]()
        begun = time.process_time()
        if baseline is None:
            judges.append(TOOLS[name](frame, rows))
        else:
            columns = judges[baseline](frame)
        print(json.dumps({"columns": columns, "cpu": time.process_time() - begun}), file=answers, flush=True)


class Tool:
    "A process of `work`, and what it has found for one size of window."

    def __init__(self, name: str, python: str, folder: Path) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        quiet = {"NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}
        self.name, self.log = name, (folder / f"{name}.log").open("w+")
        self.process = subprocess.Popen(
            [python, __file__, "--work", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, **threads, **quiet},
        )  # fmt: skip
        self.alarms: list[bool] = []
        self.noticed: list[bool] = []
        self.costs: list[float] = []
        self.baselines: list[float] = []

    def ask(self, path: Path, rows: int, baseline: int | None) -> list[str]:
        "The columns of a window that have drifted from a baseline; None as the baseline makes the file the next baseline."
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([str(path), rows, baseline]), file=self.process.stdin, flush=True)
        if not (line := self.process.stdout.readline()):
            self.log.seek(0)
            raise SystemExit(f"{self.name} ended:\n{self.log.read()[-3000:]}")
        found = json.loads(line)
        (self.baselines if baseline is None else self.costs).append(found["cpu"])
        columns: list[str] = found["columns"]
        return columns

    def stop(self) -> str:
        "End the process, and return the cell of the tool."
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        print(f"{self.name}: {statistics.median(self.baselines):.2f} CPU s for a baseline", file=sys.stderr)
        shares = (f"{sum(found) / len(found):.1%} of {len(found)}" for found in (self.alarms, self.noticed))
        return " / ".join((*shares, f"{1000 * statistics.median(self.costs):.0f}"))


def measured(rows: int, replays: int, seconds: float, pythons: dict[str, str]) -> list[str]:
    "The cells of all tools for windows of one size."
    rng = np.random.default_rng(rows)
    with tempfile.TemporaryDirectory() as scratch:
        folder, file = Path(scratch), Path(scratch) / "frame.parquet"
        tools = [Tool(name, python, folder) for name, python in pythons.items()]
        for _ in range(BASELINES):
            simulated(rng, BASELINE).to_parquet(file)
            for tool in tools:
                tool.ask(file, rows, None)
        for replay in range(replays):
            window = simulated(rng, rows)
            asked = [tool for tool in tools if tool.name == "boathouse" or sum(tool.costs) < seconds]
            window.to_parquet(file)
            for tool in asked:
                tool.alarms.append(bool(tool.ask(file, rows, replay % BASELINES)))
            if replay // BASELINES % POWER == 0:
                window.assign(**{CHANGED: window[CHANGED] + 0.5}).to_parquet(file)
                for tool in asked:
                    tool.noticed.append(CHANGED in tool.ask(file, rows, replay % BASELINES))
        return [tool.stop() for tool in tools]


def main(given: argparse.Namespace) -> None:
    pythons = {"boathouse": sys.executable} | {name: python for name in ("evidently", "nannyml") if (python := getattr(given, name))}
    print(f"False alarms / power / CPU ms a window\n\n| rows of the window | {' | '.join(pythons)} |\n|{'---|' * (len(pythons) + 1)}")
    for rows in given.rows:
        print(f"| {rows:,} | {' | '.join(measured(rows, given.replays, given.seconds, pythons))} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--evidently", metavar="PYTHON")
    parser.add_argument("--nannyml", metavar="PYTHON")
    parser.add_argument("--work", choices=TOOLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
    else:
        main(options)
