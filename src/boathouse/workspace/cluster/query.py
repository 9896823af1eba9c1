"One SQL statement in a session of its own, and its rows in JSON's types."

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
    "A statement under way."

    def __init__(self, spark: SparkSession, text: str, catalog: str, catalogs: tuple[str, ...] = ()) -> None:
        self._spark, self._text, self._catalog, self._catalogs = spark, text, catalog, {catalog, *catalogs}
        self._session: SparkSession | None = None
        self._rows: Future[Rows]

    def start(self, threads: Executor) -> None:
        "Runs it on one of these threads."
        self._rows = threads.submit(self._run)

    def result(self) -> Rows:
        "Column names and rows; waits for them."
        return self._rows.result()

    def cancel(self) -> None:
        "Ends its Spark jobs; harmless when it is over."
        if not self._rows.done() and self._session is not None:
            self._session.interruptAll()

    def _run(self) -> Rows:
        self._session = session = self._spark.newSession()
        use_catalog(session, self._catalog, self._catalogs)
        return run_statement(session, self._text)


def use_catalog(session: SparkSession, catalog: str, catalogs: Iterable[str]) -> None:
    "Make `catalog` current in a session, where all of `catalogs` can be named."
    for key, value in catalog_settings({catalog, *catalogs}).items():
        session.conf.set(key, value)
    if session.catalog.currentCatalog() != catalog:
        session.sql(f"USE CATALOG `{catalog}`")  # the catalog's own call looks for it in the settings of another session


def run_statement(session: SparkSession, text: str) -> Rows:
    "Column names and rows of one statement; QueryFailed with Spark's message."
    try:
        table = session.sql(text)
        return table.columns, [[to_json_value(value) for value in row] for row in table.collect()]
    except (PySparkException, Py4JJavaError) as e:
        raise QueryFailed(error_text(str(e).split("\n\nJVM stacktrace")[0])) from e


def error_text(message: str) -> str:
    "A message of Spark without the frames of its stacks, each cause once; with what to do where a file of a table could not be read."
    frames = r"\s+(at |\.\.\. \d+ more)|Driver stacktrace|An error occurred while calling"
    kept = [line for line in message.strip().splitlines() if not re.match(frames, line)]
    text = "\n".join(dict.fromkeys(kept)).removeprefix(": ")
    return (
        f"{text}\n`boathouse doctor` looks for damaged files, and names what brings the table back."
        if re.search(UNREADABLE, text)
        else text
    )


def to_json_value(value: Any) -> Any:
    "A value of Spark in JSON's types: instants, dates, decimals and bytes as text, rows as objects; what JSON has no number for as `NaN` or `Infinity`."
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
