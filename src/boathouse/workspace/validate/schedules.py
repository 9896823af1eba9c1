"""Check schedules and triggers, as the platform does when a job is created."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.workspace.bundle.jobs import Job
from boathouse.workspace.bundle.yaml_tree import Map, where
from boathouse.workspace.errors import Where
from boathouse.workspace.problems import Problem, problem
from boathouse.workspace.validate import cron as quartz

KINDS = ("periodic", "file_arrival", "table_update", "model")
TIMERS = ("min_time_between_triggers_seconds", "wait_after_last_change_seconds")
SHORTEST_TIMER = 60
MOST_TABLES = 10


def problems(job: Job) -> Iterator[Problem]:
    "Yield what is wrong with the schedule or trigger of a job."
    stated = [key for key in ("schedule", "trigger", "continuous", "triggers") if job.source.get(key) is not None]
    if len(stated) > 1:
        message = f"job '{job.key}' has {' and '.join(stated)}; it can have one of them."
        yield problem("two-triggers", message, where(job.source, stated[1], key=True))
    schedule = job.settings.schedule
    if schedule is not None:
        yield from expression_problems(schedule.quartz_cron_expression, where(job.source, "schedule", "quartz_cron_expression"))
        yield from zone_problems(schedule.timezone_id, where(job.source, "schedule", "timezone_id"))
    trigger = job.source.get("trigger")
    if isinstance(trigger, Map):
        yield from _trigger(trigger)


def expression_problems(expression: str, at: Where) -> Iterator[Problem]:
    "Yield why Quartz refuses the expression of a schedule."
    try:
        quartz.check_cron(expression)
    except quartz.NotQuartz as e:
        yield problem("cron", f"'{expression}' is not a Quartz expression: {e}", at)


def zone_problems(zone: str, at: Where) -> Iterator[Problem]:
    "Yield why the time zone of a schedule is none."
    message, hint = quartz.zone_problem(zone)
    if message:
        yield problem("timezone", message, at, hint)


def _trigger(trigger: Map) -> Iterator[Problem]:
    stated = [key for key in KINDS if isinstance(trigger.get(key), Map)]
    if len(stated) > 1:
        message = f"a trigger has one of {', '.join(KINDS)}; this one has {' and '.join(stated)}."
        yield problem("trigger-kind", message, trigger.keys_at[stated[1]])
    elif not stated and trigger.get("sql_condition") is None:
        yield problem("trigger-kind", f"the trigger waits for nothing: give it one of {', '.join(KINDS)}.", trigger.at)
    for key in stated:
        yield from _limits(trigger[key])


def _limits(body: Map) -> Iterator[Problem]:
    interval = _number(body.get("interval"))
    if interval is not None and interval < 1:
        yield problem("trigger-limit", f"the interval is {interval}; 1 is the least.", body.values_at["interval"])
    for key in TIMERS:
        seconds = _number(body.get(key))
        if seconds is not None and seconds < SHORTEST_TIMER:
            yield problem("trigger-limit", f"{key} is {seconds}; {SHORTEST_TIMER} is the least.", body.values_at[key])
    tables = body.get("table_names")
    if isinstance(tables, list) and not 1 <= len(tables) <= MOST_TABLES:
        message = f"a trigger watches 1 to {MOST_TABLES} tables; this one names {len(tables)}."
        yield problem("trigger-limit", message, body.values_at["table_names"])
    if body.get("aliases") and body.get("condition") != "MODEL_ALIAS_SET":
        yield problem("trigger-limit", "'aliases' needs the condition MODEL_ALIAS_SET.", body.keys_at["aliases"])


def _number(value: object) -> int | None:
    "Return a number that the schema accepted, possibly as text; None for a value that exists only in a workspace."
    return int(float(str(value))) if value is not None and "${" not in str(value) else None
