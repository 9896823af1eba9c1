"""Keep the state of each alert of a target, and every evaluation, in the history beside the notifications."""

from __future__ import annotations

import json
from typing import Any

from boathouse.workspace.alerts.evaluation import AlertResult, AlertState
from boathouse.workspace.history.trigger_starts import START, alert_name, refuse_closed_start
from boathouse.workspace.notifications.outbox import Outbox

SCHEMA = """
CREATE TABLE IF NOT EXISTS alerts (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, since INTEGER, notified TEXT NOT NULL DEFAULT '', notified_at INTEGER, snoozed_until INTEGER);
CREATE TABLE IF NOT EXISTS alert_evaluations (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, time INTEGER NOT NULL, state TEXT NOT NULL, value TEXT NOT NULL, threshold TEXT NOT NULL,
    message TEXT NOT NULL, notified TEXT);
CREATE INDEX IF NOT EXISTS evaluations_of_alert ON alert_evaluations (key, id);
"""
COLUMNS = ("time", "state", "value", "threshold", "message", "notified")


class AlertStore:
    "The alerts of one target, in the database of its outbox."

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        outbox.create_tables(SCHEMA)

    def state(self, key: str) -> AlertState:
        "Return the state of an alert; UNKNOWN if it was never evaluated."
        for row in self._outbox.rows("SELECT * FROM alerts WHERE key = ?", key):
            notified = frozenset(row["notified"].split(",")) - {""}
            return AlertState(row["state"], row["since"], notified, row["notified_at"], row["snoozed_until"])
        return AlertState()

    def save(self, key: str, state: AlertState) -> None:
        "Replace the state of an alert."
        values = (key, state.state, state.since, ",".join(sorted(state.notified)), state.notified_at, state.snoozed_until)
        self._outbox.write("INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?, ?, ?)", *values)

    def claim_start(self, start_id: int, key: str, result: AlertResult, begun: int, ended: int) -> None:
        """Record the result of an alert for a start that `boathouse up` has planned, in the transaction of its evaluation.

        Raises BundleError if the start has a result already, or was given up: of two processes, one evaluates it.
        """
        rows = self._outbox.rows(START, start_id, alert_name(key))
        refuse_closed_start(rows[0] if rows else None, start_id, f"alert '{key}'")
        outcome = {"state": result.state, "message": result.message, "begun": begun, "ended": ended}
        self._outbox.write("UPDATE trigger_starts SET outcome = ? WHERE start_id = ?", json.dumps(outcome), start_id)

    def add(self, key: str, result: AlertResult, notified: str | None, now: int) -> int:
        "Add an evaluation to the history of an alert, and return its number."
        values = (key, now, result.state, json.dumps(result.value), json.dumps(result.threshold), result.message, notified)
        return self._outbox.write(
            "INSERT INTO alert_evaluations (key, time, state, value, threshold, message, notified) VALUES (?, ?, ?, ?, ?, ?, ?)", *values
        )

    def evaluations(self, key: str, limit: int) -> list[dict[str, Any]]:
        "Return the last evaluations of an alert, newest first."
        rows = self._outbox.rows("SELECT * FROM alert_evaluations WHERE key = ? ORDER BY id DESC LIMIT ?", key, limit)
        decoded = ({name: row[name] for name in COLUMNS} for row in rows)
        return [row | {"value": json.loads(row["value"]), "threshold": json.loads(row["threshold"])} for row in decoded]
