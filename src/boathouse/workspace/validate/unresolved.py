"""Check for `${...}` that have a value only in a workspace, where a task or parameter needs the value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from boathouse.workspace.bundle.interpolation import REFERENCE
from boathouse.workspace.bundle.jobs import RUN_HERE, Job, TaskSource
from boathouse.workspace.bundle.yaml_tree import Map, where
from boathouse.workspace.errors import Where
from boathouse.workspace.problems import Problem, problem
from boathouse.workspace.validate.references import strings, without_repeated
from boathouse.workspace.validate.support import TASK_WITHOUT_EFFECT


def problems(job: Job) -> Iterator[Problem]:
    "Yield references of a job that have no value on this machine."
    for i, parameter in enumerate(job.settings.parameters or []):
        yield from _in_text(job, parameter.default, where(job.source, "parameters", i, "default"))
    for source in job.every_task():
        for text, at in strings(_with_effect(source)):
            yield from _in_text(job, text, at)


def _with_effect(source: TaskSource) -> Map:
    "Return the parts of a task that define what runs here; none if the task does not run here."
    node = source.node if not isinstance(source.node.get("for_each_task"), Map) else without_repeated(source.node)
    out = node.like()
    for key in node:
        if key not in TASK_WITHOUT_EFFECT and all(kind in RUN_HERE for kind in source.kinds):
            part = node[key] if key != "alert_task" else _without_warehouse(node[key])
            out.add_entry(key, part, node.keys_at[key], node.values_at[key])
    return out


def _without_warehouse(body: Any) -> Any:
    "Return an alert_task without the id of its warehouse: the run's cluster evaluates the alert."
    if not isinstance(body, Map):
        return body
    out = body.like()
    for key in (key for key in body if key != "warehouse_id"):
        out.add_entry(key, body[key], body.keys_at[key], body.values_at[key])
    return out


def _in_text(job: Job, text: str, at: Where) -> Iterator[Problem]:
    for found in REFERENCE.finditer(text):
        why = job.bundle.unfilled.get(found[0])
        if why:
            hint = "Give the variable a value with --var." if found[0].startswith("${var") else ""
            yield problem("workspace-value", f"{found[0]} has no value on this machine: {why}.", at, hint)
