import sys

from pyspark.sql import SparkSession

SparkSession.builder.getOrCreate().range(4).write.format("delta").mode("overwrite").saveAsTable(f"{sys.argv[2]}.nightly")
