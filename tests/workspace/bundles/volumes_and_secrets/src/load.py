# Databricks notebook source
inbox, table = dbutils.widgets.get("inbox"), dbutils.widgets.get("table")
spark.read.text(f"{inbox}/a.txt").write.format("delta").mode("overwrite").saveAsTable(table)

# COMMAND ----------

dbutils.notebook.exit(str(spark.table(table).count()))
