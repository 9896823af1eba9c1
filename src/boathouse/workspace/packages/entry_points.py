"""Find the code that a task runs, before anything starts: notebooks, scripts and wheel entry points."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.packages.pyproject import module_file, names_in, project_in

HEADERS = {".py": "# Databricks notebook source", ".sql": "-- Databricks notebook source", ".scala": "// Databricks notebook source"}
HEADERS[".r"] = HEADERS[".py"]


def task_file(job: Job, source: TaskSource) -> Path:
    "Return the notebook or script of a task."
    kind, field = ("notebook_task", "notebook_path") if source.task.notebook_task else ("spark_python_task", "python_file")
    text = getattr(source.body, field)
    path = job.file(source.at(kind, field), text)
    if kind == "notebook_task" and Path(text).is_absolute() and not path.is_file():
        # As `${workspace.file_path}/src/report`: a workspace names notebooks without their extension.
        return next((p for suffix in (".ipynb", ".py") if (p := path.with_name(path.name + suffix)).is_file()), path)
    return path


def is_notebook(path: Path) -> bool:
    "Return whether a file is a notebook by the rules of the platform."
    if path.suffix.lower() == ".ipynb":
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, UnicodeDecodeError):
            return False
        return isinstance(content, dict) and "cells" in content and "metadata" in content and content.get("nbformat", 0) >= 4
    header = HEADERS.get(path.suffix.lower())
    with path.open(encoding="utf-8", errors="replace") as lines:
        return header is not None and lines.readline().rstrip() == header


def entry_point_problems(source: TaskSource, folders: Sequence[Path], checkout: Path | None) -> Iterator[BundleError]:
    """Yield what is wrong with the package or entry point of a wheel task that imports from `folders` first, then from this environment.

    If there is a `checkout`, its entry points decide. Without one, packages installed from a checkout do not count.
    """
    package, entry = source.body.package_name, source.body.entry_point
    found = next(iter(importlib.metadata.distributions(name=package, path=[str(f) for f in folders])), None) or distribution(package)
    if checkout is None and editable_folder(found) is not None:
        found = None
    points = {e.name for e in found.entry_points} if found is not None else set[str]()
    about = project_in(checkout) if checkout is not None else None
    if about is not None and about.is_called(package):
        points |= set(about.entry_points or ())
    if entry in points:
        return
    module = module_file(folders, module_name(package))
    if module is None and (checkout is not None or found is not None):
        module = installed_module(module_name(package))
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
    elif module is None or ((names := names_in(module)) is not None and entry not in names):
        yield BundleError(f"'{package}' has no entry point '{entry}'.", at, did_you_mean(entry, points))


def folders_of(root: Path) -> list[Path]:
    "Return the folders in which a project in `root` keeps its modules."
    return [root / "src", root]


def module_name(package: str) -> str:
    "Return the module name that a distribution's name suggests."
    return package.replace("-", "_").replace(".", "_")


def installed_module(name: str) -> Path | None:
    "Return the file of a module of this environment."
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    return Path(found.origin) if found is not None and found.origin else None


def distribution(package: str) -> importlib.metadata.Distribution | None:
    "Return the installed distribution of that name."
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def editable_folder(found: importlib.metadata.Distribution | None) -> Path | None:
    "Return the checkout from which a distribution of this environment is installed, if the installation is editable."
    direct_url = found.read_text("direct_url.json") if found is not None else None
    about = json.loads(direct_url) if direct_url else {}
    return Path(unquote(urlparse(about["url"]).path)) if about.get("dir_info", {}).get("editable") else None
