"""Where a run of a job spends its time: per task the seconds in Spark jobs and between them, jobs, stages, Spark's tasks, and CPU seconds of Python and executors.

python bench/job_profile.py ingest --param as_of=2013-01-02       on a state of its own; of the bundle in this folder
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil
from rich.console import Console
from rich.table import Table

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.cli.display import Display
from boathouse.workspace.cluster.cluster import Cluster, TaskProcess
from boathouse.workspace.history.store import History
from boathouse.workspace.run.deploy import deploy
from boathouse.workspace.run.runner import Runner

ROOT = Path(__file__).parent.parent


@dataclass
class Spent:
    "What one task took; times in seconds."

    name: str
    began: float
    wall: float = 0.0
    python: float = 0.0
    jobs: list[tuple[float, float]] = field(default_factory=list)
    stages: int = 0
    tasks: int = 0
    executors: float = 0.0

    @property
    def in_jobs(self) -> float:
        "The seconds in which at least one of its Spark jobs ran."
        seconds, upto = 0.0, 0.0
        for begin, end in sorted(self.jobs):
            seconds += max(0.0, end - max(begin, upto))
            upto = max(upto, end)
        return seconds


class Watched:
    "Notes the tasks that a cluster launches."

    def __init__(self, cluster: Cluster) -> None:
        self.spent: dict[str, Spent] = {}
        self._launch = cluster.launch
        cluster.launch = self.launch  # type: ignore[method-assign]

    def launch(self, *words: object) -> TaskProcess:
        began = time.monotonic()
        task = self._launch(*words)  # type: ignore[arg-type]
        spent = self.spent[task.id] = Spent(f"{task.spec.context['job_name']}.{task.spec.context['task_key']}", began)
        threading.Thread(target=self._follow, args=(task, spent), daemon=True).start()
        return task

    def _follow(self, task: TaskProcess, spent: Spent) -> None:
        process = psutil.Process(task.pid)
        while task.wait(0.2) is None:
            try:
                times = process.cpu_times()
                spent.python = times.user + times.system + times.children_user + times.children_system
            except psutil.NoSuchProcess:
                break
        task.wait()
        spent.wall = time.monotonic() - spent.began


def add_events(lines: Iterable[str], spent: dict[str, Spent]) -> None:
    "Adds what the event log says of each task's Spark jobs; jobs of no task are left out."
    owner, begun, of_stage = dict[int, str](), dict[int, float](), dict[int, str]()
    for line in lines:
        event = json.loads(line)
        match event["Event"]:
            case "SparkListenerJobStart":
                group = (event.get("Properties") or {}).get("spark.jobGroup.id", "")
                if group in spent:
                    owner[event["Job ID"]], begun[event["Job ID"]] = group, event["Submission Time"] / 1000
                    of_stage |= dict.fromkeys(event["Stage IDs"], group)
            case "SparkListenerJobEnd" if event["Job ID"] in owner:
                spent[owner[event["Job ID"]]].jobs.append((begun[event["Job ID"]], event["Completion Time"] / 1000))
            case "SparkListenerStageCompleted" if event["Stage Info"]["Stage ID"] in of_stage:
                spent[of_stage[event["Stage Info"]["Stage ID"]]].stages += 1
            case "SparkListenerTaskEnd" if event["Stage ID"] in of_stage and event.get("Task Metrics"):
                found = spent[of_stage[event["Stage ID"]]]
                found.tasks += 1
                found.executors += event["Task Metrics"]["Executor CPU Time"] / 1e9


def shown(spent: Iterable[Spent]) -> Table:
    "One row per task of a job, with how often it ran; sums over its runs."
    of: dict[str, list[Spent]] = defaultdict(list)
    for one in spent:
        of[one.name].append(one)
    table = Table(box=None)
    for name in ("task", "runs", "s", "in Spark jobs", "between", "Spark jobs", "stages", "tasks", "CPU s of Python", "CPU s of executors"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for name, runs in sorted(of.items(), key=lambda found: -sum(one.wall for one in found[1])):
        wall, inside = sum(one.wall for one in runs), sum(one.in_jobs for one in runs)
        counts = [sum(len(one.jobs) for one in runs), sum(one.stages for one in runs), sum(one.tasks for one in runs)]
        cpu = [sum(one.python for one in runs), sum(one.executors for one in runs)]
        row = [len(runs), *(f"{value:.1f}" for value in (wall, inside, wall - inside)), *counts, *(f"{value:.1f}" for value in cpu)]
        table.add_row(name, *map(str, row))
    return table


def copied(folder: Path) -> Path:
    "The bundle with its reports in a folder of its own, so that it has a state of its own; its source is this checkout's."
    for name in ("bundles", "notebooks/reports"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("databricks.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "src").symlink_to(ROOT / "src")
    return folder


@click.command(help=__doc__)
@click.argument("job", default="lifecycle")
@click.option("--param", multiple=True, help="A job parameter, as name=value.")
def main(job: str, param: tuple[str, ...]) -> None:
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as folder:
        bundle = load(copied(Path(folder) / "bundle"))
        events = Path(folder) / "events"
        events.mkdir()
        conf = {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": events.as_uri(),
            "spark.eventLog.rolling.enabled": "false",
            "spark.eventLog.compress": "false",
        }
        jobs = all_jobs(bundle)
        with Cluster.start(bundle.state, bundle.root, catalog=bundle.catalog, conf=conf) as cluster, History(bundle.state) as history:
            deploy(bundle, cluster)
            watched = Watched(cluster)
            with Display(console) as display:
                Runner(cluster, bundle, jobs, history, [display]).run(jobs[job], dict(words.split("=", 1) for words in param))
            jvm = psutil.Process(cluster.spark.sparkContext._gateway.proc.pid).cpu_times()
        (log,) = events.iterdir()
        with log.open() as lines:
            add_events(lines, watched.spent)
    console.print(shown(watched.spent.values()))
    console.print(f"{jvm.user + jvm.system:.0f} CPU seconds of the JVM in all, its start included")


if __name__ == "__main__":
    main()
