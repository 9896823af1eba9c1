"""Decide what this machine runs of a job, what it accepts without effect, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.workspace.bundle.jobs import RUN_HERE, Job, TaskSource
from boathouse.workspace.bundle.yaml_tree import where
from boathouse.workspace.errors import BundleError
from boathouse.workspace.notebooks.source import SUFFIXES
from boathouse.workspace.packages.artifacts import artifacts_of
from boathouse.workspace.packages.entry_points import is_notebook, task_file
from boathouse.workspace.packages.requirements import NOT_INSTALLED, dependencies_of
from boathouse.workspace.validate.notebooks import notebook_problems

JOB_WITHOUT_EFFECT = {
    "triggers": "`boathouse up` starts a job by one schedule or trigger",
    "job_clusters": "one local cluster runs everything",
    "run_as": "tasks run as you",
    "permissions": "not enforced",
    "performance_target": "one local cluster runs everything",
    "budget_policy_id": "nothing is billed",
    "usage_policy_id": "nothing is billed",
    "duration_target": "not watched",
}
STARTED_BY_UP = ("schedule", "trigger", "continuous")
TASK_WITHOUT_EFFECT = {
    "job_cluster_key": "one local cluster runs everything",
    "existing_cluster_id": "one local cluster runs everything",
    "new_cluster": "one local cluster runs everything",
    "compute": "one local cluster runs everything",
    "disable_auto_optimization": "there is none",
}
QUIET = frozenset({"job_cluster_key", "compute", "disable_auto_optimization"})


def refusals(job: Job) -> Iterator[BundleError]:
    "Yield the parts of the job that would have to run, or to change what runs, and cannot here."
    for key in ("git_source", "environment_variables"):
        if job.source.get(key) is not None:
            yield BundleError(f"'{key}' is not supported on this machine.", where(job.source, key, key=True))
    for source in job.every_task():
        yield from _task_refusals(job, source)
        yield from _library_refusals(job, source)
    for environment in job.source.get("environments") or ():
        for key in ("java_dependencies", "base_environment"):
            if (environment.get("spec") or {}).get(key) is not None:
                yield BundleError(f"'{key}' is not supported on this machine.", where(environment, "spec", key, key=True))


def _task_refusals(job: Job, source: TaskSource) -> Iterator[BundleError]:
    for kind in source.kinds:
        if kind not in RUN_HERE:
            yield BundleError(f"task '{source.key}' is a {kind}, which this machine does not run.", source.at(kind, key=True))
            return
    if source.task.environment_variables_key is not None:
        yield BundleError("'environment_variables_key' is not supported on this machine.", source.at("environment_variables_key", key=True))
    for kind in ("notebook_task", "spark_python_task"):
        body = getattr(source.task, kind)
        if body is not None and body.source is not None and body.source.value == "GIT":
            yield BundleError(f"task '{source.key}' takes its file from Git, which this machine does not do.", source.at(kind, "source"))
    if source.task.notebook_task is not None and source.kinds == ["notebook_task"]:
        file = task_file(job, source)
        if file.is_file() and file.suffix in SUFFIXES and is_notebook(file):
            yield from notebook_problems(file, job.bundle.root)


def _library_refusals(job: Job, source: TaskSource) -> Iterator[BundleError]:
    for i, library in enumerate(source.node.get("libraries") or ()):
        for kind in (k for k in library if k in NOT_INSTALLED):
            yield BundleError(f"a library of type '{kind}' is not installed on this machine.", source.at("libraries", i, kind, key=True))
    try:
        wheels = [one for one in dependencies_of(job, source) if one.kind == "wheel"]
        makers = artifacts_of(job.bundle) if wheels else []
    except BundleError:
        return  # an error of the job, reported once by its own rule
    for one in wheels:
        # A file in a workspace or volume may be put there before the task runs.
        if not one.text.startswith("/") and not one.wheels and not any(a.makes(one.path) for a in makers):
            yield BundleError(f"no wheel matches '{one.path}'.", one.at, "Declare an artifact that builds it, or put the wheel there.")


def notes(job: Job) -> Iterator[BundleError]:
    "Yield what is accepted and has no effect here, or one of its own, each once."
    for key in STARTED_BY_UP:
        if job.source.get(key) is not None:
            yield BundleError(f"'{key}' starts runs on this machine only while `boathouse up` runs.", where(job.source, key, key=True))
    for key, why in JOB_WITHOUT_EFFECT.items():
        if job.source.get(key) is not None:
            yield BundleError(f"'{key}' has no effect on this machine: {why}.", where(job.source, key, key=True))
    reported = set[str]()
    for source in job.every_task():
        for key, why in TASK_WITHOUT_EFFECT.items():
            if source.node.get(key) is not None and key not in reported | QUIET:
                reported.add(key)
                yield BundleError(f"'{key}' of a task has no effect on this machine: {why}.", source.at(key, key=True))
