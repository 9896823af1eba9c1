"HTML pages of runs and executed notebooks: their templates and common style. A page needs no network and no script."

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"  # around the cells in a notebook's page


def report_of(page: str) -> str:
    "Return the cells of a notebook's page, as HTML to put into another page; empty if the page has none."
    return page.partition(BEGIN)[2].rpartition(END)[0]
