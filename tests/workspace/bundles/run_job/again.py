# Databricks notebook source
day = dbutils.widgets.get("day")
assert spark.table("default.greeted").where(f"day = '{day}'").count() > 0
dbutils.notebook.exit(day)
