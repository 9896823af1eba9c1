"Read what starts the jobs and alerts of a bundle: a schedule, trigger or continuous setting; and sort them into armed, paused and refused."

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from boathouse.workspace.bundle.jobs import Job
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.yaml_tree import Map, where
from boathouse.workspace.durations import SECONDS
from boathouse.workspace.errors import BundleError
from boathouse.workspace.history.trigger_starts import alert_name
from boathouse.workspace.triggers.quartz import QuartzSchedule
from boathouse.workspace.validate.check import refuse_unevaluable, refuse_unrunnable
from boathouse.workspace.validate.schedules import expression_problems, zone_problems

SETTINGS = ("schedule", "trigger", "continuous", "triggers")
UNITS = ("WEEKS", "DAYS", "HOURS", "MINUTES")


@dataclass(frozen=True)
class JobTrigger:
    """Describe what starts a job. `kind` is cron, periodic, file_arrival, table_update, model or continuous; the other fields belong to one of them.

    `interval`, `min_time` and `wait` are seconds.
    """

    kind: str
    expression: str = ""
    zone: str = ""
    interval: int = 0
    url: str = ""
    tables: tuple[str, ...] = ()
    every_table: bool = False
    condition: str = ""
    securable: str = ""
    aliases: tuple[str, ...] = ()
    min_time: int = 0
    wait: int = 0

    @cached_property
    def quartz(self) -> QuartzSchedule:
        "Return the schedule of a cron trigger."
        return QuartzSchedule.parse(self.expression, self.zone)

    @property
    def type(self) -> str:
        "Return the TriggerType of the Jobs API for its runs."
        return {"cron": "PERIODIC", "table_update": "TABLE"}.get(self.kind, self.kind.upper())

    def __str__(self) -> str:
        unit, number = next((u, self.interval // s) for u in UNITS if self.interval % (s := _seconds(u)) == 0)
        return {
            "cron": f"at '{self.expression}' in {self.zone}",
            "periodic": f"every {number} {unit.lower()}",
            "file_arrival": f"when files arrive in {self.url}",
            "table_update": f"when {'each' if self.every_table else 'one'} of {', '.join(self.tables)} is updated",
            "model": f"on {self.condition} of {self.securable or 'any model'}" + (f" ({', '.join(self.aliases)})" if self.aliases else ""),
            "continuous": "all the time",
        }[self.kind]


@dataclass(frozen=True)
class TriggeredJobs:
    """Hold the jobs and alerts of a bundle that have a schedule or trigger: those that are armed, those that are paused, and the errors of the others.

    A job is named by its key, and an alert by its `alert_name`.
    """

    armed: Mapping[str, JobTrigger] = field(default_factory=dict)
    paused: tuple[str, ...] = ()
    refused: Mapping[str, BundleError] = field(default_factory=dict)


def read_triggers(bundle: Bundle, jobs: dict[str, Job], *, unpause: bool = False, standing: bool = False) -> TriggeredJobs:
    """Return the jobs and alerts that `boathouse up` starts, leaves paused, or refuses.

    With `unpause`, paused ones are armed too. With `standing`, the clock stands still during a run, so continuous jobs are refused.
    """
    armed, paused, refused = dict[str, JobTrigger](), list[str](), dict[str, BundleError]()
    for job in jobs.values():
        setting = next((key for key in SETTINGS if job.source.get(key) is not None), None)
        if setting is None:
            continue
        body = job.source[setting]
        if isinstance(body, Map) and body.get("pause_status") == "PAUSED" and not unpause:
            paused.append(job.key)
            continue
        try:
            refuse_unrunnable(jobs, job)
            armed[job.key] = trigger_of(job, setting)
            if standing and setting == "continuous":
                at = where(job.source, setting, key=True)
                raise BundleError(f"job '{job.key}' always runs, so a clock of --speed max would never move.", at, "Give another --speed.")
        except BundleError as e:
            armed.pop(job.key, None)
            refused[job.key] = e
    for key, alert in bundle.resources("alerts").items():
        name, schedule = alert_name(key), alert.get("schedule")
        if isinstance(schedule, Map) and schedule.get("pause_status") == "PAUSED" and not unpause:
            paused.append(name)
            continue
        try:
            refuse_unevaluable(bundle, key)
            armed[name] = _schedule_of(key, alert)
        except BundleError as e:
            refused[name] = e
    return TriggeredJobs(armed, tuple(paused), refused)


def _schedule_of(key: str, alert: Map) -> JobTrigger:
    "Return the schedule of an alert. Raises BundleError without one, or with a value that only a workspace knows."
    schedule = alert.get("schedule")
    if not isinstance(schedule, Map):
        raise BundleError(f"alert '{key}' has no schedule.", alert.at, f"`boathouse alerts run {key}` evaluates it.")
    expression, zone = str(schedule.get("quartz_cron_schedule")), str(schedule.get("timezone_id"))
    found = [
        *expression_problems(expression, where(schedule, "quartz_cron_schedule")),
        *zone_problems(zone, where(schedule, "timezone_id")),
    ]
    if found:
        raise found[0].error
    return JobTrigger("cron", expression, zone)


def trigger_of(job: Job, setting: str) -> JobTrigger:
    "Return what a setting of a valid job says. Raises BundleError for what this machine cannot watch."
    body = job.source[setting]
    for at, condition in ((body, "sql_condition"), (job.source, "triggers")):
        if isinstance(at, Map) and at.get(condition) is not None:
            raise BundleError(f"'{condition}' is not supported on this machine.", where(at, condition, key=True))
    if job.settings.continuous is not None:
        return JobTrigger("continuous")
    if (schedule := job.settings.schedule) is not None:
        return JobTrigger("cron", schedule.quartz_cron_expression, schedule.timezone_id)
    trigger = job.settings.trigger
    assert trigger is not None, "the checks refuse a trigger of another form"
    if trigger.periodic is not None:
        return JobTrigger("periodic", interval=trigger.periodic.interval * _seconds(trigger.periodic.unit.value))
    for change in _changes(trigger):
        if change.url and watched_folder(job.bundle.state, change.url) is None:
            at = where(body, "file_arrival", "url")
            raise BundleError(f"this machine cannot watch '{change.url}'.", at, "Name a volume (/Volumes/...) or a local folder.")
        return change
    raise BundleError("the trigger waits for nothing that this machine watches.", where(job.source, setting, key=True))


def _changes(trigger: Any) -> Iterator[JobTrigger]:
    "Yield the trigger that waits for files, tables or models."
    if (files := trigger.file_arrival) is not None:
        yield JobTrigger("file_arrival", url=files.url, **_timers(files))
    if (tables := trigger.table_update) is not None:
        every = tables.condition is not None and tables.condition.value == "ALL_UPDATED"
        yield JobTrigger("table_update", tables=tuple(tables.table_names), every_table=every, **_timers(tables))
    if (model := trigger.model) is not None:
        named = replace(JobTrigger("model"), securable=model.securable_name or "", aliases=tuple(model.aliases or ()))
        yield replace(named, condition=model.condition.value, **_timers(model))


def _seconds(unit: str) -> int:
    "Return the seconds of a unit of the Jobs API."
    return SECONDS[unit[0].lower()]


def _timers(body: Any) -> dict[str, Any]:
    return {"min_time": body.min_time_between_triggers_seconds or 0, "wait": body.wait_after_last_change_seconds or 0}


def watched_folder(state: Path, url: str) -> Path | None:
    "Return the folder of this machine that a file arrival trigger names: a volume's, or a local one; None for a cloud store."
    address = urlparse(url)
    path = unquote(address.path)
    if address.scheme not in ("", "file", "dbfs") or not path.startswith("/"):
        return None
    if path.startswith("/Volumes/"):
        return state / "volumes" / path.removeprefix("/Volumes/")
    return None if address.scheme == "dbfs" else Path(path)
