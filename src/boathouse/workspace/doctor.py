"""What a run needs of this machine, looked at one by one, each finding with its fix."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from boathouse.workspace.bundle import Bundle

FREE_BYTES = 5 * 2**30
OLDEST_JAVA = 17


@dataclass(frozen=True)
class Finding:
    "One thing looked at."

    what: str
    well: bool
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        "As `doctor --json` prints it."
        return asdict(self)


def examine(bundle: Bundle) -> list[Finding]:
    "All findings about this machine and the target's state."
    return [_python(), _java(), _jars(), _state(bundle.state), _lock(bundle.state)]


def _python() -> Finding:
    well = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Finding(
        "python", well, f"{sys.version.split()[0]} at {sys.executable}", "Use Python 3.11 or 3.12, as the Databricks runtimes do."
    )


def _java() -> Finding:
    fix = f"Install Java {OLDEST_JAVA} or newer, or point JAVA_HOME at one."
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None or not Path(java).is_file():
        return Finding("java", False, "not found", fix)
    said = subprocess.run([java, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False).stderr
    version = next((line.split("=")[1].strip() for line in said.splitlines() if "java.version =" in line), "")
    major = version.split(".")[0]
    return Finding("java", major.isdigit() and int(major) >= OLDEST_JAVA, f"{version or 'unknown version'} at {java}", fix)


def _jars() -> Finding:
    from boathouse.workspace.jars import complete, folders

    found = next((folder for folder in folders() if complete(folder)), None)
    return Finding(
        "jars", found is not None, str(found or "not resolved yet"), "Run `python -m boathouse.workspace.session` once, with a network."
    )


def _state(state: Path) -> Finding:
    above = next(folder for folder in (state, *state.parents) if folder.exists())
    free = shutil.disk_usage(above).free
    well = os.access(above, os.W_OK) and free > FREE_BYTES
    return Finding("state folder", well, f"{state}, {free / 2**30:.0f} GiB free", "It must be writable, with 5 GiB free at least.")


def _lock(state: Path) -> Finding:
    from boathouse.workspace.session import WorkspaceLocked, lock

    if not state.exists():
        return Finding("lock", True, "free")
    try:
        lock(state).release()
    except WorkspaceLocked as e:
        return Finding("lock", False, str(e), "Wait for that process, or end it.")
    return Finding("lock", True, "free")
