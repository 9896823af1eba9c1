"""What side-by-side measurements share: each way of doing a thing is a process of its own, that says what rows it made, and what the work cost."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ENOUGH = 8.0  # seconds of timed runs


@dataclass(frozen=True)
class Way:
    "How a thing is done, in which environment ('' is this one), and whether only once, as it takes minutes. `begin` takes the folder of the data and one for state."

    begin: Callable[[Path, Path], Callable[[], Any]]
    environment: str = ""
    once: bool = False


def tree_seconds() -> float:
    "CPU seconds of this process and all that it started, those that have ended included."
    import psutil

    me = psutil.Process()
    return sum(sum(p.cpu_times()[:4]) for p in [me, *me.children(recursive=True)])


def work(way: Way, sums: Callable[[Any], list[int]], folder: str, state: str) -> None:
    "A way's own process: it says when it can begin; 'check' gives the sums of the rows it makes, 'time' gives seconds."
    answers, sys.stdout = sys.stdout, sys.stderr
    make = way.begin(Path(folder), Path(state))
    print(json.dumps({}), file=answers, flush=True)
    for line in sys.stdin:
        before, begun = tree_seconds(), time.perf_counter()
        found = make()
        told: dict[str, Any] = {"sums": sums(found)} if line.strip() == "check" else {}
        if not told and hasattr(found, "write"):
            found.write.format("noop").mode("overwrite").save()
        told |= {"seconds": time.perf_counter() - begun, "cpu": tree_seconds() - before}
        del found
        print(json.dumps(told), file=answers, flush=True)


@contextmanager
def ended_after(process: subprocess.Popen[str], seconds: float) -> Iterator[list[bool]]:
    "Ends a process and all that it started when so many seconds have passed; the list is no longer empty then."
    import psutil

    passed: list[bool] = []

    def end() -> None:
        passed.append(True)
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield passed
    finally:
        timer.cancel()


def answers(process: subprocess.Popen[str], checked: bool) -> Iterator[dict[str, Any]]:
    "What a process says: that it can begin, the sums, and, unless the checked run is the one that counts, the costs of timed runs; `all` comes last if it came so far."
    assert process.stdin is not None
    assert process.stdout is not None
    timed = 0.0
    for word in ("", "check", *(() if checked else ("time", "time", "time"))):
        if timed > ENOUGH:
            break
        if word:
            print(word, file=process.stdin, flush=True)
        if not (line := process.stdout.readline()):
            process.wait()
            return
        yield (answer := json.loads(line))
        timed += answer["seconds"] if word == "time" else 0
    process.stdin.close()
    process.wait()
    yield {"all": True}


def once(script: str, way: Way, name: str, python: str, folder: Path, limit: float) -> dict[str, Any]:
    "What a fresh process says of one way on one set: sums, seconds, CPU seconds and peak memory, or why there are none."
    from tasks import measured

    with tempfile.TemporaryDirectory(prefix="boathouse-bench-") as state, Path(state, "said.log").open("w+") as said:
        environ = {**os.environ, "PYSPARK_PYTHON": python, "PYTHONPATH": str(ROOT / "src"), "TZ": "UTC", "SPARK_LOCAL_IP": "127.0.0.1"}
        environ.pop("SPARK_HOME", None)
        words = [python, script, "--work", name, str(folder), state]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environ, text=True)
        found: dict[str, Any] = {}
        begun = time.perf_counter()
        with ended_after(process, limit) as passed, measured(lambda: [process.pid]) as cost:
            for answer in answers(process, way.once):
                found |= answer
        found |= {"peak": cost.peak} if found.pop("all", False) else {}
        if passed and "peak" not in found:
            found["failed"] = f"unfinished after {time.perf_counter() - begun:,.0f} s"
        elif "peak" not in found:
            process.wait()
            said.seek(0)
            last = [line for line in said.read().splitlines() if line.strip()] or ["it said nothing"]
            print("\n".join(last[-30:]), file=sys.stderr)
            found["failed"] = f"failed: {last[-1][:200]}"
    return found


def pythons(environments: Mapping[str, Sequence[str]]) -> dict[str, str]:
    "The Python of each environment, made on first use; those that cannot be made are left out, with a sentence."
    found = {"": sys.executable}
    for name, pinned in environments.items():
        folder = ROOT / ".boathouse/bench" / f"asof-{name.lower()}"
        python, done, wanted = folder / "bin/python", folder / "installed", " ".join(pinned)
        if not done.is_file() or done.read_text() != wanted:
            print(f"Installing {wanted} into {folder.relative_to(ROOT)} (a minute or two, once)", file=sys.stderr)
            made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True)
            if made.returncode == 0:
                made = subprocess.run([python, "-m", "pip", "install", "-q", "psutil", "rich", *pinned], capture_output=True, text=True)
            if made.returncode:
                print(f"{name} is left out, it could not be installed: {made.stderr.strip().splitlines()[-1:]}")
                continue
            done.write_text(wanted)
        found[name] = str(python)
    return found


def show(title: str, results: Mapping[str, list[dict[str, Any]]], against: Mapping[str, str]) -> None:
    "Print a table: one row per way, medians over its rounds, and ratios to the ways `against`, which are name -> its name in a column."
    import psutil
    from rich.console import Console
    from rich.table import Table

    rounds = max(len(found) for found in results.values())
    machine = f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    title = f"{title}; {rounds} round{'s' * (rounds > 1)}, medians ({machine})"
    table = Table(title=title)
    ratio = [f"x {short}" for short in against.values()]
    for column in ("way", "s", *ratio, "CPU s", *[f"{name}, CPU" for name in ratio], "peak MiB", "rows"):
        table.add_column(column, justify="left" if column in ("way", "rows") else "right")
    done = {way: [each for each in found if "failed" not in each] for way, found in results.items()}
    middle = {
        way: {part: statistics.median(r[part] for r in found) for part in ("seconds", "cpu", "peak")}
        for way, found in done.items()
        if found
    }
    truth = next((found[0]["sums"] for way in (*against, *done) if (found := done.get(way))), None)

    def ratios(way: str, part: str) -> list[str]:
        return [f"{middle[way][part] / middle[other][part]:.2f}" if other in middle and middle[other][part] else "-" for other in against]

    for way, found in results.items():
        if way not in middle:
            table.add_row(way, *["-"] * (3 + 2 * len(against)), found[0]["failed"])
            continue
        seconds, cpu, peak = middle[way].values()
        exact = "exact" if all(each["sums"] == truth for each in done[way]) else "OTHER ROWS"
        said = exact if len(done[way]) == len(found) else f"{exact}; {next(each['failed'] for each in found if 'failed' in each)}"
        table.add_row(way, f"{seconds:.2f}", *ratios(way, "seconds"), f"{cpu:.2f}", *ratios(way, "cpu"), f"{peak:,.0f}", said)
    Console(width=170).print(table)


def compare(
    script: str, ways: Mapping[str, Way], python: Mapping[str, str], folder: Path, rounds: int, limit: float
) -> dict[str, list[dict[str, Any]]]:
    "What each way says in each round, rounds interleaved; one that failed, or is done once, is not asked again."
    results: dict[str, list[dict[str, Any]]] = {}
    for number in range(rounds):
        for name, way in ways.items():
            before = results.setdefault(name, [])
            if way.environment not in python or (before and (way.once or "failed" in before[-1])):
                continue
            before.append(once(script, way, name, python[way.environment], folder, limit))
            print(f"round {number + 1}: {name}: {before[-1]}", file=sys.stderr, flush=True)
    return {name: found for name, found in results.items() if found}
