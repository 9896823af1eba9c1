"""Read from the source of a notebook or script how it uses `dbutils`: widgets it declares and reads, task values it sets."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

HEADER = "# Databricks notebook source"
SEPARATOR = re.compile(r"^# COMMAND -{5,}[ \t]*$", re.MULTILINE)
DECLARING = ("text", "dropdown", "combobox", "multiselect")
READING = ("get", "getArgument")
# Packages that read no widgets of the notebook.
WELL_KNOWN = frozenset(
    [
        "pyspark",
        "delta",
        "pandas",
        "numpy",
        "pyarrow",
        "scipy",
        "sklearn",
        "matplotlib",
        "seaborn",
        "plotly",
        "mlflow",
        "lightgbm",
        "xgboost",
        "hyperopt",
        "requests",
        "yaml",
        "IPython",
        "databricks",
    ]
)
SQL_WIDGET = re.compile(r"\bcreate\s+widget\s+\w+\s+(\w+)(?:\s+default\s+(?:\"([^\"]*)\"|'([^']*)'))?", re.IGNORECASE)
SQL_NAME = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)|\$\{?([A-Za-z_]\w*)\}?|getArgument\(\s*[\"'](\w+)[\"']", re.IGNORECASE)


@dataclass
class Calls:
    """Hold the widgets of a notebook. `declared` has the default text of each one, None if it is computed.

    `complete` is False if the notebook may read more than its source shows: computed names, `%run`, other modules.
    """

    declared: dict[str, str | None] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    complete: bool = True
    sets_task_values: bool = False


def calls_of(file: Path, root: Path) -> Calls:
    "Return the calls of a notebook or script; `root` is the folder of the bundle, from which its imports are resolved."
    return _calls(file, root, file.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _calls(file: Path, root: Path, changed: int) -> Calls:
    "Read the calls once per version of the file, because every target needs them."
    calls = Calls()
    try:
        cells = list(_cells(file))
    except (UnicodeDecodeError, ValueError, KeyError, TypeError):
        return Calls(complete=False)
    for language, text in cells:
        if language == "python":
            _python(text, calls, file.parent, root)
        elif language == "sql":
            _sql(text, calls)
        elif language not in ("md", "sh"):
            calls.complete = False
    return calls


def _cells(file: Path) -> Iterator[tuple[str, str]]:
    "Yield the cells with their languages; a plain script is one cell."
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        for cell in json.loads(text)["cells"]:
            if cell["cell_type"] == "code":
                source = cell["source"]
                yield _language(source if isinstance(source, str) else "".join(source))
    elif file.suffix == ".sql":
        yield ("sql" if "-- MAGIC" not in text else "mixed"), text
    elif not text.startswith(HEADER):
        yield "python" if file.suffix == ".py" else file.suffix, text
    else:
        for part in SEPARATOR.split(text.partition("\n")[2]):
            yield _language(re.sub(r"^# MAGIC ?", "", part, flags=re.MULTILINE))


def _language(text: str) -> tuple[str, str]:
    found = re.match(r"(?:#.*\n|\s)*%([a-z]+)\b[ \t]*", text, re.IGNORECASE)
    if not found or found[1].lower() == "python":
        return "python", text[found.end() :] if found else text
    known = ("md", "sh", "sql", "run", "scala", "r", "fs")
    return (found[1].lower(), text[found.end() :]) if found[1].lower() in known else ("python", text)


def _sql(text: str, calls: Calls) -> None:
    code = re.sub(r"--[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    for found in SQL_WIDGET.finditer(code):
        calls.declared[found[1]] = next((d for d in (found[2], found[3]) if d is not None), None)
    calls.read.update(next(g for g in found.groups() if g) for found in SQL_NAME.finditer(code))


def _python(text: str, calls: Calls, folder: Path, root: Path) -> None:
    lines = ["" if re.match(r"\s*[%!]", line) else line for line in text.splitlines()]
    try:
        tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError):
        calls.complete = False
        return
    understood: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            _call(node, calls, understood)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else ["." * node.level + (node.module or "")]
            calls.complete = calls.complete and all(_is_quiet(name.partition(".")[0], folder, root) for name in names)
    for node in ast.walk(tree):
        # The bindings of the entry point are all parameters at once.
        if isinstance(node, ast.Attribute) and node.attr in ("widgets", "entry_point") and id(node) not in understood:
            calls.complete = False
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            understood.add(id(node.value))
    # `dbutils` is passed to a function: what that reads is not visible here.
    bare = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "dbutils" and isinstance(n.ctx, ast.Load))
    calls.complete = calls.complete and all(id(n) in understood for n in bare)


def _call(node: ast.Call, calls: Calls, understood: set[int]) -> None:
    function = node.func
    if isinstance(function, ast.Name) and function.id == "getArgument" and (legacy := _text(node, 0, "name")) is not None:
        calls.read.add(legacy)
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Attribute):
        return
    if function.value.attr == "taskValues" and function.attr == "set":
        calls.sets_task_values = True
    if function.value.attr != "widgets" or function.attr not in (*DECLARING, *READING, "remove", "removeAll"):
        return
    name = _text(node, 0, "name")
    if function.attr in ("remove", "removeAll"):
        understood.add(id(function.value))
    elif name is not None:
        understood.add(id(function.value))
        if function.attr in READING:
            calls.read.add(name)
        else:
            calls.declared[name] = _text(node, 1, "defaultValue")


def _text(node: ast.Call, position: int, keyword: str) -> str | None:
    "Return a literal string argument of a call."
    given = [node.args[position]] if position < len(node.args) else [k.value for k in node.keywords if k.arg == keyword]
    value = given[0].value if given and isinstance(given[0], ast.Constant) else None
    return value if isinstance(value, str) else None


def _is_quiet(module: str, folder: Path, root: Path) -> bool:
    "Return whether a module reads no widgets: Python's own, a well-known one, or one of the bundle that never names them."
    if module in sys.stdlib_module_names or module in WELL_KNOWN:
        return True
    for place in dict.fromkeys((folder, root / "src", root)):
        files = [place / f"{module}.py"] if (place / f"{module}.py").is_file() else list((place / module).rglob("*.py")) if module else []
        if files:
            return not any(re.search(r"widgets|dbutils", f.read_text(encoding="utf-8", errors="replace")) for f in files)
    return False
