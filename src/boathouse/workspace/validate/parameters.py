"""Check the parameters of a job: names, sizes, defaults, and tasks' own parameters that they replace."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from boathouse.workspace.bundle.jobs import Job, TaskSource, job_by_id
from boathouse.workspace.bundle.yaml_tree import Map, where
from boathouse.workspace.parameters import references
from boathouse.workspace.parameters.arguments import PASS_A_PATH, size_problem
from boathouse.workspace.problems import Problem, problem
from boathouse.workspace.validate.references import watched_kinds

NAME = re.compile(r"[A-Za-z0-9_.-]+")
# Per task type, the parameters of a task that those of its job replace.
OWN = {
    "notebook_task": "base_parameters",
    "python_wheel_task": "named_parameters",
    "sql_task": "parameters",
    "run_job_task": "job_parameters",
}


def declared_problems(job: Job) -> Iterator[Problem]:
    "Yield what is wrong with the parameters that a job declares."
    every = job.settings.parameters or []
    if message := size_problem(job, [(p.name, p.default) for p in every]):
        yield problem("parameter-size", message, where(job.source, "parameters", key=True), PASS_A_PATH)
    for i, parameter in enumerate(every):
        if not NAME.fullmatch(parameter.name):
            at = where(job.source, "parameters", i, "name")
            hint = "Letters, digits, '_', '-' and '.' are allowed."
            yield problem("parameter-name", f"'{parameter.name}' is not a parameter name.", at, hint)
        for ref in references.find_references(parameter.default):
            message, hint = references.reference_problem(
                ref, parameters=(), upstream=(), tasks=(), in_loop=False, triggers=watched_kinds(job)
            )
            if message or ref.path[0] == "task":
                at = where(job.source, "parameters", i, "default")
                yield problem("parameter-default", message or f"{ref.text} has no meaning in a job parameter.", at, hint)


def shadowed_parameters(jobs: dict[str, Job], job: Job, source: TaskSource) -> Iterator[Problem]:
    "Yield the parameters of a task that a job parameter of the same name replaces."
    key = OWN.get(source.kind)
    own = source.node[source.kind].get(key) if key and isinstance(source.node[source.kind], Map) else None
    # The body of a for_each gets no job parameters.
    if not isinstance(own, Map) or source.loop is not None:
        return
    child = job_by_id(jobs, source.body.job_id) if source.kind == "run_job_task" else None
    for name, value in own.items():
        ref = references.single_reference(str(value))
        same = ref is not None and ref.path == ("job", "parameters", name)
        if name in job.parameters and not same and (child is None or name in child.parameters):
            message = f"the job's parameter '{name}' replaces this one of task '{source.key}', so {json.dumps(value)} is never used."
            yield problem("parameter-shadowed", message, own.keys_at[name], "Rename one of them, or remove this one.")
