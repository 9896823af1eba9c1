"""Both ends of a task's connection to the JVM.

The cluster opens a session with a separate port. The process of the task attaches to it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from boathouse.workspace.spark.dialect import catalog_settings
from boathouse.workspace.spark.schema_owners import SETTING
from boathouse.workspace.spark.session import silence_spark

OWNER = "spark.boathouse.task"  # session setting: the task that opened the session, if not the cluster


@dataclass(frozen=True)
class TaskSession:
    "Hold a task's session in the JVM and its Py4J server on loopback, which requires the token."

    tag: str
    port: int
    token: str
    session: Any
    server: Any
    context: Any


def open_session(spark: SparkSession, tag: str, pool: str, catalog: str | None, catalogs: Iterable[str] = ()) -> TaskSession:
    """Open a session with its own server. `catalog` is current in it, and SQL can name `catalogs`.

    Threads of the JVM inherit from the thread that starts them. Building the server starts a thread.
    Meanwhile the job group, tag, pool and active session of the calling thread are set.
    So every job of the task carries them, whichever thread starts it.
    """
    context, jvm = spark.sparkContext, cast(Any, spark._jvm)
    session = spark._jsparkSession.newSession()
    for key, value in catalog_settings({*catalogs, *([catalog] if catalog else [])}).items():
        session.conf().set(key, value)
    main, token = spark._jsparkSession, secrets.token_hex(32)
    try:
        context.setJobGroup(tag, tag)
        context.addJobTag(tag)
        context.setLocalProperty("spark.scheduler.pool", pool)
        jvm.SparkSession.setActiveSession(session)
        if catalog is not None:
            session.conf().set(SETTING, catalog)
        if catalog is not None and catalog != session.catalog().currentCatalog():
            session.catalog().setCurrentCatalog(catalog)
        loopback = jvm.java.net.InetAddress.getByName("127.0.0.1")
        builder = getattr(jvm.py4j, "ClientServer$ClientServerBuilder")(session)
        server = builder.authToken(token).javaPort(0).javaAddress(loopback).build()
    finally:
        for name in ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel", "spark.scheduler.pool"):
            context.setLocalProperty(name, cast(str, None))
        context.removeJobTag(tag)
        jvm.SparkSession.setActiveSession(main)
    return TaskSession(tag, server.getJavaServer().getListeningPort(), token, session, server, context)


def close_session(line: TaskSession) -> list[Any]:
    """End everything that the task left in the JVM: server, streaming queries, jobs, and jobs that it would have started next.

    Return the threads of the JVM that worked for it. A thread inside a command continues until its next job, or to the end of the command.
    """
    threads = _close_server(line)
    for query in [*line.session.streams().active(), *_of_children(line)]:
        query.stop()
    # By group, to include future jobs: between two jobs of a command there is no job to cancel, and the command would continue.
    line.context._jsc.sc().cancelJobGroupAndFutureJobs(line.tag)
    line.context.cancelJobsWithTag(line.tag)
    line.session.interruptAll()
    return threads


def _close_server(line: TaskSession) -> list[Any]:
    """Close the server and its connections, and return the threads that served them.

    Py4J interrupts the threads of the connections, and an interrupted thread never returns its connection to the metastore.
    After ten lost connections the metastore blocks for all sessions. So Py4J's references to the threads are removed first.
    """
    jvm, server = line.context._jvm, line.server.getJavaServer()
    worker, threads = _field(jvm, "py4j.ClientServerConnection", "jvmThread"), []
    for connection in list(_field(jvm, "py4j.GatewayServer", "connections").get(server)):
        threads.append(worker.get(connection))
        worker.set(connection, None)
    line.server.shutdown()
    return [thread for thread in threads if thread is not None]


def _field(jvm: Any, kind: str, name: str) -> Any:
    field = jvm.java.lang.Class.forName(kind).getDeclaredField(name)
    field.setAccessible(True)
    return field


def _of_children(line: TaskSession) -> list[Any]:
    "Return the streaming queries of the notebooks that the task ran, each in a separate session."
    running = list(line.session.sharedState().activeStreamingQueries().values())
    return [query for query in running if query is not None and query.sparkSession().conf().get(OWNER, "") == line.tag]


def attach(port: int, token: str) -> SparkSession:
    "Attach this process to the task's session and return it; `SparkSession.builder.getOrCreate()` then returns it too."
    os.environ.update(PYSPARK_GATEWAY_PORT=str(port), PYSPARK_GATEWAY_SECRET=token)
    gateway = launch_gateway()
    for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"):
        del os.environ[name]
    SparkContext._gateway, SparkContext._jvm = gateway, gateway.jvm
    jsession = gateway.entry_point
    jcontext = gateway.jvm.org.apache.spark.api.java.JavaSparkContext(jsession.sparkContext())
    context = SparkContext(gateway=gateway, jsc=jcontext, conf=SparkConf(_jconf=jcontext.sc().conf()))
    # A session that finds no other in its process becomes the default of the whole JVM. The cluster's session must stay the default.
    SparkSession._instantiatedSession = cast(SparkSession, SimpleNamespace(_sc=context))
    session = SparkSession(context, jsession)
    SparkSession._instantiatedSession = SparkSession._activeSession = session
    silence_spark()
    # The JVM belongs to the cluster: stopping a task's session must not stop the JVM for all.
    session.stop = _stay  # type: ignore[method-assign]
    context.stop = _stay  # type: ignore[method-assign]
    return session


def _stay() -> None:
    "Do nothing in place of `stop`: the session ends with the task."
