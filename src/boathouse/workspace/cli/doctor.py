"""`boathouse doctor`: check that this machine meets the needs of a run, and report a fix for each finding."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cluster import client
from boathouse.workspace.cluster.address import Address, version
from boathouse.workspace.history.schema import open_read_only
from boathouse.workspace.spark.checkpoints import find_damage, is_repairable, repair_checkpoint
from boathouse.workspace.spark.delta_log import damages
from boathouse.workspace.spark.lock import lock_holder

FREE_BYTES = 5 * 2**30
OLDEST_JAVA = 17


@dataclass(frozen=True)
class HealthFinding:
    "Hold the result of one check."

    what: str
    well: bool
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        "Return the finding as `doctor --json` prints it."
        return asdict(self)


def examine(bundle: Bundle) -> list[HealthFinding]:
    "Return all findings about this machine and the target's state."
    state = bundle.state
    return [
        _python(),
        _java(),
        _jars(),
        _loopback(),
        _state(state),
        _lock(state),
        _cluster(state),
        _leftovers(state),
        _history(state),
        *_tables(state),
        *_checkpoints(state),
    ]


def _python() -> HealthFinding:
    well = (3, 11) <= sys.version_info[:2] < (3, 13)
    return HealthFinding(
        "python", well, f"{sys.version.split()[0]} at {sys.executable}", "Use Python 3.11 or 3.12, as the Databricks runtimes do."
    )


def _java() -> HealthFinding:
    fix = f"Install Java {OLDEST_JAVA} or newer, or point JAVA_HOME at one."
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None or not Path(java).is_file():
        return HealthFinding("java", False, "not found", fix)
    answer = subprocess.run([java, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False).stderr
    version = next((line.split("=")[1].strip() for line in answer.splitlines() if "java.version =" in line), "")
    major = version.split(".")[0]
    return HealthFinding("java", major.isdigit() and int(major) >= OLDEST_JAVA, f"{version or 'unknown version'} at {java}", fix)


def _jars() -> HealthFinding:
    from boathouse.workspace.spark.jars import folders, is_complete

    found = next((folder for folder in folders() if is_complete(folder)), None)
    return HealthFinding(
        "jars",
        found is not None,
        str(found or "not resolved yet"),
        "Run `python -m boathouse.workspace.spark.session` once, with a network.",
    )


def _state(state: Path) -> HealthFinding:
    above = next(folder for folder in (state, *state.parents) if folder.exists())
    free = shutil.disk_usage(above).free
    well = os.access(above, os.W_OK) and free > FREE_BYTES
    return HealthFinding("state folder", well, f"{state}, {free / 2**30:.0f} GiB free", "It must be writable, with 5 GiB free at least.")


def _loopback() -> HealthFinding:
    fix = "Tasks talk to the JVM through ports of 127.0.0.1: a firewall or sandbox must allow them."
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
            return HealthFinding("ports", True, "127.0.0.1 takes connections")
    except OSError as e:
        return HealthFinding("ports", False, f"127.0.0.1 takes no connections ({e})", fix)


def _lock(state: Path) -> HealthFinding:
    from boathouse.workspace.spark.lock import WorkspaceLocked, lock, unlock

    if not state.exists() or client.cluster_status(state) is not None:
        return HealthFinding("lock", True, "held by the background cluster" if state.exists() else "free")
    try:
        lock(state)
    except WorkspaceLocked as e:
        return HealthFinding("lock", False, str(e), "Wait for that process, or end it.")
    unlock(state)
    return HealthFinding("lock", True, "free")


def _cluster(state: Path) -> HealthFinding:
    address = Address.read(state)
    if address is None:
        return HealthFinding("cluster", True, "none runs")
    if address.process() is None:
        return HealthFinding("cluster", True, f"its process {address.pid} is gone; the next command starts another one")
    if client.cluster_status(state) is None:
        return HealthFinding(
            "cluster",
            False,
            f"process {address.pid} does not answer",
            f"End it: kill {address.pid}. Its last words are in {state / 'cluster.log'}.",
        )
    old = address.version != version()
    found = f"process {address.pid}" + (", of an earlier version; the next command replaces it" if old else "")
    return HealthFinding("cluster", True, found)


def _leftovers(state: Path) -> HealthFinding:
    "Find JVMs and zygotes of this state folder that no living cluster owns."
    address = Address.read(state)
    owner = address.process() if address else None
    ours = {p.pid for p in owner.children(recursive=True)} if owner else set[int]()
    holder = lock_holder(state)
    if holder is not None and holder.pid != os.getpid():  # this process has just tried the lock
        ours |= {p.pid for p in holder.children(recursive=True)}
    lost = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in ours and _works_on(state, p.info["cmdline"] or [])]
    if not lost:
        return HealthFinding("stale processes", True, "none")
    numbers = " ".join(str(p.pid) for p in lost)
    return HealthFinding("stale processes", False, f"{len(lost)} without a cluster: {numbers}", f"End them: kill {numbers}")


def _works_on(state: Path, words: list[str]) -> bool:
    zygote = "boathouse.workspace.worker.zygote" in words and str(state / "mlflow.db") in words
    return zygote or (bool(words) and words[0].endswith("java") and any(f"-Dderby.stream.error.file={state}/" in word for word in words))


def _history(state: Path) -> HealthFinding:
    file = state / "workspace.db"
    if not file.exists():
        return HealthFinding("history", True, "no runs yet")
    fix = f"Move {file} away: the list of runs then starts empty; tables and models are not touched."
    try:
        with closing(open_read_only(file)) as database:
            answer = database.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.DatabaseError as e:
        return HealthFinding("history", False, f"damaged: {e}", fix)
    return HealthFinding("history", answer == "ok", "whole" if answer == "ok" else f"damaged: {answer}", fix)


def _tables(state: Path) -> Iterator[HealthFinding]:
    "Yield findings about data files and logs of the tables in the warehouse."
    found = list(damages(state / "warehouse"))
    for damage in found:
        yield HealthFinding("tables", False, f"{damage.table}: {damage.found}", f"{damage.fix}.")
    if not found:
        yield HealthFinding("tables", True, "whole" if (state / "warehouse").is_dir() else "none")


def checkpoints(state: Path) -> list[Path]:
    "Return the streaming checkpoints (folders with `offsets` and `commits`) below the state folder."
    return sorted(folder.parent for folder in state.glob("volumes/**/offsets") if folder.is_dir())


def _checkpoints(state: Path) -> Iterator[HealthFinding]:
    "Yield findings about streaming checkpoints."
    every = checkpoints(state)
    damaged = [(folder, found) for folder in every if (found := find_damage(folder))]
    if not damaged:
        yield HealthFinding("checkpoints", True, f"{len(every)} whole" if every else "none")
    for folder, found in damaged:
        fix = (
            "Stop the query, then run `boathouse doctor --repair`: it deletes that file, and the query repeats its last micro-batch."
            if is_repairable(folder, found)
            else "Delete the checkpoint; the query then starts from the beginning."
        )
        yield HealthFinding("checkpoints", False, f"{folder}: {found}", fix)


def repair_checkpoints(state: Path) -> list[str]:
    "Repair the checkpoints that can be repaired without loss of rows, and return a sentence per deleted file."
    return [sentence for folder in checkpoints(state) for sentence in repair_checkpoint(folder)]
