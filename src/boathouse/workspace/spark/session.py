"A Spark session with Delta and a persistent catalog on one machine: settings, state folder, and the lock of the folder."

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyspark
from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from boathouse.workspace.spark import udf_daemon as udfdaemon
from boathouse.workspace.spark import volume_paths as volumepaths
from boathouse.workspace.spark.class_archive import ArchiveError, archive_options, discard, empty_metastore, make_archive
from boathouse.workspace.spark.delta_log import table_folders
from boathouse.workspace.spark.dialect import EXTENSION, JAR, install_dialect
from boathouse.workspace.spark.jars import JarsError, jars, project_root, resolve_jars
from boathouse.workspace.spark.lock import lock

__all__ = ["JarsError", "SessionError", "clear_cut_off", "default_state", "state_environment", "silence_spark", "jars", "local_session", "project_root",
           "resolve_jars", "spark_conf", "start_session"]  # fmt: skip

FIRST_COMMIT = f"{0:020d}.json"
NEW_METASTORE = "metastore.new"
DERBY_IS_DOWN = "08006"  # Derby's code for a database that it has shut down as requested

# The optimizing compiler (C2) took a third of the CPU of runs that last minutes. Here it starts four times later.
C2_THRESHOLDS = {"Invocation": 5000, "MinInvocation": 600, "Compile": 15000, "BackEdge": 40000}

LOG4J = """\
rootLogger.level = error
logger.hms.name = org.apache.hadoop.hive.metastore.RetryingHMSHandler
logger.hms.level = off
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd HH:mm:ss}} %p %c{{1}}: %m%n%ex
"""


class SessionError(Exception):
    "Signal that the JVM or its Spark session did not start; the message ends with the last output of the JVM."


def default_state() -> Path:
    "Return the state folder of a session without a named one: `BOATHOUSE_STATE`, else `.boathouse/local` of the project."
    if named := os.environ.get("BOATHOUSE_STATE"):
        return Path(named).resolve()
    return (project_root() or project_root(Path(__file__).parent) or Path.cwd()) / ".boathouse" / "local"


def state_environment(state: Path) -> dict[str, str]:
    "Return the environment variables of a process that works on `state`: MLflow's stores, UTC, loopback, quiet libraries."
    return {
        "BOATHOUSE_STATE": str(state),
        "MLFLOW_TRACKING_URI": f"sqlite:///{state}/mlflow.db",
        "MLFLOW_REGISTRY_URI": f"sqlite:///{state}/mlflow.db",
        # MLflow's SQL store uses this root for new experiments, whatever the working directory is.
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(state / "mlartifacts"),
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
        "TZ": "UTC",
    }


def spark_conf(state: Path, java: list[str] | None = None) -> dict[str, str]:
    """Return every Spark setting of a session on `state`.

    Tables are in `warehouse` and their names in `metastore`; both outlive the process. `java` replaces the options of the class archive.
    """
    state = state.resolve()
    found = jars()
    options = [*_java_options(state), *(archive_options(found) if java is None else java)]
    return {
        "spark.driver.memory": driver_memory(),
        "spark.driver.extraClassPath": os.pathsep.join(map(str, found)),
        "spark.driver.extraJavaOptions": " ".join(f'"{option}"' if " " in option else option for option in options),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # For the UI, which is off, Spark writes out the plan of each query. In the usual form that took 4 % of the JVM's time in small queries.
        "spark.sql.ui.explainMode": "simple",
        "spark.scheduler.mode": "FAIR",
        "spark.locality.wait": "0s",
        "spark.pyspark.python": sys.executable,
        "spark.pyspark.driver.python": sys.executable,
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.databricks.delta.properties.defaults.checkpointInterval": "100",  # as on Databricks; here one checkpoint costs as much as four commits
        "spark.sql.sources.default": "delta",  # as on Databricks
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.warehouse.dir": str(state / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={state}/metastore;create=true",
        "spark.hadoop.datanucleus.schema.autoCreateAll": "true",
        "spark.hadoop.hive.metastore.schema.verification": "false",
        # Small data: as many partitions as cores, and no re-planning between stages, which costs more here than it saves.
        "spark.sql.shuffle.partitions": str(min(8, os.cpu_count() or 2)),
        "spark.sql.adaptive.enabled": "false",
        # A month runs some hundreds of queries, and the next month the same ones. Their code is generated and compiled once.
        "spark.sql.codegen.cache.maxEntries": "5000",
        # The JVM only interprets longer methods. Spark then generates many short ones: typing 20 text columns takes half the CPU.
        "spark.sql.codegen.hugeMethodLimit": "8000",
        # What is cached here is needed for seconds only.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        "spark.sql.session.timeZone": "UTC",
        # Otherwise Delta's parser does not bind the parameters of `spark.sql(query, args=...)`.
        "spark.sql.legacy.parameterSubstitution.constantsOnly": "true",
        "spark.sql.sources.parallelPartitionDiscovery.threshold": "10000",
        # VACUUM lists a table's files in so many tasks. The default of 10,000 takes half a minute for a folder of three files.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.repl.eagerEval.enabled": "true",
        "spark.sql.repl.eagerEval.maxNumRows": "20",
        "spark.sql.repl.eagerEval.truncate": "60",
    }


def driver_memory() -> str:
    "Return the heap of the JVM: `BOATHOUSE_DRIVER_MEMORY`, else 40 % of the memory of machine or container, at most 4 GiB."
    if named := os.environ.get("BOATHOUSE_DRIVER_MEMORY"):
        return named
    offered = psutil.virtual_memory().total
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            offered = min(offered, int(text))
    return f"{min(4096, max(512, int(offered * 0.4) >> 20))}m"


def _java_options(state: Path) -> list[str]:
    return [
        "-Djava.net.preferIPv4Stack=true",
        "-Duser.timezone=UTC",
        f"-Dderby.stream.error.file={state}/derby.log",
        f"-Dlog4j2.configurationFile={(state / 'log4j2.properties').as_uri()}",
        "-XX:-UsePerfData",
        "-XX:ReservedCodeCacheSize=512m",
        "-XX:+UseParallelGC",
        "-XX:MetaspaceSize=256m",  # Spark's classes take 140 MiB: growing to that from 20 MiB costs five full collections
        *(f"-XX:Tier4{name}Threshold={4 * usual}" for name, usual in C2_THRESHOLDS.items()),
        *os.environ.get("BOATHOUSE_JAVA_OPTIONS", "").split(),
    ]


def start_session(
    state: Path, master: str = "local[*]", conf: dict[str, str] | None = None, *, java: list[str] | None = None
) -> SparkSession:
    "Start a JVM on `state` in this process, which must hold the lock, and return its main session. `conf` overrides the settings."
    state = state.resolve()
    _prepare(state)
    settings = {**spark_conf(state, java), **_cluster_conf(master), **(conf or {})}
    try:
        _launch(state, master, settings)
    except SessionError:
        if java is not None or not archive_options(jars()):
            raise
        discard(jars())  # a damaged archive can end the JVM before it prints anything
        _launch(state, master, {**settings, **spark_conf(state), **_cluster_conf(master), **(conf or {})})
    silence_spark()
    spark = SparkSession.builder.getOrCreate()
    clear_cut_off(spark, state / "warehouse")
    return spark


def silence_spark() -> None:
    "Keep PySpark from printing each failed query as a page of JSON in addition to the exception."
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _prepare(state: Path) -> None:
    # SPARK_CONF_DIR is an empty folder: no stray settings. The class archive fits only one class path, without files in folders.
    nothing = jars()[0].parent / "conf"
    nothing.mkdir(exist_ok=True)
    state.mkdir(parents=True, exist_ok=True)
    (state / "log4j2.properties").write_text(LOG4J.format(log=state / "spark.log"))
    os.environ.update(SPARK_HOME=str(Path(pyspark.__file__).parent), SPARK_CONF_DIR=str(nothing), SPARK_LOCAL_IP="127.0.0.1")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    empty, metastore = empty_metastore(jars()), state / "metastore"
    if empty.is_dir() and not metastore.exists():  # creating its tables takes eight seconds
        shutil.rmtree(state / NEW_METASTORE, ignore_errors=True)
        shutil.copytree(empty, state / NEW_METASTORE, ignore=shutil.ignore_patterns("*.lck"))


def _place_metastore(jvm: Any, state: Path) -> None:
    "Set the path of the default schema in the copy of an empty metastore, and move the copy to its place."
    new = state / NEW_METASTORE
    if not new.exists():
        return
    place = jvm.java.sql.DriverManager.getConnection(f"jdbc:derby:;databaseName={new}", "APP", "mine")
    moved = place.prepareStatement("UPDATE DBS SET DB_LOCATION_URI = ? WHERE NAME = 'default'")
    moved.setString(1, f"file:{state / 'warehouse'}")
    assert moved.executeUpdate() == 1
    place.close()
    try:
        jvm.java.sql.DriverManager.getConnection(f"jdbc:derby:;databaseName={new};shutdown=true")
    except Py4JJavaError as error:
        if error.java_exception.getSQLState() != DERBY_IS_DOWN:
            raise
    new.rename(state / "metastore")


def clear_cut_off(spark: SparkSession, warehouse: Path, settled: float = 0) -> list[Path]:
    """Remove the folders of tables whose creation was interrupted, and return them; the caller holds the lock.

    In a running JVM, only folders without a write for `settled` seconds are removed.

    The interruption came before the first commit, or before the catalog knew the table. Delta refuses to create a table in such a folder.
    No row was ever readable there: a folder with rows or with an entry in the catalog stays.
    """
    removed = []
    for table, folder in table_folders(warehouse):
        log = folder / "_delta_log"
        commits = sorted(file.name for file in log.iterdir() if re.fullmatch(r"\d{20}\.(json|checkpoint\b.*)", file.name))
        bare = commits == [FIRST_COMMIT] and '{"add":' not in (log / FIRST_COMMIT).read_text()
        if not commits or (bare and not _is_known(spark, *table.split(".", 1))):
            if time.time() - max(file.stat().st_mtime for file in (log, *log.iterdir())) < settled:
                continue
            shutil.rmtree(folder)
            removed.append(folder)
    if removed:
        jvm: Any = spark._jvm
        jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # otherwise the JVM would still use the removed folders
    return removed


def _is_known(spark: SparkSession, schema: str, table: str) -> bool:
    "Return whether the metastore has a table of this name, whichever catalog its schema belongs to."
    jvm: Any = spark._jvm
    name = jvm.org.apache.spark.sql.catalyst.TableIdentifier(table, jvm.scala.Option.apply(schema))
    return bool(spark._jsparkSession.sessionState().catalog().tableExists(name))


def _cluster_conf(master: str) -> dict[str, str]:
    "Return the settings that depend on where executors run: separate processes need the jars too, and other machines lack our modules."
    found = os.pathsep.join(map(str, jars()))
    if not master.startswith("local"):
        return {"spark.jars": found.replace(os.pathsep, ",")}
    own = {"spark.python.daemon.module": udfdaemon.__name__}
    return {"spark.executor.extraClassPath": found, **own} if master.startswith("local-cluster") else own


def _launch(state: Path, master: str, settings: dict[str, str]) -> None:
    settings = settings | {"spark.sql.extensions": f"{settings['spark.sql.extensions']},{EXTENSION}"}
    ours = str(state / JAR)
    if master.startswith("local-cluster"):
        settings["spark.executor.extraClassPath"] = os.pathsep.join([ours, settings["spark.executor.extraClassPath"]])
    conf = SparkConf(loadDefaults=False).setAppName("boathouse").setMaster(master).setAll(list(settings.items()))
    log_file = state / "jvm.log"
    try:
        with log_file.open("wb") as log:
            gateway = SparkContext._gateway or launch_gateway(conf, popen_kwargs={"stdout": log, "stderr": log})
        _place_metastore(gateway.jvm, state)
        install_dialect(gateway.jvm, state)
        conf.setAll(list(volumepaths.SETTINGS.items()))  # only now do their classes exist
        if not master.startswith("local"):
            conf.set("spark.jars", ",".join([ours, *filter(None, [settings.get("spark.jars")])]))
        SparkContext(conf=conf, gateway=gateway)
    except Exception as error:
        last = "\n".join(log_file.read_text(errors="replace").splitlines()[-15:])
        raise SessionError(f"Spark did not start on {state}: {error}\n{last}") from error


def local_session(state: Path | str | None = None) -> SparkSession:
    """Return the session of this process, created on the first call.

    It has a JVM on `state` (or the default). MLflow uses that state unless it is configured otherwise.
    """
    if (active := SparkSession.getActiveSession()) is not None:
        return active
    folder = Path(state).resolve() if state is not None else default_state()
    for key, value in state_environment(folder).items():
        os.environ.setdefault(key, value)
    time.tzset()
    lock(folder)
    return start_session(folder, os.environ.get("BOATHOUSE_MASTER", "local[*]"))


def set_up() -> str:
    "Download the jars, create the class archive and write the bytecode of what tasks import, if missing; return a line of status."
    with _still("fetching Delta's jars"):
        found = jars()
    if archive_options(found):  # created by an earlier call, with the bytecode: every `make` command calls this
        return f"Delta's jars and the JVM's class archive: {found[0].parent}"
    with _still("preparing the classes of the JVM and the libraries of Python"), _writing_bytecode():
        try:
            return f"Delta's jars and the JVM's class archive: {make_archive(found).parent}"
        except ArchiveError as error:
            return f"Delta's jars: {found[0].parent} ({error})"


@contextmanager
def _still(what: str, every: float = 5.0) -> Iterator[None]:
    "Print what is being done, every few seconds while the block runs."
    done, began = threading.Event(), time.monotonic()

    def report() -> None:
        while not done.wait(every):
            print(f"  {what}: {time.monotonic() - began:.0f} s", flush=True)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()


@contextmanager
def _writing_bytecode() -> Iterator[None]:
    """Import the libraries of tasks in another process while the block runs.

    Without bytecode, a library takes three times as long to import, each time.
    """
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    importing = subprocess.Popen([sys.executable, "-c", "from boathouse.workspace.worker.zygote import preload; preload()"], env=environ)
    try:
        yield
    finally:
        importing.wait()


if __name__ == "__main__":
    print(set_up())
