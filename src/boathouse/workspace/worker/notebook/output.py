"The executed copy of a notebook: made from what is written, kept as notebook and as page."

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from boathouse.workspace.notebooks.source import Notebook

if TYPE_CHECKING:
    from nbconvert import HTMLExporter

BINARY = ("image/png", "image/jpeg", "image/gif", "application/pdf")


def blank_copy(notebook: Notebook) -> NotebookNode:
    "The notebook with a node for each of its cells, and without outputs."
    if notebook.file.suffix == ".ipynb":
        copy = nbformat.read(notebook.file, as_version=4)
        for cell in copy.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        return copy
    cells = [new_code_cell(cell.source) if cell.code else new_markdown_cell(cell.source) for cell in notebook.cells]
    return new_notebook(cells=cells, metadata={"language_info": {"name": notebook.language}})


def write(notebook: NotebookNode, file: Path) -> None:
    "Leaves the executed notebook in `file`, whole or as it was before."
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # numbers that nbconvert's validation refuses
    scratch = file.with_name(f".{file.name}")
    scratch.write_bytes(_utf8(f"{nbformat.writes(notebook)}\n"))
    os.replace(scratch, file)


def write_page(notebook: NotebookNode, file: Path) -> None:
    "The executed notebook as one HTML page."
    page, _ = exporter().from_notebook_node(notebook)
    file.write_bytes(_utf8(page))


def _utf8(text: str) -> bytes:
    "The text as a file takes it; half a character, as in the name of a file that is no text, is a '?'."
    return text.encode("utf-8", "replace")


@functools.cache
def exporter() -> HTMLExporter:
    "nbconvert's HTML exporter, made once a process: its templates take most of the time of a small page."
    from nbconvert import HTMLExporter

    return HTMLExporter(embed_images=True)


def outputs(captured: list[dict[str, Any]]) -> list[NotebookNode]:
    "Outputs with their text in one piece, as nbformat holds them."
    return [nbformat.from_dict(_joined(output)) for output in captured]


def redacted(outputs: list[NotebookNode], redact: Callable[[str], str]) -> list[NotebookNode]:
    "Outputs whose every text has gone through `redact`; images stay as they are."
    return [nbformat.from_dict(_redacted(output, redact)) for output in outputs]


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {
            key: item if key in ("output_type", "name") or key.startswith(BINARY) else _redacted(item, redact)
            for key, item in value.items()
        }
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return redact("\n".join(value)).split("\n")  # the lines of a traceback: a secret may have several
    return [_redacted(item, redact) for item in value] if isinstance(value, list) else redact(value) if isinstance(value, str) else value


def _joined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key == "traceback" else _joined(item) for key, item in value.items()}
    return "".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
