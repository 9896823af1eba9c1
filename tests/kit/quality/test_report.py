"The page on a table's rules needs no other file, and words from the table stay words."

from __future__ import annotations

import datetime as dt
import re

import pandas as pd

from boathouse.quality.report import page

EVIL = "<img src=x onerror=alert(1)>&\"'"


def results(batches: int = 3) -> pd.DataFrame:
    "One rule, broken in the last batch."
    rows = [
        (EVIL, "warn", 40, n == batches - 1, 40 - (n == batches - 1), f"{EVIL} {n}", dt.datetime(2013, 6, 1 + n)) for n in range(batches)
    ]
    return pd.DataFrame(rows, columns=["rule", "action", "checked", "failed", "passed", "batch", "measured_at"]).astype({"failed": int})


def test_words_of_strangers_stay_words_and_nothing_is_fetched() -> None:
    html = page(results(), EVIL)
    assert "<img src=x" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;&amp;&#34;&#39;") == 5  # title, heading, both ends, rule
    assert re.findall(r'(?:src|href)="([^"]{0,26})', html) == ["data:image/svg+xml;base64,"]
    assert "://" not in html


def test_the_figures_of_all_batches_stand_below_the_chart() -> None:
    cells = re.findall(r'<td class="number">(\d+)</td>', page(results(), "race"))
    assert cells == ["3", "1", "119", "1", "1"]  # batches, broken in, passed, failed, latest


def test_a_table_that_was_never_measured_has_a_page_that_says_so() -> None:
    html = page(results().head(0), "race")
    assert "No rule of this table has been measured yet." in html
    assert "<img" not in html
    assert "<table" not in html
