"""What the platform refuses about a job and its schema cannot see: edges, circles, nested jobs, loops, references."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from boathouse.workspace import references
from boathouse.workspace.errors import BundleError, CannotStart, Where, did_you_mean
from boathouse.workspace.foreach import items_of
from boathouse.workspace.jobs import Job, TaskSource, job_by_id, reachable
from boathouse.workspace.parameters import too_long
from boathouse.workspace.sources import source_problems
from boathouse.workspace.support import notes, refusals
from boathouse.workspace.yamlfile import List, Map, where

PARAMETER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
DEEPEST = 3
LONGEST_INPUTS = 5000


@dataclass(frozen=True)
class Finding:
    "One remark about a job: an `error` is wrong everywhere, `refused` does not run here, a `note` has no effect here."

    level: str
    job: str
    problem: BundleError

    def as_json(self) -> dict[str, Any]:
        "The finding as `validate --json` prints it."
        return {"level": self.level, "job": self.job, **self.problem.as_json()["error"]}


def findings(jobs: dict[str, Job], job: Job) -> list[Finding]:
    "Everything to say about one job, errors first; a job that is not valid by its schema is looked at no further."
    if job.problems:
        return [Finding("error", job.key, p) for p in job.problems]
    errors = list(_errors(jobs, job))
    # One sentence a fault: a reference in a circle of tasks, or to a task that does not exist, is reported where it starts.
    unique = {(str(e.where), e.message): e for e in errors}
    return [
        *(Finding("error", job.key, p) for p in unique.values()),
        *(Finding("refused", job.key, p) for p in refusals(job)),
        *(Finding("note", job.key, p) for p in notes(job)),
    ]


def refuse_unrunnable(jobs: dict[str, Job], job: Job) -> list[Finding]:
    "Raises the first error or refusal of the job and the jobs it runs; otherwise returns the notes about them."
    every = [f for one in reachable(jobs, job) for f in findings(jobs, one)]
    serious = [f for f in every if f.level != "note"]
    if serious:
        first = serious[0].problem
        more = f"(And {len(serious) - 1} more: see `boathouse validate`.)" if len(serious) > 1 else ""
        raise BundleError(first.message, first.where, f"{first.hint} {more}".strip())
    return every


def _errors(jobs: dict[str, Job], job: Job) -> Iterator[BundleError]:
    if not job.tasks:
        yield BundleError(f"job '{job.key}' has no tasks.", job.source.at)
    yield from _parameters(job)
    for source in job.every_task():
        yield from _shape(source)
    yield from _edges(job)
    circle = job.graph.cycle()
    if circle:
        yield BundleError(
            f"the tasks of job '{job.key}' wait for each other: {' -> '.join(circle)}.", job.tasks[circle[0]].at("depends_on")
        )
        return
    yield from _nested_jobs(jobs, job)
    for source in job.every_task():
        if len(source.kinds) == 1:
            yield from source_problems(job, source)
            yield from _loop(source)
            yield from _references(job, source)


def _parameters(job: Job) -> Iterator[BundleError]:
    if message := too_long(job.parameters):
        yield BundleError(message, where(job.source, "parameters"))
    for i, parameter in enumerate(job.settings.parameters or []):
        if not PARAMETER_NAME.fullmatch(parameter.name):
            at = where(job.source, "parameters", i, "name")
            yield BundleError(f"'{parameter.name}' is not a parameter name.", at, "Letters, digits, '_', '-' and '.' are allowed.")
        for ref in references.find(parameter.default):
            message, hint = references.problem(ref, parameters=(), upstream=(), tasks=(), in_loop=False)
            if message or ref.path[0] == "task":
                at = where(job.source, "parameters", i, "default")
                yield BundleError(message or f"{ref.text} has no meaning in a job parameter.", at, hint)


def _shape(source: TaskSource) -> Iterator[BundleError]:
    if len(source.kinds) != 1:
        stated = " and ".join(source.kinds) or "nothing to run"
        yield BundleError(f"task '{source.key}' states {stated}.", source.at(), "A task has exactly one task type.")
    wheel = source.task.python_wheel_task
    if wheel is not None and wheel.parameters and wheel.named_parameters:
        yield BundleError("a wheel task has 'parameters' or 'named_parameters', not both.", source.at("python_wheel_task", "parameters"))
    if source.task.for_each_task is not None and source.task.max_retries:
        yield BundleError("a for_each_task has no retries of its own.", source.at("max_retries"), "Give them to the task it repeats.")
    if source.loop and source.task.for_each_task is not None:
        yield BundleError("a for_each_task cannot repeat another for_each_task.", source.at("for_each_task", key=True))


def _edges(job: Job) -> Iterator[BundleError]:
    for source in job.tasks.values():
        for i, edge in enumerate(source.task.depends_on or []):
            at = source.at("depends_on", i, "task_key")
            if edge.task_key == source.key:
                yield BundleError(f"task '{source.key}' depends on itself.", at)
            elif edge.task_key not in job.tasks:
                message = f"task '{source.key}' depends on '{edge.task_key}', which is not a task of this job."
                yield BundleError(message, at, did_you_mean(edge.task_key, job.tasks))
            elif edge.outcome is not None and job.tasks[edge.task_key].task.condition_task is None:
                at = source.at("depends_on", i, "outcome")
                yield BundleError(f"task '{edge.task_key}' is not a condition_task and has no outcome.", at)
            elif edge.outcome not in (None, "true", "false"):
                at = source.at("depends_on", i, "outcome")
                yield BundleError(f'the outcome of a condition is "true" or "false", not \'{edge.outcome}\'.', at)


def _nested_jobs(jobs: dict[str, Job], job: Job) -> Iterator[BundleError]:
    for source in job.every_task():
        run_job = source.task.run_job_task
        if run_job is None:
            continue
        at = source.at("run_job_task", "job_id")
        child = job_by_id(jobs, run_job.job_id)
        if child is None:
            yield BundleError(f"task '{source.key}' runs job {run_job.job_id}, which is not a job of this bundle.", at)
            continue
        for name in run_job.job_parameters or {}:
            if name not in child.parameters:
                where_name = source.at("run_job_task", "job_parameters", name, key=True)
                yield BundleError(f"job '{child.key}' declares no parameter '{name}'.", where_name, did_you_mean(name, child.parameters))
        circle = _job_circle(jobs, child, (job.key,))
        if circle:
            yield BundleError(f"jobs run each other in a circle: {' -> '.join(circle)}.", at)
        elif 1 + _depth(jobs, child) > DEEPEST:
            yield BundleError(f"job '{job.key}' nests jobs {1 + _depth(jobs, child)} deep; {DEEPEST} is the most.", at)


def _children(jobs: dict[str, Job], job: Job) -> list[Job]:
    return [j for j in reachable(jobs, job) if any(s.task.run_job_task and s.task.run_job_task.job_id == j.id for s in job.every_task())]


def _job_circle(jobs: dict[str, Job], job: Job, above: tuple[str, ...]) -> tuple[str, ...]:
    if job.key in above:
        return (*above[above.index(job.key) :], job.key)
    return next((c for child in _children(jobs, job) if (c := _job_circle(jobs, child, (*above, job.key)))), ())


def _depth(jobs: dict[str, Job], job: Job) -> int:
    return 1 + max((_depth(jobs, child) for child in _children(jobs, job)), default=0)


def _loop(source: TaskSource) -> Iterator[BundleError]:
    loop = source.task.for_each_task
    if loop is None:
        return
    at = source.at("for_each_task", "inputs")
    if loop.concurrency is not None and not 1 <= loop.concurrency <= 100:
        yield BundleError(f"concurrency is {loop.concurrency}; 1 to 100 is allowed.", source.at("for_each_task", "concurrency"))
    if references.find(loop.inputs):
        if references.only(loop.inputs) is None:
            yield BundleError("'inputs' is a JSON array or one reference, not a mixture.", at)
        return
    if len(loop.inputs) > LONGEST_INPUTS:
        yield BundleError(f"'inputs' has {len(loop.inputs)} characters; {LONGEST_INPUTS} is the most.", at, "Pass a task value.")
    try:
        items_of(loop.inputs)
    except CannotStart as e:
        yield BundleError(str(e), at)


def _references(job: Job, source: TaskSource) -> Iterator[BundleError]:
    upstream = job.graph.upstream(source.loop or source.key)
    body = source.node if not isinstance(source.node.get("for_each_task"), Map) else _without_repeated(source.node)
    for text, at in _strings(body):
        for ref in references.find(text):
            message, hint = references.problem(
                ref,
                parameters=job.parameters,
                upstream=upstream,
                tasks=job.tasks,
                in_loop=source.loop is not None,
                kinds=_kinds(job),
                triggers=_triggers(job),
            )
            if message:
                yield BundleError(message, at, hint)


def _kinds(job: Job) -> dict[str, str]:
    return {key: source.kind for key, source in job.tasks.items() if len(source.kinds) == 1}


def _triggers(job: Job) -> list[str]:
    "What the job's trigger waits for: `file_arrival`, `table_update`."
    trigger = job.source.get("trigger")
    return [key for key, value in trigger.items() if value is not None] if isinstance(trigger, Map) else []


def _without_repeated(node: Map) -> Map:
    loop = node["for_each_task"]
    outer = Map(node.at)
    inner = Map(loop.at)
    for key in loop:
        if key != "task":
            inner.put(key, loop[key], loop.keys_at[key], loop.values_at[key])
    outer.put("for_each_task", inner, node.keys_at["for_each_task"], node.values_at["for_each_task"])
    return outer


def _strings(node: Any) -> Iterator[tuple[str, Where]]:
    "Every string below a node with its place."
    steps = node.items() if isinstance(node, Map) else enumerate(node) if isinstance(node, List) else ()
    for step, child in steps:
        if isinstance(child, str):
            yield child, where(node, step)
        else:
            yield from _strings(child)
