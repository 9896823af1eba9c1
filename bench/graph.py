"""What the job graph costs over its tasks: a hundred empty tasks in a row and side by side, on the background cluster; the commands; the idle memory.

python bench/graph.py [TASKS]     100 tasks; beside them the seconds of a JVM a task from four of them (bench/tasks.py)
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-c", "from boathouse.workspace.cli.main import main; main()"]


def call(folder: Path, *words: str) -> tuple[float, str]:
    "Wall seconds and what the command printed."
    begun = time.perf_counter()
    done = subprocess.run(
        [*COMMAND, *words], cwd=folder, env={**os.environ, "BOATHOUSE_CLUSTER": ""}, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - begun, done.stdout


def bundle(folder: Path, tasks: int) -> None:
    "A job `row` whose tasks wait for each other, and a job `side` whose tasks do not."
    (folder / "empty.py").write_text("spark\n")
    row, side = [], []
    for number in range(tasks):
        task: dict[str, Any] = {"task_key": f"t{number}", "spark_python_task": {"python_file": "empty.py"}}
        side.append(task)
        row.append(task | ({"depends_on": [{"task_key": f"t{number - 1}"}]} if number else {}))
    jobs = {"row": {"tasks": row}, "side": {"tasks": side}}
    (folder / "databricks.yml").write_text(json.dumps({"bundle": {"name": "graph"}, "resources": {"jobs": jobs}}))


def busy(run: dict[str, Any]) -> tuple[float, list[float]]:
    "Seconds in which at least one task ran, and the seconds of each task."
    spans = sorted((t["start_time"] / 1000, t["end_time"] / 1000) for t in run["tasks"])
    covered, until = 0.0, 0.0
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered, [end - start for start, end in spans]


def a_jvm_each() -> float:
    "Seconds of a task that starts a JVM for itself, the median of four."
    sys.path.insert(0, str(Path(__file__).parent))
    from tasks import a_jvm_each

    with tempfile.TemporaryDirectory() as scratch:
        return statistics.median(a_jvm_each(Path(scratch), 4)[0])


def main(tasks: int = 100) -> None:
    console = Console(width=110)
    table = Table(title=f"{tasks} empty tasks ({os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB)")
    for name in ("graph", "s in all", "s over its tasks", "median task, s", "slowest", "ratio to a JVM a task"):
        table.add_column(name, justify="left" if name == "graph" else "right")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle(folder, tasks)
        call(folder, "cluster", "start")
        memory = json.loads(call(folder, "cluster", "status", "--json")[1])["memory_bytes"]
        runs = {name: call(folder, "run", name, "--json") for name in ("row", "side")}
        call(folder, "cluster", "stop")
    other = a_jvm_each()
    for name, (seconds, said) in runs.items():
        covered, each = busy(json.loads(said))
        ratio = f"1/{other * tasks / seconds:.0f}"
        table.add_row(name, f"{seconds:.1f}", f"{seconds - covered:.1f}", f"{statistics.median(each):.2f}", f"{max(each):.2f}", ratio)
    table.caption = f"A JVM a task: {other:.1f} s. The idle cluster takes {sum(memory.values()) >> 20} MiB: " + ", ".join(
        f"{part} {size >> 20}" for part, size in memory.items()
    )
    console.print(table)
    for words in (["--help"], ["validate"]):
        seconds = statistics.median(call(ROOT, *words)[0] for _ in range(5))
        console.print(f"boathouse {' '.join(words)}: {seconds:.2f} s (median of 5)")


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:]))
