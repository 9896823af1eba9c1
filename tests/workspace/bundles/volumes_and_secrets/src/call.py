# Databricks notebook source
token = dbutils.secrets.get(scope="keys", key="service")
dbutils.notebook.exit(str(len(token)))
