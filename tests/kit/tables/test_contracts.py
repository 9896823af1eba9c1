from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from boathouse.tables.contracts import ContractViolation, check_columns, check_rows, document_tables, find_misfits, is_storable
from boathouse.tables.evolution import create
from boathouse.tables.table import Column, Lakehouse, Table, exists, read
from boathouse.tables.versions import version_of
from boathouse.tables.writes import append, merge, replace

BOATS = Table(
    name="harbour.boats",
    grain="One row per boat's berth.",
    columns=(Column("boat", "string", "its name"), Column("berth", "int", "where it lies"), Column("day", "date", "since when")),
    primary_key=("boat",),
)
LINES = "boat string, berth int, day date"
ASIDE = Column("_rescued", "string", "what did not fit, JSON")
Write = Callable[[Lakehouse, Table, DataFrame], None]


def swap(lake: Lakehouse, table: Table, df: DataFrame) -> None:
    replace(lake, table, df, where="true")


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_contracts_")
    return lake


def rows(spark: SparkSession, *values: tuple[Any, ...], schema: str = LINES) -> DataFrame:
    width = len(schema.split(","))
    return spark.createDataFrame([value + (None,) * (width - len(value)) for value in values], schema)


def named(name: str, **changes: Any) -> Table:
    return dataclasses.replace(BOATS, name=f"harbour.{name}", **changes)


def policy(on_change: str, **changes: Any) -> Table:
    columns = (*BOATS.columns, ASIDE) if on_change == "rescue" else BOATS.columns
    return dataclasses.replace(BOATS, columns=columns, on_change=on_change, **changes)


def test_a_contract_violation_names_every_difference_at_once(spark: SparkSession) -> None:
    wrong = spark.sql("SELECT 'Ida' AS boat, 4L AS berth, 'oak' AS wood")
    with pytest.raises(ContractViolation) as caught:
        check_columns(wrong, BOATS)
    assert str(caught.value) == "harbour.boats: missing day date; unexpected wood string; berth is bigint, not int"


def test_the_columns_come_back_in_declared_order(spark: SparkSession) -> None:
    assert check_columns(spark.sql("SELECT date'2013-01-01' AS day, 1 AS berth, 'Ida' AS boat"), BOATS).columns == ["boat", "berth", "day"]


@pytest.mark.parametrize("on_change", ["fail", "add_columns", "rescue"])
@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("boat string, berth int", ["missing day date"]),
        ("Boat string, berth int, day date", ["Boat must be spelled boat"]),
        ("boat string, berth int, day date, berth int", ["berth appears twice"]),
        ("boat string, berth int, day date, Berth int", ["Berth must be spelled berth", "berth appears twice", "Berth appears twice"]),
    ],
)
def test_a_missing_column_other_letters_and_a_column_twice_are_refused_by_every_policy(on_change: str, columns: str, said: list) -> None:
    fields = [T.StructField(name, T.DataType.fromDDL(kind)) for name, kind in (c.split() for c in columns.split(", "))]
    assert find_misfits(T.StructType(fields), policy(on_change)) == said


@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        ("struct<a:int,b:string>", True),
        ("struct<a:int not null,b:string>", True),  # what may be null is looked up in the rows
        ("struct<b:string,a:int>", False),  # Spark matches by position
        ("struct<A:int,b:string>", False),
        ("struct<a:bigint,b:string>", False),
        ("struct<a:int>", False),
    ],
)
def test_nested_types_are_compared_field_by_field(kind: str, fits: bool) -> None:
    table = Table("harbour.nested", "One row.", (Column("s", "struct<a:int,b:string>", "both"),))
    found = find_misfits(T.StructType([T.StructField("s", T.DataType.fromDDL(kind))]), table)
    assert found == ([] if fits else [f"s is {kind}, not struct<a:int,b:string>"])


@pytest.mark.parametrize("name", ["_change_type", "_METADATA", "a b", "a;b", "a\tb", ""])
def test_a_name_that_delta_cannot_keep_is_neither_let_in_nor_declared(name: str) -> None:
    fields = [*BOATS.schema.fields, T.StructField(name, T.StringType())]
    assert find_misfits(T.StructType(fields), policy("add_columns")) == [f"unexpected {name} string: Delta cannot store it"]
    with pytest.raises(ValueError, match="names that Delta can store"):
        named("odd", columns=(*BOATS.columns, Column(name, "string", "odd")))


def test_a_declaration_with_one_name_in_two_spellings_an_unknown_policy_or_nowhere_to_rescue_is_refused() -> None:
    for name in ("Boat", "a.b", "a`b"):  # SQL takes the last two apart
        with pytest.raises(ValueError, match=name):
            named("odd", columns=(*BOATS.columns, Column(name, "string", "again")))
    with pytest.raises(ValueError, match="on_change must be 'fail', 'add_columns' or 'rescue', got 'ignore'"):
        named("odd", on_change="ignore")
    for column in (Column("_rescued", "int", "odd"), Column("_rescued", "string", "odd", nullable=False), Column("rest", "string", "odd")):
        with pytest.raises(ValueError, match="needs a column _rescued"):
            named("odd", columns=(*BOATS.columns, column), on_change="rescue")


VALUES = [  # value, its type, the declared type, what the column holds, what is put aside
    ("4", "string", "int", 4, None),
    ("04", "string", "int", 4, None),
    ("4b", "string", "int", None, '"4b"'),
    ("4.0", "string", "int", None, '"4.0"'),
    ("5", "string", "double", 5.0, None),
    ("0.1000000000000001", "string", "float", None, '"0.1000000000000001"'),
    ("2013-06-01", "string", "date", "2013-06-01", None),
    ("1 June", "string", "date", None, '"1 June"'),
    ("12:00", "string", "timestamp", None, '"12:00"'),  # Spark would make it noon of today
    (3_000_000_000, "bigint", "int", None, "3000000000"),
    (4, "bigint", "int", 4, None),
    (4.0, "double", "int", 4, None),
    (4.5, "double", "int", None, "4.5"),
    (0.1, "double", "float", None, "0.1"),
    (9007199254740993, "bigint", "double", None, "9007199254740993"),
    (4, "int", "string", "4", None),
    (1, "int", "boolean", None, "1"),  # a number is no truth
    (1, "int", "timestamp", None, "1"),  # and no instant
    (True, "boolean", "string", "true", None),
    ([1, 2], "array<int>", "int", None, "[1,2]"),
    ([1, 2], "array<int>", "array<bigint>", None, "[1,2]"),
    ((1, "x"), "struct<b:int,a:string>", "struct<a:string,b:int>", None, '{"b":1,"a":"x"}'),
    (None, "string", "int", None, None),
]


def test_a_value_of_another_type_is_cast_where_nothing_is_lost_and_put_aside_where_something_would_be(spark: SparkSession) -> None:
    named_ = [(f"c{n}", *value) for n, value in enumerate(VALUES)]
    table = Table(
        "harbour.raw",
        "One row.",
        (*(Column(n, want, "a value") for n, _, _, want, *_ in named_), ASIDE),
        primary_key=(),
        on_change="rescue",
    )
    df = spark.createDataFrame([tuple(value for _, value, *_ in named_)], ", ".join(f"{n} {kind}" for n, _, kind, *_ in named_))
    got = check_columns(df, table).selectExpr(
        *[f"CAST({n} AS string) AS {n}" if want == "date" else n for n, _, _, want, *_ in named_],
        *[f"get_json_object(_rescued, '$.{n}') AS aside_{n}" for n, *_ in named_],
    )
    row = got.first()
    assert [(n, row[n]) for n, *_ in named_] == [(n, held) for n, _, _, _, held, _ in named_]
    plain = [(n, aside.strip('"') if aside else None) for n, *_, aside in named_]
    assert [(n, row[f"aside_{n}"]) for n, *_ in named_] == plain


TEXTS = st.one_of(st.none(), st.text(max_size=6), st.integers(-(2**33), 2**33).map(str))


@settings(max_examples=3, suppress_health_check=list(HealthCheck))
@given(st.lists(TEXTS, min_size=20, max_size=40))
def test_no_text_is_ever_lost_on_the_way_to_a_number(spark: SparkSession, texts: list) -> None:
    df = spark.createDataFrame([(text, n) for n, text in enumerate(texts)], "berth string, n int")
    table = Table("harbour.raw", "One row.", (Column("berth", "int", "number"), Column("n", "int", "order"), ASIDE), on_change="rescue")
    found = check_columns(df, table).selectExpr("n", "berth", "get_json_object(_rescued, '$.berth') AS aside").orderBy("n").collect()
    for text, row in zip(texts, found, strict=True):
        assert (row.aside == text) if row.berth is None else (int(text) == row.berth and row.aside is None)


def test_unknown_columns_are_kept_as_one_object_and_only_where_there_are_some(spark: SparkSession) -> None:
    df = spark.sql(
        "SELECT * FROM VALUES ('Ida', 1, null, 'oak', named_struct('m', 9)), ('Tern', 2, null, null, null) AS t(boat, berth, day, `the wood`, mast)"
    )
    found = check_columns(df.withColumn("day", df.day.cast("date")), policy("rescue")).collect()
    assert [row._rescued for row in found] == ['{"the wood":"oak","mast":{"m":9}}', None]


def test_an_instant_is_put_aside_to_the_microsecond(spark: SparkSession) -> None:
    moved = spark.sql("SELECT 'Ida' AS boat, 1 AS berth, date'2013-06-01' AS day, timestamp'2013-06-01 12:00:00.123456' AS moved")
    assert check_columns(moved, policy("rescue")).first()._rescued == '{"moved":"2013-06-01T12:00:00.123456Z"}'


@pytest.mark.parametrize("kind", ["void", "array<void>", "struct<a:interval day>", "map<string,interval year>"])
def test_a_type_that_delta_cannot_keep_is_not_let_in(kind: str) -> None:
    assert not is_storable("x", kind)
    assert is_storable("x", "struct<void:int,interval:string>")


def test_rows_that_were_rescued_can_be_written_again_and_cannot_be_mixed_with_new_ones(spark: SparkSession) -> None:
    again = check_columns(rows(spark, ("Ida", 1, None, "oak"), schema=LINES + ", wood string"), policy("rescue"))
    assert check_columns(again, policy("rescue")).first()._rescued == '{"wood":"oak"}'
    with pytest.raises(ContractViolation, match="rows must not have a column _rescued"):
        check_columns(again.withColumn("mast", again.berth), policy("rescue"))


def test_a_rescued_null_where_none_may_be_refuses_the_write(lake: Lakehouse) -> None:
    columns = (BOATS.columns[0], dataclasses.replace(BOATS.columns[1], nullable=False), ASIDE)
    table = named("strict", columns=columns, primary_key=(), on_change="rescue")
    with pytest.raises(ContractViolation, match=r"1 rows have no berth: \('Ida', None, '\{\"berth\":\"4b\"\}'\)"):
        append(lake, table, rows(lake.spark, ("Ida", "4b"), ("Tern", "5"), schema="boat string, berth string"))
    assert version_of(lake, table) == 0


@pytest.mark.parametrize("write", [append, merge, swap])
def test_a_table_that_follows_its_source_grows_in_the_write_that_brings_the_column(lake: Lakehouse, write: Write) -> None:
    table = policy("add_columns", name=f"harbour.grown_{write.__name__}")
    append(lake, table, rows(lake.spark, ("Ida", 1), ("Tern", 2)), unique=True)
    more = rows(lake.spark, ("Gull" if write is append else "Ida", 4, None, "oak"), schema=LINES + ", wood string")
    write(lake, table, more)
    assert version_of(lake, table) == 2  # created, appended, grown and written
    assert {f.name: f.nullable for f in read(lake, table).schema}["wood"]
    with pytest.raises(ContractViolation, match="wood is int, not string"):
        write(lake, table, more.withColumn("wood", more.berth))
    write(lake, table, rows(lake.spark, ("Swan" if write is append else "Ida", 5)))
    woods = {(row.boat, row.wood) for row in read(lake, table).collect()}
    assert (
        woods
        == {
            "append": {("Ida", None), ("Tern", None), ("Gull", "oak"), ("Swan", None)},
            "merge": {("Ida", None), ("Tern", None)},
            "swap": {("Ida", None)},
        }[write.__name__]
    )


@pytest.mark.parametrize("write", [append, merge, swap])
def test_a_key_twice_or_null_is_refused_with_examples_and_nothing_is_written(lake: Lakehouse, write: Write) -> None:
    table = named("refused")
    create(lake, table)
    with pytest.raises(ContractViolation, match=r"2 keys \(boat\) are null or not unique: \('Ida',\) x 2, \(None,\) x 1"):
        write(lake, table, rows(lake.spark, ("Ida", 1), ("Ida", 2), (None, 3), ("Tern", 4)))
    assert version_of(lake, table) == 0


def test_an_append_does_not_add_a_second_row_of_a_key_unless_the_caller_vouches_for_it(lake: Lakehouse) -> None:
    table = named("once")
    append(lake, table, rows(lake.spark, ("Ida", 1), ("Tern", 2)), unique=True)
    with pytest.raises(ContractViolation, match=r"2 keys \(boat\) are in the table already: \('Ida',\), \('Tern',\)"):
        append(lake, table, rows(lake.spark, ("Tern", 3), ("Gull", 3), ("Ida", 3)))
    assert version_of(lake, table) == 1
    append(lake, table, rows(lake.spark, ("Ida", 3)), unique=True)
    assert read(lake, table).where("boat = 'Ida'").count() == 2  # the promise was not kept


def test_a_replacement_does_not_bring_a_key_that_stays_elsewhere_in_the_table(lake: Lakehouse) -> None:
    table = named("elsewhere")
    append(lake, table, rows(lake.spark, ("Ida", 1), ("Tern", 7), ("Gull", None)), unique=True)
    for boat in ("Tern", "Gull"):  # at 7, and nowhere: a condition that is null does not hold
        with pytest.raises(ContractViolation, match=rf"1 keys \(boat\) are in the table already: \('{boat}',\)"):
            replace(lake, table, rows(lake.spark, (boat, 2)), where="berth < 5")
    replace(lake, table, rows(lake.spark, ("Ida", 3)), where="boat < 'J' AND boat > 'H'")
    assert {(row.boat, row.berth) for row in read(lake, table).collect()} == {("Ida", 3), ("Tern", 7), ("Gull", None)}


STRICT = Table(
    "harbour.crews",
    "One row per crew.",
    (Column("boat", "string", "its boat", nullable=False), Column("skipper", "struct<name:string not null,age:int>", "who leads")),
)


@pytest.mark.parametrize("key", [(), ("boat",)], ids=["without a key", "with a key"])
def test_a_null_where_none_may_be_is_refused_with_count_and_examples(lake: Lakehouse, key: tuple) -> None:
    table = dataclasses.replace(STRICT, name=f"harbour.crews{len(key)}", primary_key=key)
    crews = [("Ida", ("Ann", 40)), ("Tern", (None, 30)), ("Gull", None), ("Swan", (None, 20))]  # Delta refuses a struct that is null too
    with pytest.raises(
        ContractViolation, match=r"3 rows have no skipper\.name: \('Gull'.*\('Swan'.*\('Tern'" if key else "3 rows have no skipper.name"
    ):
        append(lake, table, lake.spark.createDataFrame(crews, "boat string, skipper struct<name:string,age:int>"))
    assert not exists(lake, table) if key else version_of(lake, table) == 0


def test_a_text_that_a_column_cannot_hold_is_refused_with_count_and_examples(lake: Lakehouse) -> None:
    columns = (*BOATS.columns, Column("code", "varchar(3)", "its mark"), Column("quay", "string", "where", nullable=False))
    table = named("coded", columns=columns, partition_by=("quay",))

    def coded(*found: tuple) -> DataFrame:
        return lake.spark.createDataFrame(
            [(boat, 1, None, code, quay) for boat, code, quay in found], "boat string, berth int, day date, code string, quay string"
        )

    append(lake, table, coded(("Ida", "abc", "north")))
    with pytest.raises(ContractViolation, match=r"1 rows have more than 3 characters in code: \('Tern',\)"):
        append(lake, table, coded(("Tern", "abcd", "north"), ("Gull", "ab", "south")))
    with pytest.raises(ContractViolation, match=r"1 rows have an empty quay, which a partition stores as null: \('Swan',\)"):
        append(lake, table, coded(("Swan", "abc", "")))
    with pytest.raises(ContractViolation, match=r"1 rows have more than 3 characters in code: \('Ida',\)"):
        merge(lake, table, coded(("Ida", "äöüß", "north")))
    assert [(row.boat, row.code) for row in read(lake, table).collect()] == [("Ida", "abc")]


def test_rows_of_an_ordinary_frame_are_merged_into_a_struct_with_a_required_field(lake: Lakehouse) -> None:
    kinds = "boat string, skipper struct<name:string,age:int,address:struct<town:string>>, wood string"
    skipper = Column("skipper", "struct<name:string not null,age:int,address:struct<town:string not null>>", "who leads")
    table = named("led", columns=(BOATS.columns[0], skipper), on_change="add_columns")
    merge(lake, table, lake.spark.createDataFrame([("Ida", ("Ann", 40, ("Ayr",)), None)], kinds))
    moved = [("Ida", ("Bo", None, ("Oban",)), "oak"), ("Tern", ("Cy", 30, ("Ayr",)), "ash")]
    merge(lake, table, lake.spark.createDataFrame(moved, kinds))
    for wrong in (("Ida", (None, 30, ("Ayr",)), ""), ("Ida", ("Ann", 30, None), ""), ("Ida", None, "")):
        with pytest.raises(ContractViolation, match=r"1 rows have no skipper\.(name|address\.town)"):
            merge(lake, table, lake.spark.createDataFrame([wrong], kinds))
    assert sorted(read(lake, table).collect()) == moved


@pytest.mark.parametrize("kind", ["varchar(5)", "boolean", "binary"])
def test_a_key_of_a_type_without_statistics_is_a_key(lake: Lakehouse, kind: str) -> None:
    column = Column("pier", kind, "where", nullable=False)
    table = named(f"keyed_by_{kind[:4]}", columns=(column, *BOATS.columns), primary_key=("pier", "boat"), time_key="pier")
    write = "true" if kind == "boolean" else "cast('pier1' AS binary)" if kind == "binary" else "'pier1'"
    given = lake.spark.sql(f"SELECT {write} AS pier, 'Ida' AS boat, berth, NULL AS day FROM VALUES (1) AS t(berth)").selectExpr(
        "pier", "boat", "berth", "date(day) AS day"
    )
    append(lake, table, given)
    merge(lake, table, given.withColumn("berth", F.lit(2)))
    with pytest.raises(ContractViolation, match=r"1 keys \(pier, boat\) are in the table already"):
        append(lake, table, given)
    assert [row.berth for row in read(lake, table).collect()] == [2]
    assert table.skipping == {"delta.dataSkippingStatsColumns": "boat"}
    for wrong in ({"cluster_by": ("pier",)}, {"statistics": ("pier",)}):
        with pytest.raises(ValueError, match=f"need columns with file statistics .*, got pier {kind[:4]}"):
            dataclasses.replace(table, **wrong)


def test_the_rows_are_checked_in_one_job_and_a_column_that_is_never_null_in_none(spark: SparkSession) -> None:
    def jobs(name: str, table: Table, df: DataFrame) -> int:
        spark.sparkContext.setJobGroup(name, name)
        try:
            check_rows(df, table)
        finally:
            spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
        return len(spark.sparkContext.statusTracker().getJobIdsForGroup(name))

    schema = "boat string, skipper struct<name:string,age:int>"
    crews = spark.createDataFrame([("Ida", ("Ann", 40)), ("Tern", ("Bo", 30))], schema)
    assert jobs("key and nulls", dataclasses.replace(STRICT, primary_key=("boat",)), crews) == 1
    boats = Table("harbour.names", "One row per boat.", (dataclasses.replace(BOATS.columns[0], nullable=False),))
    assert jobs("nothing to look for", boats, spark.createDataFrame([("Ida",)], boats.schema)) == 0


def test_a_page_names_every_column_and_survives_a_bar_in_a_comment() -> None:
    page = document_tables(
        [named("odd", columns=(*BOATS.columns, Column("side", "string", "port | starboard")), owner="the mate")], "Boats"
    )
    assert page.startswith("# Boats\n")
    assert "### harbour.odd" in page
    assert "primary key: `boat`; kept: 365 days; owner: the mate." in page
    assert "| `side` | string |  | port \\| starboard |" in page
