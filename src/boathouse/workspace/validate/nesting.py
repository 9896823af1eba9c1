"""Check jobs that run other jobs of the bundle."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.workspace.bundle.jobs import Job, job_by_id, reachable_jobs
from boathouse.workspace.errors import did_you_mean
from boathouse.workspace.problems import Problem, problem

DEEPEST = 3


def problems(jobs: dict[str, Job], job: Job) -> Iterator[Problem]:
    "Yield what is wrong with the run_job_tasks of a job."
    for source in job.every_task():
        run_job = source.task.run_job_task
        if run_job is None:
            continue
        at = source.at("run_job_task", "job_id")
        child = job_by_id(jobs, run_job.job_id)
        if child is None:
            if "${" not in str(source.node["run_job_task"].get("job_id")):
                message = f"task '{source.key}' runs job {run_job.job_id}, which is not a job of this bundle."
                yield problem("other-job", message, at, "Write `${resources.jobs.<key>.id}` for one of its own.")
            continue
        for name in run_job.job_parameters or {}:
            if name not in child.parameters:
                where_name = source.at("run_job_task", "job_parameters", name, key=True)
                message = f"job '{child.key}' declares no parameter '{name}'."
                yield problem("other-job-parameter", message, where_name, did_you_mean(name, child.parameters))
        circle = _circle(jobs, child, (job.key,))
        if circle:
            yield problem("job-circle", f"jobs run each other in a circle: {' -> '.join(circle)}.", at)
        elif (depth := 1 + _depth(jobs, child)) > DEEPEST:
            yield problem("job-depth", f"job '{job.key}' nests jobs {depth} deep; {DEEPEST} is the most.", at)


def _children(jobs: dict[str, Job], job: Job) -> list[Job]:
    return [
        j for j in reachable_jobs(jobs, job) if any(s.task.run_job_task and s.task.run_job_task.job_id == j.id for s in job.every_task())
    ]


def _circle(jobs: dict[str, Job], job: Job, above: tuple[str, ...]) -> tuple[str, ...]:
    if job.key in above:
        return (*above[above.index(job.key) :], job.key)
    return next((c for child in _children(jobs, job) if (c := _circle(jobs, child, (*above, job.key)))), ())


def _depth(jobs: dict[str, Job], job: Job) -> int:
    return 1 + max((_depth(jobs, child) for child in _children(jobs, job)), default=0)
