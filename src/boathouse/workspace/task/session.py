"Both ends of a task's line to the JVM: the cluster opens a session with a port of its own, the task's process attaches to it."

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

OWNER = "spark.boathouse.task"  # the setting in which a session names the task that opened it, where that is not the cluster


@dataclass(frozen=True)
class TaskSession:
    "A task's session in the JVM and the Py4J server that offers it, on loopback, to who knows the token."

    tag: str
    port: int
    token: str
    session: Any
    server: Any
    context: Any


def open_session(spark: SparkSession, tag: str, pool: str, catalog: str | None, catalogs: Iterable[str] = ()) -> TaskSession:
    """A new session and its server; `catalog` is current in it, and `catalogs` can be named.

    The JVM's threads inherit from the thread that starts them. The job group, tag, pool and active session of the calling thread are set
    while the server is built, which starts it. So every job of the task carries them, whichever thread it comes from.
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
    """Ends whatever the task left in the JVM: its server, its streaming queries, its jobs, and those it would have started next.

    Returns the JVM's threads that worked for it. One in the middle of a command goes on until its next job, or to the command's end.
    """
    threads = _close_server(line)
    for query in [*line.session.streams().active(), *_of_children(line)]:
        query.stop()
    # By group, future jobs too: between two jobs of one command there is none to cancel, and the command would go on.
    line.context._jsc.sc().cancelJobGroupAndFutureJobs(line.tag)
    line.context.cancelJobsWithTag(line.tag)
    line.session.interruptAll()
    return threads


def _close_server(line: TaskSession) -> list[Any]:
    """Closes the line's server and its connections, and returns the threads that served them.

    Py4J interrupts the threads of the connections. An interrupted thread never gives its connection to the metastore back.
    Where ten are lost, the metastore never answers again, to nobody. So the threads are taken out of Py4J's hands first.
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
    "The streaming queries of the notebooks that the task ran, each in a session of its own."
    running = list(line.session.sharedState().activeStreamingQueries().values())
    return [query for query in running if query is not None and query.sparkSession().conf().get(OWNER, "") == line.tag]


def attach(port: int, token: str) -> SparkSession:
    "The task's session, as the session of this process: `SparkSession.builder.getOrCreate()` gives it from now on."
    os.environ.update(PYSPARK_GATEWAY_PORT=str(port), PYSPARK_GATEWAY_SECRET=token)
    gateway = launch_gateway()
    for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"):
        del os.environ[name]
    SparkContext._gateway, SparkContext._jvm = gateway, gateway.jvm
    jsession = gateway.entry_point
    jcontext = gateway.jvm.org.apache.spark.api.java.JavaSparkContext(jsession.sparkContext())
    context = SparkContext(gateway=gateway, jsc=jcontext, conf=SparkConf(_jconf=jcontext.sc().conf()))
    # A session that finds none in its process makes itself the default of the whole JVM: the cluster's stays that.
    SparkSession._instantiatedSession = cast(SparkSession, SimpleNamespace(_sc=context))
    session = SparkSession(context, jsession)
    SparkSession._instantiatedSession = SparkSession._activeSession = session
    silence_spark()
    # The JVM is the cluster's: stopping a task's session must not stop everybody's.
    session.stop = _stay  # type: ignore[method-assign]
    context.stop = _stay  # type: ignore[method-assign]
    return session


def _stay() -> None:
    "Replaces `stop`: the session ends with the task."
