"""What holding a write to its contract costs: the look before it, and the checks of keys, against the same write without them.

    python bench/contracts.py [ROWS] [ROUNDS]

All variants take turns within a round, on tables of their own with ROWS rows of history, so that other load falls on them alike. Medians.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import DataFrame

from boathouse.tables.contracts import check_columns
from boathouse.tables.evolution import create, plan_changes
from boathouse.tables.table import Column, Lakehouse, Table, declaration_digest, exists
from boathouse.tables.writes import append, merge, replace
from boathouse.workspace.spark.session import local_session

COLUMNS = (
    Column("id", "bigint", "number", nullable=False),
    Column("month", "string", "YYYY-MM", nullable=False),
    *(Column(f"value{n}", "double", "a measure") for n in range(10)),
)


def declared(name: str, key: tuple[str, ...] = ("id",)) -> Table:
    return Table(f"bench.{name}", "One row per number.", COLUMNS, primary_key=key)


def main(rows: int = 300_000, rounds: int = 7) -> None:
    spark = local_session(Path(tempfile.mkdtemp(prefix="boathouse-bench-")))
    lake = Lakehouse(spark)

    def batch(first: int, count: int) -> DataFrame:
        values = [f"rand({n}) AS value{n}" for n in range(10)]
        month = "date_format(date_add(date'2013-01-01', cast(id % 365 AS int)), 'yyyy-MM') AS month"
        return spark.range(first, first + count).selectExpr("id", month, *values)

    names = ("plain", "unique", "checked", "keyless", "merged", "by key", "elsewhere")
    tables = {name: declared(name.replace(" ", "_"), () if name == "keyless" else ("id",)) for name in names}
    for table in tables.values():
        append(lake, table, batch(0, rows), unique=True)
    size, step = rows // 10, iter(range(1, 10**6))

    def plain(df: DataFrame) -> None:
        check_columns(df, tables["plain"]).write.format("delta").mode("append").saveAsTable(lake.name(tables["plain"]))

    looks: dict[str, Callable[[], object]] = {
        "exists (as before)": lambda: exists(lake, tables["plain"]),
        "declaration": lambda: declaration_digest(lake, tables["plain"]),
        "create, nothing differs": lambda: create(lake, tables["plain"]),
        "plan, nothing differs": lambda: plan_changes(lake, tables["plain"]),
    }
    writes: dict[str, Callable[[int], object]] = {
        "write without a contract": lambda n: plain(batch(n * size + rows, size)),
        "append to a table without a key": lambda n: append(lake, tables["keyless"], batch(n * size + rows, size)),
        "append, unique=True": lambda n: append(lake, tables["unique"], batch(n * size + rows, size), unique=True),
        "append, keys looked at": lambda n: append(lake, tables["checked"], batch(n * size + rows, size)),
        "merge, all keys new": lambda n: merge(lake, tables["merged"], batch(n * size + rows, size)),
        "replace by a key column": lambda n: replace(lake, tables["by key"], batch(0, size), where=f"id < {size}"),
        "replace by another column": lambda n: replace(
            lake, tables["elsewhere"], batch(0, size).where("month = '2013-05'"), "month = '2013-05'"
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in (*looks, *writes)}
    for turn in range(rounds + 2):
        for name, action in (*looks.items(), *writes.items()):
            args = (next(step),) if name in writes else ()
            start = time.perf_counter()
            action(*args)
            if turn >= 2:
                taken[name].append(time.perf_counter() - start)
    for group in (looks, writes):
        base = statistics.median(taken[next(iter(group))])
        print(f"\n{'':34}{'ms':>9}{'least':>9}{'ratio':>8}")
        for name in group:
            middle = statistics.median(taken[name])
            print(f"{name:34}{middle * 1000:9.1f}{min(taken[name]) * 1000:9.1f}{middle / base:8.2f}")
    print(f"\n{rows:,} rows of history, batches of {size:,}, {rounds} rounds.")
    spark.stop()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
