"""Join as of a time on the driver: match Arrow columns with `point_in_time.match`, take the rows found, and return them to Spark.

If rows share key and time, Spark's hash of the row decides, the same as on a cluster. It is computed for these rows alone.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from boathouse.point_in_time.match import KeyedInstants, combine_chunks, find_rows, find_rows_by_column, key_codes, micros_array, take_rows
from boathouse.point_in_time.parquet import Files, InMemoryRows
from boathouse.point_in_time.plan import AsOfLookup
from boathouse.point_in_time.spark import row_hash

CONVERTING = threading.Lock()  # a session's setting is changed for a moment


def local_join(
    labels: pa.Table, schema: T.StructType, asked: Sequence[AsOfLookup], sources: Sequence[Files | InMemoryRows | None], spark: SparkSession
) -> DataFrame:
    "Return every label row once with the columns of all sides. The join runs during the call."
    columns, fields = list(labels.columns), list(schema.fields)
    for each, source in zip(asked, sources, strict=True):
        if source is None:
            columns_of = ", ".join(each.side.names)
            raise ValueError(f"the local engine needs a source for each side, got none for {columns_of}: plan the join with engine 'local'")
        columns += local_side(labels, each, source, spark).columns
        fields += each.side.schema.fields
    table = pa.Table.from_arrays(columns, names=[f.name for f in fields])
    return to_spark(spark, table, T.StructType(fields))


def local_side(labels: pa.Table, asked: AsOfLookup, source: Files | InMemoryRows, spark: SparkSession) -> pa.Table:
    "Return the columns that one side adds, one row per label."
    side, all_columns = asked.side, [f.name for f in asked.side.rows.schema]
    need = dict.fromkeys([*side.keys, side.time, *filter(None, (side.known_by, side.until))])
    by_column = [c for c in side.outputs if side.nulls == "column"]
    rows = source.columns(list(need | dict.fromkeys(by_column)))
    ours, codes = key_codes([labels[c] for c in asked.on], [rows[c] for c in side.keys])
    known = micros_array(rows[side.known_by]) if side.known_by else None
    line, features = KeyedInstants(ours, micros_array(labels[asked.at])), KeyedInstants(codes, micros_array(rows[side.time]), known)
    until = micros_array(rows[side.until]) if side.until else None
    settle = None if side.distinct else lambda found: tie_hashes(spark, source.take(all_columns, found), side.rows.schema)
    how = (line, features, side.terms, until, settle)
    out: dict[str, Any] = {}
    for c in by_column:
        values = combine_chunks(rows[c])
        out[side.outputs[c]] = take_rows(values, find_rows_by_column(values, *how))
    if side.match_time or not by_column:
        newest = find_rows(*how)
        del rows, codes, features, how
        wanted = [c for c in side.outputs if c not in by_column]
        got = source.take(list(dict.fromkeys([*wanted, *([side.time] if side.match_time else [])])), newest)
        out |= {side.outputs[c]: got[c] for c in wanted} | ({side.match_time: got[side.time]} if side.match_time else {})
    return pa.table({name: out[name] for name in side.names})


def tie_hashes(spark: SparkSession, rows: pa.Table, schema: T.StructType) -> np.ndarray:
    "Return the tie-break of each row, computed by Spark."
    df = spark.createDataFrame(rows, schema)
    return df.select(row_hash(df).alias("tie")).toArrow()["tie"].combine_chunks().to_numpy()


def to_spark(spark: SparkSession, table: pa.Table, schema: T.StructType) -> DataFrame:
    "Return an Arrow table as a DataFrame with this schema, in as many partitions as the cluster has cores."
    batch, cores = "spark.sql.execution.arrow.maxRecordsPerBatch", parallelism(spark)
    kinds = to_arrow_schema(schema, timezone="UTC")
    rows = pa.Table.from_arrays([column.cast(field.type) for column, field in zip(table.columns, kinds, strict=True)], schema=kinds)
    with CONVERTING:
        before = str(spark.conf.get(batch))
        spark.conf.set(batch, max(1, -(-table.num_rows // cores)))
        try:
            return spark.createDataFrame(rows, schema)
        finally:
            spark.conf.set(batch, before)


def parallelism(spark: SparkSession) -> int:
    "Return how many tasks run at the same time; 8 if a remote session does not report it."
    return spark.sparkContext.defaultParallelism if hasattr(spark, "_jsparkSession") else 8
