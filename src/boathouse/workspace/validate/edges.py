"""Check the dependencies of tasks: targets, outcomes of conditions, circles, and branches that join."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.workspace.bundle.jobs import Job
from boathouse.workspace.errors import did_you_mean
from boathouse.workspace.problems import Problem, problem

Branch = frozenset[tuple[str, str]]


def problems(job: Job) -> Iterator[Problem]:
    "Yield what is wrong with single dependencies, and with tasks that join branches."
    for source in job.tasks.values():
        for i, edge in enumerate(source.task.depends_on or []):
            at = source.at("depends_on", i, "task_key")
            if edge.task_key == source.key:
                yield problem("self-dependency", f"task '{source.key}' depends on itself.", at)
            elif edge.task_key not in job.tasks:
                message = f"task '{source.key}' depends on '{edge.task_key}', which is not a task of this job."
                yield problem("dangling-edge", message, at, did_you_mean(edge.task_key, [key for key in job.tasks if key != source.key]))
            elif edge.outcome is not None and job.tasks[edge.task_key].task.condition_task is None:
                at = source.at("depends_on", i, "outcome")
                yield problem("edge-outcome", f"task '{edge.task_key}' is not a condition_task and has no outcome.", at)
            elif edge.outcome not in (None, "true", "false"):
                at = source.at("depends_on", i, "outcome")
                yield problem("edge-outcome", f'the outcome of a condition is "true" or "false", not \'{edge.outcome}\'.', at)
    if circle(job) is None:
        yield from _joins(job)


def circle(job: Job) -> Problem | None:
    "Return a finding about tasks that wait for each other, if there are any."
    keys = job.graph.cycle()
    # A task that depends on itself is an error of that one dependency.
    if not keys or len(keys) == 2:
        return None
    message = f"the tasks of job '{job.key}' wait for each other: {' -> '.join(keys)}."
    return problem("circle", message, job.tasks[keys[0]].at("depends_on"))


def _joins(job: Job) -> Iterator[Problem]:
    branches: dict[str, Branch] = {}
    for key in job.tasks:
        _branch(job, key, branches)
    for source in job.tasks.values():
        edges = [e for e in source.task.depends_on or [] if e.task_key in job.tasks]
        outcomes_by_task = {e.task_key: {f.outcome for f in edges if f.task_key == e.task_key} for e in edges}
        both = [key for key, outcomes in outcomes_by_task.items() if {"true", "false"} <= outcomes]
        if both:
            message = f"task '{source.key}' depends on both outcomes of '{both[0]}', so it never runs."
            yield problem("both-outcomes", message, source.at("depends_on"), "Depend on the tasks of the branches instead.")
        elif len(edges) > 1 and source.task.run_if is None:
            # If the task itself depends on an outcome that is not met, it is excluded: nothing is open then.
            own = frozenset().union(*(_step(e.task_key, e.outcome) for e in edges))
            sides = {branches[e.task_key] | own for e in edges}
            apart = frozenset.union(*sides) - frozenset.intersection(*sides)
            if apart:
                condition = sorted(apart)[0][0]
                message = f"task '{source.key}' joins a branch of the condition '{condition}' with tasks outside it and has no run_if."
                hint = "Write `run_if: NONE_FAILED` to run it whichever branch was taken."
                yield problem("join-without-run-if", message, source.at("depends_on", key=True), hint)


def _branch(job: Job, key: str, known: dict[str, Branch]) -> Branch:
    "Return the outcomes on which a task depends. Where branches join with a `run_if`, only their common outcomes remain."
    if key not in known:
        known[key] = frozenset()
        source = job.tasks[key]
        edges = [e for e in source.task.depends_on or [] if e.task_key in job.tasks]
        sides = [_branch(job, e.task_key, known) | _step(e.task_key, e.outcome) for e in edges]
        if sides:
            meet = frozenset.union if source.task.run_if is None else frozenset.intersection
            known[key] = meet(*sides)
    return known[key]


def _step(key: str, outcome: str | None) -> Branch:
    return frozenset({(key, outcome)}) if outcome is not None else frozenset()
