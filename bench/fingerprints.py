"""What a fingerprint costs: ours of two 64-bit hashes in exact sums, against one hash with a decimal sum and exclusive or, and a plain scan.

python bench/fingerprints.py [ROWS [ROUNDS]]     2,000,000 rows of 20 columns, 5 interleaved rounds; nested columns on a tenth of the rows
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from boathouse.tables.versions import fingerprint
from boathouse.workspace.spark.session import local_session


def scan(df: DataFrame) -> str:
    "Every value read once: the least that a comparison of content can cost."
    return str(df.agg(*[F.count(F.col(name)) for name in df.columns]).first())


def one_hash(df: DataFrame) -> str:
    "A hash a row with a null flag a column, added as decimals and combined by exclusive or: 64 bits, blind inside nested values."
    row = F.xxhash64(*[part for name in df.columns for part in (F.col(name), F.col(name).isNull())])
    parts = df.select(row.alias("h")).agg(F.count("h"), F.sum(F.col("h").cast("decimal(38,0)")), F.bit_xor("h")).first()
    return hashlib.sha256(repr([df.schema.simpleString(), *map(str, parts)]).encode()).hexdigest()[:16]


def two_hashes_in_decimals(df: DataFrame) -> str:
    "Two hashes a row, added as decimals."
    from boathouse.tables.versions import row_hashes

    return str(row_hashes(df).agg(F.count("h0"), *[F.sum(F.col(h).cast("decimal(38,0)")) for h in ("h0", "h1")]).first())


WAYS: dict[str, Callable[[DataFrame], str]] = {
    "scan": scan,
    "one hash, decimal sum, xor": one_hash,
    "two hashes, decimal sums": two_hashes_in_decimals,
    "two hashes, cut sums (fingerprint)": fingerprint,
}


def flat(number: int) -> list[str]:
    "Twenty columns of the usual kinds, a few nulls in each."
    kinds = [
        "cast(id * {n} AS double) / 7",
        "id * {n}",
        "concat('flight ', id % ({n}000))",
        "timestamp_micros(id * {n})",
        "cast(id % {n}00 AS int)",
    ]
    return [f"IF(id % 97 = {n}, NULL, {kinds[n % 5].format(n=n + 1)}) AS c{n}" for n in range(number)]


NESTED = ["id", "array(id, NULL, id + 1) AS a", "map('x', id, 'y', id * 2) AS m", "named_struct('p', id, 'q', array(struct(id))) AS t"]


def main(rows: int = 2_000_000, rounds: int = 5) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        spark = local_session(Path(scratch) / "state")
        table = Table(title=f"Fingerprints of {rows:,} rows of 20 columns, and of {rows // 10:,} rows of nested ones; medians of {rounds}")
        for name in ("way", "s", "ratio", "million rows/s", "nested s", "nested ratio"):
            table.add_column(name, justify="left" if name == "way" else "right")
        sets = {}
        for name, count, columns in (("flat", rows, flat(20)), ("nested", rows // 10, NESTED)):
            spark.range(0, count, 1, 4).selectExpr(*columns).write.format("parquet").save(f"{scratch}/{name}")
            sets[name] = spark.read.parquet(f"{scratch}/{name}")
        ways = {(kind, way): [] for kind in sets for way in WAYS if not (kind == "nested" and way == "one hash, decimal sum, xor")}
        for turn in range(rounds + 1):
            for (kind, way), seconds in ways.items():
                begun = time.perf_counter()
                WAYS[way](sets[kind])
                if turn:  # the first round warms up
                    seconds.append(time.perf_counter() - begun)
        median = {key: statistics.median(seconds) for key, seconds in ways.items()}
        for way in WAYS:
            s, n = median["flat", way], median.get(("nested", way))
            nested = (f"{n:.2f}", f"{n / median['nested', 'scan']:.1f}") if n else ("refuses maps", "")
            table.add_row(way, f"{s:.2f}", f"{s / median['flat', 'one hash, decimal sum, xor']:.2f}", f"{rows / s / 1e6:.1f}", *nested)
        spark.stop()
    Console(width=120).print(table)


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:]))
