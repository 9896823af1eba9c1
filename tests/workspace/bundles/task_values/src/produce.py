"""Counts some rows, and tells the tasks after it."""

import argparse

from databricks.sdk.runtime import dbutils, spark

arguments = argparse.ArgumentParser()
arguments.add_argument("--start", type=int, required=True)
start = arguments.parse_args().start
dbutils.jobs.taskValues.set(key="count", value=spark.range(start, start + 7).count())
dbutils.jobs.taskValues.set(key="names", value={"first": "a", "last": "z"})
