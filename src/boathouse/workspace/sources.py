"""The code a task runs: where its file lies, what counts as a notebook, what a package offers. Nothing is imported to find out."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
from functools import cache
from pathlib import Path

from boathouse.workspace.jobs import Job, TaskSource

HEADERS = {".py": "# Databricks notebook source", ".sql": "-- Databricks notebook source", ".scala": "// Databricks notebook source"}
HEADERS[".r"] = HEADERS[".py"]
RUN_HERE = (".ipynb", ".py")


def task_file(job: Job, source: TaskSource) -> Path:
    "The notebook or script of a task."
    kind, field = ("notebook_task", "notebook_path") if source.task.notebook_task else ("spark_python_task", "python_file")
    text = getattr(source.body, field)
    path = job.file(source.at(kind, field), text)
    if kind == "notebook_task" and Path(text).is_absolute() and not path.is_file():
        # As `${workspace.file_path}/src/report`: a workspace knows notebooks without their extension.
        return next((p for suffix in RUN_HERE if (p := path.with_name(path.name + suffix)).is_file()), path)
    return path


def is_notebook(path: Path) -> bool:
    "Whether a file is a notebook by the rules of the platform."
    if path.suffix.lower() == ".ipynb":
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, UnicodeDecodeError):
            return False
        return isinstance(content, dict) and "cells" in content and "metadata" in content and content.get("nbformat", 0) >= 4
    header = HEADERS.get(path.suffix.lower())
    with path.open(encoding="utf-8", errors="replace") as lines:
        return header is not None and lines.readline().rstrip() == header


def module_file(folders: tuple[Path, ...], name: str) -> Path | None:
    "The file of a module, from the source in one of the folders or from what is installed."
    for folder in folders:
        for file in (folder / name / "__init__.py", folder / f"{name}.py"):
            if file.is_file():
                return file
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    return Path(found.origin) if found is not None and found.origin else None


@cache
def installed_entry_points(package: str) -> frozenset[str] | None:
    "The entry points of the installed package of that name; None if there is none."
    try:
        return frozenset(e.name for e in importlib.metadata.distribution(package).entry_points)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def names_in(module: Path) -> set[str] | None:
    "The names a module defines or imports at its top; None where a star import or other code may define any."
    if module.suffix != ".py":
        return None
    try:
        tree = ast.parse(module.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return None
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    names |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    names |= {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    imported = [a for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names]
    if any(a.name == "*" for a in imported) or any(isinstance(n, ast.If | ast.Try) for n in tree.body) or "__getattr__" in names:
        return None
    return names | {a.asname or a.name.partition(".")[0] for a in imported}
