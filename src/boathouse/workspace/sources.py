"""The code a task runs: notebooks, scripts and wheel entry points exist before anything starts."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.jobs import Job, TaskSource

HEADERS = {".py": "# Databricks notebook source", ".sql": "-- Databricks notebook source", ".scala": "// Databricks notebook source"}
HEADERS[".r"] = HEADERS[".py"]


def source_problems(job: Job, source: TaskSource) -> Iterator[BundleError]:
    "What is wrong with the file or entry point of a task."
    if source.task.notebook_task is not None:
        yield from _notebook(job, source)
    elif source.task.spark_python_task is not None:
        yield from _script(job, source)
    elif source.task.python_wheel_task is not None:
        yield from _wheel(job, source)


def task_file(job: Job, source: TaskSource) -> Path:
    "The notebook or script of a task."
    kind, field = ("notebook_task", "notebook_path") if source.task.notebook_task else ("spark_python_task", "python_file")
    text = getattr(source.body, field)
    path = job.file(source.at(kind, field), text)
    if kind == "notebook_task" and Path(text).is_absolute() and not path.is_file():
        # As `${workspace.file_path}/src/report`: a workspace knows notebooks without their extension.
        return next((p for suffix in (".ipynb", ".py") if (p := path.with_name(path.name + suffix)).is_file()), path)
    return path


def _notebook(job: Job, source: TaskSource) -> Iterator[BundleError]:
    at, path = source.at("notebook_task", "notebook_path"), task_file(job, source)
    if not path.is_file():
        near = next((p for p in path.parent.glob(f"{path.name}.*") if p.is_file()), None)
        hint = f"Write it with its extension: '{near.name}'." if near else _similar(path)
        yield BundleError(f"there is no notebook {_shown(job, path)}.", at, hint)
    elif not is_notebook(path):
        hint = f"Its first line must be '{HEADERS.get(path.suffix.lower(), HEADERS['.py'])}'."
        yield BundleError(f"{_shown(job, path)} is not a notebook.", at, hint if path.suffix != ".ipynb" else "")
    elif path.suffix.lower() not in (".ipynb", ".py", ".sql"):
        yield BundleError(f"{_shown(job, path)} is a {path.suffix} notebook; this machine runs .ipynb, .py and .sql notebooks.", at)


def _script(job: Job, source: TaskSource) -> Iterator[BundleError]:
    at, path = source.at("spark_python_task", "python_file"), task_file(job, source)
    if not path.is_file():
        yield BundleError(f"there is no file {_shown(job, path)}.", at, _similar(path))
    elif is_notebook(path):
        yield BundleError(f"{_shown(job, path)} is a notebook.", at, "Use a notebook_task.")


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


def _shown(job: Job, path: Path) -> str:
    root = job.bundle.root
    return f"'{path.relative_to(root)}'" if path.is_relative_to(root) else f"'{path}'"


def _similar(path: Path) -> str:
    return did_you_mean(path.name, [p.name for p in path.parent.glob("*")]) if path.parent.is_dir() else ""


def _wheel(job: Job, source: TaskSource) -> Iterator[BundleError]:
    body = source.body
    points = entry_points(job.bundle.root, body.package_name)
    if body.entry_point in points:
        return
    found = _module(job.bundle.root, body.package_name.replace("-", "_"))
    at = source.at("python_wheel_task", "entry_point")
    if not points and found is None and distribution(body.package_name) is None:
        at = source.at("python_wheel_task", "package_name")
        yield BundleError(f"the package '{body.package_name}' is not installed here.", at, "Install it into this environment.")
    elif found is None or body.entry_point not in _names(found):
        yield BundleError(f"'{body.package_name}' has no entry point '{body.entry_point}'.", at, did_you_mean(body.entry_point, points))


def _module(root: Path, name: str) -> Path | None:
    "The file of a module, from the bundle's own source or from what is installed; nothing is imported."
    for folder in (root / "src", root):
        for file in (folder / name / "__init__.py", folder / f"{name}.py"):
            if file.is_file():
                return file
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    return Path(found.origin) if found is not None and found.origin else None


def distribution(package: str) -> importlib.metadata.Distribution | None:
    "The installed distribution of that name."
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def entry_points(root: Path, package: str) -> set[str]:
    "The entry points of a package: those its installed distribution declares, and those in the bundle's own pyproject.toml."
    found = distribution(package)
    names = {e.name for e in found.entry_points} if found is not None else set[str]()
    file = root / "pyproject.toml"
    about = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}) if file.is_file() else {}
    if _plain(about.get("name", "")) == _plain(package):
        groups = [*about.get("entry-points", {}).values(), about.get("scripts", {})]
        names.update(name for group in groups for name in group)
    return names


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _names(module: Path) -> set[str]:
    "The names a module defines or imports at its top, read without running it."
    tree = ast.parse(module.read_text(encoding="utf-8")) if module.suffix == ".py" else ast.Module([], [])
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    names |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    return names | {a.asname or a.name for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
