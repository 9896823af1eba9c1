# Databricks notebook source
import dlt


@dlt.table
def numbers():
    return spark.range(3)
