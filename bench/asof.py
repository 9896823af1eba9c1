"""What an as-of join costs: this project's three engines against union and window by hand, tempo, Feast, and DuckDB and Polars alone.

python bench/asof.py [--sets A B C] [--rounds 3] [--ways NAME ...] [--limit 600] [--scale 1]

A: 10 million feature rows, 1 million labels, 100,000 keys. B: 1 million, 100,000, 100 keys: 10,000 rows a key. C: as A, and 30 % of the rows of
both sides are of one key. Six doubles wide, keys of 64 bits, times in microseconds over a year, Delta tables of several files in no order.

Each way has a process of its own for each set and round, which does the join once to warm up, and to compare its rows, and then for the clock: three
times, or until eight seconds have passed; the last counts. Rounds are interleaved. Peak memory (proportional share of all processes) is that of both. Spark's ways have the same settings, read the Delta tables,
and end in a DataFrame whose rows are all consumed (the noop sink). DuckDB and Polars have no Spark: they read the Parquet files that the tables are,
and end in an Arrow table in memory. Feast needs a pyspark for which there is no Delta: it reads the Parquet files too, in one round.

tempo, Feast, DuckDB and Polars do not belong to this project: they are installed into environments of their own below .boathouse/bench, from the
registry that pip knows, in pinned versions. A way that takes longer than the limit is ended, and reported as unfinished.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = {
    "tempo": ("pyspark==4.2.0", "delta-spark==4.4.0", "dbl-tempo==0.1.30", "ipython==9.18.1", "scipy==1.17.1", "pandas<3", "pyarrow==25.0.1", "filelock"),
    "columnar": ("duckdb==2.0.0", "polars==2.1.0", "pyarrow==25.0.1", "numpy"),
    "Feast": ("feast[spark]==0.67.0",),
}  # fmt: skip
PARTITIONS = 8
ENOUGH = 8.0  # seconds of timed runs
VALUES = [f"v{n}" for n in range(6)]
YEAR = 365 * 86_400_000_000  # microseconds
START = 1_672_531_200_000_000  # 2023
UNIT = 1024  # values are whole multiples of 1/1024, so that sums are exact in any order


@dataclass(frozen=True)
class Data:
    "How many rows and keys a set has, in how many files, and which share of the rows are of one key."

    features: int
    labels: int
    keys: int
    files: int
    hot: float = 0.0


SETS = {
    "A": Data(10_000_000, 1_000_000, 100_000, 16),
    "B": Data(1_000_000, 100_000, 100, 4),
    "C": Data(10_000_000, 1_000_000, 100_000, 16, 0.3),
}


def rows(spark: Any, count: int, keys: int, hot: float, width: int, seed: int) -> Any:
    "Rows with `id`, `key`, `time` and so many values; no two have one instant, and a share of them, `hot`, has one key."
    from pyspark.sql import functions as F

    def some(what: int, below: int) -> Any:
        return F.pmod(F.xxhash64("id", F.lit(seed + what)), F.lit(below))

    slot = YEAR // count
    key = F.when(some(1, 1000) < F.lit(int(1000 * hot)), F.lit(0).cast("long")).otherwise(some(2, keys))
    at = F.timestamp_micros(F.lit(START) + F.col("id") * F.lit(slot) + some(3, slot))
    values = [(some(10 + n, 1 << 20) / F.lit(UNIT)).cast("double").alias(f"v{n}") for n in range(width)]
    return spark.range(count).select("id", key.alias("key"), at.alias("time"), *values)


def make(spark: Any, folder: Path, data: Data) -> None:
    "The Delta tables `features` and `labels`, their rows in no order."
    from pyspark.sql import functions as F

    features = rows(spark, data.features, data.keys, data.hot, len(VALUES), 100)
    labels = rows(spark, data.labels, data.keys, data.hot, 0, 200)
    for name, made, files in (("features", features, data.files), ("labels", labels, max(2, data.files // 4))):
        mixed = made.repartition(files, F.xxhash64("id", F.lit(7))).sortWithinPartitions(F.xxhash64("id", F.lit(8)))
        (mixed.drop("id") if name == "features" else mixed).write.format("delta").save(f"{folder}/{name}")


# The ways: each takes the folder of a set, and one for its state, and gives a function that does the join.


def session(state: Path) -> Any:
    from boathouse.workspace.session import local_session

    spark = local_session(state)
    spark.conf.set("spark.sql.shuffle.partitions", str(PARTITIONS))
    return spark


def tables(spark: Any, folder: Path) -> tuple[Any, Any]:
    return tuple(spark.read.format("delta").load(f"{folder}/{name}") for name in ("labels", "features"))


def ours(engine: str) -> Callable[[Path, Path], Callable[[], Any]]:
    def begin(folder: Path, state: Path) -> Callable[[], Any]:
        from boathouse.as_of import Asked, as_of_join, plan_join
        from boathouse.engines import Side

        spark = session(state)
        labels, features = tables(spark, folder)
        side = Side(features, ("key",), "time", {name: name for name in VALUES}, distinct=True)
        plan = plan_join(labels, [Asked(("key",), "time", side)], engine)
        print(plan, file=sys.stderr)
        assert plan.engine == ("local" if engine == "auto" else engine), str(plan)
        del plan

        def join() -> Any:
            labels, features = tables(spark, folder)
            return as_of_join(labels, features, "key", "time", "time", VALUES, engine=engine, distinct=True)

        return join

    return begin


def by_hand(folder: Path, state: Path) -> Callable[[], Any]:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    spark = session(state)

    def join() -> Any:
        labels, features = tables(spark, folder)
        both = labels.withColumn("turn", F.lit(1)).unionByName(features.withColumn("turn", F.lit(0)), allowMissingColumns=True)
        walk = Window.partitionBy("key").orderBy("time", "turn").rowsBetween(Window.unboundedPreceding, 0)
        last = [F.last(name, ignorenulls=True).over(walk).alias(name) for name in VALUES]
        return both.select("id", "key", "time", "turn", *last).where("turn = 1").drop("turn")

    return join


def tempo(folder: Path, state: Path) -> Callable[[], Any]:
    from tempo import TSDF

    spark = session(state)

    def join() -> Any:
        labels, features = (TSDF(df, ts_col="time", partition_cols=["key"]) for df in tables(spark, folder))
        found = labels.asofJoin(features, right_prefix="f").df
        return found.select("id", "key", "time", *[found[f"f_{name}"].alias(name) for name in VALUES])

    return join


def feast(folder: Path, state: Path) -> Callable[[], Any]:
    from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
    from feast.types import Float64
    from quality import session as plain_session

    spark = plain_session(str(state), delta=False)
    spark.conf.set("spark.sql.shuffle.partitions", str(PARTITIONS))
    config = RepoConfig(
        project="bench", provider="local", registry=f"{state}/registry.db", offline_store={"type": "spark"},
        online_store={"type": "sqlite", "path": f"{state}/online.db"}, entity_key_serialization_version=3,
    )  # fmt: skip
    key = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    source = SparkSource(name="features", path=f"{folder}/features", file_format="parquet", timestamp_field="time")
    view = FeatureView(name="f", entities=[key], schema=[Field(name=name, dtype=Float64) for name in VALUES], source=source, online=False)
    store = FeatureStore(config=config)
    store.apply([key, view])

    def join() -> Any:
        labels = spark.read.parquet(f"{folder}/labels").withColumnRenamed("time", "event_timestamp")
        found = store.get_historical_features(entity_df=labels, features=[f"f:{name}" for name in VALUES]).to_spark_df()
        return found.withColumnRenamed("event_timestamp", "time").select("id", "key", "time", *VALUES)

    return join


def duckdb(folder: Path, state: Path) -> Callable[[], Any]:
    import duckdb

    values = ", ".join(f"f.{name}" for name in VALUES)
    query = f"""SELECT l.id, l.key, l.time, {values} FROM read_parquet('{folder}/labels/*.parquet') l
                ASOF LEFT JOIN read_parquet('{folder}/features/*.parquet') f ON l.key = f.key AND l.time >= f.time"""
    return lambda: duckdb.sql(query).to_arrow_table()


def polars(folder: Path, state: Path) -> Callable[[], Any]:
    import polars

    def join() -> Any:
        labels, features = (polars.scan_parquet(f"{folder}/{name}/*.parquet").sort("time") for name in ("labels", "features"))
        return labels.join_asof(features, on="time", by="key", strategy="backward", check_sortedness=False).collect().to_arrow()

    return join


@dataclass(frozen=True)
class Way:
    "How a join is done, in which environment ('' is this one), and whether only once, as it takes minutes."

    begin: Callable[[Path, Path], Callable[[], Any]]
    environment: str = ""
    once: bool = False


DUCKDB, BY_HAND = "DuckDB alone", "union + window by hand"
WAYS = {
    DUCKDB: Way(duckdb, "columnar"), "Polars alone": Way(polars, "columnar"), "boathouse, auto (local)": Way(ours("auto")),
    "boathouse, cogroup": Way(ours("cogroup")), "boathouse, union": Way(ours("union")), BY_HAND: Way(by_hand), "tempo 0.1.30": Way(tempo, "tempo"),
    "Feast 0.67": Way(feast, "Feast", once=True),
}  # fmt: skip


def sums(found: Any) -> list[int]:
    "Rows, matches and a sum a column that depends on which row has which value, but not on the order of rows."
    if hasattr(found, "write"):
        from pyspark.sql import functions as F

        weight = F.col("id") % 1009 + 1
        parts = [F.sum((F.col(name) * UNIT).cast("long") * weight) for name in VALUES]
        return [int(value or 0) for value in found.agg(F.count("*"), F.count("v0"), *parts).first()]
    weight = found["id"].to_numpy() % 1009 + 1
    matched = found["v0"].is_valid().to_numpy()
    parts = [((found[name].fill_null(0).to_numpy() * UNIT).astype("int64") * weight).sum() for name in VALUES]
    return [len(matched), int(matched.sum()), *map(int, parts)]


def tree_seconds() -> float:
    "CPU seconds of this process and all that it started, those that have ended included."
    import psutil

    me = psutil.Process()
    return sum(sum(p.cpu_times()[:4]) for p in [me, *me.children(recursive=True)])


def work(name: str, folder: str, state: str) -> None:
    "A way's own process: it says when it can begin; 'check' gives the sums, 'time' gives seconds."
    answers, sys.stdout = sys.stdout, sys.stderr
    join = WAYS[name].begin(Path(folder), Path(state))
    print(json.dumps({}), file=answers, flush=True)
    for line in sys.stdin:
        before, begun = tree_seconds(), time.perf_counter()
        found = join()
        told: dict[str, Any] = {"sums": sums(found)} if line.strip() == "check" else {}
        if not told and hasattr(found, "write"):
            found.write.format("noop").mode("overwrite").save()
        told |= {"seconds": time.perf_counter() - begun, "cpu": tree_seconds() - before}
        del found
        print(json.dumps(told), file=answers, flush=True)


@contextmanager
def ended_after(process: subprocess.Popen[str], seconds: float) -> Iterator[list[bool]]:
    "Ends a process and all that it started when so many seconds have passed; the list is no longer empty then."
    import psutil

    passed: list[bool] = []

    def end() -> None:
        passed.append(True)
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield passed
    finally:
        timer.cancel()


def answers(process: subprocess.Popen[str], checked: bool) -> Iterator[dict[str, Any]]:
    "What a process says: that it can begin, the sums, and, unless the checked run is the one that counts, the costs of timed runs; `all` comes last if it came so far."
    assert process.stdin is not None
    assert process.stdout is not None
    timed = 0.0
    for word in ("", "check", *(() if checked else ("time", "time", "time"))):
        if timed > ENOUGH:
            break
        if word:
            print(word, file=process.stdin, flush=True)
        if not (line := process.stdout.readline()):
            process.wait()
            return
        yield (answer := json.loads(line))
        timed += answer["seconds"] if word == "time" else 0
    process.stdin.close()
    process.wait()
    yield {"all": True}


def once(name: str, python: str, folder: Path, limit: float) -> dict[str, Any]:
    "What a fresh process says of one way on one set: sums, seconds, CPU seconds and peak memory, or why there are none."
    from tasks import measured

    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as state, Path(state, "said.log").open("w+") as said:
        environ = {**os.environ, "PYSPARK_PYTHON": python, "PYTHONPATH": str(ROOT / "src"), "TZ": "UTC", "SPARK_LOCAL_IP": "127.0.0.1"}
        environ.pop("SPARK_HOME", None)
        words = [python, __file__, "--work", name, str(folder), state]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environ, text=True)
        found: dict[str, Any] = {}
        begun = time.perf_counter()
        with ended_after(process, limit) as passed, measured(lambda: [process.pid]) as cost:
            for answer in answers(process, WAYS[name].once):
                found |= answer
        found |= {"peak": cost.peak} if found.pop("all", False) else {}
        if passed and "peak" not in found:
            found["failed"] = f"unfinished after {time.perf_counter() - begun:,.0f} s"
        elif "peak" not in found:
            process.wait()
            said.seek(0)
            last = [line for line in said.read().splitlines() if line.strip()] or ["it said nothing"]
            print("\n".join(last[-30:]), file=sys.stderr)
            found["failed"] = f"failed: {last[-1][:200]}"
    return found


def pythons() -> dict[str, str]:
    "The Python of each environment, made on first use; those that cannot be made are left out, with a sentence."
    found = {"": sys.executable}
    for name, pinned in ENVIRONMENTS.items():
        folder = ROOT / ".boathouse/bench" / f"asof-{name.lower()}"
        python, done, wanted = folder / "bin/python", folder / "installed", " ".join(pinned)
        if not done.is_file() or done.read_text() != wanted:
            print(f"Installing {wanted} into {folder.relative_to(ROOT)} (a minute or two, once)", file=sys.stderr)
            made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True)
            if made.returncode == 0:
                made = subprocess.run([python, "-m", "pip", "install", "-q", "psutil", "rich", *pinned], capture_output=True, text=True)
            if made.returncode:
                print(f"{name} is left out, it could not be installed: {made.stderr.strip().splitlines()[-1:]}")
                continue
            done.write_text(wanted)
        found[name] = str(python)
    return found


def show(name: str, data: Data, results: dict[str, list[dict[str, Any]]]) -> None:
    import psutil
    from rich.console import Console
    from rich.table import Table

    rounds = max(len(found) for found in results.values())
    title = (
        f"{name}: {data.features:,} feature rows, {data.labels:,} labels, {data.keys:,} keys, {data.hot:.0%} on one; {rounds} round{'s' * (rounds > 1)}, medians "
        f"({os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB)"
    )
    table = Table(title=title)
    for column in ("way", "s", "x DuckDB", "x by hand", "CPU s", "x DuckDB, CPU", "x by hand, CPU", "peak MiB", "rows"):
        table.add_column(column, justify="left" if column in ("way", "rows") else "right")
    done = {way: [each for each in found if "failed" not in each] for way, found in results.items()}
    middle = {
        way: {part: statistics.median(r[part] for r in found) for part in ("seconds", "cpu", "peak")}
        for way, found in done.items()
        if found
    }
    truth = next((found[0]["sums"] for way in (BY_HAND, *done) if (found := done.get(way))), None)

    def ratios(way: str, part: str) -> list[str]:
        return [
            f"{middle[way][part] / middle[other][part]:.2f}" if other in middle and middle[other][part] else "-"
            for other in (DUCKDB, BY_HAND)
        ]

    for way, found in results.items():
        if way not in middle:
            table.add_row(way, *["-"] * 7, found[0]["failed"])
            continue
        seconds, cpu, peak = middle[way].values()
        exact = "exact" if all(each["sums"] == truth for each in done[way]) else "OTHER ROWS"
        said = exact if len(done[way]) == len(found) else f"{exact}; {next(each['failed'] for each in found if 'failed' in each)}"
        table.add_row(way, f"{seconds:.2f}", *ratios(way, "seconds"), f"{cpu:.2f}", *ratios(way, "cpu"), f"{peak:,.0f}", said)
    Console(width=170).print(table)


def main(sets: list[str], rounds: int, ways: list[str], limit: float, scale: float) -> None:
    asked = [name for name in WAYS if not ways or any(word.lower() in name.lower() for word in ways)]
    python = pythons()
    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as scratch:
        for name in sets:
            full = SETS[name]
            data = Data(int(full.features * scale), int(full.labels * scale), max(1, int(full.keys * scale)), full.files, full.hot)
            folder = Path(scratch, name)
            subprocess.run([sys.executable, __file__, "--make", str(folder), json.dumps(vars(data))], check=True, stderr=subprocess.DEVNULL)
            results: dict[str, list[dict[str, Any]]] = {}
            for number in range(rounds):
                for way in [way for way in asked if WAYS[way].environment in python]:
                    before = results.setdefault(way, [])
                    if before and (WAYS[way].once or "failed" in before[-1]):
                        continue
                    before.append(once(way, python[WAYS[way].environment], folder, limit))
                    print(f"{name}, round {number + 1}: {way}: {before[-1]}", file=sys.stderr, flush=True)
            show(name, data, results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    elif sys.argv[1:2] == ["--make"]:
        with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as state:
            make(session(Path(state)), Path(sys.argv[2]), Data(**json.loads(sys.argv[3])))
    else:
        parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
        parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--ways", nargs="+", default=[], help="only ways whose name has one of these words")
        parser.add_argument("--limit", type=float, default=600, help="seconds that a process may take")
        parser.add_argument("--scale", type=float, default=1, help="a share of the rows and keys, for a look")
        main(**vars(parser.parse_args()))
