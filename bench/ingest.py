"""What ingestion costs: rows a second from CSV to bronze and on to silver, against rows, against files, and against a plain append of what spark.read.csv reads.

python bench/ingest.py [DAYS]     real days of January 2013 that are replicated: 10 (about 27,000 lines) unless said otherwise
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from boathouse.ingest.files import ingest
from boathouse.tables.table import Lakehouse, drop_all, read
from boathouse.workspace.spark.session import local_session
from flights import tables as t
from flights.bronze import end_of
from flights.replay import FLIGHT_EVENTS, replay
from flights.silver import EVENTS, add_events, process_feed

HEADER = ",".join(FLIGHT_EVENTS.columns)
AT = end_of(date(2014, 1, 2))


def real_lines(days: int) -> list[str]:
    "The lines of the first days of 2013, dirt included."
    with tempfile.TemporaryDirectory() as scratch:
        replay(scratch, date(2013, 1, 1) + timedelta(days=days))
        files = sorted((Path(scratch) / "flight_events").glob("*.csv"))
        return [line for file in files for line in file.read_text().splitlines()[1:]]


def lay(landing: Path, lines: list[str], times: int, files: int) -> int:
    "The lines `times` over, each time as flights of other numbers, in so many files; how many there are."
    copies = [line if not n else shifted(line, n) for n in range(times) for line in lines]
    folder = landing / "flight_events"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for n in range(files):
        part = copies[n * len(copies) // files : (n + 1) * len(copies) // files]
        (folder / f"{n:05}.csv").write_text("\n".join([HEADER, *part]) + "\n")
    return len(copies)


def shifted(line: str, n: int) -> str:
    "The same line as another flight: its number is moved, so that no two copies are one event."
    fields = line.split(",")
    if len(fields) == len(FLIGHT_EVENTS.columns) and fields[12].isdigit():
        fields[12] = str(int(fields[12]) + 10_000 * n)
    return ",".join(fields)


def cost(work: Callable[[], Any]) -> tuple[float, float, int]:
    "Wall seconds, CPU seconds of this process and its JVM, and the JVM's peak memory (MiB)."
    own = psutil.Process()
    jvm = max(own.children(recursive=True), key=lambda p: p.memory_info().rss)

    def cpu() -> float:
        return sum(sum(p.cpu_times()[:2]) for p in (own, jvm))

    before, begun = cpu(), time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    return seconds, cpu() - before, peak(jvm.pid)


def peak(pid: int) -> int:
    "The most memory a process has had so far, MiB; 0 where the system does not tell."
    status = Path(f"/proc/{pid}/status")
    words = status.read_text().split() if status.exists() else ["VmHWM:", "0"]
    return int(words[words.index("VmHWM:") + 1]) >> 10


def plain(spark: SparkSession, lake: Lakehouse, landing: Path) -> None:
    "What one would write without this project: no line kept, no origin, nothing said of what does not fit."
    rows = spark.read.option("header", True).csv(str(landing / "flight_events"))
    rows.write.format("delta").mode("append").saveAsTable(lake.name("bronze.plain"))


def measured(spark: SparkSession, lake: Lakehouse, landing: Path, rows: int) -> list[tuple[str, int, float, float, int]]:
    "Plain, bronze, bronze again with nothing new, and silver of what lies in landing: name, rows, seconds, CPU seconds, peak MiB."
    drop_all(lake)
    spark.sql(f"CREATE SCHEMA {lake.prefix}bronze")
    steps: dict[str, Callable[[], Any]] = {
        "spark.read.csv to Delta": lambda: plain(spark, lake, landing),
        "CSV to bronze": lambda: ingest(lake, t.BRONZE_FLIGHT_EVENTS, landing, "flight_events", AT),
        "again, nothing new": lambda: ingest(lake, t.BRONZE_FLIGHT_EVENTS, landing, "flight_events", AT),
        "bronze to silver events": lambda: process_feed(lake, EVENTS, add_events, AT),
    }
    done = [(name, rows, *cost(step)) for name, step in steps.items()]
    assert read(lake, t.BRONZE_FLIGHT_EVENTS).count() == rows
    return done


def show(console: Console, title: str, runs: dict[str, list[tuple[str, int, float, float, int]]]) -> None:
    table = Table(title=title)
    for name in ("landing", "step", "rows", "s", "rows/s", "CPU s", "ratio to plain (s)", "peak MiB"):
        table.add_column(name, justify="left" if name in ("landing", "step") else "right")
    for what, steps in runs.items():
        base = steps[0][2]
        for name, rows, seconds, cpu, memory in steps:
            table.add_row(
                what, name, f"{rows:,}", f"{seconds:.1f}", f"{rows / seconds:,.0f}", f"{cpu:.1f}", f"{seconds / base:.2f}", f"{memory:,}"
            )
    console.print(table)


def slope(console: Console, what: str, small: float, sizes: list[tuple[float, list[tuple[str, int, float, float, int]]]]) -> None:
    "Seconds (CPU seconds) that a step costs more for each unit more, between the smallest and the largest."
    for n, (name, *_) in enumerate(sizes[0][1]):
        (low, first), (high, last) = sizes[0], sizes[-1]
        seconds, cpu = ((last[n][k] - first[n][k]) / (high - low) * small for k in (2, 3))
        console.print(
            f"{name}: {seconds:+.3f} s ({cpu:+.3f} CPU s) for {what}; {last[n][2] / first[n][2]:.2f} times the seconds at {high / low:.0f} times the size"
        )


def main(days: int = 10) -> None:
    console = Console(width=130)
    landing, state = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    spark = local_session(state)
    lake = Lakehouse(spark, prefix="bench_")
    lines = real_lines(days)
    measured(spark, lake, landing, lay(landing, lines, 1, 30))  # the JVM's first steps are another subject
    runs = {f"{n} x": measured(spark, lake, landing, lay(landing, lines, n, 30)) for n in (1, 4, 16)}
    show(console, f"Against rows ({psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB), 30 files each", runs)
    slope(console, "100,000 rows more", 100_000, [(steps[0][1], steps) for steps in runs.values()])
    files = {f"{n:,} files": measured(spark, lake, landing, lay(landing, lines, 4, n)) for n in (365, 3_650)}
    show(console, "Against files, 4 x the rows", files)
    slope(console, "1,000 files more", 1_000, [(n, steps) for n, steps in zip((365, 3_650), files.values(), strict=True)])
    spark.stop()
    for folder in (landing, state):
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:]))
