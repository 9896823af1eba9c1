"""Every chapter runs top to bottom on the suite's Spark session, and shows what its committed outputs say."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from execnb.shell import CaptureShell
from fastcore.nbio import read_nb, write_nb
from nbdev.clean import clean_nb

ROOT = Path(__file__).parent.parent
# The reports and the notebooks to explore need the tables of a run: the test of the whole lifecycle runs them there.
CHAPTERS = sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if p.parent.name not in {"reports", "explore", ".ipynb_checkpoints"})
# What lies inside the as-of join, the windows, the discovery of files, pins and refreshes is proven by their tests; as notebooks these chapters run last.
# The tour calls what the chapters of the flights call, on three months of one airport; the demonstration by the command line does the same.
LONG = {  # order and minutes of their marks
    **dict.fromkeys(["kit/02_tables/07_pins", "kit/04_ingest/01_files", "kit/05_point_in_time/02_spark"], (90, 1)),
    **dict.fromkeys(["kit/05_point_in_time/03_grid_windows", "kit/06_features/05_refresh"], (90, 1)),
    "00_tour": (91, 6),
}


def shown(notebook: Any) -> list[tuple[str, str]]:
    "(cell id, text) of each output, pictures by their kind only: fonts differ between machines."
    rows = []
    for cell in notebook.cells:
        for output in cell.get("outputs") or []:
            data = output.get("data") or {}
            text = output.get("text") or data.get("text/html") or data.get("text/markdown") or data.get("text/plain") or ""
            if "image/png" in data:
                text = "<picture>"
            text = "".join(text) if isinstance(text, list | tuple) else str(text)
            rows.append((cell.id, re.sub(r"\s+", " ", text).strip()))
    return rows


def execute(path: Path) -> Any:
    "The notebook at `path` after a run in a fresh namespace; the first failing cell raises."
    notebook = read_nb(path)
    shell = CaptureShell(mpl_format="png")
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with pd.option_context("display.max_colwidth", pd.get_option("display.max_colwidth")):  # a chapter may set it, for itself alone
            shell.run_all(notebook, exc_stop=True)
    finally:
        os.chdir(here)
        shell.close()
    clean_nb(notebook, allowed_metadata_keys=["application/vnd.databricks.v1+notebook"], allowed_cell_metadata_keys=["tags"])
    return notebook


def chapter(path: Path) -> Any:
    "The parameter of a chapter's test."
    name = path.relative_to(ROOT / "notebooks").with_suffix("").as_posix()
    order, minutes = LONG.get(name, (0, 0))
    marks = [pytest.mark.long(order=order, minutes=minutes)] if order else []
    return pytest.param(path, id=name, marks=marks)


@pytest.mark.parametrize("path", map(chapter, CHAPTERS))
def test_a_chapter_runs_and_shows_what_was_committed(path: Path, spark: object, request: pytest.FixtureRequest) -> None:
    committed = shown(nbformat.read(path, 4))
    fresh = execute(path)
    if request.config.getoption("--save-outputs"):
        write_nb(fresh, path)
    else:
        assert shown(fresh) == committed
