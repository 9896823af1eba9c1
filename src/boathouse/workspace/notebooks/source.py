"""Read the cells of a notebook file as text, each with its first line.

The formats are `.ipynb` and the source formats of Databricks for Python and SQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.workspace.notebooks.magics import MagicError, parse_cell

COMMENTS = {".py": "#", ".sql": "--"}
LANGUAGES = {".py": "python", ".sql": "sql"}
SUFFIXES = (".ipynb", ".py", ".sql")
PLATFORM = "application/vnd.databricks.v1+notebook"


class NotebookError(Exception):
    "Signal that a file is not a notebook, or that a notebook does not exist."


@dataclass(frozen=True)
class Cell:
    "Hold a cell: its number from 1, text, first line in the file (0: unknown), and whether it is code. Other cells are prose."

    number: int
    source: str
    line: int
    code: bool


@dataclass(frozen=True)
class Notebook:
    "Hold a notebook as written; `language` is that of the cells without a magic."

    file: Path
    language: str
    cells: tuple[Cell, ...]

    def code(self) -> Iterator[Cell]:
        "Yield the code cells that are not empty, in order."
        return (cell for cell in self.cells if cell.code and cell.source.strip())


def find_notebook(path: str | Path, beside: Path, project: Path | None = None) -> Path:
    """Return the notebook file that `path` names, relative to the folder `beside`, with or without its suffix.

    An absolute workspace path (`/Workspace/Users/me/x/notebooks/a`, `/Repos/...`) means the notebook below `project` whose path it ends with.
    """
    wanted = Path(beside, path)
    places = [wanted]
    if project is not None and Path(path).is_absolute():
        parts = wanted.parts[1:]
        places += [project.joinpath(*parts[start:]) for start in range(len(parts))]
    for place in places:
        for candidate in (place, *(place.with_name(place.name + suffix) for suffix in SUFFIXES)):
            if candidate.is_file():
                return candidate.resolve()
    raise NotebookError(f"there is no notebook {path}" + ("" if Path(path).is_absolute() else f" in {beside}"))


def read_notebook(file: Path) -> Notebook:
    "Read the notebook in `file`."
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        return _jupyter(file, text)
    mark = COMMENTS.get(file.suffix, "#")
    header = f"{mark} Databricks notebook source"
    if text.split("\n", 1)[0].rstrip() != header:
        raise NotebookError(f"{file} is no notebook: its first line is not '{header}'. A plain script is a spark_python_task.")
    cells = list[Cell]()
    for line, part in _parts(text, mark):
        above, source = _source(part, mark)
        if source:
            prose = _prose(source)
            cells.append(Cell(len(cells) + 1, source if prose is None else prose, line + above, prose is None))
    return Notebook(file, LANGUAGES.get(file.suffix, "python"), tuple(cells))


def _jupyter(file: Path, text: str) -> Notebook:
    try:
        content = json.loads(text)
        written = [("".join(cell["source"]), cell["cell_type"] == "code") for cell in content["cells"]]
        platform: dict[str, Any] = content["metadata"].get(PLATFORM, {})
    except (ValueError, KeyError, TypeError) as error:
        raise NotebookError(f"{file} is no notebook: {type(error).__name__}: {error}") from error
    cells, at = list[Cell](), 0
    for number, (source, code) in enumerate(written, 1):
        first = next((one for one in source.split("\n") if one.strip()), "")
        found = max(text.find(json.dumps(first, ensure_ascii=ascii)[:-1], at) for ascii in (False, True)) if first else -1
        at = max(at, found)
        cells.append(Cell(number, source, text.count("\n", 0, found) + 1 if found >= 0 else 0, code))
    return Notebook(file, str(platform.get("language", "python")).lower(), tuple(cells))


def _parts(text: str, mark: str) -> Iterator[tuple[int, str]]:
    "Yield the text between the separators, each with its first line; the first line of the file is the header."
    begun, at = text.find("\n") + 1 or len(text), 2
    for separator in re.finditer(rf"^{mark} COMMAND -{{5,}}[ \t]*$\n?", text, re.MULTILINE):
        yield at, text[begun : separator.start()]
        at += text.count("\n", begun, separator.end())
        begun = separator.end()
    yield at, text[begun:]


def _source(part: str, mark: str) -> tuple[int, str]:
    "Return how many lines precede a cell's source, and the source."
    lines = [re.sub(rf"^{mark} MAGIC ?", "", line) for line in part.rstrip().split("\n")]
    above = 0
    while above < len(lines) and (not lines[above].strip() or lines[above].startswith(f"{mark} DBTITLE")):
        above += 1
    return above, "\n".join(lines[above:])


def _prose(source: str) -> str | None:
    "Return the text of a `%md` cell, None for any other."
    try:
        wants = parse_cell(source)
    except MagicError:
        return None
    return wants.body if wants.name == "md" else None
