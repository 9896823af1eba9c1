"""What the task calls."""

import argparse

from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def score() -> None:
    "Scores so many rows into a table."
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int)
    spark = SparkSession.builder.getOrCreate()
    rows = spark.range(arguments.parse_args().rows).withColumn("score", F.col("id") / 10)
    rows.write.format("delta").mode("overwrite").saveAsTable("default.scores")
