"""Evaluate alerts on a cluster, record the results, and notify of the changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from boathouse.workspace.alerts.definition import AlertDefinition, Recipients
from boathouse.workspace.alerts.evaluation import ERROR, OK, TRIGGERED, AlertResult, AlertState, judge_rows, next_state
from boathouse.workspace.alerts.store import AlertStore
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.errors import ClusterError, QueryFailed
from boathouse.workspace.notifications.outbox import Message, Occasion
from boathouse.workspace.notifications.sender import Sender

Query = Callable[[str], tuple[Sequence[str], Sequence[Sequence[Any]]]]
VERBS = {OK: "is OK again", TRIGGERED: "is triggered", ERROR: "could not be evaluated"}


@dataclass(frozen=True)
class Evaluated:
    "Hold one evaluated alert: its result, its state, and the state that its recipients are notified of."

    alert: AlertDefinition
    result: AlertResult
    state: AlertState
    notified: str | None


def evaluate_alert(
    bundle: Bundle,
    alert: AlertDefinition,
    query: Query,
    sender: Sender,
    clock: Callable[[], int],
    start: int | None = None,
    recipients: Recipients | None = None,
) -> Evaluated:
    """Evaluate one alert; with `start`, for a start that `boathouse up` has planned. A query that fails makes it an ERROR.

    With `recipients`, they are notified, and what the alert's own recipients were notified of stays as it was.

    Raises BundleError, and changes nothing, if another process has evaluated that start.
    """
    begun = clock()
    try:
        result = judge_rows(alert, *query(alert.query))
    except (QueryFailed, ClusterError) as e:
        result = AlertResult(ERROR, message=str(e))
    store, now = AlertStore(sender.outbox), clock()
    # State, evaluation and notifications are recorded together or not at all.
    with sender.outbox.transaction():
        if start is not None:
            store.claim_start(start, alert.key, result, begun, now)
        before = store.state(alert.key)
        state, notified = next_state(before, result, alert, now)
        if recipients is not None:
            state = replace(before, state=state.state, since=state.since)
            known = replace(store.state(recipients.name), snoozed_until=before.snoozed_until)
            after, notified = next_state(known, result, alert, now)
            store.save(recipients.name, after)
        store.save(alert.key, state)
        number = store.add(alert.key, result, notified, now)
        pending = []
        if notified is not None:
            addresses = alert.recipients if recipients is None else recipients.addresses
            event = f"alert {alert.key} {notified}"
            pending = sender.outbox.add(Occasion(event, attempt=number), _message(bundle, alert, result, notified, now), addresses)
    sender.submit(pending)
    return Evaluated(alert, result, state, notified)


def _message(bundle: Bundle, alert: AlertDefinition, result: AlertResult, notified: str, now: int) -> Message:
    subject = f"[{bundle.name} {bundle.target}] alert '{alert.name}' {VERBS[notified]}"
    time = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds")
    source = f"{alert.source.aggregation}({alert.source.column})" if alert.source.aggregation else str(alert.source.column)
    compared = {"column": source, "operator": alert.operator, "value": result.value, "threshold": result.threshold}
    body = {
        "event_type": "alert",
        "time": time,
        "bundle": bundle.name,
        "target": bundle.target,
        "alert": {"key": alert.key, "name": alert.name, "state": notified, **compared},
        "message": result.message,
    }
    facts = {"state": notified, **compared, "message": result.message, "target": bundle.target, "time": time, "query": alert.query.strip()}
    return Message.of(subject, facts, body)
