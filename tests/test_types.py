"""The types of the kit and the workspace hold, as mypy sees them; its settings are in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTIAL = """
from boathouse.tables.table import Table

wrong: int = Table("silver.flights", "One row per flight", ()).name
def untyped(row):
    return row
"""


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest) -> Path:
    "mypy's cache, kept between runs: the first takes 20 seconds of a processor, the next ones two."
    return Path(request.config.cache.mkdir("mypy"))


def mypy(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), "--no-error-summary", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_function_is_typed_and_the_types_fit(cache: Path) -> None:
    done = mypy(cache)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_type_and_an_untyped_function_of_a_caller_are_found(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "caller.py"
    file.write_text(PARTIAL)
    done = mypy(cache, str(file))
    found = [line.partition("error: ")[2] for line in done.stdout.splitlines() if "error: " in line]
    assert found == [
        'Incompatible types in assignment (expression has type "str", variable has type "int")  [assignment]',
        "Function is missing a type annotation  [no-untyped-def]",
    ]
