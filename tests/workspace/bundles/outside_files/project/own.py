# Databricks notebook source
import sys

files = dbutils.widgets.get("files")
sys.path.append(f"{files}/../shared")

from shared_code import doubled  # noqa: E402

dbutils.notebook.exit(str(doubled(spark.table("default.shared").count())))
