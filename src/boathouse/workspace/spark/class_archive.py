"""Archive what a JVM would otherwise repeat at every start: parsed classes, and the tables of an empty metastore.

The archive holds the classes that Spark, Delta and the metastore load. A small exercise at set-up creates it next to the jars.
The JVM ignores an archive of classes that does not fit.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyspark

QUIET = ["-Xshare:auto", "-Xlog:disable"]
EXERCISE = """
from pyspark.sql import functions as F
spark.sql("create schema s")
spark.range(20).selectExpr("id", "id % 3 as k", "cast(id as string) s").write.format("delta").partitionBy("k").saveAsTable("s.t")
spark.sql("merge into s.t using (select 3L id, 0L k, 'x' s) n on t.id = n.id when matched then update set * when not matched then insert *")
spark.sql("select k, count(*), row_number() over (order by k) from s.t version as of 0 group by k").collect()
spark.sql("describe history s.t").toPandas()
spark.createDataFrame([(1, "a")], "a int, b string").join(spark.table("s.t"), on=F.expr("a = id")).toPandas()
spark.read.schema("value string").text(str(state / "log4j2.properties")).selectExpr("from_csv(value, 'a string')", "try_cast(value as timestamp)").collect()
spark.sql("create table s.d (k int, at timestamp, v string) tblproperties ('delta.enableChangeDataFeed' = 'true')")
rows = spark.range(9).selectExpr("int(id) k", "timestamp_micros(id) at", "string(id) v").persist()
rows.write.format("delta").mode("append").option("userMetadata", "{}").saveAsTable("s.d")
rows.write.format("delta").mode("overwrite").option("replaceWhere", "k >= 0").saveAsTable("s.d")
changes = spark.read.option("readChangeFeed", "true").option("startingVersion", 0).table("s.d")
changes.groupBy("k").agg(F.max(F.struct("at", "v")), F.avg("k"), F.min("at")).join(spark.table("s.t"), "k", "left_anti").unionByName(changes, True).orderBy("k").toArrow()
spark.table("s.d").mapInArrow(lambda batches: batches, "k int, at timestamp, v string").selectExpr("explode(sequence(0, k)) n", "last(v) over (order by at)").collect()
spark.sql("drop schema s cascade")
"""


class ArchiveError(Exception):
    "Signal that the archive could not be created; sessions then start without it, seconds slower."


def archive_file(jars: list[Path]) -> Path:
    "Return the path of the archive. It depends on this Java, this pyspark, these jars and the exercise."
    parts = [
        pyspark.__version__,
        EXERCISE,
        str(Path(pyspark.__file__).parent),
        *(f"{jar}:{jar.stat().st_size}:{jar.stat().st_mtime_ns}" for jar in jars),
    ]
    java = shutil.which("java", path=os.pathsep.join([f"{os.environ['JAVA_HOME']}/bin"] if "JAVA_HOME" in os.environ else []) or None)
    if java is not None:
        parts.append(f"{Path(java).resolve()}:{Path(java).resolve().stat().st_mtime_ns}")
    return jars[0].parent / f"classes-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}.jsa"


def archive_options(jars: list[Path]) -> list[str]:
    "Return the JVM options that use the archive; none if it is missing, or if its size has changed since it was created."
    file = archive_file(jars)
    size = file.with_suffix(".size")
    if not (file.is_file() and size.is_file() and size.read_text() == str(file.stat().st_size)):
        return []
    return [f"-XX:SharedArchiveFile={file}", *QUIET]


def empty_metastore(jars: list[Path]) -> Path:
    "Return the path of the empty metastore that new states begin with; it is created with the archive."
    return archive_file(jars).with_suffix(".metastore")


def discard(jars: list[Path]) -> None:
    "Remove the archive, so that the next start does without it."
    for file in (archive_file(jars), archive_file(jars).with_suffix(".size")):
        file.unlink(missing_ok=True)


def make_archive(jars: list[Path]) -> Path:
    "Create the archive if it is missing (half a minute, once per machine). Raises ArchiveError if the JVM creates none."
    file = archive_file(jars)
    if archive_options(jars):
        return file
    with tempfile.TemporaryDirectory(prefix=".archiving-", dir=file.parent) as scratch:
        made = Path(scratch, "classes.jsa")
        code = (
            "from pathlib import Path\nfrom boathouse.workspace.spark.session import start_session\n"
            f"state = Path({scratch!r}) / 'state'\n"
            f"spark = start_session(state, 'local[2]', java=['-XX:ArchiveClassesAtExit={made}', '-Xlog:disable', '-XX:TieredStopAtLevel=1'])\n{EXERCISE}\n"
            "jvm = spark.sparkContext._gateway.proc\nspark.stop()\njvm.stdin.close()\njvm.wait(600)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode or not made.is_file():
            lines = (done.stdout + done.stderr).strip().splitlines() or ["the JVM wrote no archive"]
            raise ArchiveError(f"no class archive, sessions will start slower: {lines[-1][:200]}")
        shutil.rmtree(empty_metastore(jars), ignore_errors=True)
        Path(scratch, "state", "metastore").rename(empty_metastore(jars))
        made.rename(file)
        file.with_suffix(".size").write_text(str(file.stat().st_size))
    return file
