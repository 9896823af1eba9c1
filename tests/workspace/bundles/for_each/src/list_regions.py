# Databricks notebook source
dbutils.jobs.taskValues.set(key="regions", value=[{"name": "north", "rows": "3"}, {"name": "south", "rows": "4"}])
