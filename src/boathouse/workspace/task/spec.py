"Input and result of a task: plain values that travel as JSON between the cluster and the task's process."

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

KINDS = ("wheel", "script", "notebook")
TAG = "BOATHOUSE_TASK_ID"  # environment variable of every process of a task: the id of the task


@dataclass(frozen=True)
class TaskSpec:
    """Describe one attempt of a task.

    `folder` receives `log.txt`, `result.json` and the executed notebook. `project` is the bundle's root, and the task imports from its `src`.
    `catalog` is current, and SQL can name `catalogs`. `paths` precede the project on the Python path.
    Without `checkout`, nothing of the project can be imported except what `paths` contain.
    `values` holds the upstream task values by task key. `context` (job_id, run_id, task_key ...) reaches the task as `BOATHOUSE_<KEY>`.
    """

    kind: str
    folder: Path
    project: Path
    package: str | None = None
    entry_point: str | None = None
    file: Path | None = None
    argv: tuple[str, ...] = ()
    widgets: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)
    catalog: str | None = None
    catalogs: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    checkout: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the kind of a task must be one of {', '.join(KINDS)}, got '{self.kind}'")
        needed = ("package", "entry_point") if self.kind == "wheel" else ("file",)
        if missing := [name for name in needed if getattr(self, name) is None]:
            raise ValueError(f"a {self.kind} task needs {' and '.join(missing)}")

    def as_dict(self) -> dict[str, Any]:
        "Return the spec in JSON types, with absolute paths."
        paths = {name: str(Path(value).resolve()) for name in ("folder", "project", "file") if (value := getattr(self, name)) is not None}
        return {**asdict(replace(self, widgets={}, env={}, values={}, context={})), **paths, "argv": list(self.argv),
                "catalogs": list(self.catalogs), "paths": [str(path.resolve()) for path in self.paths],
                "widgets": dict(self.widgets), "env": dict(self.env), "context": dict(self.context),
                "values": {key: dict(value) for key, value in self.values.items()}}  # fmt: skip

    @staticmethod
    def from_dict(given: Mapping[str, Any]) -> TaskSpec:
        "Return the spec that `as_dict` wrote."
        paths = {name: Path(given[name]) for name in ("folder", "project", "file") if given.get(name) is not None}
        first = tuple(Path(path) for path in given["paths"])
        return TaskSpec(**{**given, **paths, "argv": tuple(given["argv"]), "catalogs": tuple(given["catalogs"]), "paths": first})


@dataclass(frozen=True)
class TaskResult:
    "Hold how an attempt ended: `SUCCESS`, `FAILED` or `CANCELED`, the reason, and the task values it set."

    state: str
    error: str | None = None
    trace: str | None = None
    exit_value: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        "Return the result in JSON types."
        return {**asdict(replace(self, values={})), "values": dict(self.values)}

    def write(self, folder: Path) -> None:
        "Write `result.json` in `folder`, completely or not at all. Half a character, which no file or database accepts, becomes '?'."
        scratch = folder / ".result.json"
        scratch.write_bytes(json.dumps(self.as_dict(), ensure_ascii=False).encode("utf-8", "replace"))
        os.replace(scratch, folder / "result.json")

    @staticmethod
    def read(folder: Path) -> TaskResult | None:
        "Read the result that the task wrote as its last step; return None if it wrote none."
        file = folder / "result.json"
        return TaskResult(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


class AnyTask(Protocol):
    "The interface of one running attempt, in any cluster."

    def wait(self, timeout: float | None = None) -> TaskResult | None: ...
    def cancel(self) -> None: ...


class AnyCluster(Protocol):
    "The interface of a cluster, in this process or in the background, on which tasks and statements run."

    def launch(self, spec: TaskSpec) -> AnyTask: ...
    def sql(self, query: str, catalog: str | None = None, catalogs: Iterable[str] = ()) -> tuple[list[str], list[list[Any]]]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def interpreter_environment(paths: Iterable[str | Path]) -> dict[str, str]:
    "Return this process's environment for a new interpreter that imports from `paths` first, without folders that hold a `boathouse`."
    first = [str(path) for path in paths if not Path(path, "boathouse").exists()]
    path = os.pathsep.join([*first, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **({"PYTHONPATH": path} if path else {})}


def ended_without_result(status: int, canceled: bool) -> TaskResult:
    "Return the result of a process that ended with wait status `status` and wrote no result."
    if canceled:
        return TaskResult("CANCELED", error="canceled")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return TaskResult("FAILED", error=f"killed by signal {number} ({signal.Signals(number).name})")
    return TaskResult("FAILED", error=f"the process ended with exit code {os.waitstatus_to_exitcode(status)} before the task was over")
