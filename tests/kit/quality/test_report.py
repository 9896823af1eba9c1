"The report on what the rules found."

from __future__ import annotations

import datetime as dt

import pandas as pd
from pyspark.sql import SparkSession

from boathouse.quality.report import failures_chart, last_results, page, totals
from boathouse.quality.rules import METRICS

NOON = dt.datetime(2013, 6, 1, 12)


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
    assert [tuple(row) for row in totals(results).to_numpy()] == [("a", "warn", 3, 2, 27, 3, 1), ("b", "warn", 3, 0, 30, 0, 0)]
    chart = failures_chart(results, "t").axes[0]
    assert [text.get_text() for text in chart.texts] == ["2", "1"]
    assert [label.get_text() for label in chart.get_yticklabels()] == ["a", "b"]
    assert chart.get_title(loc="left") == "t: 1 of 2 rules broken in the latest batch"


def test_a_table_whose_names_look_like_html_is_shown_as_text() -> None:
    assert "<script>" not in page(pd.DataFrame({"batch": []}), "<script>")
