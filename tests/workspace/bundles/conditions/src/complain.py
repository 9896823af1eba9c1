# Databricks notebook source
print("something went wrong")
