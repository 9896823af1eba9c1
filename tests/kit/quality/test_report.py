"The page on a table's rules needs no other file, and words from the table stay words."

from __future__ import annotations

import datetime as dt
import re

import pandas as pd
from pyspark.sql import SparkSession

from boathouse.quality.report import failures_chart, last_results, quality_page, total_counts
from boathouse.quality.rules import METRICS

NOON = dt.datetime(2013, 6, 1, 12)
EVIL = "<img src=x onerror=alert(1)>&\"'"


def results(batches: int = 3) -> pd.DataFrame:
    "One rule, broken in the last batch."
    rows = [
        (EVIL, "warn", 40, n == batches - 1, 40 - (n == batches - 1), f"{EVIL} {n}", dt.datetime(2013, 6, 1 + n)) for n in range(batches)
    ]
    return pd.DataFrame(rows, columns=["rule", "action", "checked", "failed", "passed", "batch", "measured_at"]).astype({"failed": int})


def test_words_of_strangers_stay_words_and_nothing_is_fetched() -> None:
    html = quality_page(results(), EVIL)
    assert "<img src=x" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;&amp;&#34;&#39;") == 5  # title, heading, both ends, rule
    assert re.findall(r'(?:src|href)="([^"]{0,26})', html) == ["data:image/svg+xml;base64,"]
    assert "://" not in html


def test_the_figures_of_all_batches_stand_below_the_chart() -> None:
    cells = re.findall(r'<td class="number">(\d+)</td>', quality_page(results(), "race"))
    assert cells == ["3", "1", "119", "1", "1"]  # batches, broken in, passed, failed, latest


def test_a_table_that_was_never_measured_has_a_page_that_says_so() -> None:
    html = quality_page(results().head(0), "race")
    assert "No rule of this table has been measured yet." in html
    assert "<img" not in html
    assert "<table" not in html


def test_the_report_reads_the_last_batches_only_and_tells_zero_from_nothing(spark: SparkSession) -> None:
    rows = [
        ("t", rule, "warn", 10, n % 3 if rule == "a" else 0, f"b{n}", NOON + dt.timedelta(days=n))
        for n in range(5)
        for rule in "ab"
        if n or rule == "a"
    ]
    results = last_results(spark.createDataFrame([*rows, ("other", "a", "warn", 1, 1, "b9", NOON)], METRICS), "t", batches=3)
    assert list(zip(results.rule, results.batch, results.failed, results.passed, strict=True)) == [
        ("a", "b2", 2, 8), ("b", "b2", 0, 10), ("a", "b3", 0, 10), ("b", "b3", 0, 10), ("a", "b4", 1, 9), ("b", "b4", 0, 10),
    ]  # fmt: skip
    assert [tuple(row) for row in total_counts(results).to_numpy()] == [("a", "warn", 3, 2, 27, 3, 1), ("b", "warn", 3, 0, 30, 0, 0)]
    chart = failures_chart(results, "t").axes[0]
    assert [text.get_text() for text in chart.texts] == ["2", "1"]
    assert [label.get_text() for label in chart.get_yticklabels()] == ["a", "b"]
    assert chart.get_title(loc="left") == "t: 1 of 2 rules violated in the latest batch"


def test_a_table_whose_names_look_like_html_is_shown_as_text() -> None:
    assert "<script>" not in quality_page(pd.DataFrame({"batch": []}), "<script>")
