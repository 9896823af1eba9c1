"""Plan an as-of join: check the inputs, skip the rows that no label can match, and choose the engine by size.

The planner adds up the bytes of all keys and times, of the labels, and of the columns that the join adds. The sum must fit into a budget: by
default a quarter of the free memory, at most two gibibytes. The cluster joins if the sum does not fit, or if Arrow
lacks the type of a column. It also joins if Spark's estimate of an input is more than eight times what is left of the budget.

Both engines skip feature rows later than the last label, and with a lookback those too old for the first label. Delta skips the files of such
rows by their statistics. On a cluster, the keys of few labels are broadcast, and only rows with these keys are shuffled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from boathouse.point_in_time.match import NEVER, micros_array
from boathouse.point_in_time.parquet import FileExtent, Files, InMemoryRows, TimeBounds, file_extent, files_of
from boathouse.point_in_time.spark import Side, key_columns, key_types, micros, time_micros
from boathouse.runtime import free_memory

ENGINES = ("auto", "local", "union")
WORKING = 48  # bytes per row while keys and timestamps are sorted


@dataclass(frozen=True)
class AsOfLookup:
    "Describe one side of a join, the label columns that its keys are compared with, and the column with the label's timestamp."

    on: tuple[str, ...]
    at: str
    side: Side


@dataclass(frozen=True)
class JoinPlan:
    """Describe how a join runs: the engine with the reason, the extent of the labels, and the sides without rows that cannot match.

    `sources` are where the driver reads each side from, and `table` are the labels in memory, both for the local engine only.
    `bounds` has the extent of the labels by time column, for the cluster only.
    """

    engine: str
    why: str
    labels: FileExtent
    asked: tuple[AsOfLookup, ...]
    sources: tuple[Files | InMemoryRows | None, ...]
    table: pa.Table | None = None
    bounds: Mapping[str, FileExtent] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"as-of join of {self.labels.rows:,} labels: engine {self.engine}, {self.why}"]
        for each, source in zip(self.asked, self.sources, strict=True):
            size = "read by Spark" if source is None else "read from files" if isinstance(source, Files) else "held in memory"
            rows = f"{source.rows:,} rows in {len(source.paths)} files, " if isinstance(source, Files) else ""
            lines.append(f"  {', '.join(each.side.outputs) or '(match only)'} by {', '.join(each.on)} as of {each.at}: {rows}{size}")
        return "\n".join(lines)


def plan_join(
    labels: DataFrame,
    asked: Sequence[AsOfLookup],
    engine: str = "auto",
    budget: int | None = None,
    spread_out: Sequence[AsOfLookup] | None = None,
) -> JoinPlan:
    """Return the plan of a join of these labels. With the local engine, its inputs are in memory or open for reading afterwards.

    `spread_out` are the sides that a plan for the cluster covers, if the caller joins the others in another way; None means all.
    Raises ValueError if the inputs cannot be joined, or if the requested engine cannot join them.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be 'auto', 'local' or 'union', got {engine!r}")
    check_lookups(labels, asked)
    room, why = room_for(budget), "as requested"
    plain = in_arrow(labels.schema, *[each.side.rows.schema for each in asked])
    if not plain and engine == "local":
        fields = [field for schema in (labels.schema, *[each.side.rows.schema for each in asked]) for field in schema]
        strange = dict.fromkeys(f"{f.name} {f.dataType.simpleString()}" for f in fields if not in_arrow(T.StructType([f])))
        raise ValueError(f"engine 'local' needs columns that Arrow has a type for, got {', '.join(strange)}: take 'union'")
    if plain and engine != "union":
        found = plan_local(labels, asked, room)
        if isinstance(found, JoinPlan):
            return found
        if engine == "local":
            raise ValueError(f"engine 'local' has a budget of {room / 2**20:,.0f} MiB, and {found}: take 'auto', or give a greater budget")
        why = found
    elif engine == "auto":
        why = "a column has a type that Arrow does not have"
    bounds = {at: file_extent(labels.select(F.col(f"`{at}`")), at) for at in dict.fromkeys(each.at for each in asked)}
    first = bounds[asked[0].at]
    near = tuple(
        replace(each, side=with_keys(labels, each, prune_rows(each.side, bounds[each.at].first, bounds[each.at].last), first.rows))
        for each in (asked if spread_out is None else spread_out)
    )
    return JoinPlan("union", why, first, near, (None,) * len(near), bounds=bounds)


def check_lookups(labels: DataFrame, asked: Sequence[AsOfLookup]) -> None:
    """Raise ValueError if these sides cannot be joined to the labels.

    Reasons are a missing column, a column that would occur twice, keys or times that do not fit, and an unknown option. The error names the column.
    """
    refuse_clash(labels, [name for each in asked for name in each.side.names])
    for each in asked:
        side = each.side
        require_columns("labels", labels, [*each.on, each.at])
        require_columns("features", side.rows, [*side.keys, side.time, *side.outputs, *filter(None, (side.known_by, side.until))])
        if side.boundary not in ("le", "lt"):
            raise ValueError(f"boundary must be 'le' or 'lt', got {side.boundary!r}")
        if side.nulls not in ("row", "column"):
            raise ValueError(f"nulls must be 'row' or 'column', got {side.nulls!r}")
        if len(each.on) != len(side.keys) or not each.on:
            ours, theirs = (", ".join(keys) or "no key" for keys in (each.on, side.keys))
            raise ValueError(f"each key of the labels needs one key of the features, got {ours} for {theirs}")
        key_types(labels, each.on, side)
        time_micros(labels, each.at), time_micros(side.rows, side.time)
        clocks = {isinstance(df.schema[name].dataType, T.IntegralType) for df, name in ((labels, each.at), (side.rows, side.time))}
        if len(clocks) == 2 or (True in clocks and side.lookback is not None):
            kinds = [df.schema[name].dataType.simpleString() for df, name in ((labels, each.at), (side.rows, side.time))]
            raise ValueError(
                f"times must be timestamps or dates, or both whole numbers without a lookback, "
                f"got {each.at!r} {kinds[0]}, {side.time!r} {kinds[1]} and lookback {side.lookback}"
            )


def require_columns(whose: str, df: DataFrame, names: Sequence[str]) -> None:
    "Raise ValueError if the rows of `whose` lack one of these columns."
    if missing := [name for name in names if name not in df.columns]:
        raise ValueError(f"the {whose} have no {', '.join(missing)}: they have {', '.join(df.columns)}")


def refuse_clash(labels: DataFrame, names: Sequence[str]) -> None:
    "Raise ValueError if two lookups add a column of the same name, or if the labels already have it."
    folded = [name.lower() for name in names]
    there = {name.lower() for name in labels.columns}
    if clash := sorted({name for name in names if name.lower() in there or folded.count(name.lower()) > 1}):
        raise ValueError(
            f"each column of the result must have one source, got {', '.join(clash)} from the labels and a lookup, or from two lookups: "
            "rename the outputs of a lookup, or drop the columns"
        )


def prune_rows(side: Side, first: int | None, last: int | None) -> Side:
    "Return the side without the rows that labels between `first` and `last` cannot match."
    return replace(side, rows=span_of(side, first, last).rows(side.rows))


def span_of(side: Side, first: int | None, last: int | None) -> TimeBounds:
    "Return the range of time of the rows that labels between `first` and `last` can match."
    return TimeBounds(side.time, None if side.lookback is None or first is None else first - micros(side.lookback), last)


def with_keys(labels: DataFrame, asked: AsOfLookup, side: Side, rows: int) -> Side:
    "Return the side without the rows whose keys no label has, if the labels are few and the side is large."
    if rows > 100_000 or estimate_bytes(side.rows) < 64 << 20:
        return side
    mine = F.broadcast(labels.select(*key_columns(asked.on, key_types(labels, asked.on, side))).distinct())
    same = [mine[f"_key{n}"] == side.rows[theirs] for n, theirs in enumerate(side.keys)]
    return replace(side, rows=side.rows.join(mine, same, "left_semi"))


def plan_local(labels: DataFrame, asked: Sequence[AsOfLookup], room: float) -> JoinPlan | str:
    "Return the plan of a join on the driver, with its inputs read, or the reason why they do not fit."
    added = sum(8 * len(each.side.names) for each in asked)
    table, used = read_labels(labels, asked[0].at, added + WORKING, room)
    if table is None:
        return f"the labels and what they find need about {used / 2**20:,.0f} MiB"
    sources: list[Files | InMemoryRows] = []
    most = 0.0
    for each in asked:
        source, size = side_source(each.side, *time_ends(micros_array(table[each.at])), room - used - most)
        if source is None:
            return f"with the rows of {', '.join(each.side.outputs)} it needs about {(used + most + size) / 2**20:,.0f} MiB"
        if isinstance(source, InMemoryRows):
            used += size
        else:  # one at a time is in memory
            most = max(most, size)
        sources.append(source)
    why = f"{(used + most) / 2**20:,.1f} of {room / 2**20:,.0f} MiB"
    return JoinPlan("local", why, FileExtent(table.num_rows, table.nbytes, None, None), tuple(asked), tuple(sources), table)


def read_labels(labels: DataFrame, at: str, added: int, room: float) -> tuple[pa.Table | None, float]:
    """Return the labels in memory and the bytes that they need, with `added` bytes more per row.

    The table is None if that is more than `room`.
    """
    files = files_of(labels)
    if files is None and estimate_bytes(labels) > 8 * room:
        return None, float(estimate_bytes(labels))
    if files:
        used = 3.0 * files.rows * (files.width(labels.columns) + added)
    else:
        found = file_extent(labels, at)
        used = 3.0 * (found.bytes + found.rows * added)
    if used > room:
        return None, used
    return files.columns(labels.columns) if files else labels.toArrow(), used


def side_source(side: Side, first: int | None, last: int | None, room: float) -> tuple[Files | InMemoryRows | None, float]:
    """Return where the rows that can match are read from, and the bytes that they need.

    The source is None if they need more than `room`, or if Spark's estimate is more than eight times `room`.
    """
    files = files_of(side.rows, span_of(side, first, last))
    need = [*side.keys, side.time, *filter(None, (side.known_by, side.until)), *(side.outputs if side.nulls == "column" else ())]
    if files is not None:
        size = files.rows * (files.width(need) + WORKING) + (os.cpu_count() or 1) * max(files.sizes, default=0) * files.width(
            list(side.outputs)
        )
        return (files, size) if size <= room else (None, size)
    near = prune_rows(side, first, last)
    wanted = list(dict.fromkeys([*need, *side.outputs])) if side.distinct else near.rows.columns
    rows = near.rows.select(*[F.col(f"`{c}`") for c in wanted])
    if estimate_bytes(rows) > 8 * room:
        return None, estimate_bytes(rows)
    found = file_extent(rows, side.time)
    size = 2 * found.bytes + WORKING * found.rows
    return (InMemoryRows(rows.toArrow()), size) if size <= room else (None, size)


def room_for(budget: int | None) -> float:
    "Return the bytes that a join on the driver may use: `budget`, or a quarter of the free memory, at most two gibibytes."
    return float(min(free_memory() // 4, 2 << 30) if budget is None else budget)


def estimate_bytes(df: DataFrame) -> int:
    "Return Spark's own estimate of the bytes in a DataFrame; 0 if there is none."
    size = int(df._jdf.queryExecution().optimizedPlan().stats().sizeInBytes()) if hasattr(df, "_jdf") else 0
    return size if size < 1 << 60 else 0


def in_arrow(*schemas: T.StructType) -> bool:
    "Return whether Arrow has a type for every column."
    try:
        for schema in schemas:
            to_arrow_schema(schema, timezone="UTC")
    except (PySparkException, NotImplementedError):
        return False
    return True


def time_ends(when: np.ndarray) -> tuple[int | None, int | None]:
    "Return the first and the last of the timestamps; None for both if there is none."
    there = when[when != NEVER]
    return (int(there.min()), int(there.max())) if len(there) else (None, None)
