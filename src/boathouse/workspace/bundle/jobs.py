"""The jobs of a bundle: the dataclasses of the SDK, with the place where each part was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from boathouse.workspace.bundle.interpolation import job_id
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.schema import job_settings
from boathouse.workspace.bundle.sdk import JobSettings, Task
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import BundleError, Where, did_you_mean
from boathouse.workspace.graph.state_machine import Edge, Graph, Node

RUN_HERE = ("notebook_task", "spark_python_task", "python_wheel_task", "run_job_task", "condition_task", "for_each_task", "alert_task")
COMPUTE = ("notebook_task", "spark_python_task", "python_wheel_task")


@dataclass(frozen=True)
class TaskSource:
    "Hold a task with its node in the file; `path` names it below the job (`score`, or `each.score` inside a for_each)."

    task: Task
    node: Map
    loop: str | None = None

    @property
    def key(self) -> str:
        "Return the key of the task."
        return self.task.task_key

    @property
    def kinds(self) -> list[str]:
        "Return the task types that the task has; a valid task has one."
        return [k for k in self.node if k.endswith("_task") and self.node[k] is not None]

    @property
    def kind(self) -> str:
        "Return the type of the task."
        return self.kinds[0]

    @property
    def body(self) -> Any:
        "Return the SDK dataclass of the task's type."
        return getattr(self.task, self.kind)

    def at(self, *path: str | int, key: bool = False) -> Where:
        "Return the place where a part of the task was written."
        return where(self.node, *path, key=key)


@dataclass(frozen=True)
class Job:
    "Hold a job of the bundle. `problems` are its parts that do not fit the schema of the Jobs API."

    key: str
    bundle: Bundle
    source: Map
    settings: JobSettings
    problems: tuple[BundleError, ...] = ()

    @property
    def id(self) -> int:
        "Return the id of the job on this machine."
        return job_id(self.bundle.name, self.key)

    @property
    def name(self) -> str:
        "Return the name of the job."
        return self.settings.name or "Untitled"

    @cached_property
    def parameters(self) -> dict[str, str]:
        "Return the declared parameters with their defaults."
        return {p.name: p.default for p in self.settings.parameters or []}

    @cached_property
    def tasks(self) -> dict[str, TaskSource]:
        "Return the tasks by key, in the order they are written."
        nodes = self.source.get("tasks")
        pairs = zip(self.settings.tasks or [], nodes if isinstance(nodes, List) else [], strict=True)
        return {task.task_key: TaskSource(task, node) for task, node in pairs}

    @cached_property
    def graph(self) -> Graph:
        "Return the tasks as the state machine needs them."
        return Graph({key: node_of(source.task) for key, source in self.tasks.items()})

    def every_task(self) -> Iterator[TaskSource]:
        "Yield all tasks, and after each for_each the task that it repeats."
        for source in self.tasks.values():
            yield source
            inner = repeated_task(source)
            if inner is not None:
                yield inner

    def file(self, at: Where, text: str) -> Path:
        "Return a path of this job as a local path."
        return self.bundle.path(at, text)


def repeated_task(source: TaskSource) -> TaskSource | None:
    "Return the task that a for_each repeats."
    if source.task.for_each_task is None or not isinstance(source.node.get("for_each_task"), Map):
        return None
    node = source.node["for_each_task"].get("task")
    return TaskSource(source.task.for_each_task.task, node, loop=source.key) if isinstance(node, Map) else None


def node_of(task: Task) -> Node:
    "Return a task as the state machine needs it."
    needs = tuple(Edge(d.task_key, d.outcome) for d in task.depends_on or [])
    run_if = task.run_if.value if task.run_if else "ALL_SUCCESS"
    retries = (
        0 if task.condition_task is not None else task.max_retries or 0
    )  # the Databricks service itself computes a condition, so a failed one is not retried
    return Node(task.task_key, needs, run_if, bool(task.disabled), retries, bool(task.retry_on_timeout))


def all_jobs(bundle: Bundle) -> dict[str, Job]:
    "Return every job of the bundle by key."
    jobs = {}
    for key, source in bundle.jobs.items():
        settings, problems = job_settings(source)
        jobs[key] = Job(key, bundle, source, settings, tuple(problems))
    return jobs


def find_job(jobs: dict[str, Job], wanted: str, file: str) -> Job:
    "Return the job of that key."
    if wanted in jobs:
        return jobs[wanted]
    hint = did_you_mean(wanted, jobs) or (f"The jobs are {', '.join(jobs)}." if jobs else "It has no jobs at all.")
    raise BundleError(f"the bundle has no job '{wanted}'.", Where(file), hint)


def job_by_id(jobs: Mapping[str, Job], number: int) -> Job | None:
    "Return the job that a run_job_task names by its job_id."
    return next((j for j in jobs.values() if j.id == number), None)


def reachable_jobs(jobs: Mapping[str, Job], job: Job) -> list[Job]:
    "Return the job and every job that it runs, directly or not."
    found: dict[str, Job] = {}
    todo = [job]
    while todo:
        one = todo.pop(0)
        if one.key not in found:
            found[one.key] = one
            todo.extend(j for j in (job_by_id(jobs, n) for n in called_job_ids(one)) if j is not None)
    return list(found.values())


def called_job_ids(job: Job) -> list[int]:
    "Return the ids of the jobs that the job's tasks run."
    return [s.task.run_job_task.job_id for s in job.every_task() if s.task.run_job_task is not None]
