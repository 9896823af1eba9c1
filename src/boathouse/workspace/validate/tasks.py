"""Check jobs and tasks one by one: types, keys, numbers and lengths, compute."""

from __future__ import annotations

import re
from collections.abc import Iterator

from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import did_you_mean
from boathouse.workspace.problems import Problem, problem

TASK_KEY = re.compile(r"[\w-]{1,100}", re.ASCII)
COMPUTE_KEYS = ("job_cluster_key", "environment_key", "existing_cluster_id", "new_cluster")
CLUSTERS = ("job_cluster_key", "existing_cluster_id", "new_cluster")
NEEDS_COMPUTE = ("spark_python_task", "python_wheel_task")
MOST = {"tasks": 1000, "tags": 25, "environments": 10, "environment_variables": 10}
LONGEST = {"name": 4096, "description": 27700}
OLDEST_RUNTIME = (13, 3)


def of_job(job: Job) -> Iterator[Problem]:
    "Yield what is wrong with a job apart from its tasks."
    if not job.tasks:
        yield problem("no-tasks", f"job '{job.key}' has no tasks.", job.source.at)
    for key, most in MOST.items():
        if len(job.source.get(key) or ()) > most:
            message = f"job '{job.key}' has {len(job.source[key])} {key}; {most} is the most."
            yield problem("job-limit", message, where(job.source, key, key=True))
    for key, most in LONGEST.items():
        if (size := len(str(job.source.get(key) or "").encode())) > most:
            yield problem("job-limit", f"the {key} of job '{job.key}' has {size} bytes; {most} is the most.", where(job.source, key))
    runs, timeout = job.settings.max_concurrent_runs, job.settings.timeout_seconds
    if runs is not None and not 0 <= runs <= 1000:
        yield problem("job-limit", f"max_concurrent_runs is {runs}; 0 to 1000 is allowed.", where(job.source, "max_concurrent_runs"))
    if timeout is not None and timeout < 0:
        yield problem("job-limit", f"timeout_seconds is {timeout}; 0 means without end.", where(job.source, "timeout_seconds"))
    for i, environment in enumerate(job.source.get("environments") or ()):
        spec = environment.get("spec")
        if isinstance(spec, Map) and spec.get("base_environment") and (spec.get("environment_version") or spec.get("client")):
            message = f"environment '{environment.get('environment_key')}' has a base_environment and an environment_version."
            yield problem(
                "environment-base", message, where(job.source, "environments", i, "spec", "base_environment"), "Keep one of them."
            )


def of_task(job: Job, source: TaskSource) -> Iterator[Problem]:
    "Yield what is wrong with a task by itself."
    yield from _shape(source)
    yield from _numbers(source)
    yield from _compute(job, source)
    yield from _old_runtime(job, source)


def _shape(source: TaskSource) -> Iterator[Problem]:
    if not TASK_KEY.fullmatch(source.key):
        hint = "Letters, digits, '_' and '-' are allowed, 100 at most."
        yield problem("task-key", f"'{source.key}' is not a task key.", source.at("task_key"), hint)
    if len(source.kinds) != 1:
        stated = " and ".join(source.kinds) or "nothing to run"
        yield problem("task-type", f"task '{source.key}' states {stated}.", source.at(), "A task has exactly one task type.")
    wheel = source.task.python_wheel_task
    if wheel is not None and wheel.parameters and wheel.named_parameters:
        at = source.at("python_wheel_task", "parameters")
        yield problem("wheel-parameters", "a wheel task has 'parameters' or 'named_parameters', not both.", at)
    if source.task.for_each_task is not None and source.task.max_retries:
        message = "a for_each_task has no retries of its own."
        yield problem("loop-retries", message, source.at("max_retries"), "Give them to the task it repeats.")
    if source.loop and source.task.for_each_task is not None:
        yield problem("loop-in-loop", "a for_each_task cannot repeat another for_each_task.", source.at("for_each_task", key=True))


def _numbers(source: TaskSource) -> Iterator[Problem]:
    task = source.task
    if task.max_retries is not None and task.max_retries < -1:
        message = f"max_retries is {task.max_retries}; -1 means without end."
        yield problem("task-number", message, source.at("max_retries"))
    for key in ("timeout_seconds", "min_retry_interval_millis"):
        value = getattr(task, key)
        if value is not None and value < 0:
            yield problem("task-number", f"{key} is {value}; it cannot be negative.", source.at(key))


def _compute(job: Job, source: TaskSource) -> Iterator[Problem]:
    task = source.task
    clusters = [str(c.get("job_cluster_key")) for c in job.source.get("job_clusters") or ()]
    environments = [str(e.get("environment_key")) for e in job.source.get("environments") or ()]
    if task.job_cluster_key is not None and task.job_cluster_key not in clusters:
        message = f"task '{source.key}' runs on the job cluster '{task.job_cluster_key}', which its job does not declare."
        yield problem("job-cluster-key", message, source.at("job_cluster_key"), did_you_mean(task.job_cluster_key, clusters))
    if task.environment_key is not None and task.environment_key not in environments:
        message = f"task '{source.key}' uses the environment '{task.environment_key}', which its job does not declare."
        yield problem("environment-key", message, source.at("environment_key"), did_you_mean(task.environment_key, environments))
    named = [key for key in CLUSTERS if source.node.get(key) is not None]
    if len(named) > 1:
        message = f"task '{source.key}' names {' and '.join(named)}."
        yield problem("two-clusters", message, source.at(named[1], key=True), "Keep one of them.")
    elif any(kind in NEEDS_COMPUTE for kind in source.kinds) and not any(source.node.get(key) is not None for key in COMPUTE_KEYS):
        message = f"task '{source.key}' names no compute, which the Databricks CLI refuses."
        yield problem("no-compute", message, source.at(), f"Give it one of {', '.join(COMPUTE_KEYS)}.")


def _old_runtime(job: Job, source: TaskSource) -> Iterator[Problem]:
    libraries = source.node.get("libraries")
    local = [x for x in libraries if isinstance(x, Map) and is_local(str(x.get("whl") or "/"))] if isinstance(libraries, List) else []
    experimental = job.bundle.data.get("experimental")
    if source.task.python_wheel_task is None or not local or (isinstance(experimental, Map) and experimental.get("python_wheel_wrapper")):
        return
    cluster = source.node.get("new_cluster")
    for shared in job.source.get("job_clusters") or ():
        if shared.get("job_cluster_key") == source.task.job_cluster_key:
            cluster = shared.get("new_cluster")
    version = str(cluster.get("spark_version") or "") if isinstance(cluster, Map) else ""
    found = re.match(r"(\d+)\.(\d+)\.", version)
    if found and isinstance(cluster, Map) and (int(found[1]), int(found[2])) < OLDEST_RUNTIME:
        message = f"task '{source.key}' takes a wheel built here to Databricks runtime {found[1]}.{found[2]}; 13.3 is the oldest that installs it."
        yield problem("old-runtime", message, cluster.values_at["spark_version"])


def is_local(path: str) -> bool:
    "Return whether a path names a file of the bundle, and not one in a workspace, a volume or a cloud store."
    return not path.startswith("/") and not re.match(r"[a-z][a-z0-9+]*:", path)
