"""What a task costs beyond its own work: a process a task on one JVM, against a JVM a task. Empty tasks, one after the other, in one run.

python bench/tasks.py [TASKS [JVMS]]     20 tasks on the cluster, 4 with a JVM each
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from boathouse.workspace.cluster.cluster import Cluster, TaskSpec

ALONE = """
import sys
from boathouse.workspace.spark.session import local_session
spark = local_session(sys.argv[1])
import pandas, mlflow, sklearn, lightgbm, hyperopt
"""


class Cost:
    """CPU seconds and peak memory (proportional share, MiB) of processes and all that they start, sampled while it runs.

    With `reaped`, the CPU of children is what the roots themselves were told when each ended: exact for forks shorter than a sample.
    """

    def __init__(self, roots: Callable[[], list[int]], reaped: bool = False) -> None:
        self.roots, self.reaped, self.cpu, self.peak, self.running = roots, reaped, dict[int, float](), 0, True

    def sample(self) -> None:
        memory = 0
        for process in self._tree():
            try:
                times = process.cpu_times()
                if not self.reaped:
                    self.cpu[process.pid] = times.user + times.system
                elif process.pid in self.roots():
                    self.cpu[process.pid] = times.user + times.system + times.children_user + times.children_system
                memory += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        self.peak = max(self.peak, memory >> 20)

    def _tree(self) -> list[psutil.Process]:
        found = []
        for pid in self.roots():
            try:
                found += [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found

    def watch(self) -> None:
        while self.running:
            self.sample()
            time.sleep(0.2)


@contextmanager
def measured(roots: Callable[[], list[int]], reaped: bool = False) -> Iterator[Cost]:
    cost = Cost(roots, reaped)
    cost.sample()
    before = sum(cost.cpu.values())
    thread = threading.Thread(target=cost.watch)
    thread.start()
    try:
        yield cost
    finally:
        cost.sample()
        cost.running = False
        thread.join()
        cost.cpu[0] = -before


def on_one_jvm(folder: Path, tasks: int) -> tuple[float, list[float], Cost]:
    "Seconds to start the cluster, seconds of each empty task, their cost."
    (folder / "empty.py").write_text("spark\n")
    begun = time.perf_counter()
    with Cluster.start(folder / "state", folder) as cluster:
        cluster._ready.wait()
        started = time.perf_counter() - begun
        jvm = cluster.spark.sparkContext._gateway.proc.pid
        seconds = []
        with measured(lambda: [jvm, cluster._zygote.pid], reaped=True) as cost:
            for number in range(tasks):
                begun = time.perf_counter()
                spec = TaskSpec(kind="script", folder=folder / "runs" / str(number), project=folder, file=folder / "empty.py")
                result = cluster.launch(spec).wait()
                assert result is not None
                assert result.state == "SUCCESS", result
                seconds.append(time.perf_counter() - begun)
    return started, seconds, cost


def a_jvm_each(folder: Path, tasks: int) -> tuple[list[float], list[float], int]:
    "Seconds, CPU seconds of each process that starts the same tuned session and imports the same libraries, and the peak memory of all."
    seconds, cpu, peak = [], [], 0
    for number in range(tasks):
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", ALONE, str(folder / f"state{number}")], stderr=subprocess.DEVNULL)
        with measured(lambda pid=process.pid: [pid]) as cost:  # type: ignore[misc]
            assert process.wait() == 0
        seconds.append(time.perf_counter() - begun)
        cpu.append(sum(cost.cpu.values()))
        peak = max(peak, cost.peak)
    return seconds, cpu, peak


def main(tasks: int = 20, jvms: int = 4) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started, ours, cost = on_one_jvm(folder, tasks)
        theirs, cpu, peak = a_jvm_each(folder, jvms)
    mean, other = sum(ours) / tasks, sum(theirs) / jvms
    table = Table(title=f"An empty task ({os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB)")
    for name in ("way", "tasks", "s a task", "slowest", "ratio", "CPU s a task", "peak MiB"):
        table.add_column(name, justify="left" if name == "way" else "right")
    table.add_row("a JVM a task", str(jvms), f"{other:.2f}", f"{max(theirs):.2f}", "1", f"{sum(cpu) / jvms:.2f}", str(peak))
    table.add_row(
        "a fork a task on one JVM",
        str(tasks),
        f"{mean:.2f}",
        f"{max(ours):.2f}",
        f"1/{other / mean:.0f}",
        f"{sum(cost.cpu.values()) / tasks:.2f}",
        str(cost.peak),
    )
    table.caption = f"The cluster itself took {started:.1f} s to start, once."
    Console(width=110).print(table)


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:]))
