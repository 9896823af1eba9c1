"The lock of a state folder: one JVM works on it at a time."

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

HOLDER = "lock.json"
_held: dict[tuple[int, Path], FileLock] = {}  # locks of this process, kept until it ends


class WorkspaceLocked(Exception):
    "Signal that another process already runs a JVM on this state folder. Two JVMs could lose each other's Delta commits without an error."


def lock(state: Path) -> FileLock:
    "Lock the state folder for this process, however it ends. Raises WorkspaceLocked with the process that holds the lock."
    state = state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    if (known := _held.get((os.getpid(), state))) is not None:
        return known
    held, holder = FileLock(state / "lock"), state / HOLDER
    try:
        held.acquire(timeout=0)
    except Timeout:
        who = json.loads(holder.read_text()) if holder.is_file() else {}
        raise WorkspaceLocked(f"{state} is in use by process {who.get('pid', '?')} ({who.get('command', 'unknown')}). "
                              f"One JVM a workspace: wait for it, stop it, or name another state folder.") from None  # fmt: skip
    holder.write_text(json.dumps({"pid": os.getpid(), "command": " ".join(sys.argv)[:200]}))
    _held[os.getpid(), state] = held
    return held


def unlock(state: Path) -> None:
    "Release the lock of the state folder."
    if (held := _held.pop((os.getpid(), state.resolve()), None)) is not None:
        held.release()


def lock_holder(state: Path) -> psutil.Process | None:
    "Return the process that holds the lock of the state folder, or last held it; None if it has ended, or nobody has held it."
    try:
        return psutil.Process(json.loads((state / HOLDER).read_text())["pid"])
    except (FileNotFoundError, json.JSONDecodeError, psutil.NoSuchProcess):
        return None
