"""What the task calls."""

import argparse

from pyspark.sql import SparkSession


def write() -> None:
    "Writes a table of so many rows."
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--table")
    arguments.add_argument("--rows", type=int)
    given = arguments.parse_args()
    SparkSession.builder.getOrCreate().range(given.rows).write.format("delta").mode("overwrite").saveAsTable(given.table)
