# Databricks notebook source
dbutils.widgets.text("limit", "1")

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT shop, count(*) AS orders FROM default.orders GROUP BY shop HAVING count(*) >= :limit ORDER BY shop

# COMMAND ----------

dbutils.notebook.exit(str(_sqldf.count()))
