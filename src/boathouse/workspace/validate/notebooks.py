"""Find, before anything runs, what cannot run here in a notebook: cells in other languages, missing notebooks of `%run`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from boathouse.workspace.errors import BundleError, Where
from boathouse.workspace.notebooks.magics import MagicError, parse_cell, run_arguments
from boathouse.workspace.notebooks.source import Cell, Notebook, NotebookError, find_notebook, read_notebook


def notebook_problems(file: Path, root: Path) -> Iterator[BundleError]:
    "Yield the problems of a notebook and of those it runs inline, each with its file, line and column."
    seen, todo = set[Path](), [file]
    while todo:
        one = todo.pop(0)
        if one in seen:
            continue
        seen.add(one)
        try:
            notebook = read_notebook(one)
        except (NotebookError, UnicodeDecodeError) as error:
            yield BundleError(str(error), Where(_shown(one, root)))
            continue
        for cell in notebook.code():
            try:
                wants = parse_cell(cell.source, notebook.language)
                if wants.name == "run":
                    todo.append(find_notebook(run_arguments(wants.rest)[0], one.parent, root))
            except (MagicError, NotebookError) as error:
                yield BundleError(f"{error}.", _where(notebook, cell, root), f"It is cell {cell.number} of the notebook.")


def _where(notebook: Notebook, cell: Cell, root: Path) -> Where:
    source = cell.source
    above = source[: len(source) - len(source.lstrip())].count("\n") if notebook.file.suffix != ".ipynb" else 0
    column = len("# MAGIC ") + (notebook.file.suffix == ".sql") + 1 if notebook.file.suffix != ".ipynb" else 1
    return Where(_shown(notebook.file, root), cell.line + above, column) if cell.line else Where(_shown(notebook.file, root))


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
