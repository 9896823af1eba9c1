"Runs of the project's bundle as a person starts them, each in a folder and on a state of its own."

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
SHARED = {**os.environ, "BOATHOUSE_CLUSTER": ""}  # as everybody's: the background cluster


@pytest.fixture(scope="session")
def command() -> str:
    "The `boathouse` of this environment."
    return str(Path(sys.executable).parent / "boathouse")


@pytest.fixture(scope="session")
def clone() -> Callable[[Path], Path]:
    "Puts the bundle with its reports into a folder of its own, whose source is this checkout's."

    def copy(folder: Path) -> Path:
        shutil.copytree(ROOT / "bundles", folder / "bundles")
        shutil.copytree(ROOT / "notebooks" / "reports", folder / "notebooks" / "reports")
        for name in ("databricks.yml", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        (folder / "src").symlink_to(ROOT / "src")
        return folder

    return copy


@pytest.fixture(scope="module")
def boathouse(command: str) -> Iterator[Callable[..., Any]]:
    "What `boathouse ... --json` prints, after it ended with 0; the clusters that the commands left running are ended with the module."
    folders: dict[Path, None] = {}

    def run(folder: Path, *words: str) -> Any:
        folders[folder] = None
        done = subprocess.run([command, *words, "--json"], cwd=folder, env=SHARED, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    yield run
    for folder in folders:
        run(folder, "cluster", "stop", "--force")
