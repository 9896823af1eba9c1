"""The facts that a Delta table's log gives without Spark, against what Spark says of the same table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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


def test_a_log_without_commits_or_with_one_that_is_cut_off_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(UnreadableLog, match="there is no commit"):
        read_table_facts(tmp_path)
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text('{"add": {"path": "a"')
    with pytest.raises(UnreadableLog, match="cannot be read"):
        read_table_facts(tmp_path)
