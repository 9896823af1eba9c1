"""Lines become typed rows, and each line that does not fit has one reason."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from boathouse.ingest.files import bronze_of
from boathouse.quality.lines import cast_lines, cast_text, contract_rules
from boathouse.quality.rules import Rule, evaluate_rules, rejected_rows
from boathouse.tables.table import Column, Table

BOATS = Table(
    "silver.boats",
    "One row per boat.",
    (
        Column("boat", "bigint", "number", nullable=False),
        Column("name", "string", "name"),
        Column("metres", "double", "length"),
        Column("crew", "int", "people"),
    ),
    primary_key=("boat",),
)
RULES = contract_rules(BOATS, Rule("crew", "crew BETWEEN 1 AND 99", reason="a boat has a crew", applies="crew IS NOT NULL"))
DELIVERED = {
    "good": ("1", "Ida", "9.5", "3"),
    "no crew": ("2", "Tern", "8", None),
    "NA": ("3", "NA", "8", "2"),
    "two misfits": ("4", "Auk", "long", "2.5"),
    "no key": (None, "Gull", "8", "2"),
    "impossible": ("5", "Swan", "8", "0"),
    "equal": ("6", "Teal", "8.0", "2"),
    "equal, otherwise written": ("6", "Teal", "8", "+2"),
    "contradicted": ("7", "Rail", "8", "2"),
    "contradicts": ("7", "Rail", "9", "2"),
    "contradicted by a null": ("8", "Smew", "8", "2"),
    "null": ("8", None, "8", "2"),
    "misfit with the key of a good line": ("1", "Ida", "x", "3"),
    "a percent sign": ("9", "Ruff", "5%s", "3"),
}


@pytest.fixture(scope="module")
def reasons(spark: SparkSession) -> dict[str, tuple[list[str], str]]:
    "The failed rules and the reason of each rejected line of `DELIVERED`, and of a malformed one."
    rows = [(*fields, f"{n:02}", name, None) for n, (name, fields) in enumerate(DELIVERED.items())]
    rows.append((None, None, None, None, "99", "malformed", "2 fields where 4 are declared"))
    names = ["boat", "name", "metres", "crew", "_raw", "_source_file", "_malformed"]
    lines = spark.createDataFrame(rows, ", ".join(f"{name} string" for name in names))
    judged: DataFrame = evaluate_rules(cast_lines(lines, BOATS, missing=["NA"]), RULES)
    return {row["_source_file"]: (row["_failed_rules"], row["_reason"]) for row in rejected_rows(judged, RULES).collect()}


def test_each_line_that_does_not_fit_has_the_reason_of_one_rule(reasons: dict[str, tuple[list[str], str]]) -> None:
    assert reasons == {
        "two misfits": (["readable"], "metres must be double, got 'long'; crew must be int, got '2.5'"),
        "no key": (["complete"], "boat is missing"),
        "impossible": (["crew"], "a boat has a crew"),
        "equal, otherwise written": (["unique"], "a line with this boat came before"),
        "contradicted": (["unique"], "lines with this boat have different values"),
        "contradicts": (["unique"], "lines with this boat have different values"),
        "contradicted by a null": (["unique"], "lines with this boat have different values"),
        "null": (["unique"], "lines with this boat have different values"),
        "misfit with the key of a good line": (["readable"], "metres must be double, got 'x'"),
        "a percent sign": (["readable"], "metres must be double, got '5%s'"),
        "malformed": (["well_formed"], "2 fields where 4 are declared"),
    }


def test_a_text_is_cast_only_if_it_is_written_in_the_usual_notation_of_its_type(spark: SparkSession) -> None:
    cases = {
        "double": {"1": "1.0", " -2.5e3 ": "-2500.0", ".5": "0.5", "0.1000000000000000055511151231257827": "0.1", "1d": None, "NaN": None,
                   "Infinity": None, "1e999": None, "1,5": None, "0x10": None, "": None, "1 2": None},
        "int": {"+7": "7", "007": "7", "2147483648": None, "7.0": None, "1e3": None, "٣": None},
        "decimal(5,2)": {"1.5": "1.50", "1.505": None, "1000": None},
        "boolean": {"True": "true", "no": "false", "2": None},
        "date": {"2026-02-28": "2026-02-28", "2026-02-30": None, "2026": None, "28.02.2026": None},
        "timestamp": {"2026-01-05 10:00": "2026-01-05 10:00:00", "2026-01-05T10:00:00+01:00": "2026-01-05 09:00:00", "2026-01-05": None},
        "timestamp_ntz": {"2026-01-05T10:00:00.5": "2026-01-05 10:00:00.5", "2026-01-05T10:00:00Z": None},
        "string": {" as it is ": " as it is "},
    }  # fmt: skip
    columns = {
        f"{kind}: {text}": cast_text(F.lit(text), T.DataType.fromDDL(kind)).cast("string")
        for kind, texts in cases.items()
        for text in texts
    }
    found = spark.range(1).select(F.array(*columns.values())).first()
    assert found is not None
    wanted = {f"{kind}: {text}": value for kind, texts in cases.items() for text, value in texts.items()}
    assert dict(zip(columns, found[0], strict=True)) == wanted


def test_a_table_with_a_column_of_another_kind_and_lines_without_a_column_are_refused(spark: SparkSession) -> None:
    tags = Table("silver.tags", "One row per boat.", (Column("tags", "array<string>", "labels"),))
    with pytest.raises(ValueError, match=r"the type of a field must be .* got array<string>"):
        cast_lines(spark.sql("SELECT '' AS tags"), tags)
    with pytest.raises(ValueError, match=r"silver\.boats: the lines must have each column as string, got metres int, crew missing"):
        cast_lines(spark.sql("SELECT '1' AS boat, 'Ida' AS name, 9 AS metres"), BOATS)


def test_the_bronze_table_of_a_typed_table_has_its_columns_as_text() -> None:
    bronze = bronze_of(BOATS)
    assert bronze.name == "bronze.boats"
    assert {column.type for column in bronze.columns[:-1]} == {"string"}
    assert [column.name for column in bronze.columns] == [
        "boat",
        "name",
        "metres",
        "crew",
        "_raw",
        "_source_file",
        "_malformed",
        "_ingested_at",
    ]
