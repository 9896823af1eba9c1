"""`dbutils` as a task of the local workspace finds it: widgets, task values, notebooks, files of volumes, secrets.

The surface and the errors follow Databricks' own; `fs` reads `/Volumes/catalog/schema/volume/...` from the workspace's state folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

VALUE_LIMIT = 48 * 1024
WIDGET_LIMIT = 2048


class NotebookExit(BaseException):
    "Ends a notebook as a success, whatever `except Exception` stands around the call; `value` is its exit value."

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


class Widgets:
    "Parameters of a notebook: what the job passes, else the default that the notebook declared."

    def __init__(self, passed: Mapping[str, str]) -> None:
        self._passed, self._defaults = dict(passed), dict[str, str]()

    def text(self, name: str, defaultValue: str, label: str | None = None) -> None:
        if len(str(defaultValue).encode()) > WIDGET_LIMIT:
            raise ValueError(f"the default of widget '{name}' is longer than {WIDGET_LIMIT} bytes")
        self._defaults[name] = str(defaultValue)

    def dropdown(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        if defaultValue not in choices:
            raise ValueError(f"the default '{defaultValue}' of widget '{name}' is none of its choices: {', '.join(map(str, choices))}")
        self.text(name, defaultValue, label)

    def combobox(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        self.text(name, defaultValue, label)

    def multiselect(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        self.dropdown(name, defaultValue, choices, label)

    def get(self, name: str) -> str:
        known = self.getAll()
        if name not in known:
            raise ValueError(f"InputWidgetNotDefined: no input widget named '{name}' is defined; there are: {', '.join(sorted(known)) or 'none'}")
        return known[name]

    def getAll(self) -> dict[str, str]:
        return {**self._defaults, **self._passed}

    def getArgument(self, name: str, defaultValue: str | None = None) -> str:
        known = self.getAll()
        return self.get(name) if defaultValue is None or name in known else defaultValue

    def remove(self, name: str) -> None:
        self._defaults.pop(name, None)

    def removeAll(self) -> None:
        self._defaults.clear()


class TaskValues:
    "Values that tasks of one run hand on: JSON, at most 48 KiB each."

    def __init__(self, upstream: Mapping[str, Mapping[str, Any]], in_job: bool) -> None:
        self._upstream, self._in_job = upstream, in_job
        self.set_here: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"task value '{key}' is not JSON: {error}") from None
        if len(text.encode()) > VALUE_LIMIT:
            raise ValueError(f"task value '{key}' takes {len(text.encode())} bytes of JSON; the limit is {VALUE_LIMIT} (48 KiB)")
        self.set_here[key] = json.loads(text)

    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:
        if not self._in_job:
            if debugValue is None:
                raise TypeError("Must pass debugValue when calling get outside of a job context. debugValue cannot be None.")
            return debugValue
        found = self._upstream.get(taskKey, {})
        if key in found:
            return found[key]
        if default is not None:
            return default
        raise ValueError(f"no task value '{key}' was set by a task '{taskKey}' upstream of this one, and there is no default. "
                         f"Upstream tasks: {', '.join(sorted(self._upstream)) or 'none'}.")  # fmt: skip


class FileInfo(NamedTuple):
    "One entry of `fs.ls`."

    path: str
    name: str
    size: int
    modificationTime: int

    def isDir(self) -> bool:
        return self.name.endswith("/")

    def isFile(self) -> bool:
        return not self.isDir()


class Files:
    "Files of volumes and of this machine. `/Volumes/...` and `dbfs:/Volumes/...` mean the workspace's volumes."

    def __init__(self, volumes: Path) -> None:
        self._volumes = volumes

    def local(self, path: str) -> Path:
        "Where `path` lies on this machine."
        plain = re.sub(r"^(dbfs|file):/*(?=/)", "", str(path)) if re.match(r"^(dbfs|file):/", str(path)) else str(path)
        if re.match(r"^[a-z][a-z0-9+.-]+:/", plain):
            raise ValueError(f"{path}: only volumes (/Volumes/catalog/schema/volume/...) and local files are reachable here")
        if plain == "/Volumes" or plain.startswith("/Volumes/"):
            inside = (self._volumes / plain.removeprefix("/Volumes").lstrip("/")).resolve()
            if not inside.is_relative_to(self._volumes.resolve()):
                raise ValueError(f"{path} leaves the volumes")
            return inside
        return Path(plain)

    def ls(self, path: str) -> list[FileInfo]:
        found = self.local(path)
        if not found.exists():
            raise FileNotFoundError(f"No such file or directory: {path}")
        entries = sorted(found.iterdir()) if found.is_dir() else [found]
        base = str(path).rstrip("/") if found.is_dir() else str(path).rpartition("/")[0]
        return [_info(base, entry) for entry in entries]

    def head(self, file: str, maxBytes: int = 65536) -> str:
        with self.local(file).open("rb") as opened:
            return opened.read(maxBytes).decode(errors="replace")

    def put(self, file: str, contents: str, overwrite: bool = False) -> bool:
        target = self.local(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w" if overwrite else "x", encoding="utf-8") as opened:
            opened.write(contents)
        return True

    def mkdirs(self, dir: str) -> bool:
        self.local(dir).mkdir(parents=True, exist_ok=True)
        return True

    def cp(self, from_: str, to: str, recurse: bool = False) -> bool:
        source, target = self.local(from_), self.local(to)
        if source.is_dir():
            if not recurse:
                raise IsADirectoryError(f"{from_} is a folder: pass recurse=True")
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        return True

    def mv(self, from_: str, to: str, recurse: bool = False) -> bool:
        source, target = self.local(from_), self.local(to)
        if source.is_dir() and not recurse:
            raise IsADirectoryError(f"{from_} is a folder: pass recurse=True")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
        return True

    def rm(self, dir: str, recurse: bool = False) -> bool:
        target = self.local(dir)
        if not target.exists():
            return False
        if target.is_dir() and (recurse or not any(target.iterdir())):
            shutil.rmtree(target)
        elif target.is_dir():
            raise IsADirectoryError(f"{dir} is not empty: pass recurse=True")
        else:
            target.unlink()
        return True


def _info(base: str, entry: Path) -> FileInfo:
    stat, name = entry.stat(), entry.name + ("/" if entry.is_dir() else "")
    return FileInfo(f"{base}/{name}", name, 0 if entry.is_dir() else stat.st_size, int(stat.st_mtime * 1000))


@dataclass(frozen=True)
class SecretMetadata:
    "The name of a secret in a scope."

    key: str


@dataclass(frozen=True)
class SecretScope:
    "The name of a scope."

    name: str


class Secrets:
    "Secrets from the environment: `BOATHOUSE_SECRET_<SCOPE>_<KEY>`, in capitals, other signs as underscores."

    PREFIX = "BOATHOUSE_SECRET_"

    def get(self, scope: str, key: str) -> str:
        name = f"{self.PREFIX}{_shout(scope)}_{_shout(key)}"
        if name not in os.environ:
            raise ValueError(f"Secret does not exist with scope: {scope} and key: {key}. Set the environment variable {name}.")
        return os.environ[name]

    def getBytes(self, scope: str, key: str) -> bytes:
        return self.get(scope, key).encode()

    def list(self, scope: str) -> list[SecretMetadata]:
        start = f"{self.PREFIX}{_shout(scope)}_"
        return [SecretMetadata(name.removeprefix(start).lower()) for name in sorted(os.environ) if name.startswith(start)]

    def listScopes(self) -> list[SecretScope]:
        names = {name.removeprefix(self.PREFIX).split("_")[0].lower() for name in os.environ if name.startswith(self.PREFIX)}
        return [SecretScope(name) for name in sorted(names)]


def _shout(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


class Notebooks:
    "`exit` ends the notebook, `run` runs another one and returns its exit value."

    def __init__(self, runner: Callable[[str, int, Mapping[str, str]], str] | None = None) -> None:
        self._runner = runner

    def exit(self, value: Any = "") -> None:
        raise NotebookExit(str(value))

    def run(self, path: str, timeout_seconds: int = 0, arguments: Mapping[str, Any] | None = None) -> str:
        if self._runner is None:
            raise RuntimeError("dbutils.notebook.run works in notebook tasks only")
        return self._runner(path, timeout_seconds, {key: str(value) for key, value in (arguments or {}).items()})


class Library:
    "Dependencies come from the project's environment: nothing to restart."

    def restartPython(self) -> None:
        return


@dataclass(frozen=True)
class DbUtils:
    "The `dbutils` of one task, or of one notebook that a task runs."

    widgets: Widgets
    jobs: types.SimpleNamespace
    fs: Files
    notebook: Notebooks
    secrets: Secrets
    library: Library

    @staticmethod
    def make(
        volumes: Path,
        widgets: Mapping[str, str] | None = None,
        task_values: TaskValues | None = None,
        runner: Callable[[str, int, Mapping[str, str]], str] | None = None,
    ) -> DbUtils:
        "A `dbutils` over the volumes folder; without `task_values` it is one outside any job."
        jobs = types.SimpleNamespace(taskValues=task_values or TaskValues({}, in_job=False))
        return DbUtils(Widgets(widgets or {}), jobs, Files(volumes), Notebooks(runner), Secrets(), Library())


def register(spark: Any, utilities: DbUtils, display: Callable[..., None]) -> dict[str, Any]:
    """Makes `databricks.sdk.runtime` and `pyspark.dbutils` importable in this process, and returns the names a notebook starts with.

    Databricks' own `databricks.sdk.runtime` asks a workspace for credentials as soon as it is imported.
    """
    names = {"spark": spark, "dbutils": utilities, "display": display, "displayHTML": display_html, "sql": spark.sql, "table": spark.table,
             "sc": spark.sparkContext, "getArgument": utilities.widgets.getArgument}  # fmt: skip
    runtime = types.ModuleType("databricks.sdk.runtime", "The names a Databricks notebook starts with, from the local workspace.")
    vars(runtime).update(names)
    sys.modules["databricks.sdk.runtime"] = runtime
    if (parent := sys.modules.get("databricks.sdk")) is not None:
        parent.runtime = runtime  # type: ignore[attr-defined]
    module = types.ModuleType("pyspark.dbutils", "`DBUtils(spark)`, as on a Databricks cluster.")
    vars(module)["DBUtils"] = lambda spark=None: utilities
    sys.modules["pyspark.dbutils"] = module
    return names


def display_html(html: str) -> None:
    "Shows HTML in a notebook; outside one there is nowhere to show it."
    from IPython.display import HTML, display

    display(HTML(html))
