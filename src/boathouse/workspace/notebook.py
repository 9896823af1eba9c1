"A notebook task: every cell in order in the task's own process, without a Jupyter kernel; the executed copy is kept, also when a cell fails."

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import sqlparse
from execnb.shell import CaptureShell
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display as ipython_display
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from boathouse.workspace import notebookfile
from boathouse.workspace.dbutils import DbUtils, NotebookExit, TaskValues, register
from boathouse.workspace.task import TaskSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MACHINERY = ("/execnb/", "/IPython/", "/fastcore/", "/asyncio/", "/concurrent/futures/", "/boathouse/workspace/")
SKIPPED_PIP = "skipped: the task runs in the project's environment"


def run_task(spec: TaskSpec, spark: SparkSession, volumes: Path, values: TaskValues) -> str | None:
    "Runs the notebook of a task; returns its exit value, None if it ran to its end. `notebook.ipynb` and `.html` appear in the task's folder."
    file = Path(str(spec.file))
    if not file.is_file():
        raise notebookfile.NotebookError(f"there is no notebook {file}")
    os.chdir(file.parent)
    sys.path.insert(0, str(file.parent))
    return _Notebook(file, spark, volumes, values, spec.widgets, spec.folder / "notebook.ipynb").run()


class _Notebook:
    "One notebook being run: its shell, its own `dbutils`, and its executed copy."

    def __init__(
        self, file: Path, spark: SparkSession, volumes: Path, values: TaskValues, widgets: Mapping[str, str], copy: Path, timeout: float | None = None
    ) -> None:
        self.file, self.spark, self.volumes, self.values, self.copy, self.timeout = file, spark, volumes, values, copy, timeout
        self.utilities = DbUtils.make(volumes, widgets, values, self.run_other)
        self.others = 0

    def run(self) -> str | None:
        notebook = notebookfile.read(self.file)
        with _shell() as shell:
            shell.user_ns.update(register(self.spark, self.utilities, display), __file__=str(self.file))
            try:
                return self._run_cells(shell, notebook)
            finally:
                notebookfile.write(notebook, self.copy)
                notebookfile.write_page(notebook, self.copy.with_suffix(".html"))

    def _run_cells(self, shell: CaptureShell, notebook: NotebookNode) -> str | None:
        for number, cell in enumerate(notebook.cells, 1):
            if cell.cell_type != "code" or not cell.source.strip():
                continue
            error = self._run_source(shell, cell.source, cell.outputs, self.file.parent)
            cell.execution_count = number
            _echo(cell.outputs)
            if isinstance(error, NotebookExit):
                return error.value
            if error is not None:
                error.add_note(f"In cell {number} of {self.file.name}.")
                raise error
            notebookfile.write(notebook, self.copy)
        return None

    def _run_source(self, shell: CaptureShell, source: str, outputs: list[NotebookNode], folder: Path) -> BaseException | None:
        "Runs one cell, adds what it shows to `outputs`, and returns what it raised."
        try:
            asked = notebookfile.magic(source)
        except notebookfile.NotebookError as error:
            outputs.append(_error(error))
            return error
        if asked.name in ("md", "pip", "conda"):
            outputs += [] if asked.name == "md" else [new_output("stream", name="stdout", text=f"{SKIPPED_PIP}\n")]
            return None
        if asked.name == "run":
            return self._run_inline(shell, asked.rest, outputs, folder)
        code = asked.body
        if asked.name in ("sql", "sh"):
            shell.user_ns["_magic"] = {"sql": self._sql, "sh": _sh}[asked.name]
            code = f"_magic({asked.body!r})"
        shown = shell.run(code, timeout=self.timeout)
        error = shell.exc
        if error is not None:
            error = error.with_traceback(_cell_frames(error.__traceback__))
        outputs += [_error(error) if output["output_type"] == "error" and error is not None else output for output in notebookfile.outputs(shown)
                    if not (output.get("output_type") == "error" and isinstance(error, NotebookExit))]  # fmt: skip
        return error

    def _run_inline(self, shell: CaptureShell, path: str, outputs: list[NotebookNode], folder: Path) -> BaseException | None:
        "`%run`: the other notebook's cells in this one's namespace."
        try:
            other = notebookfile.find(path.strip("\"'"), folder)
            cells = [cell for cell in notebookfile.read(other).cells if cell.cell_type == "code" and cell.source.strip()]
        except notebookfile.NotebookError as error:
            outputs.append(_error(error))
            return error
        for cell in cells:
            error = self._run_source(shell, cell.source, outputs, other.parent)
            if error is not None:
                return error
        return None

    def run_other(self, path: str, timeout_seconds: int, arguments: Mapping[str, str]) -> str:
        "`dbutils.notebook.run`: another notebook with a namespace and widgets of its own; its exit value, empty without one."
        self.others += 1
        file = notebookfile.find(path, self.file.parent)
        copy = self.copy.with_name(f"{self.copy.stem}-{self.others}-{file.stem}.ipynb")
        other = _Notebook(file, self.spark, self.volumes, self.values, arguments, copy, timeout_seconds or None)
        try:
            return other.run() or ""
        except TimeoutError:
            self.spark.interruptAll()
            raise TimeoutError(f"notebook {path} took longer than {timeout_seconds} s") from None
        finally:
            register(self.spark, self.utilities, display)

    def _sql(self, text: str) -> None:
        "Runs the statements of a `%sql` cell; the last one's rows are shown and kept as `_sqldf`. `:name` is the widget `name`."
        for statement in sqlparse.split(text):
            query = statement.strip().rstrip(";")
            if query:
                table: DataFrame = self.spark.sql(query, args=self.utilities.widgets.getAll()) if ":" in query else self.spark.sql(query)
        InteractiveShell.instance().user_ns["_sqldf"] = table
        if table.columns:
            display(table)


@contextmanager
def _shell() -> Iterator[CaptureShell]:
    "A shell of its own; the one around it (of a notebook that runs another) is current again afterwards."
    outer, hook = InteractiveShell._instance, sys.displayhook
    shell = CaptureShell(mpl_format="png")
    try:
        yield shell
    finally:
        shell.close()
        InteractiveShell._instance, sys.displayhook = outer, hook


def warm() -> None:
    "Does once, before any fork, what the first notebook, figure and page of a process take a second for."
    with _shell() as shell:
        shell.run("import matplotlib.pyplot as plt; plt.figure().savefig(__import__('io').BytesIO()); plt.close('all'); plt.switch_backend('agg')")
    notebookfile.exporter().from_notebook_node(new_notebook(cells=[new_markdown_cell("# `x`"), new_code_cell("x = 1")]))


def display(*things: Any, **_: Any) -> None:
    "Shows tables (the first rows), figures and values in the notebook."
    for thing in things:
        ipython_display(thing)


def _sh(text: str) -> None:
    strict = text.startswith("-e")
    done = subprocess.run(["bash", "-c", text.removeprefix("-e").strip()], capture_output=True, text=True, check=False)
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    if strict:
        done.check_returncode()


def _cell_frames(trace: TracebackType | None) -> TracebackType | None:
    "The traceback from the cell on."
    while trace is not None and any(part in trace.tb_frame.f_code.co_filename for part in MACHINERY):
        trace = trace.tb_next
    return trace


def _error(error: BaseException) -> NotebookNode:
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    return new_output("error", ename=type(error).__name__, evalue=str(error), traceback=lines)


def _echo(outputs: list[NotebookNode]) -> None:
    "Repeats in the log what a cell printed."
    for output in outputs:
        if output.output_type == "stream":
            print(output.text, end="", file=sys.stdout if output.name == "stdout" else sys.stderr)
