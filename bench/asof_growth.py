"""How the cost of an as-of join grows, for each of the two engines: with rows, labels, rows a key, lookups, columns, and the share of one key.

python bench/asof_growth.py [ROUNDS]     2 rounds, after one that warms up and compares the engines' rows

One thing grows at a time, the others stay: 400,000 feature rows and 100,000 labels, 10 feature rows a key, six doubles wide, Delta tables. Seconds of
each size are medians; the slope is that of their logarithms against the logarithm of what grows, once over all sizes and once over the last step,
where the fixed part of the cost (planning, starting tasks) flattens it least. 1 is proportional, 2 quadratic; slopes above 1.1 are marked.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from asof import rows
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table
from ways import tree_seconds

from boathouse.point_in_time.join import join_all
from boathouse.point_in_time.plan import AsOfLookup
from boathouse.point_in_time.spark import Side
from boathouse.workspace.spark.session import local_session

ENGINES = ("local", "union")
STEEP = 1.1


@dataclass(frozen=True)
class Size:
    "Rows of each feature table, labels, feature rows a key, columns, the share of one key, and how many feature tables there are."

    rows: int = 400_000
    labels: int = 100_000
    a_key: int = 10
    width: int = 6
    hot: float = 0.0
    lookups: int = 1


BASE = Size()
AXES: dict[str, tuple[str, list[Size]]] = {
    "feature rows": ("rows", [replace(BASE, rows=n * BASE.rows) for n in (1, 2, 4)]),
    "labels": ("labels", [replace(BASE, labels=n * BASE.labels) for n in (1, 2, 4)]),
    "rows a key, same total": ("a_key", [replace(BASE, a_key=n) for n in (10, 100, 1000)]),
    "lookups on one key": ("lookups", [replace(BASE, rows=100_000, lookups=n) for n in (1, 2, 4, 8)]),
    "columns": ("width", [replace(BASE, width=n) for n in (6, 12, 24)]),
    "share of one key": ("hot", [replace(BASE, hot=n / 10) for n in (1, 2, 4)]),
}


def stored(spark: SparkSession, folder: Path, name: str, made: DataFrame) -> DataFrame:
    "The rows as a Delta table of four files, written on first use."
    path = folder / name
    if not path.exists():
        made.repartition(4, F.xxhash64("time")).write.format("delta").save(str(path))
    return spark.read.format("delta").load(str(path))


def join(spark: SparkSession, folder: Path, size: Size, engine: str) -> DataFrame:
    "The join of this size; its tables are made on first use."
    keys, hot = size.rows // size.a_key, f"{size.hot:.1f}"
    labels = stored(spark, folder, f"labels {size.labels} {keys} {hot}", rows(spark, size.labels, keys, size.hot, 0, 9000))
    asked = []
    for n in range(size.lookups):
        made = rows(spark, size.rows, keys, size.hot, size.width, 100 * (n + 1)).drop("id")
        features = stored(spark, folder, f"features {n} {size.rows} {keys} {size.width} {hot}", made)
        outputs = {f"v{c}": f"v{c}_{n}" for c in range(size.width)}
        asked.append(AsOfLookup(("key",), "time", Side(features, ("key",), "time", outputs, distinct=True)))
    return join_all(labels, asked, engine)


def cost(spark: SparkSession, folder: Path, size: Size, engine: str) -> tuple[float, float]:
    "Wall seconds and CPU seconds, of all processes, of one join whose rows are all consumed."
    cpu, begun = tree_seconds(), time.perf_counter()
    join(spark, folder, size, engine).write.format("noop").mode("overwrite").save()
    return time.perf_counter() - begun, tree_seconds() - cpu


def same_rows(spark: SparkSession, folder: Path, size: Size) -> None:
    "All engines give the same rows; their first run, which also makes the tables and warms up."
    found = {}
    for engine in ENGINES:
        df = join(spark, folder, size, engine)
        found[engine] = tuple(df.agg(F.count("*"), F.sum(F.xxhash64(*df.columns).cast("decimal(38,0)"))).first())
    assert len(set(found.values())) == 1, f"{size}: {found}"


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    "By least squares, of the logarithms."
    return statistics.linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


def words(value: float) -> str:
    return f"{value:.2f}" + (" STEEP" if value > STEEP else "")


def main(rounds: int = 2) -> None:
    table = Table(
        title=f"Growth ({os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB), {rounds} round{'s' * (rounds > 1)}, medians"
    )
    for column in ("what grows", "sizes", "engine", "s", "CPU s", "slope, s", "slope, CPU", "last step, s", "last step, CPU"):
        table.add_column(column, justify="left" if column in ("what grows", "sizes", "engine") else "right")
    steep: list[str] = []
    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as scratch:
        folder = Path(scratch)
        spark = local_session(folder / "state")
        spark.sparkContext.setLogLevel("ERROR")
        for engine in ENGINES * 3:  # the first axis would otherwise show the JVM getting faster
            cost(spark, folder, BASE, engine)
        for axis, (what, sizes) in AXES.items():
            seen: dict[tuple[str, Size], list[tuple[float, float]]] = {}
            for number in range(rounds + 1):
                for size in sizes:
                    if number == 0:
                        same_rows(spark, folder, size)
                        continue
                    for engine in ENGINES:
                        seen.setdefault((engine, size), []).append(cost(spark, folder, size, engine))
                print(f"{axis}: round {number}", file=sys.stderr, flush=True)
            x: list[Any] = [getattr(size, what) for size in sizes]
            for engine in ENGINES:
                wall, cpu = ([statistics.median(run[k] for run in seen[engine, size]) for size in sizes] for k in (0, 1))
                slopes = [slope(x, wall), slope(x, cpu), slope(x[-2:], wall[-2:]), slope(x[-2:], cpu[-2:])]
                if max(slopes) > STEEP:
                    steep.append(f"{axis}, {engine}")
                shown = [" ".join(f"{value:.2f}" for value in values) for values in (wall, cpu)]
                table.add_row(axis, " ".join(f"{n:,}" for n in x), engine, *shown, *map(words, slopes))
        spark.stop()
    console = Console(width=190)
    console.print(table)
    console.print(f"Above {STEEP}: {'; '.join(steep) or 'none'}")


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:]))
