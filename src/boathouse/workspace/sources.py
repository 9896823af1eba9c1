"""The code a task runs: notebooks, scripts and wheel entry points exist before anything starts."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

from packaging.utils import canonicalize_name

from boathouse.workspace.artifacts import Project, artifacts_of, project_in
from boathouse.workspace.asked import Asked, asked
from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.jobs import Job, TaskSource

HEADERS = {".py": "# Databricks notebook source", ".sql": "-- Databricks notebook source", ".scala": "// Databricks notebook source"}
HEADERS[".r"] = HEADERS[".py"]


def source_problems(job: Job, source: TaskSource) -> Iterator[BundleError]:
    "What is wrong with the file or entry point of a task, or with what it asks to have installed."
    try:
        asked(job, source)
    except BundleError as e:
        yield e
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
    "A wheel task calls what its checkout, this environment or one of the wheels and libraries that it asks for has, as far as can be told unbuilt."
    root = job.bundle.root
    problems = list(entry_point_problems(source, folders_of(root), root))
    if not problems:
        return
    try:
        lines = asked(job, source)
    except BundleError:
        return  # said with its own place
    package, entry = source.body.package_name, source.body.entry_point
    makers = artifacts_of(job.bundle)
    for one in lines:
        built = [a.project for a in makers if a.makes(one.path)] if one.kind == "wheel" else []
        known = [project_in(one.path)] if one.kind == "project" else built
        for project in known:
            if project is None or (canonicalize_name(project.name) == canonicalize_name(package) and _has(project, entry)):
                return
        if not known and _may_hold(one, package):
            return
    yield from problems


def _has(project: Project, entry: str) -> bool:
    module = module_file(folders_of(project.folder), module_name(project.name))
    return entry in project.entry_points or module is None or entry in _names(module)


def _may_hold(one: Asked, package: str) -> bool:
    "Whether what a line asks for may hold a package, by its name."
    if one.kind == "wheel":
        return any(canonicalize_name(w.name.split("-")[0]) == canonicalize_name(package) for w in one.wheels) or one.text.startswith("/")
    named = one.requirement
    return one.kind == "requirement" and (named is None or canonicalize_name(named.name) == canonicalize_name(package))


def entry_point_problems(source: TaskSource, folders: Sequence[Path], checkout: Path | None) -> Iterator[BundleError]:
    """What is wrong with the package or entry point of a wheel task that imports from `folders` first, then from this environment.

    The `checkout` has the last word on entry points where there is one; without it, what is installed from a checkout does not count.
    """
    package, entry = source.body.package_name, source.body.entry_point
    found = next(iter(importlib.metadata.distributions(name=package, path=[str(f) for f in folders])), None) or distribution(package)
    if checkout is None and editable_folder(found) is not None:
        found = None
    points = {e.name for e in found.entry_points} if found is not None else set[str]()
    about = project_in(checkout) if checkout is not None else None
    if about is not None and canonicalize_name(about.name) == canonicalize_name(package):
        points |= about.entry_points
    if entry in points:
        return
    module = module_file(folders, module_name(package))
    if module is None and (checkout is not None or found is not None):
        module = _installed_module(module_name(package))
    at = source.at("python_wheel_task", "entry_point")
    if not points and module is None and found is None:
        at = source.at("python_wheel_task", "package_name")
        hint = (
            "Name the wheel that holds it in the task's 'libraries' or environment."
            if checkout is None
            else "Name its wheel in the task's 'libraries' or environment, or install it into this environment."
        )
        yield BundleError(
            f"the package '{package}' is not {'in a wheel of this task' if checkout is None else 'installed here'}.", at, hint
        )
    elif module is None or entry not in _names(module):
        yield BundleError(f"'{package}' has no entry point '{entry}'.", at, did_you_mean(entry, points))


def folders_of(root: Path) -> list[Path]:
    "Where a project in `root` keeps its modules."
    return [root / "src", root]


def module_name(package: str) -> str:
    "The module that a distribution's name suggests."
    return package.replace("-", "_").replace(".", "_")


def module_file(folders: Sequence[Path], name: str) -> Path | None:
    "The file of a module in one of the folders; nothing is imported."
    files = (file for folder in folders for file in (folder / name / "__init__.py", folder / f"{name}.py"))
    return next((file for file in files if file.is_file()), None)


def _installed_module(name: str) -> Path | None:
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    return Path(found.origin) if found is not None and found.origin else None


def distribution(package: str) -> importlib.metadata.Distribution | None:
    "The installed distribution of that name."
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def editable_folder(found: importlib.metadata.Distribution | None) -> Path | None:
    "The checkout that a distribution of the running environment is installed from, if it is an editable one."
    said = found.read_text("direct_url.json") if found is not None else None
    about = json.loads(said) if said else {}
    return Path(unquote(urlparse(about["url"]).path)) if about.get("dir_info", {}).get("editable") else None


def _names(module: Path) -> set[str]:
    "The names a module defines or imports at its top, read without running it."
    tree = ast.parse(module.read_text(encoding="utf-8")) if module.suffix == ".py" else ast.Module([], [])
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    names |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    return names | {a.asname or a.name for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
