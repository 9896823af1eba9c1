"""The guarded write and the way back, also under `kill -9` at each point between two commits."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from boathouse.quality import quarantine as kit
from boathouse.quality.quarantine import EvaluatedRows, append_rejected, quarantine_of, record_metrics, requeue_rows, write_with_quarantine
from boathouse.quality.rules import METRICS, QualityError, Rule, RuleError, evaluate_rules
from boathouse.tables.contracts import ContractViolation
from boathouse.tables.table import Column, Lakehouse, Table, exists, read
from boathouse.tables.versions import fingerprint, version_of
from boathouse.tables.writes import append, last_note

if TYPE_CHECKING:
    from boathouse.workspace.cluster.cluster import Cluster

NOON = dt.datetime(2013, 6, 1, 12)
BOATS = Table(
    "harbour.boats", "One row per boat.", (Column("boat", "string", "name", nullable=False), Column("berth", "int", "where it lies"))
)
RULES = (
    Rule("named", "boat IS NOT NULL", reason="a boat has a name"),
    Rule("berthed", "berth > 0", reason="berths count from 1"),
    Rule("ours", "berth < 100", action="fail", applies="berth IS NOT NULL", reason="another harbour's boats"),
    Rule("not_the_tug", "boat != 'Tug'", action="drop", applies="boat IS NOT NULL"),
)
ROWS = [
    ("Ida", 1, "Ida,1"),
    ("Tern", -2, "Tern,-2"),
    (None, 3, ",3"),
    ("Tug", 4, "Tug,4"),
    ("Gull", None, "Gull,"),
    ("Tern", -2, "Tern,-2"),
]


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark, prefix="test_guard_")
    return lake


def boats(spark: SparkSession, rows: list = ROWS) -> DataFrame:
    return spark.createDataFrame(rows, "boat string, berth int, _raw string")


def named(name: str) -> tuple[Table, Table]:
    table = dataclasses.replace(BOATS, name=f"harbour.{name}")
    return table, quarantine_of(table)


def content(lake: Lakehouse, table: Table, quarantine: Table) -> tuple[list, list]:
    "The rows of both tables; of the quarantine what does not depend on chance."
    lies = (
        read(lake, quarantine).select("boat", "berth", "_raw", "_failed_rules", "_run", "_requeued_run")
        if exists(lake, quarantine)
        else None
    )
    return sorted(map(tuple, read(lake, table).collect()), key=str), sorted(map(tuple, lies.collect()), key=str) if lies else []


def mended(rows: DataFrame) -> DataFrame:
    return rows.selectExpr("coalesce(boat, 'Nobody') AS boat", "abs(berth) AS berth", "_id")


class Split(NamedTuple):
    "A table and its quarantine after one guarded write of ROWS, what it found, and the rows of both."

    table: Table
    quarantine: Table
    found: EvaluatedRows
    content: tuple[list, list]


@pytest.fixture(scope="module")
def split(lake: Lakehouse) -> Split:
    "Only read; a test that writes takes a copy."
    table, quarantine = named("split")
    found = write_with_quarantine(lake, table, boats(lake.spark), RULES, quarantine=quarantine, run="1", at=NOON, note={"upto": 3})
    return Split(table, quarantine, found, content(lake, table, quarantine))


@pytest.fixture
def copy(lake: Lakehouse, state: Path, split: Split) -> Callable[[str], tuple[Table, Table]]:
    "The two tables as they are after that write, files and log, under another name."

    def copied(name: str) -> tuple[Table, Table]:
        harbour, pair = state / "warehouse" / "test_guard_harbour.db", named(name)
        for old, new in zip((split.table, split.quarantine), pair, strict=True):
            folder = shutil.copytree(harbour / old.name.partition(".")[2], harbour / new.name.partition(".")[2])
            lake.spark.sql(f"CREATE TABLE {lake.name(new)} USING delta LOCATION '{folder}'")
        return pair

    return copied


def test_a_guarded_write_splits_counts_and_keeps_what_was_given(lake: Lakehouse, split: Split) -> None:
    done = split.found
    assert done.counts == {"checked": 6, "named": 1, "berthed": 3, "ours": 0, "not_the_tug": 1}
    assert done.passed() == {"named": 5, "berthed": 3, "ours": 6, "not_the_tug": 5}
    assert done.failed("drop", "fail") == {"not_the_tug": 1}
    good, bad = split.content
    assert good == [("Ida", 1)]
    tern = ("Tern", -2, "Tern,-2", ["berthed"], "1", None)
    assert bad == [("Gull", None, "Gull,", ["berthed"], "1", None), tern, tern, (None, 3, ",3", ["named"], "1", None)]
    rows = fingerprint(boats(lake.spark))
    noted = {"upto": 3, "guard": "1", "batch_counts": {**done.counts, "fingerprint": rows}}
    assert last_note(lake, split.table) == last_note(lake, split.quarantine) == noted


def test_the_same_run_again_changes_nothing_however_much_was_written_since(
    lake: Lakehouse, split: Split, copy: Callable[[str], tuple[Table, Table]], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, quarantine = copy("again")
    write_with_quarantine(lake, table, boats(lake.spark, ROWS[:2]), RULES, quarantine=quarantine, run="2", at=NOON)
    append(lake, table, boats(lake.spark, [("Swan", 9, "")]).drop("_raw"))
    before = content(lake, table, quarantine)
    assert write_with_quarantine(lake, table, boats(lake.spark), RULES, quarantine=quarantine, run="1", at=NOON) == dataclasses.replace(
        split.found, table=table.name
    )
    monkeypatch.setattr("boathouse.quality.quarantine.RECENT", 1)  # its note is further back: the table itself knows the transaction
    assert (
        write_with_quarantine(lake, table, boats(lake.spark), RULES, quarantine=quarantine, run="1", at=NOON).counts == split.found.counts
    )
    assert content(lake, table, quarantine) == before


def test_a_batch_that_breaks_a_fail_rule_leaves_no_commit_anywhere(lake: Lakehouse, split: Split) -> None:
    versions = version_of(lake, split.table), version_of(lake, split.quarantine)
    foreign = [*ROWS, ("Kon-Tiki", 100, ""), ("Fram", 200, "")]
    with pytest.raises(QualityError, match=r"^ours \(2 of 8 rows\): another harbour's boats$"):
        write_with_quarantine(lake, split.table, boats(lake.spark, foreign), RULES, quarantine=split.quarantine, run="2", at=NOON)
    assert versions == (version_of(lake, split.table), version_of(lake, split.quarantine))


def test_a_batch_without_fault_or_without_rows_needs_no_quarantine(lake: Lakehouse) -> None:
    table, quarantine = named("clean")
    assert write_with_quarantine(lake, table, boats(lake.spark, ROWS[:1]), RULES, quarantine=quarantine, run="1", at=NOON).failed() == {}
    empty = write_with_quarantine(
        lake, table, boats(lake.spark).where("false"), RULES, quarantine=quarantine, run="2", at=NOON, note={"upto": 7}
    )
    assert set(empty.counts.values()) == {0}
    rows = fingerprint(boats(lake.spark).where("false"))
    assert last_note(lake, table) == {"guard": "2", "upto": 7, "batch_counts": {**empty.counts, "fingerprint": rows}}
    assert not exists(lake, quarantine)


def test_a_caller_who_writes_good_rows_otherwise_has_reject_and_requeue_for_the_rest(lake: Lakehouse) -> None:
    table, quarantine = named("merged")
    judged = evaluate_rules(boats(lake.spark), RULES)
    first, second = (append_rejected(lake, quarantine, judged, RULES, run="1", at=NOON, note={"upto": 3}) for _ in range(2))
    assert first == second == {"checked": 6, "named": 1, "berthed": 3, "ours": 0, "not_the_tug": 1}
    assert read(lake, quarantine).count() == 4
    assert last_note(lake, quarantine) == {"upto": 3, "guard": "1"}
    written: list[list] = []

    def write(good: DataFrame) -> None:
        written.append(sorted(tuple(row) for row in good.select("boat", "berth").collect()))
        if len(written) == 1:
            raise ConnectionAbortedError("the machine went away")

    words = {"quarantine": quarantine, "at": NOON, "fix": mended, "write": write}
    with pytest.raises(ConnectionAbortedError):
        requeue_rows(lake, table, RULES, run="fix", **words)
    requeue_rows(lake, table, RULES, run="fix", **words)
    assert written == [[("Nobody", 3), ("Tern", 2), ("Tern", 2)]] * 2
    lies = [(row.boat, row._requeued_run) for row in read(lake, quarantine).orderBy("boat").collect()]
    assert lies == [(None, "fix"), ("Gull", None), ("Tern", "fix"), ("Tern", "fix")]
    before = version_of(lake, quarantine)
    requeue_rows(lake, table, RULES, run="again", **words)
    assert (len(written), version_of(lake, quarantine), exists(lake, table)) == (2, before, False)


def test_rows_that_do_not_fit_the_table_or_rules_that_cannot_be_judged_create_nothing(lake: Lakehouse) -> None:
    table, quarantine = named("unfit")
    for df, rules, error in (
        (boats(lake.spark).withColumnRenamed("boat", "ship"), (), ContractViolation),
        (boats(lake.spark).selectExpr("*", "1 AS more"), RULES, ContractViolation),
        (boats(lake.spark), (Rule("x", "ship > 1"),), RuleError),
    ):
        with pytest.raises(error):
            write_with_quarantine(lake, table, df, rules, quarantine=quarantine, run="1", at=NOON)
    assert not exists(lake, table)


def test_each_row_of_a_source_that_differs_at_each_reading_goes_to_exactly_one_table(lake: Lakehouse) -> None:
    table, quarantine = named("restless")
    berth = F.udf(lambda _: random.randint(-9, 9), "int")  # Spark takes it for a function of its argument
    rows = lake.spark.range(400).select(F.col("id").cast("string").alias("boat"), berth("id").alias("berth"))
    done = write_with_quarantine(lake, table, rows, RULES[1:2], quarantine=quarantine, run="1", at=NOON)
    good, bad = content(lake, table, quarantine)
    assert sorted(row[0] for row in (*good, *bad)) == sorted(str(n) for n in range(400))
    assert all(row[1] > 0 for row in good)
    assert all(row[1] <= 0 for row in bad)
    assert done.counts == {"checked": 400, "berthed": len(bad)}


def test_a_requeue_of_other_rows_under_the_name_of_a_finished_one_is_refused(lake: Lakehouse) -> None:
    table, quarantine = named("other_requeue")
    words = {"quarantine": quarantine, "at": NOON, "fix": mended}
    write_with_quarantine(lake, table, boats(lake.spark), RULES, quarantine=quarantine, run="1", at=NOON)
    for _ in range(2):
        requeue_rows(lake, table, RULES, run="fix", where="boat = 'Tern'", **words)
    before = read(lake, table).count()
    with pytest.raises(QualityError, match="the run 'fix' has already written other rows"):
        requeue_rows(lake, table, RULES, run="fix", where="boat IS NULL", **words)
    assert read(lake, table).count() == before


@pytest.mark.parametrize("action", ["write", "requeue"])
def test_a_commit_to_the_source_between_the_two_writes_is_not_part_of_the_batch(
    lake: Lakehouse, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    source, (table, quarantine) = dataclasses.replace(BOATS, name=f"harbour.{action}_source"), named(f"{action}_moving")
    append(lake, source, boats(lake.spark, [("Ida", 1, ""), ("Tern", -2, "")]).drop("_raw"))
    words: dict[str, Any] = {"quarantine": quarantine, "at": NOON}
    if action == "requeue":
        given = boats(lake.spark, [("Tern", -2, ""), ("Swan", -3, "")])
        write_with_quarantine(lake, table, given, RULES, run="0", **words)
    original = kit.append_once

    def append_while_others_do(*given: Any, **named: Any) -> bool:
        added = original(*given, **named)
        append(lake, source, boats(lake.spark, [("Swan", -3, ""), ("Gull", 4, "")]).drop("_raw"))
        return added

    monkeypatch.setattr(kit, "append_once", append_while_others_do)
    if action == "write":
        write_with_quarantine(lake, table, read(lake, source), RULES, run="1", **words)
        assert [[row[0] for row in rows] for rows in content(lake, table, quarantine)] == [["Ida"], ["Tern"]]
    else:
        known = read(lake, source).select("boat").distinct()
        requeue_rows(lake, table, RULES, run="fix", fix=lambda rows: mended(rows.join(known, "boat", "left_semi")), **words)
        good, bad = content(lake, table, quarantine)
        assert (good, [(row[0], row[5]) for row in bad]) == ([("Tern", 2)], [("Swan", None), ("Tern", "fix")])


def test_a_good_row_that_the_table_cannot_have_or_a_rule_that_raises_is_refused_before_a_commit(lake: Lakehouse) -> None:
    table, quarantine = named("refused")
    keyed = dataclasses.replace(table, primary_key=("boat",))
    reason = (Rule("berthed", "berth > 0", detail="concat('1/', 1 / (berth + 2))"),)
    for into, rules, error, why in (
        (table, RULES[1:], ContractViolation, r"harbour\.refused: 1 rows have no boat"),
        (keyed, (), ContractViolation, r"2 keys \(boat\) are null or not unique: \('Tern',\) x 2, \(None,\) x 1"),
        (
            table,
            (*RULES, Rule("near", "10 / (berth - 1) < 9")),
            RuleError,
            r"^near: '10 / \(berth - 1\) < 9' raises DIVIDE_BY_ZERO on a row.*try_divide",
        ),
        (table, (RULES[0], *reason), RuleError, "^berthed: 'berth > 0' raises DIVIDE_BY_ZERO"),
    ):
        with pytest.raises(error, match=why):
            write_with_quarantine(lake, into, boats(lake.spark), rules, quarantine=quarantine, run="1", at=NOON)
        assert not exists(lake, table), why
        assert not exists(lake, quarantine), why


def test_other_rows_or_rules_under_the_name_of_a_written_run_are_refused(lake: Lakehouse, split: Split) -> None:
    for rows, rules, now in (
        (ROWS[:3], RULES, "now checked 3, named 1, berthed 1"),
        (ROWS[:2], (Rule("any", "true"),), "now checked 2, any 0"),
        ([(f"{name}!" if name else name, *rest) for name, *rest in ROWS], RULES, "fingerprint"),  # the same counts, other rows
    ):
        with pytest.raises(QualityError, match=rf"the run '1' has already written other rows or used other rules: it counted .*{now}"):
            write_with_quarantine(lake, split.table, boats(lake.spark, rows), rules, quarantine=split.quarantine, run="1", at=NOON)
    assert content(lake, split.table, split.quarantine) == split.content


def test_other_rejected_rows_or_other_counts_under_the_name_of_a_written_run_are_refused(lake: Lakehouse, split: Split) -> None:
    table, quarantine = named("other_rejected")
    counts = Table("monitoring.other_counts", "One row per rule and batch.", tuple(Column(*c.split(" "), "") for c in METRICS.split(", ")))
    for rows in (ROWS, ROWS[:2]):
        judged = evaluate_rules(boats(lake.spark, rows), RULES)
        with (
            nullcontext() if rows is ROWS else pytest.raises(QualityError, match=r"the run '1' has already .* counted rows 4; now rows 1\.")
        ):
            append_rejected(lake, quarantine, judged, RULES, run="1", at=NOON)
        found = dataclasses.replace(split.found, counts={**split.found.counts, "checked": len(rows)})
        with nullcontext() if rows is ROWS else pytest.raises(QualityError, match="now checked 2, named 1"):
            record_metrics(lake, counts, found, NOON)
    assert (version_of(lake, quarantine), version_of(lake, counts), exists(lake, table)) == (1, 1, False)


def test_a_key_that_the_table_has_is_refused_and_a_new_column_or_an_unfit_value_is_kept(lake: Lakehouse) -> None:
    berth, rescued = Column("berth", "int", "where it lies"), Column("_rescued", "string", "what does not fit, JSON")
    skipper = Column("skipper", "struct<name: string NOT NULL, age: int>", "who leads", nullable=False)
    rows = lake.spark.sql(
        "SELECT * FROM VALUES ('Ida', 1, named_struct('name', 'Ann', 'age', 40), 'oak'), ('Tern', 2, named_struct('name', NULL, 'age', 3), 'ash')"
        " AS t(boat, berth, skipper, wood)"
    )
    led = [Rule("led", "skipper.name IS NOT NULL")]
    for policy in ("add_columns", "rescue"):
        table, _ = named(policy)
        columns = (*table.columns[:1], berth, skipper, *([rescued] if policy == "rescue" else []))
        table = dataclasses.replace(table, columns=columns, primary_key=("boat",), on_change=policy)
        quarantine = quarantine_of(table)
        write_with_quarantine(lake, table, rows, led, quarantine=quarantine, run="1", at=NOON)
        with pytest.raises(ContractViolation, match=r"1 keys \(boat\) are in the table already: \('Ida',\)"):
            write_with_quarantine(lake, table, rows.where("berth = 1"), led, quarantine=quarantine, run="2", at=NOON)
        woods = [
            read(lake, one).selectExpr("boat", "wood" if policy == "add_columns" else "get_json_object(_rescued, '$.wood')").collect()
            for one in (table, quarantine)
        ]
        assert woods == [[("Ida", "oak")], [("Tern", "ash")]], policy


def test_a_table_with_a_column_that_the_quarantine_needs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the quarantine needs the column names .* got a table with _run: rename these columns"):
        quarantine_of(dataclasses.replace(BOATS, columns=(*BOATS.columns, Column("_Run", "string", "name of the run"))))


def test_a_hundred_rules_reject_the_rows_that_each_of_them_names(lake: Lakehouse) -> None:
    table, quarantine = named("hundred")
    rows = lake.spark.sql("SELECT concat('b', id) AS boat, cast(id AS int) AS berth FROM range(120)")
    rules = [Rule(f"not_{n}", f"berth != {n}") for n in range(100)]
    assert write_with_quarantine(lake, table, rows, rules, quarantine=quarantine, run="1", at=NOON).counts == {
        "checked": 120,
        **{r.name: 1 for r in rules},
    }
    assert {(row.berth, *row._failed_rules) for row in read(lake, quarantine).collect()} == {(n, f"not_{n}") for n in range(100)}
    assert read(lake, table).count() == 20


def test_the_counts_are_recorded_once(lake: Lakehouse, split: Split) -> None:
    kinds = {
        "table_name": "string",
        "rule": "string",
        "action": "string",
        "checked": "bigint",
        "failed": "bigint",
        "batch": "string",
        "measured_at": "timestamp",
    }
    counts = Table("monitoring.recorded", "One row per rule and batch.", tuple(Column(name, kind, "") for name, kind in kinds.items()))
    for _ in range(2):
        record_metrics(lake, counts, split.found, NOON)
    assert sorted((row.rule, row.checked, row.failed) for row in read(lake, counts).collect()) == [
        ("berthed", 6, 3),
        ("named", 6, 1),
        ("not_the_tug", 6, 1),
        ("ours", 6, 0),
    ]


def test_what_passes_after_the_fix_goes_on_once_and_the_rest_gets_its_new_reason(
    lake: Lakehouse, copy: Callable[[str], tuple[Table, Table]]
) -> None:
    table, quarantine = copy("back")
    stricter = (*RULES, Rule("not_nobody", "boat != 'Nobody'"))
    for _ in range(2):
        requeue_rows(lake, table, stricter, quarantine=quarantine, run="fix", at=NOON, fix=mended)
    good, bad = content(lake, table, quarantine)
    assert good == [("Ida", 1), ("Tern", 2), ("Tern", 2)]
    tern = ("Tern", -2, "Tern,-2", ["berthed"], "1", "fix")
    assert bad == [("Gull", None, "Gull,", ["berthed"], "1", None), tern, tern, (None, 3, ",3", ["not_nobody"], "1", None)]
    assert last_note(lake, table)["upto"] == last_note(lake, quarantine)["upto"] == 3  # progress of others is not forgotten
    requeue_rows(lake, table, RULES, quarantine=quarantine, run="later", at=NOON, fix=mended)  # the rule was a mistake
    assert [boat for boat, _ in content(lake, table, quarantine)[0]] == ["Ida", "Nobody", "Tern", "Tern"]


def test_a_fix_that_loses_track_of_rows_or_brings_foreign_ones_changes_nothing(lake: Lakehouse, split: Split) -> None:
    for fix, error in (
        (lambda rows: rows.drop("_id"), ValueError),
        (lambda rows: rows.unionByName(rows), ValueError),
        (lambda rows: mended(rows).selectExpr("boat", "berth + 100 AS berth", "_id"), QualityError),
    ):
        with pytest.raises(error):
            requeue_rows(lake, split.table, RULES, quarantine=split.quarantine, run="fix", at=NOON, fix=fix)
    assert content(lake, split.table, split.quarantine) == split.content


SCRIPT = """
import os, signal, sys
sys.path[:0] = [{src!r}, {tests!r}]
import datetime as dt
from boathouse.quality import quarantine as kit
from boathouse.tables.table import Lakehouse
import test_quarantine as t

table, quarantine = t.named({name!r})
lake, left = Lakehouse(spark, prefix="test_guard_"), {commits}

def counted(write):
    def call(*words, **more):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return write(*words, **more)
    return call

kit.append_once, kit.mark_requeued = counted(kit.append_once), counted(kit.mark_requeued)
{action}
"""
GUARD = "kit.write_with_quarantine(lake, table, t.boats(spark), t.RULES, quarantine=quarantine, run='1', at=t.NOON)"
REQUEUE = "kit.requeue_rows(lake, table, t.RULES, quarantine=quarantine, run='fix', at=t.NOON, fix=t.mended)"


def run_killed(cluster: Cluster, folder: Path, name: str, action: str, commits: int) -> None:
    "Run `action` in a process of its own that is killed, without warning, before commit number `commits`."
    from boathouse.workspace.cluster.cluster import TaskSpec

    folder.mkdir()
    values = {
        "src": str(Path(__file__).parents[3] / "src"),
        "tests": str(Path(__file__).parent),
        "name": name,
        "commits": commits,
        "action": action,
    }
    (folder / "it.py").write_text(SCRIPT.format(**values))
    result = cluster.launch(TaskSpec(kind="script", folder=folder / "run", project=folder, file=folder / "it.py")).wait()
    assert result is not None
    assert result.state != "SUCCESS"


@pytest.mark.parametrize("commits", [pytest.param(0, marks=pytest.mark.long(order=5, minutes=3)), 1])
def test_a_write_killed_before_either_commit_is_completed_and_doubles_nothing(
    lake: Lakehouse, cluster: Cluster, split: Split, tmp_path: Path, commits: int
) -> None:
    table, quarantine = named(f"killed_{commits}")
    run_killed(cluster, tmp_path / "killed", f"killed_{commits}", GUARD, commits)
    assert [exists(lake, table), exists(lake, quarantine)] == [commits > 0, False]
    if commits:
        assert read(lake, table).count() == 1
        write_with_quarantine(
            lake, table, boats(lake.spark, ROWS[:2]), RULES, quarantine=quarantine, run="2", at=NOON
        )  # somebody else is faster
    done = write_with_quarantine(lake, table, boats(lake.spark), RULES, quarantine=quarantine, run="1", at=NOON)
    assert done.counts == split.found.counts
    good, bad = split.content
    others = ([("Ida", 1)], [("Tern", -2, "Tern,-2", ["berthed"], "2", None)]) if commits else ([], [])
    assert content(lake, table, quarantine) == (good + others[0], sorted(bad + others[1], key=str))


def test_a_requeue_killed_between_its_commits_is_completed_for_the_rows_it_saw(
    lake: Lakehouse, cluster: Cluster, copy: Callable[[str], tuple[Table, Table]], tmp_path: Path
) -> None:
    table, quarantine = copy("halfway")
    run_killed(cluster, tmp_path / "between", "halfway", REQUEUE, 1)
    assert read(lake, table).count() == 4
    assert read(lake, quarantine).where("_requeued_run IS NOT NULL").isEmpty()
    write_with_quarantine(
        lake, table, boats(lake.spark, [("Swan", -7, "")]), RULES, quarantine=quarantine, run="2", at=NOON
    )  # rejected meanwhile
    with pytest.raises(QualityError, match="the requeue 'fix' stopped between its two commits"):
        requeue_rows(lake, table, RULES, quarantine=quarantine, run="other", at=NOON, fix=mended)
    for _ in range(2):
        requeue_rows(lake, table, RULES, quarantine=quarantine, run="fix", at=NOON, fix=mended)
    good, bad = content(lake, table, quarantine)
    assert [boat for boat, _ in good] == ["Ida", "Nobody", "Tern", "Tern"]
    assert [(row[0], row[5]) for row in bad] == [("Gull", None), ("Swan", None), ("Tern", "fix"), ("Tern", "fix"), (None, "fix")]
    requeue_rows(lake, table, RULES, quarantine=quarantine, run="other", at=NOON, fix=mended)
    assert [boat for boat, _ in content(lake, table, quarantine)[0]] == ["Ida", "Nobody", "Swan", "Tern", "Tern"]
