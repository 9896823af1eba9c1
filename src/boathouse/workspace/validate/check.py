"""Collect all findings about a bundle and its jobs, and those that prevent a job from running."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from boathouse.workspace.bundle.jobs import Job, reachable_jobs
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.errors import BundleError
from boathouse.workspace.problems import LEVELS, RULES, Problem
from boathouse.workspace.validate import (
    alert_tasks,
    alerts,
    code,
    edges,
    endpoints,
    nesting,
    parameters,
    references,
    schedules,
    schemas,
    tasks,
    widgets,
)
from boathouse.workspace.validate import bundle as whole
from boathouse.workspace.validate import for_each as loops
from boathouse.workspace.validate import notifications as notified
from boathouse.workspace.validate import unresolved as elsewhere
from boathouse.workspace.validate.support import notes, refusals

OF_BUNDLE = (whole, schemas, endpoints, notified)
PREVENTING = ("shared-schema", "notification-settings")  # refusals for the bundle as a whole that prevent every run


@dataclass(frozen=True)
class Finding:
    "Hold one finding about a job, or about the bundle if `job` is empty."

    level: str
    job: str
    problem: BundleError
    rule: str = "bundle"

    def as_json(self) -> dict[str, Any]:
        "Return the finding as `validate --json` prints it."
        why = RULES[self.rule].why
        return {"level": self.level, "rule": self.rule, "job": self.job or None, **self.problem.as_json()["error"], "why": why or None}


def findings(jobs: dict[str, Job], job: Job) -> list[Finding]:
    "Return all findings about one job, errors first; a job that does not fit its schema is not checked further."
    if job.problems:
        return _in_order(job.key, [*(Problem("schema", p) for p in job.problems), *whole.of_job(job)])
    refused = [Problem("not-run-here", e) for e in refusals(job)]
    noted = [Problem("no-effect", e) for e in notes(job)]
    return _in_order(job.key, [*_problems(jobs, job), *refused, *elsewhere.problems(job), *noted])


def bundle_findings(bundle: Bundle) -> list[Finding]:
    "Return all findings about the bundle apart from its jobs."
    return _in_order("", [found for part in (*OF_BUNDLE, alerts) for found in part.problems(bundle)])


def _in_order(job: str, problems: list[Problem]) -> list[Finding]:
    # One finding per fault: a reference in a circle of tasks, or to a task that does not exist, is reported where it starts.
    unique = {(str(p.error.where), p.error.message): p for p in problems}
    ordered = sorted(unique.values(), key=lambda p: LEVELS.index(p.level))
    return [Finding(p.level, job, p.error, p.rule) for p in ordered]


def refuse_unrunnable(jobs: dict[str, Job], job: Job) -> list[Finding]:
    """Raise the first error or refusal of the bundle's own parts, the job and the jobs it runs; otherwise return the notes about them.

    A bundle with an error outside its jobs and alerts is not deployed. An error in an alert or a job that is not part of this run
    is left to `validate`, because it may be another person's unfinished work. A refusal for the bundle as a whole does not prevent a job that can run here.
    The exceptions are a schema in two catalogs, because a run would mix their tables, and settings of notifications that cannot be read.
    """
    every = [f for one in reachable_jobs(jobs, job) for f in findings(jobs, one)]
    named = {key: None for one in reachable_jobs(jobs, job) for key in alert_tasks.evaluated_alerts(one)}
    declared = job.bundle.resources("alerts")
    of_alerts = [found for key in named for found in alerts.of_alert(job.bundle, key, declared[key])]
    _refuse_serious(job.bundle, [*every, *_in_order("", of_alerts)])
    return [f for f in every if f.level == "note"]


def refuse_unevaluable(bundle: Bundle, key: str) -> None:
    "Raise the first error or refusal of the bundle's own parts, and of one alert."
    alert = bundle.resources("alerts")[key]
    _refuse_serious(bundle, _in_order("", list(alerts.of_alert(bundle, key, alert))))


def _refuse_serious(bundle: Bundle, found: list[Finding]) -> None:
    own = _in_order("", [problem for part in OF_BUNDLE for problem in part.problems(bundle)])
    serious = [f for f in own if f.level == "error" or f.rule in PREVENTING] + [f for f in found if f.level in ("error", "refused")]
    if serious:
        first = serious[0].problem
        more = f"(And {len(serious) - 1} more: see `boathouse validate`.)" if len(serious) > 1 else ""
        raise BundleError(first.message, first.where, f"{first.hint} {more}".strip())


def _problems(jobs: dict[str, Job], job: Job) -> Iterator[Problem]:
    yield from whole.of_job(job)
    yield from tasks.of_job(job)
    yield from parameters.declared_problems(job)
    yield from schedules.problems(job)
    yield from schemas.of_job(job)
    yield from notified.of_job(job)
    yield from alert_tasks.problems(job)
    for source in job.every_task():
        yield from tasks.of_task(job, source)
    yield from edges.problems(job)
    circle = edges.circle(job)
    if circle:
        # In a circle no task is upstream of another, so references are not checked.
        yield circle
        return
    yield from nesting.problems(jobs, job)
    for source in job.every_task():
        if len(source.kinds) == 1:
            yield from code.problems(job, source)
            yield from loops.problems(job, source)
            yield from references.problems(job, source)
            yield from parameters.shadowed_parameters(jobs, job, source)
            yield from widgets.problems(job, source)
    yield from widgets.unread(jobs, job)
