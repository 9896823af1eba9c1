"""Compute the arguments of a task: its own parameters, the job's on top, and every `{{...}}` replaced."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Collection, Mapping

from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.bundle.sdk import ConditionTask
from boathouse.workspace.bundle.yaml_tree import where
from boathouse.workspace.errors import BundleError, CannotStart, did_you_mean
from boathouse.workspace.parameters import references
from boathouse.workspace.parameters.references import Context

LONGEST_PARAMETERS = 10_000
PASS_A_PATH = "Pass a path instead."
ORDERINGS: dict[str, Callable[[float, float], bool]] = {
    "GREATER_THAN": operator.gt,
    "GREATER_THAN_OR_EQUAL": operator.ge,
    "LESS_THAN": operator.lt,
    "LESS_THAN_OR_EQUAL": operator.le,
}


def run_parameters(job: Job, given: Mapping[str, str]) -> dict[str, str]:
    "Return the values of a run's parameters: the given ones, else the defaults. Raises BundleError for undeclared names and too long values."
    for name in given:
        if name not in job.parameters:
            hint = did_you_mean(name, job.parameters) or (
                f"It declares {', '.join(job.parameters)}." if job.parameters else "It declares none."
            )
            raise BundleError(f"job '{job.key}' declares no parameter '{name}'.", where(job.source, "parameters"), hint)
    values = job.parameters | dict(given)
    if message := size_problem(job, values.items()):
        raise BundleError(message, where(job.source, "parameters"), PASS_A_PATH)
    return values


def size_problem(job: Job, values: Collection[tuple[str, str]]) -> str:
    "Return what is wrong with the size of a job's parameters, of its defaults or of a run; empty text if nothing is."
    # As the platform counts: 29 characters per parameter around its name and value, a comma between two, two brackets.
    size = sum(29 + len(name) + len(json.dumps(value, ensure_ascii=False)) - 2 for name, value in values) + len(values) + 1
    if size <= LONGEST_PARAMETERS:
        return ""
    return f"the parameters of job '{job.key}' take {size} characters as JSON; {LONGEST_PARAMETERS} is the most."


def merge_parameters(own: Mapping[str, str] | None, context: Context, in_loop: bool) -> dict[str, str]:
    "Return the task's own parameters with the job's on top; the body of a for_each gets no job parameters."
    filled = {name: references.render(text, context) for name, text in (own or {}).items()}
    return filled if in_loop else filled | dict(context.parameters)


def argv(source: TaskSource, context: Context) -> tuple[str, ...]:
    "Return the command line of a wheel task or script: `--name=value` for named parameters, the list itself for positional ones."
    body = source.body
    if source.kind == "spark_python_task" or body.parameters is not None:
        return tuple(references.render(text, context) for text in body.parameters or [])
    return tuple(f"--{k}={v}" for k, v in merge_parameters(body.named_parameters, context, source.loop is not None).items())


def widgets(source: TaskSource, context: Context) -> dict[str, str]:
    "Return the widget values of a notebook task."
    return merge_parameters(source.body.base_parameters, context, source.loop is not None)


def child_parameters(source: TaskSource, child: Job, context: Context) -> dict[str, str]:
    "Return the parameters that a run_job_task passes to its job, without those that the other job does not declare."
    return {
        k: v for k, v in merge_parameters(source.body.job_parameters, context, source.loop is not None).items() if k in child.parameters
    }


def is_condition_true(condition: ConditionTask, context: Context) -> bool:
    "Return whether a condition is true: equality compares strings, the orderings compare numbers."
    left, right = _operand(condition.left, context), _operand(condition.right, context)
    op = condition.op.value
    if op in ("EQUAL_TO", "NOT_EQUAL"):
        return (left == right) == (op == "EQUAL_TO")
    return ORDERINGS[op](_number(left), _number(right))


def _operand(text: str, context: Context) -> str:
    for ref in references.find_references(text):
        if isinstance(references.resolve_reference(ref, context), dict | list | None):
            raise CannotStart(f"{ref.text} is neither a string, a number nor a boolean, so it cannot be compared.")
    return references.render(text, context)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as e:
        raise CannotStart(f"'{text}' is not a number, so it cannot be ordered.") from e
