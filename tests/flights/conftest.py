"Runs of the project's bundle as a person starts them, each in a folder and on a state of its own."

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def command() -> str:
    "The `boathouse` of this environment."
    return str(Path(sys.executable).parent / "boathouse")


@pytest.fixture(scope="session")
def clone() -> Callable[[Path], Path]:
    "Puts the bundle with its reports into a folder of its own."

    def copy(folder: Path) -> Path:
        shutil.copytree(ROOT / "bundles", folder / "bundles")
        shutil.copytree(ROOT / "notebooks" / "reports", folder / "notebooks" / "reports")
        shutil.copy(ROOT / "databricks.yml", folder)
        return folder

    return copy


@pytest.fixture(scope="session")
def boathouse(command: str) -> Callable[..., Any]:
    "What `boathouse ... --json` prints, after it ended with 0."

    def run(folder: Path, *words: str) -> Any:
        done = subprocess.run([command, *words, "--json"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return run
