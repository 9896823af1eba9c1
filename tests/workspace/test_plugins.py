"Commands that installed packages bring."

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import not_installed_here_and_not_needed_for_help  # noqa


def hello(spark, catalog, words):
    "Greets WORDS."
"""

COMMAND = """
def hello(spark, catalog, words):
    "Greets WORDS."
    if words == ["nobody"]:
        raise LookupError("there is nobody to greet")
    number = spark.sql("SELECT 40 + 2 AS n").first().n
    return [("greeting", f"to {' and '.join(words)} in {catalog}", [{"n": number, "half": number / 2, "none": None}])]
"""


def install(folder: Path, source: str) -> dict[str, str]:
    "A package with a command, as pip would leave it in a folder on the path."
    (folder / "greetings.py").write_text(source)
    info = folder / "greetings-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[boathouse.commands]\nhello = greetings:hello\n")
    (folder / "databricks.yml").write_text("bundle:\n  name: greetings\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def boathouse(folder: Path, environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from boathouse.workspace.cli import main; main()", *words]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_a_package_brings_a_command_whose_help_imports_nothing(tmp_path: Path) -> None:
    environ = install(tmp_path, MODULE)
    assert "Greets WORDS." in boathouse(tmp_path, environ, "--help").stdout
    assert "Greets WORDS." in boathouse(tmp_path, environ, "hello", "--help").stdout
    assert boathouse(tmp_path, environ, "goodbye").returncode == 2


@pytest.fixture(scope="module")
def greeted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("greetings")
    return folder, install(folder, COMMAND)


def test_a_command_is_called_with_a_session_and_its_findings_are_printed(greeted: tuple[Path, dict[str, str]]) -> None:
    folder, environ = greeted
    done = boathouse(folder, environ, "hello", "you", "-1", "--json")
    assert done.returncode == 0, done.stderr
    rows = [{"n": 42, "half": 21.0, "none": None}]
    assert json.loads(done.stdout) == {"sections": [{"title": "greeting", "said": "to you and -1 in spark_catalog", "rows": rows}]}


def test_a_command_that_finds_nothing_says_so_and_ends_with_1(greeted: tuple[Path, dict[str, str]]) -> None:
    folder, environ = greeted
    done = boathouse(folder, environ, "hello", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is nobody to greet" in done.stderr
