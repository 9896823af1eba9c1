# Databricks notebook source
repaired = dbutils.widgets.get("repaired")
dbutils.notebook.exit(f"{spark.table('default.clean').count()} rows, repair {repaired}")
