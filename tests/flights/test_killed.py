"""A run that is killed without warning, twice, and then run again: the same tables as of one that nobody touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTENT = " union all ".join(
    f"select '{t}' t, count(*) n, bit_xor(xxhash64(*)) h from {t}"
    for t in (
        "bronze.flight_events",
        "silver.flight_events",
        "silver.flight_events_quarantine",
        "silver.flights",
        "silver.weather",
        "gold.departures",
    )
)


def kill_in(command: str, folder: Path, task: str, *words: str, cluster: bool) -> None:
    "Start `boathouse`, and kill it without warning once `task` has begun; with `cluster`, the background cluster too."
    environ = {**os.environ, "BOATHOUSE_CLUSTER": ""}
    said = folder / f"{task}.txt"
    with said.open("wb") as output:
        running = subprocess.Popen([command, *words], cwd=folder, env=environ, stdout=output, stderr=output)
    deadline = time.monotonic() + 180
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


def test_a_run_that_is_killed_loses_and_doubles_nothing_when_it_runs_again(
    tmp_path: Path, command: str, clone: Callable[[Path], Path], boathouse: Callable[..., Any]
) -> None:
    calm, shaken = clone(tmp_path / "calm"), clone(tmp_path / "shaken")
    ingest = ("run", "ingest", "--param", "as_of=2013-01-03")
    boathouse(calm, *ingest)
    kill_in(command, shaken, "bronze", *ingest, cluster=False)
    kill_in(command, shaken, "silver", *ingest, cluster=True)
    boathouse(shaken, *ingest)
    assert boathouse(shaken, "sql", CONTENT) == boathouse(calm, "sql", CONTENT)
