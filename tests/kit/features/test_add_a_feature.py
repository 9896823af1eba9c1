"The recipe for a new feature in docs/ml-test-score.md: its blocks run in order, and the feature helps."

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from boathouse.tables.table import Lakehouse, drop_all

PAGE = Path(__file__).parents[3] / "docs" / "ml-test-score.md"


def test_the_recipe_declares_refreshes_looks_up_and_measures_a_feature(spark: SparkSession) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Add a feature\n")[2].partition("\n## ")[0]
    blocks, names = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE), dict[str, Any]()
    assert len(blocks) == 5
    try:
        for code in blocks:
            exec(compile(code, str(PAGE), "exec"), names)
    finally:
        drop_all(Lakehouse(spark, prefix="recipe_"))
    assert set(names["rows"].columns) >= {"customer", "amount", "returned", "returns_14d"}
    assert names["loss"].loc[0, "helps"]
    assert len(names["before"]) + len(names["after"]) == 3600
