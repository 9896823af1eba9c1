"""What the promises of the data path and of training cost: the jobs of the bundle beside a plain script of one Spark session, stage by stage.

python bench/lifecycle.py [--as-of DAY]       the whole year unless said otherwise

The plain script has no contracts, quarantine, keys, pins or notes. It makes the same rows by the same functions and writes each table once.
Each side begins with a JVM of its own and an empty state. Wall time is a stage's; CPU is what the machine computed meanwhile: run nothing beside it.
Training is held against one fit of LightGBM with the champion's parameters on its rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import click
import psutil
from job_profile import copied
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from boathouse.features.definitions import WindowedFeatures, keep_rows
from boathouse.tables.table import Lakehouse, read
from boathouse.tables.versions import fingerprint
from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.cluster.cluster import Cluster
from boathouse.workspace.history.store import History
from boathouse.workspace.run.deploy import deploy
from boathouse.workspace.run.runner import Runner
from boathouse.workspace.spark.session import local_session, state_environment
from flights import tables as t
from flights.bronze import end_of
from flights.features import TABLES
from flights.gold import departures
from flights.merging import apply_corrections, build_flights, latest_events, newest_per_key
from flights.replay import replay
from flights.silver import EVENTS, RANGES, REFERENCE, WEATHER, deduplicate, parse_lines

COMPARED = (t.SILVER_FLIGHTS, t.SILVER_WEATHER, t.GOLD_DEPARTURES, *[definition.table for group in TABLES.values() for definition in group])
OURS_ALONE = {"bronze_version", "source_file"}  # columns that say which delivery a row came with


@dataclass
class Cost:
    "One stage of one side: seconds on the clock, CPU seconds of the machine, and the memory of this process and its descendants at the stage's end, in MiB."

    stage: str
    wall: float
    cpu: float
    memory: float


class Stages:
    "The costs of a side, stage by stage."

    def __init__(self) -> None:
        self.costs: list[Cost] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        "Measures what runs inside."
        began, busy = time.monotonic(), computed()
        yield
        self.costs.append(Cost(name, time.monotonic() - began, computed() - busy, resident()))


def computed() -> float:
    "CPU seconds that this machine has computed since it started."
    spent = psutil.cpu_times()
    return spent.user + spent.system + spent.nice


def resident() -> float:
    "The memory of this process and its descendants, shared pages counted once each, in MiB."
    own = psutil.Process()
    return sum(process.memory_full_info().pss for process in (own, *own.children(recursive=True))) / 2**20


def tables_of(lake: Lakehouse) -> dict[str, str]:
    "A fingerprint of each table that both sides make, without the columns that say which delivery brought a row."
    return {table.name: fingerprint(read(lake, table).drop(*OURS_ALONE)) for table in COMPARED}


def plain(state: Path, landing: Path, as_of: str) -> dict[str, Any]:
    "The data path as a script."
    stages = Stages()
    with stages.stage("start"):
        spark = local_session(state)
        lake = Lakehouse(spark)
        for schema in ("bronze", "silver", "gold", "features"):
            spark.sql(f"CREATE SCHEMA {lake.name(schema)}")

    def write(table: Any, rows: DataFrame) -> None:
        rows.write.format("delta").mode("overwrite").saveAsTable(lake.name(table))

    with stages.stage("bronze"):
        for feed in (EVENTS, WEATHER):
            folder = landing / feed.source.name.partition(".")[2]
            write(feed.source, spark.read.option("header", True).csv(str(folder)))
        for source, _ in REFERENCE:
            write(source, spark.read.option("header", True).csv(str(landing / source.name.partition(".")[2])))

    def rows_of(source: Any, types: dict[str, str]) -> DataFrame:
        "The lines with their values typed; what else our functions ask of a line is made up."
        lines = read(lake, source)
        more = {c.name: F.lit(None).cast(c.type) for c in source.columns if c.name.startswith("_")}
        raw = F.concat_ws(",", *[F.coalesce(F.col(f"`{name}`"), F.lit("")) for name in lines.columns])
        return parse_lines(lines.withColumns({**more, "_raw": raw, "bronze_version": F.lit(1)}), types)

    with stages.stage("silver"):
        events = deduplicate(EVENTS.prepare(rows_of(EVENTS.source, EVENTS.types)))
        write(EVENTS.target, events)
        names = [c.name for c in t.SILVER_WEATHER.columns]
        sane = " AND ".join(
            f"({c} IS NULL OR {c} BETWEEN {low} AND {high})" for c, (low, high) in RANGES.items()
        )  # one report has a wind of 1,048 mph
        write(WEATHER.target, WEATHER.prepare(rows_of(WEATHER.source, WEATHER.types)).where(sane).select(*names))
        for source, target in REFERENCE:
            names = [c.name for c in target.columns]
            rows = rows_of(source, {c.name: c.type for c in target.columns}).select(*names, "bronze_version")
            write(target, newest_per_key(rows, target.primary_key).select(*names))
        write(t.SILVER_FLIGHTS, build_flights(apply_corrections(latest_events(read(lake, EVENTS.target)))))
    with stages.stage("gold"):
        write(t.GOLD_DEPARTURES, departures(read(lake, t.SILVER_FLIGHTS)))
    with stages.stage("features"):
        until = end_of(date.fromisoformat(as_of))
        for group in TABLES.values():
            for definition in group:
                source = read(lake, definition.source)
                events = definition.events(source).where(F.col(definition.time) < F.lit(until))
                if isinstance(definition, WindowedFeatures):
                    rows = replace(definition, events=keep_rows).rows(events, None, until)
                else:
                    rows = definition.make(events, *[read(lake, beside) for beside in definition.beside])
                write(definition.table, rows)
    return {"costs": [asdict(cost) for cost in stages.costs], "rows": tables_of(lake)}


def ours(state: Path, landing: Path, as_of: str) -> dict[str, Any]:
    "The same by the jobs ingest and features, and a training."
    bundle, stages = load(copied(state)), Stages()
    jobs = all_jobs(bundle)
    with stages.stage("start"):
        cluster = Cluster.start(bundle.state, bundle.root, catalog=bundle.catalog)
    with cluster, History(bundle.state) as history:
        deploy(bundle, cluster)
        lake = Lakehouse(cluster.spark)

        def run(stage: str, job: str, only: tuple[str, ...] = (), **given: str) -> None:
            with stages.stage(stage):
                number, result = Runner(cluster, bundle, jobs, history).run(jobs[job], given, only)
            if result != "SUCCESS":
                raise SystemExit(f"the job {job} ended with {result}: see boathouse logs {number}")

        for stage in ("bronze", "silver", "gold"):
            run(stage, "ingest", (stage,), as_of=as_of, **({"landing": str(landing)} if stage == "bronze" else {}))
        run("features", "features", as_of=as_of)
        rows = tables_of(lake)
        run("training", "training", ("train",), as_of=as_of)
        bare = bare_fit(lake, as_of, stages.costs)
    return {"costs": [asdict(cost) for cost in stages.costs], "rows": rows, "same trees": bare}


def bare_fit(lake: Lakehouse, as_of: str, costs: list[Cost]) -> bool:
    "Fits LightGBM once with the parameters of the version just trained, on its rows; whether it gives the same trees."
    from boathouse.models.learners import fit
    from boathouse.registry.manifest import read_manifest
    from flights.training import load_rows, recipe
    from flights.validation import fitted_of

    os.environ |= state_environment(Path(lake.spark.conf.get("spark.sql.warehouse.dir").removeprefix("file:")).parent)
    from mlflow.tracking import MlflowClient

    model = "spark_catalog.ml.late_arrival"
    manifest = read_manifest(MlflowClient().get_model_version(model, "1").run_id)
    frame = load_rows(lake, {table.name: table.version for table in manifest.tables}, date.fromisoformat(as_of)).frame
    began, busy = time.monotonic(), computed()
    made = fit(recipe(7), frame, manifest.parameters)
    costs.append(Cost("bare fit", time.monotonic() - began, computed() - busy, resident()))
    trees = [pipeline[-1].booster_.model_to_string().partition("parameters:")[0] for pipeline in (made, fitted_of(model, 1)[0])]
    return trees[0] == trees[1]


SIDES: dict[str, Callable[[Path, Path, str], dict[str, Any]]] = {"plain": plain, "ours": ours}


def side(name: str, scratch: Path, landing: Path, as_of: str) -> dict[str, Any]:
    "One side in a process of its own."
    state, found = scratch / name, scratch / f"{name}.json"
    given = {"side": name, "state": state, "landing": landing, "as-of": as_of, "found": found}
    words = [sys.executable, __file__, *[f"--{option}={value}" for option, value in given.items()]]
    subprocess.run(words, check=True)
    return json.loads(found.read_text())


def shown(costs: dict[str, dict[str, Cost]]) -> Table:
    "One row per stage, the two sides beside each other."
    table = Table(box=None)
    for name in ("stage", "plain s", "ours s", "ratio", "plain CPU s", "ours CPU s", "ratio of CPU", "plain MiB", "ours MiB"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    pairs = [(stage, costs["plain"][stage], costs["ours"][stage]) for stage in ("start", "bronze", "silver", "gold", "features")]
    path = [pair for pair in pairs if pair[0] != "start"]
    total = [
        Cost("", *(sum(getattr(pair[n], what) for pair in path) for what in ("wall", "cpu")), max(p[n].memory for p in path))
        for n in (1, 2)
    ]
    training = ("training, beside one fit", costs["ours"]["bare fit"], costs["ours"]["training"])
    for stage, one, two in (*pairs, ("data path", *total), training):
        cells = [one.wall, two.wall, two.wall / one.wall, one.cpu, two.cpu, two.cpu / one.cpu]
        table.add_row(stage, *(f"{value:.1f}" for value in cells), f"{one.memory:,.0f}", f"{two.memory:,.0f}")
    return table


@click.command(help=__doc__)
@click.option("--as-of", default="2014-01-01", help="Files up to this day are taken.")
@click.option("--side", "name", type=click.Choice(list(SIDES)), hidden=True)
@click.option("--state", type=click.Path(path_type=Path), hidden=True)
@click.option("--landing", type=click.Path(path_type=Path), hidden=True)
@click.option("--found", type=click.Path(path_type=Path), hidden=True)
def main(as_of: str, name: str | None, state: Path, landing: Path, found: Path) -> None:
    if name:
        found.write_text(json.dumps(SIDES[name](state, landing, as_of)))
        return
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        replay(scratch / "landing", date.fromisoformat(as_of), dirt=0)
        results = {name: side(name, scratch, scratch / "landing", as_of) for name in SIDES}
    console.print(shown({name: {cost["stage"]: Cost(**cost) for cost in result["costs"]} for name, result in results.items()}))
    differing = [table for table in results["plain"]["rows"] if results["plain"]["rows"][table] != results["ours"]["rows"][table]]
    console.print(
        f"the same rows in {len(COMPARED) - len(differing)} of {len(COMPARED)} tables{': not in ' + ', '.join(differing) if differing else ''}"
    )
    console.print(f"the bare fit gives the champion's trees: {results['ours']['same trees']}")


if __name__ == "__main__":
    main()
