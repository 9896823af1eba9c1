"The JVM of Spark: session, jars, class archive, SQL dialect and file systems."
