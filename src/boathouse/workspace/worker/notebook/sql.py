"""Run `%sql` cells and SQL notebooks: statements in sequence, with the notebook's widgets as parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import sqlparse

from boathouse.workspace.worker.dbutils.widgets import Widgets

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_TEXT = r"""(?:'(?P<single>(?:[^'\\]|\\.)*)'|"(?P<double>(?:[^"\\]|\\.)*)")"""
_NAME = r"`?(?P<name>[\w.-]+)`?"
CREATE = re.compile(
    rf"CREATE\s+WIDGET\s+(?P<kind>TEXT|DROPDOWN|COMBOBOX|MULTISELECT)\s+{_NAME}\s+DEFAULT\s+{_TEXT}(?:\s+CHOICES\s+(?P<choices>.+))?",
    re.IGNORECASE | re.DOTALL,
)
REMOVE = re.compile(rf"REMOVE\s+WIDGET\s+{_NAME}", re.IGNORECASE)


def run_cell(text: str, spark: SparkSession, widgets: Widgets) -> DataFrame | None:
    "Run the statements of a cell; return the rows of the last one that is a query or command, or None."
    table = None
    for statement in statements(text):
        if not _of_widgets(statement, spark, widgets):
            query = substitute_widgets(statement, widgets.getAll())
            args = bind_widgets(query, widgets.getAll())
            table = spark.sql(query, args=args) if args else spark.sql(query)
    return table


def statements(text: str) -> list[str]:
    "Return the statements of a cell without semicolons. A comment alone is not a statement, and a script (BEGIN ... END) is one."
    if re.match(r"\s*BEGIN\b(?!\s*;)", sqlparse.format(text, strip_comments=True), re.IGNORECASE):
        return [text.strip().rstrip(";")]
    found = (part.strip().rstrip(";").rstrip() for part in sqlparse.split(text))
    return [part for part in found if sqlparse.format(part, strip_comments=True).strip()]


def substitute_widgets(query: str, values: Mapping[str, str]) -> str:
    "Return the text with each `${name}` replaced by the value of that widget, as older runtimes do; `\\${name}` stays."
    return re.sub(r"(?<!\\)\$\{([^${}]+)\}", lambda m: values.get(m[1].strip(), m[0]), query)


def bind_widgets(query: str, values: Mapping[str, str]) -> dict[str, str]:
    "Return the widgets that a query names as `:name`."
    return {name: value for name, value in values.items() if re.search(rf"(?<![:\w]):{re.escape(name)}\b", query)}


def _of_widgets(statement: str, spark: SparkSession, widgets: Widgets) -> bool:
    "Run `CREATE WIDGET` or `REMOVE WIDGET`; return False if the statement is neither."
    bare = sqlparse.format(statement, strip_comments=True).strip()
    if found := REMOVE.fullmatch(bare):
        widgets.remove(found["name"])
        return True
    if (found := CREATE.fullmatch(bare)) is None:
        return False
    default = found["single"] if found["single"] is not None else found["double"]
    if found["kind"].upper() == "TEXT":
        widgets.text(found["name"], default)
    else:
        choices = [str(row[0]) for row in spark.sql(found["choices"]).collect()] if found["choices"] else [default]
        getattr(widgets, found["kind"].lower())(found["name"], default, choices)
    return True
