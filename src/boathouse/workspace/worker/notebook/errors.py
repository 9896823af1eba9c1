"""Find where in a notebook an error was raised: its cell, and the line of the file or of the cell."""

from __future__ import annotations

import traceback
from types import TracebackType

from nbformat import NotebookNode
from nbformat.v4 import new_output

from boathouse.workspace.notebooks.source import Cell, Notebook

MACHINERY = ("/execnb/", "/IPython/", "/fastcore/", "/asyncio/", "/concurrent/futures/", "/boathouse/workspace/")
CELL_FILES = ("<ipython-input-", "<string>")


def add_place(error: BaseException, notebook: Notebook, cell: Cell, first: int, whole: bool) -> BaseException:
    """Return the error with its place added.

    The innermost place, such as `nb.py:12, cell 3`, becomes its `place`. Each notebook around it becomes a note.
    `first` is the line of the cell at which its code begins (0 is the first). `whole` means that the error is not in the lines of the cell.
    """
    within = first + (0 if whole else (line_of(error) or 1) - 1)
    line = f":{cell.line + within}, cell {cell.number}" if notebook.file.suffix != ".ipynb" else f", cell {cell.number}, line {within + 1}"
    if not hasattr(error, "place"):
        error.place = f"{notebook.file.name}{line}"  # type: ignore[attr-defined]
    error.add_note(f"In {notebook.file.name}{line}.")
    return error


def line_of(error: BaseException) -> int | None:
    "Return the line of the cell's code that the error passed, counted from 1."
    if isinstance(error, SyntaxError) and str(error.filename).startswith(CELL_FILES):
        return error.lineno
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(CELL_FILES):
            return trace.tb_lineno
        trace = trace.tb_next
    return None


def own_frames(trace: TracebackType | None) -> TracebackType | None:
    "Return the traceback from the cell on."
    while trace is not None and any(part in trace.tb_frame.f_code.co_filename for part in MACHINERY):
        trace = trace.tb_next
    return trace


def error_output(error: BaseException) -> NotebookNode:
    "Return an error as an output of the executed copy."
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    return new_output("error", ename=type(error).__name__, evalue=str(error), traceback=lines)
