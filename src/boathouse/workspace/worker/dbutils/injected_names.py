"""The names that Databricks defines in every notebook and script, also for `from databricks.sdk.runtime import ...`."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boathouse.workspace.worker.dbutils.utilities import DbUtils

NAMES = ["dbutils", "display", "displayHTML", "getArgument", "sc", "spark", "sql", "sqlContext", "table", "udf"]


def install_names(spark: Any, utilities: DbUtils, display: Callable[..., None]) -> dict[str, Any]:
    """Make `databricks.sdk.runtime` and `pyspark.dbutils` importable in this process, and return the names of a new notebook.

    Databricks' own `databricks.sdk.runtime` requests credentials from a workspace when it is imported.
    """
    import databricks.sdk
    from pyspark.sql.functions import udf

    names = {"spark": spark, "dbutils": utilities, "display": display, "displayHTML": display_html, "sql": spark.sql, "table": spark.table,
             "sc": spark.sparkContext, "getArgument": utilities.widgets.getArgument, "udf": udf}  # fmt: skip
    runtime = types.ModuleType("databricks.sdk.runtime", "The names a Databricks notebook starts with, from the local workspace.")
    # The SDK itself uses the last four when it authenticates.
    vars(runtime).update(names, __all__=NAMES, dbruntime_objects=NAMES, is_local_implementation=True,
                         init_runtime_native_auth=None, init_runtime_native_unified=None)  # fmt: skip
    vars(runtime)["__getattr__"] = lambda name: _later(name, spark)
    sys.modules["databricks.sdk.runtime"] = databricks.sdk.runtime = runtime  # type: ignore[attr-defined]
    module = types.ModuleType("pyspark.dbutils", "`DBUtils(spark)`, as on a Databricks cluster.")
    vars(module)["DBUtils"] = lambda spark=None: utilities
    sys.modules["pyspark.dbutils"] = module
    return names


def _later(name: str, spark: Any) -> Any:
    "Create a name on first use, because a `SQLContext` prints a deprecation warning."
    if name == "sqlContext":
        from pyspark.sql import SQLContext

        return SQLContext(spark.sparkContext, spark)
    raise AttributeError(f"databricks.sdk.runtime has no '{name}' in the local workspace; it has: {', '.join(NAMES)}")


def display_html(html: str) -> None:
    "Show HTML in a notebook; do nothing outside of one."
    from IPython.display import HTML, display

    display(HTML(html))
