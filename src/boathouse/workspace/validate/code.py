"""Check that the code of a task exists before anything starts: notebooks, scripts, files and wheel entry points."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import BundleError, Where, did_you_mean
from boathouse.workspace.packages.entry_points import HEADERS, installed_module, is_notebook, module_name, task_file
from boathouse.workspace.packages.pyproject import module_file, names_in, same_name
from boathouse.workspace.packages.requirements import dependencies_of
from boathouse.workspace.problems import Problem, problem
from boathouse.workspace.validate.tasks import is_local
from boathouse.workspace.validate.wheels import built_packages, installed_entry_points

RUN_HERE = (".ipynb", ".py", ".sql")


def problems(job: Job, source: TaskSource) -> Iterator[Problem]:
    "Yield what is wrong with the files, the entry point or the requirements of a task."
    if source.task.notebook_task is not None:
        yield from _notebook(job, source)
    elif source.task.spark_python_task is not None:
        yield from _script(job, source)
    elif source.task.python_wheel_task is not None:
        yield from _wheel(job, source)
    files = list(_files(job, source))
    yield from files
    try:
        dependencies_of(job, source)
    except BundleError as e:
        # An undeclared environment and a missing file have their own rules.
        if e.where not in {source.at("environment_key"), *(p.error.where for p in files)}:
            yield Problem("library", e)


def code_file(job: Job, source: TaskSource) -> Path | None:
    "Return the notebook or script of a task, if it exists."
    if source.kind not in ("notebook_task", "spark_python_task"):
        return None
    file = task_file(job, source)
    return file if file.is_file() else None


def relative_name(job: Job, path: Path) -> str:
    "Return a path as a message shows it: relative to the bundle if it is inside."
    root = job.bundle.root
    return f"'{path.relative_to(root)}'" if path.is_relative_to(root) else f"'{os.path.relpath(path, root)}'"


def _notebook(job: Job, source: TaskSource) -> Iterator[Problem]:
    at, path, text = source.at("notebook_task", "notebook_path"), task_file(job, source), source.body.notebook_path
    if _is_git(job, source) or "${" in text:
        return
    if not path.is_file():
        if Path(text).is_absolute() and not path.is_relative_to(job.bundle.root):
            yield problem("workspace-path", f"the notebook '{text}' lies in a workspace, not in the bundle.", at)
            return
        near = next((p for p in path.parent.glob(f"{path.name}.*") if p.is_file()), None)
        hint = f"Write it with its extension: '{near.name}'." if near else _similar(path)
        yield problem("no-notebook", f"there is no notebook {relative_name(job, path)}.", at, hint)
    elif not is_notebook(path):
        hint = f"Its first line must be '{HEADERS.get(path.suffix.lower(), HEADERS['.py'])}'."
        yield problem("not-a-notebook", f"{relative_name(job, path)} is not a notebook.", at, hint if path.suffix != ".ipynb" else "")
    elif path.suffix.lower() not in RUN_HERE:
        message = f"{relative_name(job, path)} is a {path.suffix} notebook, which this machine does not run."
        yield problem("notebook-language", message, at)
    else:
        yield from _outside(job, path, text, at)


def _script(job: Job, source: TaskSource) -> Iterator[Problem]:
    at, path, text = source.at("spark_python_task", "python_file"), task_file(job, source), source.body.python_file
    if _is_git(job, source) or "${" in text:
        return
    if not path.is_file():
        if not is_local(text) and not text.startswith(str(job.bundle.root)):
            yield problem("workspace-path", f"the script '{text}' lies in a workspace or a cloud store, not in the bundle.", at)
        else:
            yield problem("no-script", f"there is no file {relative_name(job, path)}.", at, _similar(path))
    elif is_notebook(path):
        yield problem("script-is-notebook", f"{relative_name(job, path)} is a notebook.", at, "Use a notebook_task.")
    else:
        yield from _outside(job, path, text, at)


def _is_git(job: Job, source: TaskSource) -> bool:
    "Return whether the file comes from a Git repository, which is the default if the job names one."
    stated = source.body.source.value if source.body.source is not None else None
    return stated == "GIT" or (stated is None and job.source.get("git_source") is not None)


def _files(job: Job, source: TaskSource) -> Iterator[Problem]:
    "Yield missing local files that the Databricks CLI requires before it deploys."
    wanted: list[tuple[str, Where]] = []
    libraries = source.node.get("libraries")
    for library in libraries if isinstance(libraries, List) else ():
        if isinstance(library, Map) and isinstance(library.get("requirements"), str):
            wanted.append((library["requirements"], library.values_at["requirements"]))
    for path in (("sql_task", "file", "path"), ("dbt_task", "project_directory")):
        node = source.node
        for step in path[:-1]:
            below = node.get(step)
            node = below if isinstance(below, Map) else Map(node.at)
        if isinstance(node.get(path[-1]), str) and str(node.get("source")) != "GIT" and job.source.get("git_source") is None:
            wanted.append((node[path[-1]], where(node, path[-1])))
    for text, at in wanted:
        file = job.file(at, text)
        if is_local(text) and "${" not in text and not file.exists():
            yield problem("no-file", f"there is no file {relative_name(job, file)}.", at, _similar(file))


def _outside(job: Job, path: Path, text: str, at: Where) -> Iterator[Problem]:
    root = sync_root(job)
    if is_local(text) and not path.is_relative_to(root):
        message = f"{relative_name(job, path)} lies outside what the bundle deploys."
        yield problem("outside-sync-root", message, at, "Name its folder, and the bundle's own (`.`), under `sync.paths`.")


def sync_root(job: Job) -> Path:
    "Return the folder with everything that a deployment includes: the bundle's own folder and those of `sync.paths`."
    sync = job.bundle.data.get("sync")
    paths = sync.get("paths") if isinstance(sync, Map) else None
    folders = [job.bundle.root]
    if isinstance(paths, List):
        folders += [job.bundle.path(at, str(text)) for text, at in zip(paths, paths.items_at, strict=True)]
    return Path(os.path.commonpath(folders))


def _similar(path: Path) -> str:
    return did_you_mean(path.name, [p.name for p in path.parent.glob("*")]) if path.parent.is_dir() else ""


def _wheel(job: Job, source: TaskSource) -> Iterator[Problem]:
    package, entry = source.body.package_name, source.body.entry_point
    if "${" in package + entry:
        return
    every = built_packages(job.bundle)
    own = [p for p in every if p.is_called(package)]
    points = own[0].entry_points if own else installed_entry_points(package)
    if points is not None and entry in points:
        return
    folders = tuple(f for p in every for f in (p.folder / "src", p.folder)) or (job.bundle.root / "src", job.bundle.root)
    module = module_file(folders, module_name(package)) or installed_module(module_name(package))
    if not own and points is None and module is None:
        # A package whose name only its build knows may be the one, and so may a wheel that is not built here.
        if all(p.name is not None for p in every) and not _brought(job, source, package):
            at = source.at("python_wheel_task", "package_name")
            hint = did_you_mean(package, [p.name for p in every if p.name])
            other = "Name its wheel in the task's 'libraries' or environment, or install it into this environment."
            yield problem("no-package", f"the package '{package}' is not installed here.", at, hint or other)
        return
    names = names_in(module) if module is not None else set[str]()
    if (own and points is None) or names is None or entry in names:
        return
    at = source.at("python_wheel_task", "entry_point")
    known = sorted(points or ())
    hint = did_you_mean(entry, [*known, *names]) or (f"It has {', '.join(known)}." if known else "It declares none.")
    yield problem("no-entry-point", f"'{package}' has no entry point '{entry}'.", at, hint)


def _brought(job: Job, source: TaskSource, package: str) -> bool:
    "Return whether a library of the task may be the package: it has that name, or its name is not known."
    return any(_may_be(job, text, at, package) for text, at in _asked_for(job, source))


def _asked_for(job: Job, source: TaskSource) -> Iterator[tuple[str, Where]]:
    "Yield the lines that name what a task wants installed, with their places."
    libraries = source.node.get("libraries")
    for library in libraries if isinstance(libraries, List) else ():
        for value in library.values() if isinstance(library, Map) else ():
            yield str(value.get("package") if isinstance(value, Map) else value), library.at
    for environment in job.source.get("environments") or ():
        spec = environment.get("spec")
        lines = spec.get("dependencies") if isinstance(spec, Map) else None
        if environment.get("environment_key") == source.task.environment_key and isinstance(lines, List):
            yield from zip(map(str, lines), lines.items_at, strict=True)


def _may_be(job: Job, line: str, at: Where, package: str) -> bool:
    if ".whl" not in line:
        name = re.split(r"[\s<>=!~;\[@]", line.strip(), maxsplit=1)[0]
        return line.startswith("-") or "/" in line or same_name(name, package)
    path = line[: line.index(".whl") + 4]
    if not is_local(path):
        return "*" in path or same_name(Path(path).name.partition("-")[0], package)
    # Wheels that the bundle builds are known; other wheels must exist under their names.
    names = [Path(p).name for p in (path, *glob(str(job.file(at, path))))]
    return any(same_name(name.partition("-")[0], package) for name in names)
