"""Check `boathouse.yml`, and what a job expects of notifications that is not sent on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.workspace.bundle.jobs import Job
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.notifications.settings import FILE, read_settings, settings_faults
from boathouse.workspace.problems import Problem, problem

SLOW = "on_duration_warning_threshold_exceeded"
NEVER = {
    "on_streaming_backlog_exceeded": "the backlog of streams is not watched",
    "on_maintenance_start": "no platform maintains it",
    "on_maintenance_complete": "no platform maintains it",
}


def problems(bundle: Bundle) -> Iterator[Problem]:
    "Yield what is wrong with the settings of notifications."
    for fault in settings_faults(bundle.root, bundle.targets):
        yield Problem("notification-settings", fault)


def of_job(job: Job) -> Iterator[Problem]:
    "Yield the notifications of a job and its tasks that reach nobody here."
    try:
        known = list(read_settings(job.bundle.root, job.bundle.target).destinations)
    except BundleError:
        return  # reported once, for the bundle
    for holder in (job.source, *(source.node for source in job.every_task())):
        yield from _destinations(holder, known, job.bundle.target)
        yield from _unwatched(holder)


def _destinations(holder: Map, known: list[str], target: str) -> Iterator[Problem]:
    hooks = holder.get("webhook_notifications")
    for event, named in hooks.items() if isinstance(hooks, Map) else ():
        for place, hook in enumerate(named if isinstance(named, List) else ()):
            name = str(hook.get("id"))
            if name not in known and "${" not in name:
                message = f"{FILE} has no destination '{name}' for target '{target}': a run records that it could not be notified."
                yield problem("destination", message, where(hooks, event, place, "id"), did_you_mean(name, known))


def _unwatched(holder: Map) -> Iterator[Problem]:
    rules = (holder.get("health") or {}).get("rules")
    metrics = [rule.get("metric") for rule in rules] if isinstance(rules, List) else []
    for place, metric in enumerate(metrics):
        if str(metric).startswith("STREAMING_BACKLOG"):
            yield problem(
                "no-effect", f"the metric {metric} is not watched on this machine.", where(holder, "health", "rules", place, "metric")
            )
    for kind in ("email_notifications", "webhook_notifications"):
        if isinstance(given := holder.get(kind), Map):
            yield from _events(given, "RUN_DURATION_SECONDS" in metrics)


def _events(given: Map, has_duration_rule: bool) -> Iterator[Problem]:
    for event in (event for event in given if given[event]):
        if event in NEVER:
            yield problem("no-effect", f"'{event}' sends nothing on this machine: {NEVER[event]}.", given.keys_at[event])
        elif event == SLOW and not has_duration_rule:
            hint = "Add one for the metric RUN_DURATION_SECONDS beside it."
            yield problem("no-duration-rule", f"'{event}' sends nothing without a health rule.", given.keys_at[event], hint)
