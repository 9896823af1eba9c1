"""What rules cost: judged in one pass with a quarantine, against a scan, a plain write, a count a rule, Great Expectations and pandera.

python bench/quality.py [ROWS [ROUNDS [RULES ...]]]     2,000,000 rows, 5 rounds, 15 and 100 rules

Great Expectations and pandera do not belong to this project: they are installed into an environment of their own below .boathouse/bench, from the
registry that pip knows, in pinned versions. Each tool has a process and a JVM of its own, with the same settings; the rounds are interleaved.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
VENV = ROOT / ".boathouse/bench/quality"
PINNED = ("pyspark==4.2.0", "great_expectations==1.24.1", "pandera[pyspark]==0.35.0", "pandas<3", "setuptools<81")
COLUMNS = 20


def limits(rules: int) -> list[tuple[str, str, float, float]]:
    "(name, column, low, high) of each rule: a range, and NULL is violated."
    return [(f"r{n}", f"x{n % COLUMNS}", -3.7 - n * 0.001, 3.9 + n * 0.001) for n in range(rules)]


def session(state: str, delta: bool) -> Any:
    if delta:
        from boathouse.workspace.spark.session import local_session

        return local_session(state)
    from pyspark.sql import SparkSession

    memory = os.environ.get("BOATHOUSE_DRIVER_MEMORY", "4096m")
    settings = {
        "spark.driver.memory": memory, "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false", "spark.sql.shuffle.partitions": str(min(8, os.cpu_count() or 2)), "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.cache.maxEntries": "5000", "spark.sql.session.timeZone": "UTC", "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",
        "spark.sql.warehouse.dir": f"{state}/warehouse",
    }  # fmt: skip
    builder = SparkSession.builder.master("local[*]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    found = builder.getOrCreate()
    found.sparkContext.setLogLevel("ERROR")
    return found


def ours(spark: Any, data: str, numbers: list[int]) -> dict[str, Callable[[], Any]]:
    "The scan, the plain write, a count a rule, and the ways of this project."
    import datetime as dt

    from boathouse.quality.quarantine import quarantine_of, write_with_quarantine
    from boathouse.quality.rules import Rule, evaluate_rules, observe_counts, wait_for_counts
    from boathouse.tables.table import Column, Lakehouse, Table, drop_all, read
    from boathouse.tables.versions import fingerprint
    from boathouse.tables.writes import append

    lake = Lakehouse(spark, prefix="bench_quality_")
    drop_all(lake)
    df = spark.read.parquet(data)
    columns = tuple(Column(field.name, field.dataType.simpleString(), "") for field in df.schema)
    runs = iter(range(10**6))

    def target(kind: str) -> Table:
        return Table(f"b.{kind}_{next(runs)}", "One row.", columns)

    def drop(*tables: Table) -> None:
        for table in tables:
            spark.sql(f"DROP TABLE IF EXISTS {lake.name(table)}")

    def scan() -> None:
        df.write.format("noop").mode("overwrite").save()

    def plain() -> Callable[[], None]:
        table = target("plain")
        append(lake, table, df, note={"run": 1})
        return lambda: drop(table)

    def rules(n: int) -> list[Rule]:
        return [Rule(name, f"{column} BETWEEN {low}D AND {high}D") for name, column, low, high in limits(n)]

    def judged(n: int) -> dict[str, int]:
        rows = evaluate_rules(df, rules(n))
        watched, watch = observe_counts(rows, rules(n))
        watched.write.format("noop").mode("overwrite").save()
        return wait_for_counts(watch, rows, rules(n))

    def counts(n: int) -> dict[str, int]:
        found = {r.name: df.where(f"NOT coalesce({r.condition}, false)").count() for r in rules(n)}
        return {"checked": df.count(), **found}

    def guarded(n: int) -> Any:
        table = target("guarded")
        lies = quarantine_of(table)
        found = write_with_quarantine(lake, table, df, rules(n), quarantine=lies, run="1", at=dt.datetime(2013, 6, 1))
        return found.counts, lambda: drop(table, lies)

    def by_hand(n: int) -> Any:
        "The usual way: two frames, the batch held in memory between two writes."
        good, lies, bad = target("good"), target("bad"), " OR ".join(f"NOT coalesce({r.condition}, false)" for r in rules(n))
        held = df.selectExpr("*", f"{bad} AS bad").persist()
        append(lake, good, held.where("NOT bad").drop("bad"))
        append(lake, lies, held.where("bad").drop("bad"))
        held.unpersist()
        return lambda: drop(good, lies)

    def same_rows(n: int) -> bool:
        "Both tables hold exactly the rows that plain filters find."
        table = target("compared")
        lies = quarantine_of(table)
        write_with_quarantine(lake, table, df, rules(n), quarantine=lies, run="1", at=dt.datetime(2013, 6, 1))
        good = df.where(" AND ".join(f"coalesce({r.condition}, false)" for r in rules(n)))
        bad = df.where(" OR ".join(f"NOT coalesce({r.condition}, false)" for r in rules(n)))
        same = fingerprint(read(lake, table)) == fingerprint(good) and fingerprint(read(lake, lies).select(*df.columns)) == fingerprint(bad)
        drop(table, lies)
        return same

    ways: dict[str, Callable[[], Any]] = {"scan": scan, "plain write": plain}
    for n in numbers:
        ways |= {f"{n} rules, judged and counted": lambda n=n: judged(n), f"{n} rules, guarded write": lambda n=n: guarded(n)}
        ways[f"{n} rules, same rows"] = lambda n=n: same_rows(n)
        if n <= 15:
            ways |= {f"{n} rules, a count each": lambda n=n: counts(n), f"{n} rules, persist and two writes": lambda n=n: by_hand(n)}
    return ways


def great_expectations(spark: Any, data: str, numbers: list[int]) -> dict[str, Callable[[], Any]]:
    import great_expectations as gx
    from great_expectations import expectations as gxe

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    df = spark.read.parquet(data)
    asset = context.data_sources.add_spark("spark").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all")

    def validate(n: int, result_format: str) -> dict[str, int] | None:
        suite = gx.ExpectationSuite(name=f"suite {time.time_ns()}")
        for _, column, low, high in limits(n):
            suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=column))
            suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high))
        found = batch.get_batch(batch_parameters={"dataframe": df}).validate(suite, result_format=result_format)
        if result_format == "BOOLEAN_ONLY":
            return None
        failed: dict[tuple[str, Any], int] = {}
        for result in found.results:
            said = result.expectation_config.kwargs
            failed[said["column"], said.get("min_value")] = result.result["unexpected_count"]
        return {"checked": df.count(), **{name: failed[c, None] + failed[c, low] for name, c, low, _ in limits(n)}}

    ways: dict[str, Callable[[], Any]] = {}
    for n in numbers:
        ways[f"{n} rules, counts"] = lambda n=n: validate(n, "BASIC")
        ways[f"{n} rules, yes or no"] = lambda n=n: validate(n, "BOOLEAN_ONLY")
    return ways


def pandera(spark: Any, data: str, numbers: list[int]) -> dict[str, Callable[[], Any]]:
    import pandera.pyspark as pa
    from pyspark.sql import types

    df = spark.read.parquet(data)

    def validate(n: int) -> None:
        checks: dict[str, list[Any]] = {}
        for _, column, low, high in limits(n):
            checks.setdefault(column, []).append(pa.Check.in_range(low, high))
        schema = pa.DataFrameSchema({c: pa.Column(types.DoubleType(), each, nullable=False) for c, each in checks.items()})
        errors = schema.validate(check_obj=df).pandera.errors
        assert errors, "rows break these rules, and pandera has found none"

    return {f"{n} rules, yes or no": lambda n=n: validate(n) for n in numbers}


WAYS = {"boathouse": ours, "Great Expectations": great_expectations, "pandera": pandera}


def work(tool: str, folder: str, numbers: list[int]) -> None:
    "A tool's own process: a name of a way in, seconds and counts out."
    import psutil

    answers, sys.stdout = sys.stdout, sys.stderr
    spark = session(f"{folder}/{tool.replace(' ', '')}", tool == "boathouse")
    ways = WAYS[tool](spark, f"{folder}/data", numbers)
    print(json.dumps({"ways": list(ways), "jvm": spark.sparkContext._gateway.proc.pid}), file=answers, flush=True)
    me = psutil.Process()

    def cpu() -> float:
        return sum(t.user + t.system for t in [me.cpu_times(), *[p.cpu_times() for p in me.children(recursive=True)]])

    for line in sys.stdin:
        before, begun = cpu(), time.perf_counter()
        found = ways[line.strip()]()
        told = {"seconds": time.perf_counter() - begun, "cpu": cpu() - before}
        if isinstance(found, tuple):
            found, tidy = found
            tidy()
        elif callable(found):
            found = found()
        print(json.dumps({**told, "found": found}), file=answers, flush=True)


class Tool:
    "A process of `work`, asked one way at a time."

    def __init__(self, name: str, python: str, folder: Path, numbers: list[int]) -> None:
        words = [python, __file__, "--work", name, str(folder), *map(str, numbers)]
        environ = {**os.environ, "PYSPARK_PYTHON": python, "TZ": "UTC", "SPARK_LOCAL_IP": "127.0.0.1"}
        environ.pop("SPARK_HOME", None)
        self.said = (folder / f"{name.replace(' ', '')}.log").open("w+")
        self.name, self.process = (
            name,
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, env=environ, text=True),
        )
        self.ways = self.answer()["ways"]

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            raise SystemExit(f"{self.name} ended:\n{self.said.read()[-3000:]}")
        return json.loads(line)

    def ask(self, way: str) -> dict[str, Any]:
        sys.path.insert(0, str(Path(__file__).parent))
        from tasks import measured

        assert self.process.stdin is not None
        with measured(lambda: [self.process.pid]) as cost:
            print(way, file=self.process.stdin, flush=True)
            found = self.answer()
        return {**found, "peak": cost.peak}

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def others() -> str | None:
    "The Python of an environment with the other tools, made on first use; None, and a sentence, where it cannot be made."
    python = VENV / "bin/python"
    done = VENV / "installed"
    if done.is_file() and done.read_text() == " ".join(PINNED):
        return str(python)
    print(f"Installing {', '.join(PINNED)} into {VENV} (a few minutes, once)")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if made.returncode == 0:
        made = subprocess.run([python, "-m", "pip", "install", "-q", "psutil", "rich", *PINNED], capture_output=True, text=True)
    if made.returncode:
        print(f"Great Expectations and pandera are left out, they could not be installed: {made.stderr.strip().splitlines()[-1:]}")
        return None
    done.write_text(" ".join(PINNED))
    return str(python)


def make_data(folder: Path, rows: int) -> None:
    "Normal values in twenty columns, a few missing: about one row in a hundred breaks one of 15 rules."
    code = (
        "import sys; from boathouse.workspace.spark.session import local_session; from pyspark.sql import functions as F; s = local_session(sys.argv[1] + '/make');"
        f"s.range(0, {rows}, 1, 4).select('id', *[F.when(F.rand(100 + i) > 0.0003, F.randn(i)).alias(f'x{{i}}') for i in range({COLUMNS})])"
        ".write.parquet(sys.argv[1] + '/data')"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, stderr=subprocess.DEVNULL)


def report(rows: int, rounds: int, results: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    import psutil
    from rich.console import Console
    from rich.table import Table

    title = f"{rows:,} rows, {rounds} rounds, medians ({os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB)"
    table = Table(title=title)
    for name in ("tool", "way", "s", "x scan", "x plain write", "CPU s", "x scan, CPU", "peak MiB", "counts"):
        table.add_column(name, justify="left" if name in ("tool", "way", "counts") else "right")
    middle = {
        key: {part: statistics.median(r[part] for r in found) for part in ("seconds", "cpu", "peak")} for key, found in results.items()
    }
    scan, plain = middle["boathouse", "scan"], middle["boathouse", "plain write"]
    right = {way.split(" rules")[0]: found[0]["found"] for (tool, way), found in results.items() if way.endswith("judged and counted")}
    for (tool, way), found in results.items():
        if way.endswith("same rows"):
            table.add_row(tool, way, "", "", "", "", "", "", "the same rows" if found[0]["found"] else "OTHER ROWS")
            continue
        cost, counts = middle[tool, way], found[0]["found"]
        same = "-" if not isinstance(counts, dict) else "equal" if counts == right[way.split(" rules")[0]] else "DIFFERENT"
        table.add_row(
            tool, way, f"{cost['seconds']:.2f}", f"{cost['seconds'] / scan['seconds']:.2f}", f"{cost['seconds'] / plain['seconds']:.2f}",
            f"{cost['cpu']:.2f}", f"{cost['cpu'] / scan['cpu']:.2f}", f"{cost['peak']:.0f}", same,
        )  # fmt: skip
    Console(width=150).print(table)


def main(rows: int = 2_000_000, rounds: int = 5, *numbers: int) -> None:
    rules = list(numbers) or [15, 100]
    theirs = others()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_data(folder, rows)
        tools = [Tool("boathouse", sys.executable, folder, rules)]
        if theirs:
            few = [n for n in rules if n <= 15] or rules[:1]
            tools += [Tool(name, theirs, folder, few) for name in ("Great Expectations", "pandera")]
        results: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for number in range(rounds + 1):  # the first round warms the JVMs up, and is not counted
            for tool in tools:
                for way in tool.ways:
                    if way.endswith("same rows") and number > 0:
                        continue
                    found = tool.ask(way)
                    print(f"round {number}: {tool.name}, {way}: {found['seconds']:.2f} s", file=sys.stderr, flush=True)
                    if number or way.endswith("same rows"):
                        results.setdefault((tool.name, way), []).append(found)
        for tool in tools:
            tool.stop()
    report(rows, rounds, results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], sys.argv[3], [int(n) for n in sys.argv[4:]])
    else:
        main(*(int(given) for given in sys.argv[1:]))
