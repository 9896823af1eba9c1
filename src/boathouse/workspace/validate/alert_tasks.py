"Check the tasks that evaluate an alert of the bundle."

from __future__ import annotations

from collections.abc import Iterator

from boathouse.workspace.alerts.definition import find_alert_key
from boathouse.workspace.bundle.jobs import Job, TaskSource
from boathouse.workspace.bundle.yaml_tree import List, Map
from boathouse.workspace.errors import BundleError, did_you_mean
from boathouse.workspace.notifications.settings import FILE, read_settings
from boathouse.workspace.problems import Problem, problem

MOST_SUBSCRIBERS = 100
OWN = "Write `${resources.alerts.<key>.id}` as alert_id for one of its own."


def problems(job: Job) -> Iterator[Problem]:
    "Yield what is wrong with the alert_tasks of a job."
    for source in job.every_task():
        body = source.node.get("alert_task")
        if isinstance(body, Map) and source.kinds == ["alert_task"]:
            yield from _alert(job, source, body)
            yield from _subscribers(job, source, body)


def evaluated_alerts(job: Job) -> Iterator[str]:
    "Yield the keys of the alerts that the tasks of a job evaluate."
    for source in job.every_task():
        if source.task.alert_task is not None and (key := find_alert_key(job.bundle, source.task.alert_task.alert_id)) is not None:
            yield key


def _alert(job: Job, source: TaskSource, body: Map) -> Iterator[Problem]:
    named = [key for key in ("alert_id", "workspace_path") if body.get(key)]
    if len(named) != 1:
        message = (
            f"the alert_task of task '{source.key}' must have one of alert_id and workspace_path, got {' and '.join(named) or 'neither'}."
        )
        yield problem("alert-task", message, source.at("alert_task", key=True))
        return
    text = str(body[named[0]])
    if "${" not in text and find_alert_key(job.bundle, text) is None:  # a path is never the id of one
        message = f"task '{source.key}' evaluates the alert '{text}', which is not an alert of this bundle."
        yield problem("other-alert", message, source.at("alert_task", named[0]), OWN)
    if body.get("parameters"):
        message = f"the parameters of task '{source.key}' are not used here: the query of an alert has none."
        yield problem("alert-not-evaluated", message, source.at("alert_task", "parameters", key=True))


def _subscribers(job: Job, source: TaskSource, body: Map) -> Iterator[Problem]:
    given = body.get("subscribers")
    if not isinstance(given, List):
        return
    if len(given) > MOST_SUBSCRIBERS:
        message = f"task '{source.key}' has {len(given)} subscribers; {MOST_SUBSCRIBERS} is the most."
        yield problem("alert-task", message, source.at("alert_task", "subscribers", key=True))
    try:
        known = list(read_settings(job.bundle.root, job.bundle.target).destinations)
    except BundleError:
        return  # reported by the rule for these settings
    for place, one in enumerate(given):
        stated = [key for key in ("user_name", "destination_id") if isinstance(one, Map) and one.get(key)]
        if len(stated) != 1:
            message = f"a subscriber must have one of user_name and destination_id, got {' and '.join(stated) or 'neither'}."
            yield problem("alert-task", message, source.at("alert_task", "subscribers", place))
        elif stated == ["destination_id"] and "${" not in (name := str(one["destination_id"])) and name not in known:
            message = f"{FILE} has no destination '{name}' for target '{job.bundle.target}': the task could not notify it."
            yield problem(
                "destination", message, source.at("alert_task", "subscribers", place, "destination_id"), did_you_mean(name, known)
            )
