"""The `dbutils` of a task in the local workspace: widgets, task values, notebooks, files of volumes, secrets.

Methods and errors follow Databricks' own. `fs` reads `/Volumes/catalog/schema/volume/...` from the state folder of the target.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from boathouse.workspace.worker.dbutils.fs import Fs
from boathouse.workspace.worker.dbutils.help import Utility
from boathouse.workspace.worker.dbutils.secrets import Secrets
from boathouse.workspace.worker.dbutils.widgets import Widgets

__all__ = ["DbUtils", "Fs", "Jobs", "Library", "NotebookExit", "Notebooks", "Secrets", "TaskValues", "Widgets"]

VALUE_LIMIT = 48 * 1024


class NotebookExit(BaseException):
    "End a notebook as a success, also inside `except Exception`; `value` is its exit value."

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


class TaskValues(Utility):
    "Values that tasks of one run hand on: JSON, at most 48 KiB each."

    def __init__(self, upstream: Mapping[str, Mapping[str, Any]], in_job: bool, loop: str = "") -> None:
        self._upstream, self._in_job, self._loop = upstream, in_job, loop
        self.set_here: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        "Hands on a value of this task to the tasks after it; does nothing outside a job."
        if self._loop:
            raise ValueError(f"task value '{key}' was set in an iteration of the for_each_task '{self._loop}', where it is not allowed")
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"task value '{key}' must be JSON: {error}") from None
        if len(text.encode()) > VALUE_LIMIT:
            raise ValueError(f"task value '{key}' takes {len(text.encode())} bytes of JSON; the limit is {VALUE_LIMIT} (48 KiB)")
        if self._in_job:
            self.set_here[key] = json.loads(text)

    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:
        "The value that a task above this one set, else the default; outside a job, debugValue."
        if not self._in_job:
            if debugValue is None:
                raise TypeError("Must pass debugValue when calling get outside of a job context. debugValue cannot be None.")
            return debugValue
        if taskKey not in self._upstream:
            raise ValueError(
                f"no task '{taskKey}' is upstream of this one. Upstream tasks are: {', '.join(sorted(self._upstream)) or 'none'}."
            )
        if key in self._upstream[taskKey]:
            return self._upstream[taskKey][key]
        if default is not None:
            return default
        raise ValueError(f"the task '{taskKey}' set no task value '{key}', and there is no default. "
                         f"Its task values are: {', '.join(sorted(self._upstream[taskKey])) or 'none'}.")  # fmt: skip


class Jobs(Utility):
    "What is of use in a job."

    def __init__(self, task_values: TaskValues) -> None:
        self.taskValues = task_values


class Notebooks(Utility):
    "`exit` ends the notebook, `run` runs another one and returns its exit value."

    def __init__(self, runner: Callable[[str, int, Mapping[str, str]], str] | None = None) -> None:
        self._runner = runner

    def exit(self, value: Any = "") -> None:
        "Ends the notebook as a success with this value."
        raise NotebookExit(str(value))

    def run(self, path: str, timeout_seconds: int = 0, arguments: Mapping[str, Any] | None = None) -> str:
        "Runs another notebook with these widget values, at most so many seconds (0: without limit), and returns its exit value."
        if self._runner is None:
            raise RuntimeError("dbutils.notebook.run works in notebook tasks only")
        return self._runner(path, timeout_seconds, {key: str(value) for key, value in (arguments or {}).items()})


class Library(Utility):
    "Dependencies come from the project's environment: nothing to restart."

    def restartPython(self) -> None:
        "Does nothing here."
        return


@dataclass(frozen=True)
class DbUtils(Utility):
    "The `dbutils` of one task, or of one notebook that a task runs: fs, jobs, library, notebook, secrets, widgets; each has a help()."

    widgets: Widgets
    jobs: Jobs
    fs: Fs
    notebook: Notebooks
    secrets: Secrets
    library: Library

    def help(self, name: str = "") -> None:
        "Prints the modules."
        for field in fields(self):
            print(f"{field.name}: {inspect.getdoc(getattr(self, field.name))}")

    @staticmethod
    def make(
        volumes: Path,
        widgets: Mapping[str, str] | None = None,
        task_values: TaskValues | None = None,
        runner: Callable[[str, int, Mapping[str, str]], str] | None = None,
        secrets: Secrets | None = None,
        project: Path | None = None,
    ) -> DbUtils:
        """Create the `dbutils` over the volumes folder of a state. Without `task_values` it behaves as outside any job.

        `fs` writes to that state and to `project`, the bundle's root.
        """
        jobs = Jobs(task_values or TaskValues({}, in_job=False))
        return DbUtils(Widgets(widgets or {}), jobs, Fs(volumes, project), Notebooks(runner), secrets or Secrets(), Library())
