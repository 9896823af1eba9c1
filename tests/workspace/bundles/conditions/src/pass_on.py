# Databricks notebook source
spark.range(10).write.format("delta").mode("overwrite").saveAsTable("default.clean")
