import sys

from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
rows = spark.createDataFrame([(sys.argv[1],)], "day string")
rows.write.format("delta").mode("append").saveAsTable("default.greeted")
