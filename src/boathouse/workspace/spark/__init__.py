"The JVM: its session, jars, class archive, SQL dialect and file systems."
