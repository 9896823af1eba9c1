"Each package imports from the packages below it alone, and there are no circles: the contracts stand in pyproject.toml."

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    "What `lint-imports` says of the packages below `root`."
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    return subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root / "src")}, capture_output=True, text=True)


def test_every_import_goes_down() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("boathouse/tables/table.py", "from boathouse.features import freshness", "A package of the kit imports from the lines below it alone"),
        ("boathouse/workspace/spark/jars.py", "from boathouse.workspace.cli import plugins", "A package of the workspace imports from the lines below it alone"),
        ("boathouse/tables/table.py", "from boathouse.tables import pins", "No import circles, in no package"),
        ("flights/gold.py", "from boathouse.workspace.cluster import client", "Of the workspace, the kit and the flights know its client alone"),
        ("boathouse/workspace/problems.py", "from boathouse.tables import table", "A package of the kit imports from the lines below it alone"),
        ("boathouse/runtime.py", "from boathouse.workspace.cluster import server", "Of the workspace, the kit and the flights know its client alone"),
    ],
)  # fmt: skip
def test_one_import_upwards_is_named(tmp_path: Path, module: str, line: str, broken: str) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / module).open("a") as file:
        file.write(f"\n\ndef later() -> None:\n    {line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(line.startswith(f"{broken} BROKEN") for line in done.stdout.splitlines()), done.stdout
