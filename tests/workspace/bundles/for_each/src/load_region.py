# Databricks notebook source
dbutils.widgets.text("region", "")
dbutils.widgets.text("rows", "1")

# COMMAND ----------

region, rows = dbutils.widgets.get("region"), int(float(dbutils.widgets.get("rows")))
table = f"default.region_{region}"
spark.range(rows).write.format("delta").mode("overwrite").saveAsTable(table)
