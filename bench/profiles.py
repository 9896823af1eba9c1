"""What do profiles and drift cost beside the write of the rows? A wide table, written alone, and profiled by month and slice.

python bench/profiles.py [--rows N] [--evidently PYTHON]     2,000,000 rows: 41 columns, 8 months, and slices by a column with five values

Each side runs once to warm the JVM on a tenth of the rows, and then once on all of them. The write is one Delta table.
Drift compares the last seven months with the first one, for all rows and for each slice. CPU seconds are those of the machine.
Evidently gets the same frames in pandas, one per month and slice (`DataDriftPreset`). Its reading and splitting are not counted.
It is not part of this project; docs of `bench/false_alarms.py` say how to make its environment.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import psutil
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from boathouse.monitoring.drift import compare_profiles
from boathouse.monitoring.profiles import profile
from boathouse.workspace.spark.session import local_session

MONTHS = [(datetime(2026, m, 1), datetime(2026, m + 1, 1)) for m in range(1, 9)]
NUMBERS, TEXTS = 32, 8  # and the slicing column
RIVAL = """
import sys, time, pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
rows = pd.read_parquet(sys.argv[1])
columns = [c for c in rows if c not in ("at", "pier")] + ["pier"]
texts = [c for c in columns if rows[c].dtype == object]
define = DataDefinition(numerical_columns=[c for c in columns if c not in texts], categorical_columns=texts)
parts = {(m, s): rows.loc[(rows["at"].dt.month == m) & ((rows["pier"] == s) if s else True), columns] for m in range(1, 9) for s in (None, *"abcde")}
begun, used = time.perf_counter(), time.process_time()
for (month, piece), part in parts.items():
    if month > 1:
        both = (Dataset.from_pandas(p, data_definition=define) for p in (part, parts[1, piece]))
        Report([DataDriftPreset()]).run(*both)
print(time.perf_counter() - begun, time.process_time() - used)
"""


def rows_of(spark: SparkSession, count: int) -> DataFrame:
    "The rows: numbers of several kinds, texts of several sizes, a time in eight months, and the column of the slices."
    kinds = ("randn({n})", "exp(randn({n}))", "if(rand({n}) < 0.8, 0.0, exp(randn({n})))", "cast(rand({n}) * 500 as int)")
    numbers = [f"{kinds[n % len(kinds)].format(n=n)} number_{n}" for n in range(NUMBERS)]
    texts = [f"concat('level ', cast(rand({100 + n}) * {5 * 4 ** (n % 4)} as int)) text_{n}" for n in range(TEXTS)]
    at = "make_timestamp(2026, 1 + cast(id % 8 as int), 1 + cast(rand(7) * 27 as int), 12, 0, 0) at"
    return spark.range(count).selectExpr(
        at, "element_at(array('a', 'b', 'c', 'd', 'e'), 1 + cast(rand(8) * 5 as int)) pier", *numbers, *texts
    )


def cost(work: Callable[[], Any]) -> tuple[float, float]:
    "Seconds on the clock, and CPU seconds of this machine, that `work` takes."

    def busy() -> float:
        times = psutil.cpu_times()
        return times.user + times.system + times.nice

    begun, used = time.perf_counter(), busy()
    work()
    return time.perf_counter() - begun, busy() - used


def drift_of(rows: DataFrame) -> list[dict[str, Any]]:
    "Profiles of all months and slices, and the drift of the later ones."
    columns = [c for c in rows.columns if c != "at"]
    found = profile(rows, columns, "at", MONTHS, granularity="1 month", slices=["pier"])
    first = [row for row in found if row["window"]["start"] == MONTHS[0][0]]
    return compare_profiles([row for row in found if row["window"]["start"] != MONTHS[0][0]], first)


@click.command(help=__doc__)
@click.option("--rows", default=2_000_000, show_default=True)
@click.option("--evidently", type=click.Path(exists=True), help="Python of an environment with Evidently.")
def main(rows: int, evidently: str | None) -> None:
    "Print what the write, the profiles with drift, and Evidently cost."
    screen, spark, costs = Console(), local_session(), dict[str, tuple[float, float]]()
    with tempfile.TemporaryDirectory() as scratch:
        for name, count in (("warm", max(rows // 10, 1)), ("all", rows)):
            path = f"{scratch}/{name}"
            costs["write"] = cost(lambda: rows_of(spark, count).write.format("delta").save(path))  # noqa: B023
            costs["profiles and drift"] = cost(lambda: drift_of(spark.read.format("delta").load(path)))  # noqa: B023
        if evidently is not None:
            file = Path(scratch) / "rows.parquet"
            spark.read.format("delta").load(f"{scratch}/all").withColumn("at", F.col("at").cast("timestamp_ntz")).toPandas().to_parquet(
                file
            )
            done = subprocess.run([evidently, "-c", RIVAL, str(file)], capture_output=True, text=True, check=True)
            wall, used = map(float, done.stdout.split()[-2:])
            costs["Evidently, drift alone"] = (wall, used)
    table = Table(*("", "seconds", "CPU seconds", "seconds, write = 1"))
    for name, (wall, used) in costs.items():
        table.add_row(name, f"{wall:.1f}", f"{used:.1f}", f"{wall / costs['write'][0]:.1f}")
    screen.print(f"{rows:,} rows, {NUMBERS + TEXTS + 1} columns, {len(MONTHS)} windows, five slices")
    screen.print(table)


if __name__ == "__main__":
    main()
