"""Run a notebook task: every cell in order in the task's own process, without a Jupyter kernel.

The executed copy is written, also when a cell fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from execnb.shell import CaptureShell
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display as ipython_display
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from boathouse.workspace.notebooks import magics
from boathouse.workspace.notebooks import source as notebooksource
from boathouse.workspace.notebooks.source import Cell, Notebook
from boathouse.workspace.task.spec import TaskSpec
from boathouse.workspace.worker.dbutils.injected_names import install_names
from boathouse.workspace.worker.dbutils.utilities import DbUtils, NotebookExit, Secrets, TaskValues
from boathouse.workspace.worker.notebook import errors as cellerror
from boathouse.workspace.worker.notebook import output as notebookfile
from boathouse.workspace.worker.notebook.child import ChildNotebooks
from boathouse.workspace.worker.notebook.sql import run_cell
from boathouse.workspace.worker.notebook.streams import capture_streams, within_limit

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SKIPPED_PIP = "skipped: the task runs in the project's environment"


def run_task(spec: TaskSpec, spark: SparkSession, volumes: Path, values: TaskValues, secrets: Secrets) -> str | None:
    """Run the notebook of a task and write `notebook.ipynb` and `.html` to the task's folder.

    Return its exit value, or None if it ran to its end.
    """
    file = Path(str(spec.file))
    if not file.is_file():
        raise notebooksource.NotebookError(f"there is no notebook {file}")
    os.chdir(file.parent)
    sys.path.insert(0, str(file.parent))
    return _Run(spec, notebooksource.read_notebook(file), spark, volumes, values, secrets).run()


class _Run:
    "Hold one run of a notebook: its shell, its own `dbutils`, and its executed copy."

    def __init__(
        self, spec: TaskSpec, notebook: Notebook, spark: SparkSession, volumes: Path, values: TaskValues, secrets: Secrets
    ) -> None:
        self.spec, self.notebook, self.spark = spec, notebook, spark
        self.utilities = DbUtils.make(volumes, spec.widgets, values, ChildNotebooks(spec, spark, volumes.parent).run, secrets, spec.project)
        self.executed, self.copy = notebookfile.blank_copy(notebook), spec.folder / "notebook.ipynb"

    def run(self) -> str | None:
        with _shell() as shell:
            shell.user_ns.update(install_names(self.spark, self.utilities, display), __file__=str(self.notebook.file))
            try:
                return self._run_cells(shell)
            finally:
                notebookfile.write_notebook(self.executed, self.copy)
                notebookfile.write_notebook_page(self.executed, self.copy.with_suffix(".html"))

    def _run_cells(self, shell: CaptureShell) -> str | None:
        for cell in self.notebook.code():
            node = self.executed.cells[cell.number - 1]
            error = self._run_cell(shell, self.notebook, cell, node.outputs)
            node.outputs = notebookfile.redact_outputs(node.outputs, self.utilities.secrets._redacted)
            node.execution_count = cell.number
            if isinstance(error, NotebookExit):
                return error.value
            if error is not None:
                raise error
            notebookfile.write_notebook(self.executed, self.copy)
        return None

    def _run_cell(self, shell: CaptureShell, notebook: Notebook, cell: Cell, outputs: list[NotebookNode]) -> BaseException | None:
        "Run one cell and add its outputs to `outputs`; return the exception that it raised, with its place."
        first, inline = 0, False
        try:
            cell_magic = magics.parse_cell(cell.source, notebook.language)
            first, inline = cell_magic.line, cell_magic.name == "run"
            error = self._run_inline(shell, cell_magic.rest, notebook, outputs) if inline else self._run_code(shell, cell_magic, outputs)
        except (magics.MagicError, notebooksource.NotebookError) as caught:
            error = caught
            outputs.append(cellerror.error_output(error))
        if error is None or isinstance(error, NotebookExit):
            return error
        return cellerror.add_place(error, notebook, cell, first, whole=inline)

    def _run_code(self, shell: CaptureShell, cell_magic: magics.CellMagic, outputs: list[NotebookNode]) -> BaseException | None:
        if cell_magic.name in ("md", "skip"):
            return None
        if cell_magic.name == "python":
            code, left_out = magics.without_installs(cell_magic.body)
            if left_out:
                print(*left_out, SKIPPED_PIP, sep="\n")
                outputs.append(new_output("stream", name="stdout", text=f"{SKIPPED_PIP}\n"))
        else:
            shell.user_ns["_magic"] = {"sql": self._sql, "sh": _sh, "fs": self._fs}[cell_magic.name]
            code = f"_magic({cell_magic.body!r})"
        with capture_streams() as printed:
            shown = shell.run(code, stdout=False, stderr=False)
        error = shell.exc
        if error is not None:
            error = error.with_traceback(cellerror.own_frames(error.__traceback__))
        outputs += printed.outputs()
        outputs += notebookfile.outputs(within_limit([output for output in shown if output["output_type"] != "error"]))
        if error is not None and not isinstance(error, NotebookExit):
            outputs.append(cellerror.error_output(error))
        return error

    def _run_inline(self, shell: CaptureShell, rest: str, notebook: Notebook, outputs: list[NotebookNode]) -> BaseException | None:
        "Run `%run`: the cells of the other notebook, in the namespace of this one."
        path, values = magics.run_arguments(rest)
        other = notebooksource.read_notebook(notebooksource.find_notebook(path, notebook.file.parent, self.spec.project))
        with self.utilities.widgets._passing(values):
            for cell in other.code():
                error = self._run_cell(shell, other, cell, outputs)
                if error is not None:
                    return error
        return None

    def _sql(self, text: str) -> None:
        "Run the statements of a `%sql` cell; show the rows of the last one and keep them as `_sqldf`. `:name` is the widget `name`."
        table = run_cell(text, self.spark, self.utilities.widgets)
        if table is None:
            return
        InteractiveShell.instance().user_ns["_sqldf"] = table
        if table.columns:
            display(table)

    def _fs(self, text: str) -> None:
        "Run `%fs ls /Volumes/...`: one command of `dbutils.fs`."
        command, words, recurse = magics.fs_arguments(text)
        options = {"recurse": True} if recurse else {}
        found = getattr(self.utilities.fs, command)(*words, **options)
        if isinstance(found, list):
            display(self.spark.createDataFrame(found)) if found else print("(empty)")
        else:
            print(found)


@contextmanager
def _shell() -> Iterator[CaptureShell]:
    "Yield a new shell, and make the previous one current again afterwards."
    outer, hook = InteractiveShell._instance, sys.displayhook
    shell = CaptureShell(mpl_format="png")
    try:
        yield shell
    finally:
        shell.close()
        InteractiveShell._instance, sys.displayhook = outer, hook


def warm() -> None:
    "Do, before any fork, the setup that takes the first notebook, figure and page of a process a second."
    with _shell() as shell:
        shell.run(
            "import matplotlib.pyplot as plt; plt.figure().savefig(__import__('io').BytesIO()); plt.close('all'); plt.switch_backend('agg')"
        )
    with tempfile.TemporaryDirectory() as folder:
        notebookfile.write_notebook_page(
            new_notebook(cells=[new_markdown_cell("# `x`"), new_code_cell("x = 1")]), Path(folder) / "page.html"
        )


def display(*things: Any, **_: Any) -> None:
    "Show tables (the first rows), figures and values in the notebook."
    for thing in things:
        if getattr(thing, "isStreaming", False) is True:
            print(f"{thing.schema.simpleString()}: a stream is not shown here; write it to a table and show that")
        else:
            ipython_display(thing)


def _sh(text: str) -> None:
    "Run `%sh` and print the output of its commands; a failed command fails the cell only with `-e`, as on Databricks."
    strict = text.lstrip().startswith("-e")
    command = ["bash", *(["-e"] if strict else []), "-c", text.lstrip().removeprefix("-e").strip() if strict else text]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as done:
        assert done.stdout is not None
        while piece := done.stdout.read(1 << 16):
            print(piece, end="")
    if strict and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command)
