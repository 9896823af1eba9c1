"""Observe what triggers wait for: the files below a folder, the last commits of Delta tables, the models of the registry. No JVM is needed.

An observation of something unchanged costs one `stat` per folder, log or database.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from boathouse.workspace.history.schema import open_read_only
from boathouse.workspace.history.store import History
from boathouse.workspace.spark.table_facts import COMMIT
from boathouse.workspace.triggers.evaluate import Observation
from boathouse.workspace.triggers.settings import JobTrigger, watched_folder
from boathouse.workspace.triggers.store import last_result

HIDDEN = (".", "_")  # Spark reads no file of such a name
SETTLED = 2.0  # seconds after which a change leaves another time of modification


class Observer:
    "Observe for the triggers of a target; what has not changed since the last time is not read again."

    def __init__(self, state: Path, history: History, clock: int) -> None:
        self.state, self.history, self.clock = state, history, clock
        self._folders: dict[Path, tuple[int, list[Path], list[Path]]] = {}
        self._commits: dict[Path, tuple[int, str]] = {}
        self._models: tuple[tuple[tuple[int, int], ...], dict[str, Observation]] = ((), {})

    def observe(self, job: str, trigger: JobTrigger) -> Observation:
        "Return the present observation for the trigger of a job; empty for one that only the clock drives."
        if trigger.kind == "file_arrival":
            folder = watched_folder(self.state, trigger.url)
            return dict(self._files(folder)) if folder is not None else {}
        if trigger.kind == "table_update":
            return {name: found for name in trigger.tables if (found := self._last_commit(name))}
        if trigger.kind == "model":
            return {event: found for event, found in self._events(trigger.condition).items() if _is_watched(event, trigger)}
        return last_result(self.history, self.clock, job) if trigger.kind == "continuous" else {}

    def _files(self, folder: Path) -> Iterator[tuple[str, str]]:
        "Yield the files below a folder, each with its size and time of modification."
        try:
            changed = folder.stat().st_mtime_ns
        except OSError:
            return
        known = self._folders.get(folder)
        if known is None or known[0] != changed:
            known = (changed, *_listed(folder))
            if _is_settled(changed):
                self._folders[folder] = known
        for file in known[1]:
            try:
                found = file.stat()
            except OSError:
                continue
            yield str(file), f"{found.st_size}/{found.st_mtime_ns}"
        for below in known[2]:
            yield from self._files(below)

    def _last_commit(self, table: str) -> str:
        "Return the version and the time of the last commit of a table, as `version/milliseconds`; empty without the table."
        *_, schema, name = table.split(".")
        warehouse = self.state / "warehouse"
        log = (warehouse if schema == "default" else warehouse / f"{schema}.db") / name / "_delta_log"
        try:
            changed = log.stat().st_mtime_ns
            if (known := self._commits.get(log)) is not None and known[0] == changed:
                return known[1]
            version, file = max((int(found[1]), entry.path) for entry in os.scandir(log) if (found := COMMIT.fullmatch(entry.name)))
            text = f"{version}/{_time_of(Path(file))}"
        except (OSError, ValueError):  # no such table, or its first commit is being written
            return ""
        if _is_settled(changed):
            self._commits[log] = (changed, text)
        return text

    def _events(self, condition: str) -> Observation:
        "Return what the registry holds: names of models, versions that are ready, aliases with their versions."
        store = self.state / "mlflow.db"
        signs = tuple(_sign(Path(f"{store}{suffix}")) for suffix in ("", "-wal"))
        if self._models[0] != signs or not all(_is_settled(changed) for changed, _ in signs):
            self._models = (signs, _registry(store))
        return self._models[1].get(condition, {})


def _is_settled(changed: int) -> bool:
    return time.time() - changed / 1e9 > SETTLED


def _sign(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    files, below = list[Path](), list[Path]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(HIDDEN):
                (below if entry.is_dir() else files).append(Path(entry.path))
    return files, below


def _time_of(commit: Path) -> int:
    "Return the time of a commit in milliseconds, as its writer recorded it."
    with commit.open(encoding="utf-8") as lines:
        for line in lines:
            if '"commitInfo"' in line and (info := json.loads(line).get("commitInfo")):
                return int(info.get("inCommitTimestamp") or info.get("timestamp") or 0) or int(commit.stat().st_mtime * 1000)
    return int(commit.stat().st_mtime * 1000)


def _registry(store: Path) -> dict[str, Observation]:
    if not store.is_file():
        return {}
    with closing(open_read_only(store)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'registered_model_aliases'").fetchone():
            return {}  # MLflow is about to create it
        names = database.execute("SELECT name FROM registered_models").fetchall()
        ready = "SELECT name, version FROM model_versions WHERE status = 'READY' AND current_stage <> 'Deleted_Internal'"
        versions = database.execute(ready).fetchall()
        aliases = database.execute("SELECT name, alias, version FROM registered_model_aliases").fetchall()
    return {
        "MODEL_CREATED": {str(name): "" for (name,) in names},
        "MODEL_VERSION_READY": {f"{name}/{version}": "" for name, version in versions},
        "MODEL_ALIAS_SET": {f"{name}/{version}@{alias}": "" for name, alias, version in aliases},
    }


def _is_watched(event: str, trigger: JobTrigger) -> bool:
    "Return whether an event concerns the model or schema of a trigger, and one of its aliases."
    rest, _, alias = event.partition("@")
    model = rest.partition("/")[0]
    inside = not trigger.securable or model == trigger.securable or model.startswith(f"{trigger.securable}.")
    return inside and (not trigger.aliases or alias in trigger.aliases)
