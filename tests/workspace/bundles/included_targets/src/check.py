import sys

from pyspark.sql import SparkSession

assert SparkSession.builder.getOrCreate().table(f"{sys.argv[2]}.nightly").count() == 4
