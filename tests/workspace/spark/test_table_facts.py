"""The facts that a Delta table's log gives without Spark, against what Spark says of the same table."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boathouse.workspace.spark.table_facts import TableFacts, UnreadableLog, read_table_facts

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def facts_of_spark(spark: SparkSession, folder: Path) -> tuple[int, int, int, int, str]:
    detail = spark.sql(f"DESCRIBE DETAIL delta.`{folder}`").first()
    last = spark.sql(f"DESCRIBE HISTORY delta.`{folder}` LIMIT 1").first()
    return last.version, spark.read.format("delta").load(str(folder)).count(), detail.sizeInBytes, detail.numFiles, last.operation


def in_order(facts: TableFacts) -> tuple[int, int | None, int, int, str]:
    return facts.version, facts.rows, facts.size_bytes, facts.files, facts.operation


def test_rows_size_files_and_version_are_those_of_spark_after_deletes_a_checkpoint_and_a_truncated_log(
    spark: SparkSession, tmp_path: Path
) -> None:
    table = f"delta.`{tmp_path}`"
    spark.sql(
        f"CREATE TABLE {table} (id BIGINT) USING delta TBLPROPERTIES ('delta.enableDeletionVectors' = 'true', 'delta.checkpointInterval' = '4')"
    )
    assert in_order(read_table_facts(tmp_path)) == facts_of_spark(spark, tmp_path)
    for begin in range(4):
        spark.range(begin * 10, begin * 10 + 10, 1, 1).write.format("delta").mode("append").save(str(tmp_path))
    spark.sql(f"DELETE FROM {table} WHERE id IN (3, 4, 25)")  # two files keep their names and get deletion vectors
    expected = facts_of_spark(spark, tmp_path)
    assert (expected[1], expected[4]) == (37, "DELETE")
    assert in_order(read_table_facts(tmp_path)) == expected
    (checkpoint,) = (tmp_path / "_delta_log").glob("*.checkpoint.parquet")
    assert int(checkpoint.name[:20]) == 4
    for commit in (tmp_path / "_delta_log").glob("0*.json"):
        if int(commit.name[:20]) < 4:
            commit.unlink()
    assert in_order(read_table_facts(tmp_path)) == expected


def write_commit(folder: Path, version: int, *actions: dict[str, Any]) -> None:
    log = folder / "_delta_log"
    log.mkdir(exist_ok=True)
    (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, actions)))


def add(path: str, rows: int, deleted: int = 0) -> dict[str, Any]:
    stats = json.dumps({"numRecords": rows})
    return {"path": path, "size": rows * 10, "stats": stats, "deletionVector": {"cardinality": deleted} if deleted else None}


def test_rows_that_a_deletion_vector_removed_do_not_count_whatever_the_order_of_the_actions(tmp_path: Path) -> None:
    write_commit(tmp_path, 0, {"commitInfo": {"timestamp": 0, "operation": "WRITE"}}, {"add": add("a", 7)}, {"add": add("b", 5)})
    delete = {"commitInfo": {"timestamp": 86_400_000, "operation": "DELETE"}}
    write_commit(tmp_path, 1, {"add": add("a", 7, deleted=3)}, {"remove": {"path": "a"}}, delete)
    assert read_table_facts(tmp_path) == TableFacts(1, 9, 120, 2, datetime(1970, 1, 2, tzinfo=UTC), "DELETE")


def test_a_log_is_read_from_its_newest_whole_checkpoint_on(tmp_path: Path) -> None:
    for version, path in enumerate("abc"):
        write_commit(tmp_path, version, {"add": add(path, 2)}, {"commitInfo": {"timestamp": 1000, "operation": "WRITE"}})
    log = tmp_path / "_delta_log"
    pq.write_table(pa.table({"add": [add("a", 2), add("b", 2, deleted=1), None]}), log / f"{1:020}.checkpoint.parquet")
    (log / f"{2:020}.checkpoint.{1:010}.{2:010}.parquet").touch()  # the first of two parts: not whole
    (log / f"{0:020}.json").unlink()
    facts = read_table_facts(tmp_path)
    assert (facts.version, facts.rows, facts.files, facts.operation) == (2, 5, 3, "WRITE")


def test_rows_are_unknown_where_a_file_was_written_without_statistics(tmp_path: Path) -> None:
    write_commit(tmp_path, 0, {"add": {"path": "a", "size": 10}}, {"add": add("b", 2)})
    facts = read_table_facts(tmp_path)
    assert (facts.rows, facts.size_bytes, facts.operation) == (None, 30, "")


def test_a_log_without_commits_or_with_one_that_is_cut_off_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(UnreadableLog, match="there is no commit"):
        read_table_facts(tmp_path)
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text('{"add": {"path": "a"')
    with pytest.raises(UnreadableLog, match="cannot be read"):
        read_table_facts(tmp_path)
