# Databricks notebook source
# MAGIC %md
# MAGIC ## A table by SQL

# COMMAND ----------

# MAGIC %sql
# MAGIC CREATE OR REPLACE TABLE default.orders USING DELTA AS
# MAGIC SELECT id, id % 3 AS shop FROM range(9)
