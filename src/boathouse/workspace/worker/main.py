"""Run a task in its own process.

Set up its log, environment, path and session, run the wheel entry point, script or notebook, and write the result.
"""

from __future__ import annotations

import atexit
import difflib
import hashlib
import importlib
import importlib.metadata
import json
import os
import runpy
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from boathouse.workspace.history.mlflow_runs import JOB, TASK_RUN
from boathouse.workspace.packages.pyproject import project_in
from boathouse.workspace.spark.volume_paths import disks, explanation, refuse_in_process
from boathouse.workspace.task.session import attach
from boathouse.workspace.task.spec import TaskResult, TaskSpec
from boathouse.workspace.worker.dbutils import fs
from boathouse.workspace.worker.dbutils.injected_names import install_names
from boathouse.workspace.worker.dbutils.utilities import DbUtils, NotebookExit, Secrets, TaskValues

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SKIPPED = {"__pycache__", "node_modules", "build", "dist"}


Run = Callable[[TaskSpec, "SparkSession", Path, TaskValues, Secrets], str | None]


class TaskError(Exception):
    "Signal that a task cannot start as it is described."


def run_request(request: Mapping[str, Any]) -> None:
    "Run one task until it ends and exit the process; `result.json` is written last."
    spec = TaskSpec.from_dict(request["spec"])
    _redirect(spec.folder / "log.txt")
    values, secrets = TaskValues(spec.values, in_job=True, loop=spec.context.get("loop", "")), Secrets()
    error: BaseException | None = None
    exit_value = None
    try:
        runner = _runner(spec.kind)
        _settle(spec, request)
        exit_value = runner(spec, *_attach(spec, request), values, secrets)
    except NotebookExit as ended:
        exit_value = ended.value
    except SystemExit as ended:
        error = ended if ended.code not in (None, 0) else None
    except BaseException as caught:
        error = caught
    result = _result(error, exit_value, values, secrets, explanation(error, *_volumes(spec, request), fs.__file__) if error else "")
    _leave(spec.folder, result)


def _redirect(log: Path) -> None:
    "Redirect the output of this process and its children to `log`."
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]


def _settle(spec: TaskSpec, request: Mapping[str, Any]) -> None:
    os.environ.clear()  # this process began as a copy of the cluster's; replace its environment by that of the client
    os.environ.update(request["environ"] | request["environment"] | request["tag"])
    os.environ.setdefault("MPLBACKEND", "agg")
    os.environ.update({f"BOATHOUSE_{key.upper()}": value for key, value in spec.context.items()})
    os.environ.setdefault("MLFLOW_RUN_CONTEXT", json.dumps(_run_tags(spec.context)))  # MLflow adds these tags to the runs of this process
    os.environ.update(spec.env)
    time.tzset()
    _set_path(spec)
    refuse_in_process(*_volumes(spec, request))
    # On Databricks a wheel task does not run in the project's files; scripts and notebooks change to their own folder below.
    os.chdir(spec.project if spec.checkout or spec.kind != "wheel" else spec.folder)
    _forget_own_package(import_folders(spec))
    importlib.invalidate_caches()


def _run_tags(context: Mapping[str, str]) -> dict[str, str]:
    "Return the tags with which Databricks records the job and the task run of an MLflow run."
    names = {JOB: "job_id", TASK_RUN: "run_id"}
    return {tag: context[name] for tag, name in names.items() if name in context}


def _volumes(spec: TaskSpec, request: Mapping[str, Any]) -> tuple[Path, frozenset[str]]:
    "Return the folder of the workspace's volumes, and the disks of this machine that lie below `/Volumes`."
    state = Path(request["state"])
    return state / "volumes", disks(state, spec.project, sys.prefix, tempfile.gettempdir())


def import_folders(spec: TaskSpec) -> list[Path]:
    "Return the folders that a task imports from first: installed packages, then the checkout."
    return [*spec.paths, *([spec.project / "src", spec.project] if spec.checkout else [])]


def _set_path(spec: TaskSpec) -> None:
    first = [str(folder) for folder in import_folders(spec)]
    kept = [entry for entry in sys.path if entry not in first and (spec.checkout or not _of_checkout(entry, spec.project))]
    sys.path[:] = [*first, *kept]
    if not spec.checkout:
        sys.meta_path[:] = [finder for finder in sys.meta_path if not _finds_checkout(finder, spec.project)]


def _of_checkout(entry: str, project: Path) -> bool:
    "Return whether an entry of the path belongs to the project's source, and not to a virtual environment inside it."
    folder = Path(entry or ".").resolve()
    return folder.is_relative_to(project) and not folder.is_relative_to(sys.prefix)


def _finds_checkout(finder: Any, project: Path) -> bool:
    "Return whether the import hook of an editable installation leads into the project. Setuptools keeps its folders in `MAPPING`."
    mapping = getattr(sys.modules.get(getattr(finder, "__module__", "")), "MAPPING", None)
    return isinstance(mapping, dict) and any(_of_checkout(str(folder), project) for folder in mapping.values())


def _forget_own_package(folders: list[Path]) -> None:
    "Forget the imported `boathouse` if the project or a wheel has its own, so that the task imports that one."
    ours = Path(__file__).parents[2] / "__init__.py"
    theirs = next((file for folder in folders if (file := folder / "boathouse" / "__init__.py").is_file()), ours)
    if not theirs.samefile(ours):
        for name in [name for name in sys.modules if name == "boathouse" or name.startswith("boathouse.")]:
            del sys.modules[name]


def _runner(kind: str) -> Run:
    "Return the function that runs a task of this kind. It is imported before the project's own modules come first on the path."
    if kind == "notebook":
        from boathouse.workspace.worker.notebook.execute import run_task

        return run_task
    return _run_wheel if kind == "wheel" else _run_script


def _attach(spec: TaskSpec, request: Mapping[str, Any]) -> tuple[SparkSession, Path]:
    "Attach the process to the task's session; return it with the folder of the workspace's volumes."
    spark = attach(request["port"], request["token"])
    folders = import_folders(spec)
    # The names of folders installed in the state folder contain a hash of their content.
    sources = [source_hash(f) for f in folders if f not in (spec.project, spec.project / "src") and not f.is_relative_to(request["state"])]
    sources += [source_hash(spec.project)] if spec.checkout else []
    worker = {"PYTHONPATH": os.pathsep.join(map(str, folders)), "BOATHOUSE_SOURCE": " ".join(sources)}
    # Spark reuses Python workers by their environment. New source means new workers, so that no UDF runs old code.
    spark.sparkContext.environment.update(request["environment"] | worker)
    return spark, Path(request["state"]) / "volumes"


def _run_wheel(spec: TaskSpec, spark: SparkSession, volumes: Path, values: TaskValues, secrets: Secrets) -> None:
    install_names(spark, DbUtils.make(volumes, {}, values, secrets=secrets, project=spec.project), _show)
    sys.argv = [str(spec.entry_point), *spec.argv]
    find_entry_point(spec.project if spec.checkout else None, str(spec.package), str(spec.entry_point))()


def _run_script(spec: TaskSpec, spark: SparkSession, volumes: Path, values: TaskValues, secrets: Secrets) -> None:
    names = install_names(spark, DbUtils.make(volumes, {}, values, secrets=secrets, project=spec.project), _show)
    file = Path(str(spec.file))
    if not file.is_file():
        raise TaskError(f"there is no file {file}")
    sys.argv = [str(file), *spec.argv]
    os.chdir(file.parent)  # as on Databricks: relative paths in a script start at its folder
    sys.path.insert(0, str(file.parent))
    runpy.run_path(str(file), init_globals=names, run_name="__main__")


def _show(*things: Any, **_: Any) -> None:
    "Print tables as text: `display` outside a notebook."
    for thing in things:
        thing.show() if hasattr(thing, "show") and hasattr(thing, "schema") else print(thing)


def source_hash(project: Path) -> str:
    "Return a hash that changes when a Python file changes that the project's tasks may import."
    root, seen = (project / "src" if (project / "src").is_dir() else project), hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith(".") and not name.endswith(".egg-info"))
        for name in sorted(name for name in files if name.endswith(".py")):
            file = Path(folder, name)
            seen.update(f"{file.relative_to(root)}:".encode() + file.read_bytes())
    return seen.hexdigest()[:16]


def find_entry_point(project: Path | None, package: str, name: str) -> Callable[[], Any]:
    """Return the function that a wheel task calls.

    It is the entry point `name` (of any group) of distribution `package`, else the attribute `name` of module `package`.
    The project's own files count as the metadata of its wheel, so that an edit there needs no new installation.
    """
    points = {point.name: point.value for point in _installed(package)} | dict(_declared(project, package) if project else {})
    if name in points:
        return importlib.metadata.EntryPoint(name, points[name], "").load()
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ModuleNotFoundError as error:
        if error.name != package.replace("-", "_"):
            raise
        module = None
    if callable(found := getattr(module, name, None)):
        return found
    near = difflib.get_close_matches(name, points, 1)
    hint = (
        f" Did you mean '{near[0]}'?"
        if near
        else f" It has: {', '.join(sorted(points))}."
        if points
        else " It is not installed, or has none."
    )
    raise TaskError(f"package '{package}' has no entry point '{name}'.{hint}")


def _declared(project: Path, package: str) -> Mapping[str, str]:
    found = project_in(project)
    return (found.entry_points or {}) if found is not None and found.is_called(package) else {}


def _installed(package: str) -> list[importlib.metadata.EntryPoint]:
    try:
        return list(importlib.metadata.distribution(package).entry_points)
    except importlib.metadata.PackageNotFoundError:
        return []


def _result(error: BaseException | None, exit_value: str | None, values: TaskValues, secrets: Secrets, more: str = "") -> TaskResult:
    if error is None:
        return TaskResult("SUCCESS", exit_value=exit_value, values=values.set_here)
    trace = "".join(traceback.format_exception(type(error), error, _own_frames(error.__traceback__)))
    print(trace, file=sys.stderr)
    headline = error_headline(error, secrets._redacted) + more + _place(error)
    return TaskResult("FAILED", error=headline, trace=secrets._redacted(trace), values=values.set_here)


def error_headline(error: BaseException, redact: Callable[[str], str] = str) -> str:
    "Return one line about the error: its class and the first line of its message, after `redact`."
    if isinstance(error, SystemExit):
        return f"SystemExit: {redact(error.code)}" if isinstance(error.code, str) else f"exit code {error.code}"
    lines = redact(str(error)).strip().splitlines()
    if type(error).__name__ == "Py4JJavaError" and len(lines) > 1:
        return f"{type(error).__name__}: {lines[1].removeprefix(': ')}"  # the first line names a call, the second the error
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _place(error: BaseException) -> str:
    "Return the notebook cell that raised the error."
    return f" ({error.place})" if hasattr(error, "place") else ""


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    "Return the traceback from the first frame that does not belong to the workspace."
    here = str(Path(__file__).parents[1])
    while trace is not None and (trace.tb_frame.f_code.co_filename.startswith((here, "<frozen runpy"))):
        trace = trace.tb_next
    return trace


def _leave(folder: Path, result: TaskResult) -> None:
    """End the process as an interpreter does, then record the result.

    Wait for threads and run exit handlers first. Skip the cleanup of imported modules.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    result.write(folder)
    os._exit(0 if result.state == "SUCCESS" else 1)


def main() -> None:
    """Run a task in a new interpreter.

    The request is one line on standard input. The input then stays open as long as the parent process lives.
    """
    leash = os.dup(0)
    with os.fdopen(os.dup(0), "rb", closefd=True) as given:
        request = json.loads(given.readline())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_follow, args=(leash,), daemon=True).start()
    run_request(request)


def _follow(leash: int) -> None:
    os.read(leash, 1)
    os.killpg(0, 9)


if __name__ == "__main__":
    main()
