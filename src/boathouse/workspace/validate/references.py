"""Check for `{{...}}` references of a task that can never have a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import Where
from boathouse.workspace.parameters import references
from boathouse.workspace.parameters.arguments import ORDERINGS
from boathouse.workspace.problems import Problem, problem


def problems(job: Job, source: TaskSource) -> Iterator[Problem]:
    "Yield references without a meaning, and operands that cannot be ordered."
    upstream = job.graph.upstream(source.loop or source.key)
    body = source.node if not isinstance(source.node.get("for_each_task"), Map) else without_repeated(source.node)
    for text, at in strings(body):
        for ref in references.find_references(text):
            message, hint = references.reference_problem(
                ref,
                parameters=job.parameters,
                upstream=upstream,
                tasks=job.tasks,
                in_loop=source.loop is not None,
                kinds={key: one.kind for key, one in job.tasks.items() if len(one.kinds) == 1},
                triggers=watched_kinds(job),
            )
            if message:
                yield problem("reference", message, at, hint)
    yield from _operands(source)


def watched_kinds(job: Job) -> list[str]:
    "Return what the job's trigger waits for: `file_arrival`, `table_update`."
    trigger = job.source.get("trigger")
    return [key for key, value in trigger.items() if value is not None] if isinstance(trigger, Map) else []


def _operands(source: TaskSource) -> Iterator[Problem]:
    condition = source.task.condition_task
    if condition is None or condition.op.value not in ORDERINGS:
        return
    for side in ("left", "right"):
        text = getattr(condition, side)
        if not references.find_references(text) and not _is_number(text):
            message = f"'{text}' is not a number, so {condition.op.value} cannot compare it."
            yield problem("condition-operand", message, source.at("condition_task", side))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def without_repeated(node: Map) -> Map:
    "Return a for_each task without the task it repeats, which is checked separately."
    outer = node.like()
    for key in node:
        if key != "for_each_task":
            outer.add_entry(key, node[key], node.keys_at[key], node.values_at[key])
    loop = node["for_each_task"]
    inner = loop.like()
    for key in loop:
        if key != "task":
            inner.add_entry(key, loop[key], loop.keys_at[key], loop.values_at[key])
    outer.add_entry("for_each_task", inner, node.keys_at["for_each_task"], node.values_at["for_each_task"])
    return outer


def strings(node: Any) -> Iterator[tuple[str, Where]]:
    "Yield every string below a node with its place."
    steps = node.items() if isinstance(node, Map) else enumerate(node) if isinstance(node, List) else ()
    for step, child in steps:
        if isinstance(child, str):
            yield child, where(node, step)
        else:
            yield from strings(child)
