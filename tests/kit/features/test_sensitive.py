"A column that a table marks as sensitive reaches no training set, and the mark follows the declaration."

from __future__ import annotations

import dataclasses

import pytest
from pyspark.sql import SparkSession

from boathouse.features.lookups import FeatureLookup
from boathouse.features.tables import read_declaration
from boathouse.features.training_sets import Labels, create_training_set
from boathouse.tables.evolution import evolve
from boathouse.tables.table import SENSITIVE, Column, Lakehouse, Table, properties_of
from boathouse.tables.versions import version_of
from boathouse.tables.writes import append

PERSONS = Table(
    "features.persons",
    "One row per person.",
    (Column("person", "string", "who", False), Column("name", "string", "on the ticket", sensitive=True), Column("trips", "int", "so far")),
    ("person",),
)
SALES = Table(
    "gold.sales",
    "One row per sale.",
    (
        Column("sale", "int", "number", False),
        Column("person", "string", "who"),
        Column("card", "string", "number of the card", sensitive=True),
        Column("returned", "boolean", "label"),
    ),
    ("sale",),
)


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    made = Lakehouse(spark, prefix="test_sensitive_")
    append(made, PERSONS, spark.createDataFrame([("ada", "Ada Lovelace", 3)], PERSONS.schema))
    append(made, SALES, spark.createDataFrame([(1, "ada", "4000", True)], SALES.schema))
    return made


def test_a_sensitive_column_is_refused_whoever_brings_it_and_however_it_is_called(lake: Lakehouse) -> None:
    labels = Labels(SALES.name, version_of(lake, SALES))
    plain = FeatureLookup(PERSONS.name, "person", feature_names=["trips"])
    every = FeatureLookup(PERSONS.name, "person")
    renamed = FeatureLookup(PERSONS.name, "person", feature_names=["name"], rename_outputs={"name": "x"})

    def refusal(source: object, lookups: list[FeatureLookup], *excluded: str) -> str:
        try:
            made = create_training_set(lake, source, lookups, "returned", excluded)  # type: ignore[arg-type]
        except ValueError as error:
            return str(error)
        return ", ".join(made.df.columns)

    of_lookup = "lookup of features.persons: feature_names must not have sensitive columns, got name: leave them out, or exclude them"
    of_labels = "labels of gold.sales must not have sensitive columns, got card: name them in exclude_columns"
    assert refusal(labels, [every], "card") == of_lookup
    assert refusal(labels, [renamed], "card") == of_lookup
    assert refusal(labels, [plain]) == of_labels
    assert refusal(labels, [plain], "CARD") == "sale, person, returned, trips"
    assert refusal(labels, [every], "card", "name") == "sale, person, returned, trips"
    assert refusal(labels, [renamed], "card", "x") == "sale, person, returned"
    rows = lake.spark.createDataFrame([("ada", True)], "person string, returned boolean")
    assert refusal(rows, [every]) == of_lookup


def test_the_mark_is_stored_read_back_and_taken_away_with_the_declaration(lake: Lakehouse) -> None:
    assert properties_of(lake, PERSONS)[SENSITIVE] == "name"
    assert [c.name for c in read_declaration(lake, PERSONS.name).columns if c.sensitive] == ["name"]
    unmarked = dataclasses.replace(
        PERSONS, name="features.guests", columns=tuple(dataclasses.replace(c, sensitive=False) for c in PERSONS.columns)
    )
    marked = dataclasses.replace(PERSONS, name="features.guests")
    assert SENSITIVE not in unmarked.properties
    for declared, found in ((unmarked, None), (marked, "name"), (unmarked, None)):
        evolve(lake, declared)
        assert properties_of(lake, declared).get(SENSITIVE) == found
