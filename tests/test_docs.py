"The pages of docs/ and the README: their code runs, their links resolve, and the site builds without a warning."

from __future__ import annotations

import re
from pathlib import Path

import mlflow
from pyspark.sql import SparkSession

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks(page: Path) -> list[tuple[int, str]]:
    "(line, code) of each block of Python in a page."
    text = page.read_text(encoding="utf-8")
    return [(text[: found.start(1)].count("\n"), found[1]) for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]


def test_the_page_on_your_own_tables_runs(spark: SparkSession) -> None:
    "Its blocks run in order, in one namespace; afterwards the first model serves, and seven orders with a negative price lie in the quarantine."
    page = ROOT / "docs" / "your-tables.md"
    blocks, names = python_blocks(page), {}
    try:
        for line, code in blocks:
            exec(compile("\n" * line + code, str(page), "exec"), names)
        assert names["written"].counts == {"amount_is_positive": 9}
        assert names["verdict"].accepted, [(a.name, a.reason) for a in names["verdict"].answers if not a.passed]
        assert names["champion"] == names["version"] == 1
        assert len(blocks) == 10
    finally:
        spark.sql("DROP SCHEMA IF EXISTS spark_catalog.shop CASCADE")
        client = mlflow.MlflowClient()
        if client.search_registered_models("name = 'spark_catalog.shop.returns'"):
            client.delete_registered_model("spark_catalog.shop.returns")
