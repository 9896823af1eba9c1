# Databricks notebook source
inbox = dbutils.widgets.get("inbox")
dbutils.fs.put(f"{inbox}/a.txt", "one\ntwo\n", True)
