"""What windows cost: five windows by five aggregates of 10 million events, against range frames of Spark and DuckDB, and a refresh against starting anew.

python bench/windows.py [--sets grid day] [--rounds 2] [--ways NAME ...] [--limit 900] [--scale 1]

grid: a row per key and hour with an event in the longest window; 100 keys, so about eleven events an hour. Range frames are over the hours of a key.
day: the same events as a Delta table with a change feed, whose feature table is there, and a day more: refreshed, or made anew.

count, sum, avg, min and max over 1 hour, 6 hours, 1, 7 and 28 days, on Delta tables of several files in no order. Values are multiples of 1/1024, so that
sums are exact in any order and all ways can be held against each other: rows, values that are there, and a sum per column. As bench/asof.py otherwise:
a process of its own for each way and round, warmed up once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from asof import ENVIRONMENTS, UNIT, rows, session
from ways import Way, compare, pythons, show, work

HOURS = {"1h": 1, "6h": 6, "1d": 24, "7d": 168, "28d": 672}
FUNCTIONS = ("count", "sum", "avg", "min", "max")
COLUMNS = [f"{function}_{window}" for function in FUNCTIONS for window in HOURS]
HOUR = 3_600_000_000  # microseconds
CUT = 0.3183
LAST_DAY = 364  # of the year, for the set `day`


@dataclass(frozen=True)
class Data:
    "How many events and keys a set has, and in how many files."

    events: int
    keys: int
    files: int = 16


SETS = {"grid": Data(10_000_000, 100), "day": Data(10_000_000, 100)}


def make(spark: Any, folder: Path, data: Data, by_day: bool) -> None:
    "The Delta table `features` of events, in the order of time or in no order."
    from pyspark.sql import functions as F

    made = rows(spark, data.events, data.keys, 0.0, 1, 100)
    if by_day:
        mixed = made.repartitionByRange(data.files, "time")
    else:
        mixed = made.repartition(data.files, F.xxhash64("id", F.lit(7))).sortWithinPartitions(F.xxhash64("id", F.lit(8)))
    mixed.drop("id").write.format("delta").save(f"{folder}/features")


def spans() -> dict[str, timedelta]:
    return {name: timedelta(hours=n) for name, n in HOURS.items()}


def aggregates() -> dict[str, tuple[str, str]]:
    return {function: (function, "v0") for function in FUNCTIONS}


def on_grid(folder: Path, state: Path) -> Callable[[], Any]:
    from boathouse.point_in_time.grid_windows import rolling

    spark = session(state)

    def join() -> Any:
        events = spark.read.format("delta").load(f"{folder}/features")
        return rolling(events, "key", "time", aggregates(), spans(), timedelta(hours=1))

    return join


def frames_on_grid(folder: Path, state: Path) -> Callable[[], Any]:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    spark = session(state)

    def join() -> Any:
        events = spark.read.format("delta").load(f"{folder}/features")
        hour = F.floor(F.unix_micros("time") / HOUR)
        hops = events.groupBy("key", hour.alias("hour")).agg(
            F.count("v0").alias("n"), F.sum("v0").alias("s"), F.min("v0").alias("lo"), F.max("v0").alias("hi")
        )
        ends = hops.groupBy("key").agg(F.min("hour").alias("a"), F.max("hour").alias("b"))
        every = ends.select("key", F.explode(F.sequence(F.col("a"), F.col("b") + 672)).alias("hour"))
        line = every.join(hops, ["key", "hour"], "left")
        made = []
        for window, hours in HOURS.items():
            frame = Window.partitionBy("key").orderBy("hour").rangeBetween(-hours, -1)
            n, total = F.coalesce(F.sum("n").over(frame), F.lit(0)), F.sum("s").over(frame)
            made += [n.alias(f"count_{window}"), total.alias(f"sum_{window}"), F.try_divide(total, n).alias(f"avg_{window}")]
            made += [F.min("lo").over(frame).alias(f"min_{window}"), F.max("hi").over(frame).alias(f"max_{window}")]
        tick = F.timestamp_micros(F.col("hour") * HOUR).alias("tick")
        return line.select("key", tick, *made).where("count_28d > 0")

    return join


def duckdb_on_grid(folder: Path, state: Path) -> Callable[[], Any]:
    import duckdb

    made = []
    for window, hours in HOURS.items():
        frame = f"OVER (PARTITION BY key ORDER BY hour RANGE BETWEEN {hours} PRECEDING AND 1 PRECEDING)"
        made += [f"coalesce(sum(n) {frame}, 0)::BIGINT AS count_{window}", f"sum(s) {frame} AS sum_{window}"]
        made += [f"sum(s) {frame} / sum(n) {frame} AS avg_{window}", f"min(lo) {frame} AS min_{window}", f"max(hi) {frame} AS max_{window}"]
    query = f"""WITH hops AS (SELECT key, epoch_us(time) // {HOUR} AS hour, count(v0) n, sum(v0) s, min(v0) lo, max(v0) hi
                    FROM read_parquet('{folder}/features/*.parquet') GROUP BY ALL),
                every AS (SELECT key, unnest(range(min(hour), max(hour) + 673)) AS hour FROM hops GROUP BY key),
                line AS (SELECT * FROM every LEFT JOIN hops USING (key, hour))
                SELECT * FROM (SELECT key, make_timestamp(hour * {HOUR}) AS tick, {", ".join(made)} FROM line) WHERE count_28d > 0"""
    return lambda: duckdb.sql(query).to_arrow_table()


WAYS = {
    "grid": {
        "DuckDB, range frames": Way(duckdb_on_grid, "columnar"),
        "Spark, range frames": Way(frames_on_grid),
        "boathouse, rolling": Way(on_grid),
    },
}
EVERY = {f"{set_}: {name}": way for set_, ways in WAYS.items() for name, way in ways.items()}


def sums(found: Any) -> list[int]:
    """Rows, and per column how many values there are and their sum, each weighted by the key.

    Averages are quotients, whose last bit may differ: they count in thousandths, cut off where no quotient of such values lies.
    """
    if hasattr(found, "write"):
        from pyspark.sql import functions as F

        parts = []
        for name in COLUMNS:
            whole = F.floor(F.col(name) * 1000 + CUT) if name.startswith("avg") else F.round(F.col(name) * UNIT)
            parts += [F.count(name), F.sum(whole * (F.col("key") % 97 + 1))]
        values = found.agg(F.count("*"), *parts).first()
    else:
        import numpy as np

        weight, values = found["key"].to_numpy() % 97 + 1, [len(found)]
        for name in COLUMNS:
            there = found[name].is_valid().to_numpy(zero_copy_only=False)
            column = np.where(there, found[name].to_numpy(zero_copy_only=False), 0).astype(float)
            scaled = np.floor(column * 1000 + CUT) if name.startswith("avg") else np.round(column * UNIT)
            values += [int(there.sum()), float((scaled * weight).sum())]
    return [int(value or 0) for value in values]


def refreshed(spark: Any, folder: Path) -> list[tuple[str, float]]:
    "Seconds that it takes to make the feature table, to bring it up to a day more and to a late event of a month ago, to find nothing new, and to make all anew."
    from pyspark.sql import functions as F

    from boathouse.features.definitions import WindowedFeatures
    from boathouse.features.refresh import refresh_table
    from boathouse.point_in_time.grid_windows import Grid
    from boathouse.tables.table import Column, Lakehouse, Table, drop_all
    from boathouse.tables.writes import append

    columns = (Column("key", "bigint", "key", False), Column("time", "timestamp", "when", False), Column("v0", "double", "value"))
    source = Table("bench.events", "One row per event.", columns, time_key="time", change_feed=True)
    made = [Column(name, "bigint" if name.startswith("count") else "double", "aggregate") for name in COLUMNS]
    keys = (Column("key", "bigint", "key", False), Column("tick", "timestamp", "end of the windows", False))
    table = Table("bench.windows", "One row per key and hour.", (*keys, *made), ("key", "tick"), "tick")
    definition = WindowedFeatures(table, source, "time", Grid(aggregates(), spans(), timedelta(hours=1)))
    lake = Lakehouse(spark, prefix="bench_windows_")
    events = spark.read.format("delta").load(f"{folder}/features")
    day, end = datetime(2023, 1, 1) + timedelta(days=LAST_DAY), datetime(2023, 1, 1) + timedelta(days=LAST_DAY + 1)
    found = []

    def timed(name: str, until: datetime) -> None:
        begun = time.perf_counter()
        done = refresh_table(lake, definition, until)
        found.append((f"{name} ({', '.join(str(each.kind) for each in done)})", time.perf_counter() - begun))

    append(lake, source, events.where(F.col("time") < F.lit(day)).repartitionByRange(16, "time"))
    timed("the first time", day)
    append(lake, source, events.where(F.col("time") >= F.lit(day)))
    timed("a day more", end)
    late = datetime(2023, 12, 1, 8, 30)
    append(lake, source, spark.createDataFrame([(7, late, 1.0)], source.schema))
    timed("an event of a month ago", end)
    timed("nothing new", end)
    begun = time.perf_counter()
    definition.rows(spark.table(lake.name(source)), until=end).write.format("noop").mode("overwrite").save()
    found.append(("all anew, hops and ticks at once, nothing written", time.perf_counter() - begun))
    drop_all(lake)
    return found


def main(sets: list[str], rounds: int, ways: list[str], limit: float, scale: float) -> None:
    python = pythons({name: pinned for name, pinned in ENVIRONMENTS.items() if name == "columnar"})
    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as scratch:
        for name in sets:
            full = SETS[name]
            data = Data(int(full.events * scale), max(1, int(full.keys * scale)), full.files)
            folder = Path(scratch, name)
            asked = [sys.executable, __file__, "--make", str(folder), json.dumps(vars(data)), name]
            subprocess.run(asked, check=True, stderr=subprocess.DEVNULL)
            if name == "day":
                subprocess.run([sys.executable, __file__, "--refresh", str(folder)], check=True)
                continue
            chosen = {f"{name}: {way}": how for way, how in WAYS[name].items() if not ways or any(w.lower() in way.lower() for w in ways)}
            results = compare(__file__, chosen, python, folder, rounds, limit)
            title = f"{name}: {data.events:,} events, {data.keys:,} keys, 5 windows x 5 aggregates"
            show(title, results, {f"{name}: DuckDB, range frames": "DuckDB", f"{name}: Spark, range frames": "Spark's frames"})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(EVERY[sys.argv[2]], sums, *sys.argv[3:])
    elif sys.argv[1:2] in (["--make"], ["--refresh"]):
        with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as state:
            spark = session(Path(state))
            if sys.argv[1] == "--make":
                make(spark, Path(sys.argv[2]), Data(**json.loads(sys.argv[3])), sys.argv[4] == "day")
            else:
                for what, seconds in refreshed(spark, Path(sys.argv[2])):
                    print(f"day: {what}: {seconds:.1f} s")
    else:
        parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
        parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
        parser.add_argument("--rounds", type=int, default=2)
        parser.add_argument("--ways", nargs="+", default=[], help="only ways whose name has one of these words")
        parser.add_argument("--limit", type=float, default=900, help="seconds that a process may take")
        parser.add_argument("--scale", type=float, default=1, help="a share of the rows and keys, for a look")
        main(**vars(parser.parse_args()))
