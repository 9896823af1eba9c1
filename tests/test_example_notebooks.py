"""The worked examples are short, and a newcomer needs no source file for them: they import from the packages, never from a module inside one."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "notebooks/examples").glob("*.ipynb"))
MOST = 40  # lines of code per example, without the cell that writes the files
FACES = {path.parent.relative_to(ROOT / "src").as_posix().replace("/", ".") for path in (ROOT / "src").rglob("__init__.py")}
FACES |= {"boathouse.runtime"}  # a module without a package


def code_of(path: Path) -> list[str]:
    "The code cells of an example, without the one that writes the files."
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert sum(source.startswith("# the data\n") for source in cells) == 1
    return [source for source in cells if not source.startswith("# the data\n")]


def test_there_is_an_example_for_each_task() -> None:
    assert [path.stem for path in EXAMPLES] == ["01_binary", "02_multiclass", "03_regression"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_at_most_forty_lines_of_code(path: Path) -> None:
    lines = [line for source in code_of(path) for line in source.splitlines() if line.strip()]
    assert len(lines) <= MOST


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_imports_from_packages_alone_and_no_private_name(path: Path) -> None:
    imports = [node for source in code_of(path) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    own = [node for node in imports if (node.module or "").split(".")[0] == "boathouse"]
    assert len(own) >= 8
    assert {node.module for node in own} - FACES == set()
    assert [alias.name for node in own for alias in node.names if alias.name.startswith("_")] == []
