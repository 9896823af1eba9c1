"Notebook files: `.ipynb` and Databricks' source formats of Python and SQL read alike; the executed copy written as notebook and page."

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from boathouse.workspace.magics import MagicError, asked

if TYPE_CHECKING:
    from nbconvert import HTMLExporter

COMMENTS = {".py": "#", ".sql": "--"}
LANGUAGES = {".py": "python", ".sql": "sql"}
SUFFIXES = (".ipynb", ".py", ".sql")
PLATFORM = "application/vnd.databricks.v1+notebook"


class NotebookError(Exception):
    "A file that is no notebook, or a notebook that is not there."


@dataclass(frozen=True)
class Cell:
    "A code cell: its node in the copy, its number, and the line of the file it begins at (0: unknown)."

    node: NotebookNode
    number: int
    line: int = 0


@dataclass(frozen=True)
class Notebook:
    "A notebook as read: `node` is what the executed copy is made from."

    file: Path
    language: str
    node: NotebookNode
    lines: tuple[int, ...]

    def code(self) -> Iterator[Cell]:
        "The code cells with something in them, in order."
        for number, (cell, line) in enumerate(zip(self.node.cells, self.lines, strict=True), 1):
            if cell.cell_type == "code" and cell.source.strip():
                yield Cell(cell, number, line)


def find(path: str | Path, beside: Path, project: Path | None = None) -> Path:
    """The notebook file that `path` names, relative to the folder `beside`, with or without its suffix.

    An absolute workspace path (`/Workspace/Users/me/x/notebooks/a`, `/Repos/...`) means the notebook below `project` whose path it ends with.
    """
    wanted = Path(beside, path)
    places = [wanted]
    if wanted.is_absolute() and project is not None and str(path).startswith("/"):
        parts = wanted.parts[1:]
        places += [project.joinpath(*parts[start:]) for start in range(len(parts))]
    for place in places:
        for candidate in (place, *(place.with_name(place.name + suffix) for suffix in SUFFIXES)):
            if candidate.is_file():
                return candidate.resolve()
    raise NotebookError(f"there is no notebook {path}" + ("" if str(path).startswith("/") else f" in {beside}"))


def read(file: Path) -> Notebook:
    "The notebook in `file`, outputs removed."
    if file.suffix == ".ipynb":
        return _jupyter(file)
    mark = COMMENTS.get(file.suffix, "#")
    text = file.read_text(encoding="utf-8")
    header = f"{mark} Databricks notebook source"
    if text.split("\n", 1)[0].rstrip() != header:
        raise NotebookError(f"{file} is no notebook: its first line is not '{header}'. A plain script is a spark_python_task.")
    cells, lines = [], []
    for line, part in _parts(text, mark):
        above, source = _source(part, mark)
        if source:
            cells.append(_cell(source))
            lines.append(line + above)
    language = LANGUAGES.get(file.suffix, "python")
    return Notebook(file, language, new_notebook(cells=cells, metadata={"language_info": {"name": language}}), tuple(lines))


def _jupyter(file: Path) -> Notebook:
    text = file.read_text(encoding="utf-8")
    node = nbformat.reads(text, as_version=4)
    lines, at = [], 0
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        first = next((one for one in cell.source.split("\n") if one.strip()), "")
        found = text.find(json.dumps(first, ensure_ascii=False)[:-1], at) if first else -1
        at = max(at, found)
        lines.append(text.count("\n", 0, found) + 1 if found >= 0 else 0)
    language = str(node.metadata.get(PLATFORM, {}).get("language", "python")).lower()
    return Notebook(file, language, node, tuple(lines))


def _parts(text: str, mark: str) -> Iterator[tuple[int, str]]:
    "The text between the separators, each with the line it begins at; the first line is the header."
    begun, at = text.find("\n") + 1 or len(text), 2
    for separator in re.finditer(rf"^{mark} COMMAND -{{5,}}[ \t]*$\n?", text, re.MULTILINE):
        yield at, text[begun : separator.start()]
        at += text.count("\n", begun, separator.end())
        begun = separator.end()
    yield at, text[begun:]


def _source(part: str, mark: str) -> tuple[int, str]:
    "How many lines come before a cell's source, and the source."
    lines = [re.sub(rf"^{mark} MAGIC ?", "", line) for line in part.rstrip().split("\n")]
    above = 0
    while above < len(lines) and (not lines[above].strip() or lines[above].startswith(f"{mark} DBTITLE")):
        above += 1
    return above, "\n".join(lines[above:])


def _cell(source: str) -> NotebookNode:
    try:
        wants = asked(source)
    except MagicError:
        return new_code_cell(source)
    return new_markdown_cell(wants.body) if wants.name == "md" else new_code_cell(source)


def write(notebook: NotebookNode, file: Path) -> None:
    "Leaves the executed notebook in `file`, whole or as it was before."
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # numbers that nbconvert's validation refuses
    scratch = file.with_name(f".{file.name}")
    nbformat.write(notebook, scratch)
    os.replace(scratch, file)


def write_page(notebook: NotebookNode, file: Path) -> None:
    "The executed notebook as one HTML page."
    page, _ = exporter().from_notebook_node(notebook)
    file.write_text(page, encoding="utf-8")


@functools.cache
def exporter() -> HTMLExporter:
    "nbconvert's HTML exporter, made once a process: its templates take most of the time of a small page."
    from nbconvert import HTMLExporter

    return HTMLExporter(embed_images=True)


def outputs(captured: list[dict[str, Any]]) -> list[NotebookNode]:
    "Outputs with their text in one piece, as nbformat holds them."
    return [nbformat.from_dict(_joined(output)) for output in captured]


def _joined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key == "traceback" else _joined(item) for key, item in value.items()}
    return "".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
