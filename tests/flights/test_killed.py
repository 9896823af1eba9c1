"""A run that is killed without warning, and then run again; two at once: the same tables as of one that nobody touched.

These are long. `make test` kills a run of a small bundle (tests/workspace/cli/test_main.py), and bronze and silver (test_commit_points.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from boathouse.tables.table import Lakehouse, drop_all

CALM = "test_killed_"  # the lake that nobody touched, which the functions of the tasks made in the suite's own session


def content(prefix: str = "") -> str:
    "A query for the rows of each table, their number and a hash of all of them."
    return " union all ".join(
        f"select '{t}' t, count(*) n, bit_xor(xxhash64(*)) h from {prefix}{t}"
        for t in (
            "bronze.flight_events",
            "silver.flight_events",
            "silver.flight_events_quarantine",
            "silver.flights",
            "silver.weather",
            "gold.departures",
        )
    )


@pytest.fixture
def calm(spark: SparkSession) -> Iterator[Lakehouse]:
    lake = Lakehouse(spark, prefix=CALM)
    yield lake
    drop_all(lake)


def kill_in(command: str, environ: Mapping[str, str], folder: Path, task: str, *words: str, cluster: bool) -> None:
    "Start `boathouse`, and kill it without warning once `task` has begun; with `cluster`, the background cluster too."
    said = folder / f"{task}.txt"
    with said.open("wb") as output:
        running = subprocess.Popen([command, *words], cwd=folder, env=environ, stdout=output, stderr=output)
    deadline = time.monotonic() + 600
    seen = set(folder.glob(f".boathouse/local/runs/*/{task}/log.txt"))
    while not set(folder.glob(f".boathouse/local/runs/*/{task}/log.txt")) - seen:
        assert running.poll() is None, f"ended before {task} began: {said.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"{task} did not begin"
        time.sleep(0.05)
    time.sleep(1.0)
    os.kill(running.pid, signal.SIGKILL)
    if cluster:
        os.kill(json.loads((folder / ".boathouse/local/cluster.json").read_text())["pid"], signal.SIGKILL)
    running.wait()


def two_at_once(command: str, environ: Mapping[str, str], folder: Path, *words: str) -> list[tuple[int, str]]:
    "Exit code and words of two commands that were started at the same moment."
    both = [
        subprocess.Popen([command, *words], cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    return [(process.returncode, said) for process in both for said in [process.communicate()[0]]]


def same(boathouse: Callable[..., Any], folder: Path, calm: Lakehouse) -> bool:
    "Whether the tables of a bundle hold rows, and those that the calm lake holds."
    found = boathouse(folder, "sql", content())
    assert min(table["n"] for table in found) > 0
    return found == [row.asDict() for row in calm.spark.sql(content(CALM)).collect()]


@pytest.mark.long(order=2, minutes=4)
def test_a_run_killed_in_the_middle_and_run_again_makes_the_tables_that_its_functions_make(
    tmp_path: Path,
    command: str,
    environ: Mapping[str, str],
    clone: Callable[[Path], Path],
    boathouse: Callable[..., Any],
    lived: Callable[..., Lakehouse],
    calm: Lakehouse,
) -> None:
    folder = clone(tmp_path / "shaken")
    kill_in(command, environ, folder, "silver", "run", "ingest", "--param", "as_of=2013-01-02", cluster=False)
    told = boathouse(folder, "run", "ingest", "--param", "as_of=2013-01-02")
    assert [(t["task_key"], t["state"]["result_state"]) for t in told["tasks"]] == [
        (task, "SUCCESS") for task in ("replay", "bronze", "silver", "checks", "gold")
    ]
    lived(calm, tmp_path / "landing", "2013-01-02", dirt=1)
    assert same(boathouse, folder, calm)


@pytest.mark.long(order=2, minutes=15)
def test_runs_that_are_killed_or_started_twice_at_once_lose_and_double_nothing(
    tmp_path: Path,
    command: str,
    environ: Mapping[str, str],
    clone: Callable[[Path], Path],
    boathouse: Callable[..., Any],
    lived: Callable[..., Lakehouse],
    calm: Lakehouse,
) -> None:
    shaken = clone(tmp_path / "shaken")
    ingest = ("run", "ingest", "--param", "as_of=2013-01-03")
    kill_in(command, environ, shaken, "bronze", *ingest, cluster=False)
    kill_in(command, environ, shaken, "silver", *ingest, cluster=True)
    boathouse(shaken, *ingest)
    lived(calm, tmp_path / "landing", "2013-01-03", dirt=1)
    assert same(boathouse, shaken, calm)
    both = two_at_once(command, environ, shaken, "run", "ingest", "--param", "as_of=2013-01-04")
    assert [code for code, _ in both] == [0, 0], both
    assert sum("queue" in said for _, said in both) == 1, both
    lived(calm, tmp_path / "landing", "2013-01-04", dirt=1)
    assert same(boathouse, shaken, calm)
