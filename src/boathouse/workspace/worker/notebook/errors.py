"""Where in a notebook an error was raised: its cell, and the line of the file or of the cell."""

from __future__ import annotations

import traceback
from types import TracebackType

from nbformat import NotebookNode
from nbformat.v4 import new_output

from boathouse.workspace.notebooks.source import Cell, Notebook

MACHINERY = ("/execnb/", "/IPython/", "/fastcore/", "/asyncio/", "/concurrent/futures/", "/boathouse/workspace/")
CELL_FILES = ("<ipython-input-", "<string>")


def add_place(error: BaseException, notebook: Notebook, cell: Cell, first: int, whole: bool) -> BaseException:
    """The error with its place noted on it: the innermost one as its `place`, such as `nb.py:12, cell 3`, and each notebook around it as a note.

    `first` is the line of the cell that its code begins at (0 the first); `whole` says that the error lies in what the cell runs, not in its lines.
    """
    within = first + (0 if whole else (line_of(error) or 1) - 1)
    line = f":{cell.line + within}, cell {cell.number}" if notebook.file.suffix != ".ipynb" else f", cell {cell.number}, line {within + 1}"
    if not hasattr(error, "place"):
        error.place = f"{notebook.file.name}{line}"  # type: ignore[attr-defined]
    error.add_note(f"In {notebook.file.name}{line}.")
    return error


def line_of(error: BaseException) -> int | None:
    "The line of a cell's code that the error came through, from 1."
    if isinstance(error, SyntaxError) and str(error.filename).startswith(CELL_FILES):
        return error.lineno
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(CELL_FILES):
            return trace.tb_lineno
        trace = trace.tb_next
    return None


def own_frames(trace: TracebackType | None) -> TracebackType | None:
    "The traceback from the cell on."
    while trace is not None and any(part in trace.tb_frame.f_code.co_filename for part in MACHINERY):
        trace = trace.tb_next
    return trace


def error_output(error: BaseException) -> NotebookNode:
    "An error as the copy shows it."
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    return new_output("error", ename=type(error).__name__, evalue=str(error), traceback=lines)
