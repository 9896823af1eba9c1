"""Compare the widgets of a notebook with the parameters of its task, as far as the source is certain."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.workspace.bundle.jobs import Job, TaskSource, job_by_id
from boathouse.workspace.bundle.yaml_tree import Map, where
from boathouse.workspace.parameters import references
from boathouse.workspace.problems import Problem, problem
from boathouse.workspace.validate.code import code_file, relative_name
from boathouse.workspace.validate.references import strings
from boathouse.workspace.validate.widget_calls import calls_of

LONGEST_DEFAULT = 2048


def problems(job: Job, source: TaskSource) -> Iterator[Problem]:
    "Yield widgets of a notebook task that nothing sets, and parameters of it that nothing reads."
    file = code_file(job, source)
    if source.task.notebook_task is None or file is None:
        return
    calls = calls_of(file, job.bundle.root)
    own = source.node["notebook_task"].get("base_parameters")
    own = own if isinstance(own, Map) else Map(source.at())
    given = set(own) | (set(job.parameters) if source.loop is None else set())
    at, name = source.at("notebook_task", "notebook_path"), relative_name(job, file)
    for widget, default in calls.declared.items():
        if widget not in given and default is not None:
            message = f"no parameter sets the widget '{widget}' of {name}, so it is always {default!r}."
            yield problem("widget-not-set", message, at)
        if default is not None and len(default.encode()) > LONGEST_DEFAULT:
            message = f"the default of the widget '{widget}' of {name} has {len(default.encode())} bytes; {LONGEST_DEFAULT} is the most."
            yield problem("widget-default", message, at)
    for widget in sorted(calls.read - given - set(calls.declared)) if calls.complete else ():
        message = f"no parameter sets the widget '{widget}' of {name}, and it is not declared, so reading it fails."
        yield problem("widget-not-set", message, at, "Declare it with dbutils.widgets.text, or pass it in base_parameters.")
    for parameter in own:
        if calls.complete and parameter not in calls.read | set(calls.declared):
            message = f"{name} does not read the parameter '{parameter}'."
            yield problem("parameter-not-read", message, own.keys_at[parameter], f"It would be dbutils.widgets.get({parameter!r}).")


def unread(jobs: dict[str, Job], job: Job) -> Iterator[Problem]:
    "Yield job parameters that no task reads, if the source of all tasks that might read them is fully known."
    named = {
        ref.path[2]
        for text, _ in strings(job.source)
        for ref in references.find_references(text)
        if ref.path[:2] == ("job", "parameters") and len(ref.path) > 2
    }
    for i, parameter in enumerate(job.settings.parameters or []):
        if parameter.name not in named and not any(_may_read(jobs, job, s, parameter.name) for s in job.tasks.values()):
            at = where(job.source, "parameters", i, "name")
            yield problem("job-parameter-not-read", f"no task reads the job parameter '{parameter.name}'.", at)


def _may_read(jobs: dict[str, Job], job: Job, source: TaskSource, name: str) -> bool:
    "Return whether a task that gets the parameter from the job may read it."
    if source.kind in ("spark_python_task", "condition_task", "for_each_task", "alert_task"):
        return False
    if source.kind == "python_wheel_task":
        return source.body.parameters is None
    if source.kind == "run_job_task":
        child = job_by_id(jobs, source.body.job_id)
        return child is None or name in child.parameters
    file = code_file(job, source)
    if source.kind != "notebook_task" or file is None:
        return True
    calls = calls_of(file, job.bundle.root)
    return not calls.complete or name in calls.read | set(calls.declared)
