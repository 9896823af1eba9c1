"""Check for_each_task: its inputs, its concurrency, and what its body must not do."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.errors import CannotStart
from boathouse.workspace.parameters import references
from boathouse.workspace.parameters.for_each import items_of
from boathouse.workspace.problems import Problem, problem
from boathouse.workspace.validate.code import code_file
from boathouse.workspace.validate.widget_calls import calls_of

LONGEST_INPUTS = 5000


def problems(job: Job, source: TaskSource) -> Iterator[Problem]:
    "Yield what is wrong with a for_each_task, or with the body of one."
    if source.loop is not None:
        file = code_file(job, source)
        if file is not None and calls_of(file, job.bundle.root).sets_task_values:
            message = f"task '{source.key}' sets task values in a for_each_task, where there are none."
            yield problem("loop-task-values", message, source.at(source.kind, key=True), "Write to a table instead.")
    loop = source.task.for_each_task
    if loop is None:
        return
    if loop.concurrency is not None and not 1 <= loop.concurrency <= 100:
        at = source.at("for_each_task", "concurrency")
        yield problem("loop-concurrency", f"concurrency is {loop.concurrency}; 1 to 100 is allowed.", at)
    yield from _inputs(source, loop.inputs)


def _inputs(source: TaskSource, inputs: str) -> Iterator[Problem]:
    at = source.at("for_each_task", "inputs")
    if references.find_references(inputs):
        if references.single_reference(inputs) is None:
            yield problem("loop-inputs", "'inputs' is a JSON array or one reference, not a mixture.", at)
        return
    if len(inputs) > LONGEST_INPUTS:
        message = f"'inputs' has {len(inputs)} characters; {LONGEST_INPUTS} is the most."
        yield problem("loop-inputs", message, at, "Pass a task value.")
    try:
        items_of(inputs)
    except CannotStart as e:
        yield problem("loop-inputs", str(e), at)
