"Run one SQL statement in a separate session, and return its rows in JSON types."

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from boathouse.workspace.errors import QueryFailed
from boathouse.workspace.spark.dialect import catalog_settings

UNREADABLE = "FAILED_READ_FILE|is not a Parquet file|CANNOT_READ_FILE_FOOTER|Could not read footer"
Rows = tuple[list[str], list[list[Any]]]


class Query:
    "One running statement."

    def __init__(self, spark: SparkSession, text: str, catalog: str, catalogs: tuple[str, ...] = ()) -> None:
        self._spark, self._text, self._catalog, self._catalogs = spark, text, catalog, {catalog, *catalogs}
        self._session: SparkSession | None = None
        self._rows: Future[Rows]

    def start(self, threads: Executor) -> None:
        "Run the statement on one of these threads."
        self._rows = threads.submit(self._run)

    def result(self) -> Rows:
        "Wait for the statement; return its column names and rows."
        return self._rows.result()

    def cancel(self) -> None:
        "Cancel the Spark jobs of the statement; do nothing if it has ended."
        if not self._rows.done() and self._session is not None:
            self._session.interruptAll()

    def _run(self) -> Rows:
        self._session = session = self._spark.newSession()
        use_catalog(session, self._catalog, self._catalogs)
        return run_statement(session, self._text)


def use_catalog(session: SparkSession, catalog: str, catalogs: Iterable[str]) -> None:
    "Make `catalog` current in a session in which SQL can name all of `catalogs`."
    for key, value in catalog_settings({catalog, *catalogs}).items():
        session.conf.set(key, value)
    if session.catalog.currentCatalog() != catalog:
        session.sql(f"USE CATALOG `{catalog}`")  # the method of the catalog reads the settings of another session


def run_statement(session: SparkSession, text: str) -> Rows:
    "Return column names and rows of one statement. Raises QueryFailed with Spark's message."
    try:
        table = session.sql(text)
        return table.columns, [[to_json_value(value) for value in row] for row in table.collect()]
    except (PySparkException, Py4JJavaError) as e:
        raise QueryFailed(error_text(str(e).split("\n\nJVM stacktrace")[0])) from e


def error_text(message: str) -> str:
    "Return a message of Spark without stack frames and repeated causes. If a file of a table could not be read, add what to do."
    frames = r"\s+(at |\.\.\. \d+ more)|Driver stacktrace|An error occurred while calling"
    kept = [line for line in message.strip().splitlines() if not re.match(frames, line)]
    text = "\n".join(dict.fromkeys(kept)).removeprefix(": ")
    return (
        f"{text}\n`boathouse doctor` looks for damaged files, and names what brings the table back."
        if re.search(UNREADABLE, text)
        else text
    )


def to_json_value(value: Any) -> Any:
    """Return a value of Spark in JSON types.

    Timestamps, dates, decimals and bytes become text, and rows become objects. Numbers that JSON lacks become `NaN` or `Infinity`.
    """
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if hasattr(value, "asDict"):
        return {k: to_json_value(v) for k, v in value.asDict().items()}
    if isinstance(value, Mapping):
        return {str(k): to_json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(v) for v in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
