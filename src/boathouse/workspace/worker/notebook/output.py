"The executed copy of a notebook: built from its source, written as notebook and as HTML page."

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from boathouse.workspace import pages
from boathouse.workspace.notebooks.source import Notebook

if TYPE_CHECKING:
    from nbconvert import HTMLExporter

BINARY = ("image/png", "image/jpeg", "image/gif", "application/pdf")


def blank_copy(notebook: Notebook) -> NotebookNode:
    "Return the notebook with a node per cell and without outputs."
    if notebook.file.suffix == ".ipynb":
        copy = nbformat.read(notebook.file, as_version=4)
        for cell in copy.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        return copy
    cells = [new_code_cell(cell.source) if cell.code else new_markdown_cell(cell.source) for cell in notebook.cells]
    return new_notebook(cells=cells, metadata={"language_info": {"name": notebook.language}})


def write_notebook(notebook: NotebookNode, file: Path) -> None:
    "Write the executed notebook to `file`, completely or not at all."
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # nbconvert's validation refuses these numbers
    scratch = file.with_name(f".{file.name}")
    scratch.write_bytes(_utf8(f"{nbformat.writes(notebook)}\n"))
    os.replace(scratch, file)


def write_notebook_page(notebook: NotebookNode, file: Path) -> None:
    "Write the executed notebook as one HTML page with its texts and results; a switch shows the code of the cells."
    page, _ = exporter().from_notebook_node(notebook, resources={"code_colours": _code_colours(), "scripts": _scripts(notebook)})
    file.write_bytes(_utf8(page))


def _scripts(notebook: NotebookNode) -> list[str]:
    "Return the addresses of the scripts that the results need: none, unless results hold scripts or texts hold formulas."
    results = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    active = any("application/javascript" in data or "<script" in str(data.get("text/html", "")) for data in results)
    formulas = any("$" in text for text in texts) or any("text/latex" in data for data in results)
    page = exporter()
    return [*([page.require_js_url, page.jquery_url] if active else []), *([page.mathjax_url] if formulas else [])]


@functools.cache
def _code_colours() -> str:
    "Return the style of highlighted code, for light and dark screens."
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


def _utf8(text: str) -> bytes:
    "Return the text as UTF-8; half a character, as in the name of a file that is not text, becomes '?'."
    return text.encode("utf-8", "replace")


@functools.cache
def exporter() -> HTMLExporter:
    "Return nbconvert's HTML exporter with the template of this package. It is created once per process, because loading it is slow."
    from nbconvert import HTMLExporter

    return HTMLExporter(
        embed_images=True, exclude_anchor_links=True, template_name="basic", template_file=str(pages.FOLDER / "notebook.html.j2")
    )


def outputs(captured: list[dict[str, Any]]) -> list[NotebookNode]:
    "Return the outputs with their text in one string each, as nbformat holds them."
    return [nbformat.from_dict(_joined(output)) for output in captured]


def redact_outputs(outputs: list[NotebookNode], redact: Callable[[str], str]) -> list[NotebookNode]:
    "Return the outputs with `redact` applied to every text; images are unchanged."
    return [nbformat.from_dict(_redacted(output, redact)) for output in outputs]


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {
            key: item if key in ("output_type", "name") or key.startswith(BINARY) else _redacted(item, redact)
            for key, item in value.items()
        }
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return redact("\n".join(value)).split("\n")  # the lines of a traceback together: a secret may have several lines
    return [_redacted(item, redact) for item in value] if isinstance(value, list) else redact(value) if isinstance(value, str) else value


def _joined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key == "traceback" else _joined(item) for key, item in value.items()}
    return "".join(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
