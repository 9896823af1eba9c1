"""What an as-of join costs: this project's two engines against union and window by hand, tempo, Feast, and DuckDB and Polars alone.

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
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ways import Way, compare, pythons, show, work

ENVIRONMENTS = {
    "tempo": ("pyspark==4.2.0", "delta-spark==4.4.0", "dbl-tempo==0.1.30", "ipython==9.18.1", "scipy==1.17.1", "pandas<3", "pyarrow==25.0.1", "filelock"),
    "columnar": ("duckdb==2.0.0", "polars==2.1.0", "pyarrow==25.0.1", "numpy"),
    "Feast": ("feast[spark]==0.67.0",),
}  # fmt: skip
PARTITIONS = 8
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
    from boathouse.workspace.spark.session import local_session

    spark = local_session(state)
    spark.conf.set("spark.sql.shuffle.partitions", str(PARTITIONS))
    return spark


def tables(spark: Any, folder: Path) -> tuple[Any, Any]:
    return tuple(spark.read.format("delta").load(f"{folder}/{name}") for name in ("labels", "features"))


def ours(engine: str) -> Callable[[Path, Path], Callable[[], Any]]:
    def begin(folder: Path, state: Path) -> Callable[[], Any]:
        from boathouse.point_in_time.join import as_of_join
        from boathouse.point_in_time.plan import AsOfLookup, plan_join
        from boathouse.point_in_time.spark import Side

        spark = session(state)
        labels, features = tables(spark, folder)
        side = Side(features, ("key",), "time", {name: name for name in VALUES}, distinct=True)
        plan = plan_join(labels, [AsOfLookup(("key",), "time", side)], engine)
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


DUCKDB, BY_HAND = "DuckDB alone", "union + window by hand"
WAYS = {
    DUCKDB: Way(duckdb, "columnar"), "Polars alone": Way(polars, "columnar"), "boathouse, auto (local)": Way(ours("auto")),
    "boathouse, union": Way(ours("union")), BY_HAND: Way(by_hand), "tempo 0.1.30": Way(tempo, "tempo"),
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


def main(sets: list[str], rounds: int, ways: list[str], limit: float, scale: float) -> None:
    asked = {name: way for name, way in WAYS.items() if not ways or any(word.lower() in name.lower() for word in ways)}
    python = pythons(ENVIRONMENTS)
    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as scratch:
        for name in sets:
            full = SETS[name]
            data = Data(int(full.features * scale), int(full.labels * scale), max(1, int(full.keys * scale)), full.files, full.hot)
            folder = Path(scratch, name)
            subprocess.run([sys.executable, __file__, "--make", str(folder), json.dumps(vars(data))], check=True, stderr=subprocess.DEVNULL)
            results = compare(__file__, asked, python, folder, rounds, limit)
            title = f"{name}: {data.features:,} feature rows, {data.labels:,} labels, {data.keys:,} keys, {data.hot:.0%} on one"
            show(title, results, {DUCKDB: "DuckDB", BY_HAND: "by hand"})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(WAYS[sys.argv[2]], sums, *sys.argv[3:])
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
