# Databricks notebook source
total = sum(spark.table(f"default.region_{name}").count() for name in ("north", "south"))
dbutils.notebook.exit(str(total))
