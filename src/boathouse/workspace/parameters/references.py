"""`{{...}}` references, which the Jobs service replaces when a task starts. This is text substitution without expressions.

Braces without a well-formed path stay as they are, without a message, as on the platform. A name that needs more than
letters, digits and underscores is quoted with backticks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from boathouse.workspace.errors import CannotStart, did_you_mean
from boathouse.workspace.parameters.json_text import to_text

_NAME = r"(?:[A-Za-z_0-9]+|`[^`{}]+`)"
REFERENCE = re.compile(rf"\{{\{{\s*({_NAME}(?:\.{_NAME})*)\s*\}}\}}")
TIMES: dict[str, Callable[[datetime], str]] = {
    "iso_weekday": lambda t: str(t.isoweekday()),
    "is_weekday": lambda t: str(t.isoweekday() < 6).lower(),
    "iso_date": lambda t: t.date().isoformat(),
    "iso_datetime": lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.%f"),
    "year": lambda t: str(t.year),
    "month": lambda t: str(t.month),
    "day": lambda t: str(t.day),
    "hour": lambda t: str(t.hour),
    "minute": lambda t: str(t.minute),
    "second": lambda t: str(t.second),
    "timestamp_ms": lambda t: str(int(t.timestamp() * 1000)),
}
DEPRECATED = {
    "job_id": ("job", "id"),
    "run_id": ("task", "run_id"),
    "parent_run_id": ("job", "run_id"),
    "start_date": ("job", "start_time", "iso_date"),
    "start_time": ("job", "start_time", "timestamp_ms"),
    "task_key": ("task", "name"),
    "task_retry_count": ("task", "retry_count"),
}
SPACES = {
    "job": ("id", "name", "run_id", "repair_count", "start_time", "parameters", "trigger"),
    "task": ("name", "run_id", "execution_count", "notebook_path"),
    "tasks": (),
    "input": (),
    "workspace": ("id", "url"),
    "backfill": (),
}
OF_A_TASK = ("run_id", "result_state", "error_code", "values", "output")
OF_AN_OUTPUT = ("rows", "first_row", "alert_state")
WITH_OUTPUT = ("sql_task", "alert_task", "dashboard_task")
# The values that a trigger provides, and the trigger that a job needs for them.
OF_A_TRIGGER = {"type": "", "time": "", "file_arrival": "file arrival", "table_update": "table update"}


@dataclass(frozen=True)
class Reference:
    "Hold one reference: its text with the braces, and the names between the dots."

    text: str
    path: tuple[str, ...]

    @property
    def task(self) -> str | None:
        "Return the task whose result the reference reads, if any."
        return self.path[1] if self.path[0] == "tasks" and len(self.path) > 1 else None


@dataclass(frozen=True)
class Upstream:
    "Hold the results of a settled task for the tasks after it; `outcome` is that of a condition, or the state of an alert."

    run_id: int = 0
    result_state: str = "success"
    values: Mapping[str, Any] = field(default_factory=dict)
    error_code: str = ""
    outcome: str | None = None


@dataclass(frozen=True)
class TriggerFacts:
    """Hold what started a run, for `{{job.trigger...}}`: the type, the planned time, the location of the files, and the tables.

    `tables` maps the watched tables to version and time of their last commit; `updated` names those that were updated.
    """

    type: str = "one_time"
    time: datetime | None = None
    location: str | None = None
    updated: tuple[str, ...] = ()
    tables: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    "Hold everything that a reference can read when a task starts."

    job_id: int
    job_name: str
    run_id: int
    started: datetime
    parameters: Mapping[str, str]
    task: str = ""
    task_run_id: int = 0
    execution: int = 1
    notebook_path: str = ""
    tasks: Mapping[str, Upstream] = field(default_factory=dict)
    repair_count: int = 0
    input: Any = None
    trigger: TriggerFacts = TriggerFacts()


def find_references(text: str) -> list[Reference]:
    "Return the well-formed references of a text, in order."
    return [_reference(m) for m in REFERENCE.finditer(text)]


def single_reference(text: str) -> Reference | None:
    "Return the reference if the text is one reference and nothing else."
    match = REFERENCE.fullmatch(text.strip())
    return _reference(match) if match else None


def _reference(match: re.Match[str]) -> Reference:
    path = tuple(part.strip("`") for part in re.findall(_NAME, match[1]))
    return Reference(match[0], DEPRECATED.get(path[0], path) if len(path) == 1 else path)


def reference_problem(
    ref: Reference,
    *,
    parameters: Iterable[str],
    upstream: Iterable[str],
    tasks: Iterable[str],
    in_loop: bool,
    kinds: Mapping[str, str] | None = None,
    triggers: Iterable[str] = (),
) -> tuple[str, str]:
    """Return why the reference can never have a value, and a hint; empty texts if it may. Unknown namespaces are plain text.

    `kinds` are the types of the job's tasks by key. `triggers` names what the job's trigger waits for.
    """
    space, rest = ref.path[0], ref.path[1:]
    if space not in SPACES:
        near = did_you_mean(space, SPACES)
        return (f"{ref.text} names nothing.", near) if near and len(rest) else ("", "")
    if space == "tasks":
        return _task_problem(ref, list(upstream), list(tasks), kinds or {})
    if space == "input":
        return _input_problem(ref, in_loop)
    if space == "backfill":
        return (
            _time_problem(ref, rest)
            if rest not in {(t,) for t in TIMES}
            else (f"{ref.text} needs a backfill run.", "This machine runs none.")
        )
    if ref.path == DEPRECATED["task_retry_count"] and "." not in ref.text:
        return "", ""
    if not rest or rest[0] not in SPACES[space]:
        return f"{ref.text} names nothing.", did_you_mean(rest[0], SPACES[space]) if rest else f"Known: {', '.join(SPACES[space])}."
    if rest[0] == "trigger":
        return _trigger_problem(ref, rest[1:], list(triggers))
    return _field_problem(ref, list(parameters))


def _task_problem(ref: Reference, upstream: list[str], tasks: list[str], kinds: Mapping[str, str]) -> tuple[str, str]:
    rest = ref.path[1:]
    if not rest or rest[0] not in tasks:
        return f"{ref.text}: the job has no such task.", did_you_mean(rest[0], tasks) if rest else ""
    if rest[0] not in upstream:
        return f"{ref.text}: the task '{rest[0]}' is not upstream of this one.", "Add it to depends_on."
    if len(rest) < 2 or rest[1] not in OF_A_TASK:
        return f"{ref.text} names nothing.", did_you_mean(rest[1], OF_A_TASK) if len(rest) > 1 else ""
    if rest[1] == "output":
        return _output_problem(ref, kinds.get(rest[0], ""))
    if len(rest) != (3 if rest[1] == "values" else 2):
        return f"{ref.text} names nothing.", "Write {{tasks.<task>.values.<key>}}." if rest[1] == "values" else ""
    return "", ""


def _output_problem(ref: Reference, kind: str) -> tuple[str, str]:
    if kind and kind not in WITH_OUTPUT:
        return f"{ref.text}: a {kind} has no output that can be referenced.", "Set a task value, and name that."
    rest = ref.path[3:]
    if not rest or rest[0] not in OF_AN_OUTPUT:
        return f"{ref.text} names nothing.", (did_you_mean(rest[0], OF_AN_OUTPUT) if rest else "") or f"Known: {', '.join(OF_AN_OUTPUT)}."
    if kind == "alert_task" and rest == ("alert_state",):
        return "", ""
    return f"{ref.text}: the output of SQL tasks does not exist on this machine.", ""


def _input_problem(ref: Reference, in_loop: bool) -> tuple[str, str]:
    if not in_loop:
        return f"{ref.text} has a meaning only inside a for_each_task.", ""
    if len(ref.path) > 2:
        return f"{ref.text} reaches into a key of the item.", f"Only the item's own keys can be named: {{{{input.{ref.path[1]}}}}}."
    return "", ""


def _trigger_problem(ref: Reference, rest: tuple[str, ...], triggers: list[str]) -> tuple[str, str]:
    name = rest[0] if rest else ""
    if name not in OF_A_TRIGGER:
        return f"{ref.text} names nothing.", did_you_mean(name, OF_A_TRIGGER) or f"Known: {', '.join(OF_A_TRIGGER)}."
    if name == "time":
        return _time_problem(ref, rest[1:])
    if name == "type":
        return (f"{ref.text} names nothing.", "") if rest[1:] else ("", "")
    if not _told_by_trigger(rest):
        known = "location" if name == "file_arrival" else "updated_tables, <table>.version, <table>.commit_timestamp.<part of time>"
        return f"{ref.text} names nothing.", f"Known: {known}."
    if name not in triggers:
        return f"{ref.text} needs a {OF_A_TRIGGER[name]} trigger, which the job does not have.", ""
    return "", ""


def _told_by_trigger(rest: tuple[str, ...]) -> bool:
    "Return whether a file arrival or table update provides the value; the name of a table may have dots."
    if rest in (("file_arrival", "location"), ("table_update", "updated_tables")):
        return True
    of_table = rest[0] == "table_update" and len(rest) > 2
    return of_table and (rest[-1] == "version" or (rest[-2] == "commit_timestamp" and rest[-1] in TIMES))


def _field_problem(ref: Reference, parameters: list[str]) -> tuple[str, str]:
    space, name, rest = ref.path[0], ref.path[1], ref.path[2:]
    if name == "parameters":
        if len(rest) == 1 and rest[0] in parameters:
            return "", ""
        missing = ".".join(rest)
        if missing in parameters:
            return f"{ref.text} names nothing.", f"Quote the name: {{{{job.parameters.`{missing}`}}}}."
        return f"{ref.text}: the job declares no parameter '{missing}'.", did_you_mean(missing, parameters)
    if space == "job" and name == "start_time":
        return _time_problem(ref, rest)
    return (f"{ref.text} names nothing.", "") if rest else ("", "")


def _time_problem(ref: Reference, rest: tuple[str, ...]) -> tuple[str, str]:
    if len(rest) == 1 and rest[0] in TIMES:
        return "", ""
    return f"{ref.text} names nothing.", (did_you_mean(rest[0], TIMES) if rest else "") or f"Known: {', '.join(TIMES)}."


def render(text: str, context: Context) -> str:
    "Return the text with every reference replaced by its value as text."
    return REFERENCE.sub(lambda m: to_text(resolve_reference(_reference(m), context)), text)


def resolve_reference(ref: Reference, context: Context) -> Any:
    "Return the present value of the reference; a reference into an unknown namespace returns its own text."
    space, rest = ref.path[0], ref.path[1:]
    if space == "tasks":
        return _of_task(ref, context)
    if space == "input":
        return _of_input(ref, context.input)
    if space == "job" and rest[0] == "parameters":
        return context.parameters[rest[1]]
    if space == "job" and rest[0] == "start_time":
        return TIMES[rest[1]](context.started)
    if space == "job" and rest[0] == "trigger":
        return _of_trigger(ref, context)
    if space == "workspace":
        return {"id": "0", "url": "http://localhost"}[rest[0]]
    if space not in SPACES:
        return ref.text
    fields: dict[tuple[str, str], Any] = {
        ("job", "id"): context.job_id,
        ("job", "name"): context.job_name,
        ("job", "run_id"): context.run_id,
        ("job", "repair_count"): context.repair_count,
        ("task", "name"): context.task,
        ("task", "run_id"): context.task_run_id,
        ("task", "execution_count"): context.execution,
        ("task", "retry_count"): context.execution - 1,
        ("task", "notebook_path"): context.notebook_path,
    }
    return fields[space, rest[0]]


def _of_trigger(ref: Reference, context: Context) -> Any:
    trigger, (name, *rest) = context.trigger, ref.path[2:]
    if name == "type":
        return trigger.type
    if name == "time":
        return TIMES[rest[0]](trigger.time or context.started)
    if name == "file_arrival" and trigger.location is not None:
        return trigger.location
    if rest == ["updated_tables"] and trigger.tables:
        return list(trigger.updated)
    table = ".".join(rest[:-1] if rest[-1] == "version" else rest[:-2])
    if name == "table_update" and table in trigger.tables:
        version, time = trigger.tables[table]
        return version if rest[-1] == "version" else TIMES[rest[-1]](time)
    missing = f"did not watch a table '{table}' that exists" if trigger.tables else f"was not a {OF_A_TRIGGER[name]} trigger"
    raise CannotStart(f"{ref.text} has no value in this run: what started it {missing}.")


def _of_task(ref: Reference, context: Context) -> Any:
    _, key, field_name, *rest = ref.path
    upstream = context.tasks.get(key)
    if field_name == "values":
        if upstream is None or rest[0] not in upstream.values:
            raise CannotStart(f"Task value referenced by '{ref.text}' was not found.")
        return upstream.values[rest[0]]
    if upstream is None:
        raise CannotStart(f"The task referenced by '{ref.text}' did not run.")
    if field_name == "output":
        if upstream.outcome is None:
            raise CannotStart(f"The task referenced by '{ref.text}' has no state of an alert.")
        return upstream.outcome
    return {"run_id": upstream.run_id, "result_state": upstream.result_state, "error_code": upstream.error_code}[field_name]


def _of_input(ref: Reference, item: Any) -> Any:
    if len(ref.path) == 1:
        return item
    if not isinstance(item, dict) or ref.path[1] not in item:
        raise CannotStart(f"{ref.text}: the input {to_text(item)} has no key '{ref.path[1]}'.")
    return item[ref.path[1]]


def utc_now() -> datetime:
    "Return the present time in UTC, at which a run starts."
    return datetime.now(UTC)
