"""Read the rows of a DataFrame without Spark: find its Parquet files, select those that matter, and measure their size.

Most feature tables are only Parquet files: a Delta table at a version is a list of files. If they are read directly, only the keys and times of
all rows come into memory. Of the other columns, only the rows that a label matched are read.

`files_of` checks in Spark's own plan whether a DataFrame is exactly such a list, with columns chosen and renamed. It returns None for anything
more: a filter, a deletion vector, a column mapping, a partition, or a file that the driver cannot read. The rows then come through Spark, as
`InMemoryRows`.

Delta lists the files of a version with a Spark job, which for small tables takes longer than all the rest. But each commit of a small table has a
version checksum, which lists them with the least and greatest value of each column. It is an optional part of Delta's protocol: without it the job
runs.
"""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from boathouse.point_in_time.match import DAY
from boathouse.point_in_time.spark import time_micros

MOST_FILES = 2000  # beyond it, reading the footers takes longer than the join
YEAR_ONE, YEARS = -62135596800000000, 315537897600000000  # the range of Spark's timestamps: from the year 1 to the end of the year 9999
LEGACY = (b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96")


@dataclass(frozen=True)
class Files:
    """Describe Parquet files whose rows are exactly those of a DataFrame.

    `names` maps the DataFrame's columns to those of the files. `sizes` are the rows per file, and `widths` the bytes per row of each column.
    """

    paths: tuple[str, ...]
    names: Mapping[str, str]
    schema: T.StructType
    sizes: tuple[int, ...]
    widths: Mapping[str, float]

    @property
    def rows(self) -> int:
        "Return the number of rows."
        return sum(self.sizes)

    def width(self, columns: Sequence[str]) -> float:
        "Return the bytes per row of these columns in memory."
        return sum(self.widths[c] for c in columns)

    def part(self, path: str, columns: Sequence[str]) -> pa.Table:
        "Return these columns of one file; a column that the file lacks is null."
        file, kinds = pq.ParquetFile(path, coerce_int96_timestamp_unit="us"), self.arrow(columns)
        there = set(file.schema_arrow.names)
        read = file.read(list({self.names[c]: 0 for c in columns if self.names[c] in there}), use_threads=False)
        found = [
            read[self.names[c]].cast(kinds.field(c).type) if self.names[c] in there else pa.nulls(read.num_rows, kinds.field(c).type)
            for c in columns
        ]
        return pa.Table.from_arrays(found, schema=kinds)

    def arrow(self, columns: Sequence[str]) -> pa.Schema:
        "Return the Arrow schema of these columns."
        return to_arrow_schema(T.StructType([optional(self.schema[c]) for c in columns]), timezone="UTC")

    def columns(self, columns: Sequence[str]) -> pa.Table:
        "Return these columns of all rows, in the order of the files."
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return pa.concat_tables([self.arrow(columns).empty_table(), *pool.map(lambda path: self.part(path, columns), self.paths)])

    def take(self, columns: Sequence[str], rows: np.ndarray) -> pa.Table:
        "Return these columns of the rows with these numbers, in that order, null at -1. One file per processor is in memory at a time."
        order = np.argsort(rows)
        starts = np.cumsum([0, *self.sizes])
        ends = np.searchsorted(rows[order], starts)

        def some(n: int) -> pa.Table:
            mine = rows[order[ends[n] : ends[n + 1]]] - starts[n]
            return (self.part(self.paths[n], columns) if len(mine) else self.arrow(columns).empty_table()).take(pa.array(mine))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pa.concat_tables([self.arrow(columns).empty_table(), *pool.map(some, range(len(self.paths)))])
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows)) - ends[0]
        return found.take(pa.array(back, mask=rows < 0))


def optional(field: T.StructField) -> T.StructField:
    "Return the field as nullable, because a row without a match has no value."
    return T.StructField(field.name, field.dataType, True)


def instant(value: int, kind: T.DataType) -> Column | None:
    "Return microseconds since 1970 as a literal of a time column's type; None if the type has no such literal."
    if isinstance(kind, T.IntegralType):
        return F.lit(value)
    if isinstance(kind, T.TimestampNTZType) or not 0 <= value - YEAR_ONE < YEARS:
        return None
    return F.timestamp_micros(F.lit(value)) if isinstance(kind, T.TimestampType) else F.date_from_unix_date(F.lit(value // DAY).cast("int"))


@dataclass(frozen=True)
class TimeBounds:
    """Describe a range of a time column in microseconds, from `first` to `last`, both inclusive.

    If `first` is None there is no lower bound. If `last` is None the range is empty.
    """

    time: str
    first: int | None
    last: int | None

    def rows(self, df: DataFrame) -> DataFrame:
        "Return the DataFrame without the rows outside the range, as far as Spark can express this as a filter."
        if self.last is None:
            return df.where("false")
        kind, time = df.schema[self.time].dataType, F.col(f"`{self.time}`")
        if (bound := instant(self.last, kind)) is not None:
            df = df.where(time <= bound)
        if self.first is not None and (bound := instant(self.first, kind)) is not None:
            df = df.where(time >= bound)
        return df

    def touches(self, stats: Mapping[str, Any], column: str, kind: T.DataType) -> bool:
        "Return whether a file with these statistics may have a row of the range in `column`. Statistics are cut to milliseconds."
        if self.last is None:
            return False
        low, high = (recorded(stats.get(end, {}).get(column), kind) for end in ("minValues", "maxValues"))
        return (low is None or low - 1000 <= self.last) and (high is None or self.first is None or high + 1000 >= self.first)


def recorded(value: Any, kind: T.DataType) -> int | None:
    """Return a value of a time column in Delta's statistics as microseconds since 1970, UTC.

    None if there is no value, or if it cannot be parsed.
    """
    try:
        if isinstance(kind, T.IntegralType):
            return None if value is None else int(value)
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):  # Python has no years beyond 9999
        return None
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def relation_of(plan: Any, columns: Sequence[str]) -> tuple[Any, dict[str, str]] | None:
    """Return the one relation of files that a plan reads, and for each of the plan's `columns` the column of that relation.

    Returns None if the plan does more than choose and rename columns.
    """
    chosen = []
    while (name := plan.getClass().getSimpleName()) in ("SubqueryAlias", "Project"):
        if name == "Project":
            chosen.append(plan.projectList())
        plan = plan.child()
    kind = plan.relation().getClass() if name == "LogicalRelation" else None
    if kind is None or "HadoopFsRelation" not in (kind.getSimpleName(), kind.getSuperclass().getSimpleName()):
        return None
    if not chosen:
        return plan.relation(), {c: c for c in columns}
    found = [(attribute.exprId().id(), attribute.name()) for attribute in jvm_items(plan.output())]
    for expressions in reversed(chosen):
        known, found = dict(found), []
        for expression in jvm_items(expressions):
            source = expression.child() if expression.getClass().getSimpleName() == "Alias" else expression
            if source.getClass().getSimpleName() != "AttributeReference" or source.exprId().id() not in known:
                return None
            found.append((expression.exprId().id(), known[source.exprId().id()]))
    return plan.relation(), {column: name for column, (_, name) in zip(columns, found, strict=True)}


def jvm_items(sequence: Any) -> list[Any]:
    "Return the items of a sequence of the JVM as a list."
    return [sequence.apply(n) for n in range(sequence.size())]


@dataclass(frozen=True)
class Checksum:
    "Hold the checksum of a Delta table's version: the reader version that it requires, and its files, each with address and statistics."

    reader: int
    files: tuple[tuple[str, Mapping[str, Any]], ...]


def listed_by_checksum(index: Any) -> Checksum | None:
    """Return the files of the Delta table's version that is read, as listed in the checksum of its commit.

    Returns None if there is no checksum with a complete list.
    """
    snapshot = index.getSnapshot()
    if (log := snapshot.path().toUri()).getScheme() != "file":
        return None
    try:
        said = json.loads(Path(log.getPath(), f"{snapshot.version():020d}.crc").read_text())
    except (OSError, ValueError):
        return None
    files = said.get("allFiles")
    if files is None or len(files) != said["numFiles"] or sum(each["size"] for each in files) != said["tableSizeBytes"]:
        return None
    root = Path(log.getPath()).parent.as_uri()
    found = ((each["path"], json.loads(each.get("stats") or "{}")) for each in files)
    return Checksum(
        said["protocol"]["minReaderVersion"], tuple((path if urlparse(path).scheme else f"{root}/{path}", stats) for path, stats in found)
    )


def paths_of(df: DataFrame) -> list[str]:
    "Return the addresses of the files that Spark would read for this DataFrame, after skipping by statistics."
    plan = df._jdf.queryExecution().optimizedPlan()
    while plan.children().size() == 1:
        plan = plan.children().apply(0)
    if plan.getClass().getSimpleName() != "LogicalRelation":  # nothing is left to read
        return []
    return list(plan.relation().location().inputFiles())


def files_of(df: DataFrame, span: TimeBounds | None = None) -> Files | None:
    """Return the files of a DataFrame that consists only of files which this process can read; None otherwise.

    Files without a row in the `span` may be left out.
    """
    if not hasattr(df, "_jdf"):  # a remote session has no plan to show
        return None
    execution = df._jdf.queryExecution()
    found = relation_of(execution.withCachedData(), df.columns) or relation_of(execution.optimizedPlan(), df.columns)
    if found is None:
        return None
    relation, names = found
    kind, index = relation.fileFormat().getClass().getSimpleName(), relation.location()
    delta = kind == "DeltaParquetFileFormat"
    if not (delta or kind == "ParquetFileFormat") or not relation.partitionSchema().isEmpty():
        return None
    listed = listed_by_checksum(index) if index.getClass().getSimpleName() == "TahoeLogFileIndex" else None
    if delta and (listed.reader if listed else index.protocol().minReaderVersion()) != 1:
        return None  # deletion vectors, column mapping and widened types need a newer reader
    if listed:
        urls = [url for url, stats in listed.files if span is None or span.touches(stats, names[span.time], df.schema[span.time].dataType)]
    else:
        urls = paths_of(df if span is None else span.rows(df))
    paths = [urlparse(url) for url in urls]
    if len(paths) > MOST_FILES or any(path.scheme != "file" for path in paths):
        return None
    return measure_files([unquote(path.path) for path in paths], names, df.schema, delta)


def measure_files(paths: Sequence[str], names: Mapping[str, str], schema: T.StructType, growing: bool) -> Files | None:
    """Return the files with the sizes that their footers record.

    Returns None if a file uses an older calendar or, unless the table is `growing`, lacks a column.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        footers = list(pool.map(pq.read_metadata, paths))
    total = dict.fromkeys(names, 0)
    for footer in footers:
        there = {footer.schema.column(n).path.split(".")[0] for n in range(footer.num_columns)}
        if any(word in (footer.metadata or {}) for word in LEGACY) or not (growing or there.issuperset(names.values())):
            return None
        for group in (footer.row_group(n) for n in range(footer.num_row_groups)):
            chunks = [group.column(n) for n in range(group.num_columns)]
            size: dict[str, int] = {}
            for chunk in chunks:
                root = chunk.path_in_schema.split(".")[0]
                size[root] = size.get(root, 0) + chunk.total_uncompressed_size
            for name, column in names.items():
                total[name] += size.get(column, 0)
    rows = sum(footer.num_rows for footer in footers)
    widths = {
        name: max(total[name] / max(rows, 1), 16 if isinstance(schema[name].dataType, (T.StringType, T.BinaryType)) else 8)
        for name in names
    }
    return Files(tuple(paths), names, schema, tuple(footer.num_rows for footer in footers), widths)


@dataclass(frozen=True)
class FileExtent:
    "Hold the size of a DataFrame: rows, bytes, and the first and last timestamp in microseconds (None if there is none)."

    rows: int
    bytes: int
    first: int | None
    last: int | None


def file_extent(df: DataFrame, time: str) -> FileExtent:
    "Return the extent of a DataFrame, with one Spark job. A column of a nested type counts as a kilobyte per row."
    texts = [f.name for f in df.schema if isinstance(f.dataType, (T.StringType, T.BinaryType))]
    nested = [f for f in df.schema if isinstance(f.dataType, (T.ArrayType, T.MapType, T.StructType))]
    long = sum((F.coalesce(F.octet_length(f"`{c}`"), F.lit(0)) for c in texts), F.lit(0)).cast("long")
    rows, text, first, last = df.agg(F.count("*"), F.sum(long), F.min(time_micros(df, time)), F.max(time_micros(df, time))).collect()[0]
    return FileExtent(rows, (text or 0) + rows * (8 * len(df.columns) + 1000 * len(nested)), first, last)


@dataclass(frozen=True)
class InMemoryRows:
    "Hold the rows of a DataFrame in memory, with the methods `columns` and `take` of `Files`."

    table: pa.Table

    def columns(self, columns: Sequence[str]) -> pa.Table:
        "Return these columns of all rows."
        return self.table.select(list(columns))

    def take(self, columns: Sequence[str], rows: np.ndarray) -> pa.Table:
        "Return these columns of the rows with these numbers, in that order, null at -1."
        return self.table.select(list(columns)).take(pa.array(rows, mask=rows < 0))
