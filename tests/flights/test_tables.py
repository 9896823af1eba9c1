"The declarations of the use case, and the page about them."

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from boathouse.tables.contracts import document_tables
from boathouse.tables.table import Lakehouse
from flights.features import side_tables
from flights.tables import ALL

PAGE = Path(__file__).parent.parent.parent / "docs" / "tables.md"


def test_the_page_about_the_tables_is_what_the_declarations_say(request: pytest.FixtureRequest, spark: SparkSession) -> None:
    page = document_tables([*ALL, *side_tables(Lakehouse(spark))], "The tables of the flights")
    if request.config.getoption("--save-outputs"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "docs/tables.md is out of date: pytest tests/flights/test_tables.py --save-outputs"
