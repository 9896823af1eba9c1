# Databricks notebook source
spark.range(10).where("id >= 5").write.format("delta").mode("overwrite").saveAsTable("default.clean")
