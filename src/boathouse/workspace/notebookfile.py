"Notebook files: `.ipynb` and Databricks' source format read alike; what a cell's magic says; the executed copy written as notebook and page."

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

if TYPE_CHECKING:
    from nbconvert import HTMLExporter

HEADER = "# Databricks notebook source"
SEPARATOR = re.compile(r"^# COMMAND -{5,}[ \t]*$", re.MULTILINE)
MAGIC = re.compile(r"^%([a-z]+)\b[ \t]*", re.IGNORECASE)
OURS = {"md", "sql", "run", "pip", "conda", "sh", "python"}
FOREIGN = {"scala", "r", "fs", "skip"}


class NotebookError(Exception):
    "A file that is no notebook, or a cell that asks for what the local workspace does not have."


@dataclass(frozen=True)
class Magic:
    "What a cell asks for: `name` is the magic (`python` without one), `body` the rest of the cell, `rest` its first line."

    name: str
    body: str
    rest: str


def find(path: str | Path, beside: Path) -> Path:
    "The notebook file that `path` names, relative to the folder `beside`, with or without its suffix."
    wanted = Path(beside, path)
    for candidate in (wanted, wanted.with_name(wanted.name + ".ipynb"), wanted.with_name(wanted.name + ".py")):
        if candidate.is_file():
            return candidate.resolve()
    raise NotebookError(f"there is no notebook {path} in {beside}")


def read(file: Path) -> NotebookNode:
    "The notebook in `file`, outputs removed."
    if file.suffix == ".ipynb":
        notebook = nbformat.read(file, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        return notebook
    text = file.read_text(encoding="utf-8")
    if text.split("\n", 1)[0].rstrip() != HEADER:
        raise NotebookError(f"{file} is no notebook: its first line is not '{HEADER}'. A plain script is a spark_python_task.")
    cells = [_cell(part) for part in SEPARATOR.split(text.split("\n", 1)[1] if "\n" in text else "") if part.strip()]
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


def _cell(text: str) -> NotebookNode:
    lines = [line for line in text.strip("\n").splitlines() if not line.startswith("# DBTITLE")]
    if all(line.startswith("# MAGIC") or not line.strip() for line in lines):
        lines = [re.sub(r"^# MAGIC ?", "", line) for line in lines]
        if lines and lines[0].startswith("%md"):
            return new_markdown_cell(magic("\n".join(lines)).body)
    return new_code_cell("\n".join(lines).strip("\n"))


def magic(source: str) -> Magic:
    "The Databricks magic that a cell starts with; cells without one, or with one of IPython's own, are Python."
    text = source.lstrip()
    found = MAGIC.match(text)
    name = found[1].lower() if found else "python"
    if name in FOREIGN:
        raise NotebookError(f"a %{name} cell cannot run in the local workspace")
    if found is None or name not in OURS:
        return Magic("python", source, "")
    body = text[found.end() :]
    return Magic(name, body.strip("\n"), body.split("\n", 1)[0].strip())


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
