"""Carry out `boathouse alerts`: list, evaluate, show and snooze the alerts of a bundle."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from boathouse.workspace.alerts.definition import AlertDefinition, all_alerts, find_alert
from boathouse.workspace.alerts.evaluation import ERROR, AlertState
from boathouse.workspace.alerts.store import AlertStore
from boathouse.workspace.alerts.watch import Evaluated, evaluate_alert
from boathouse.workspace.bundle.catalogs import named_catalogs
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.display import console, plain_table
from boathouse.workspace.cli.query import format_cell
from boathouse.workspace.cli.run import cluster_of, wants_own
from boathouse.workspace.cli.runs import print_notifications
from boathouse.workspace.durations import SECONDS
from boathouse.workspace.errors import BundleError, Where
from boathouse.workspace.history.store import now_ms
from boathouse.workspace.notifications.outbox import Outbox
from boathouse.workspace.notifications.sender import Sender
from boathouse.workspace.notifications.settings import read_settings


def list_alerts(bundle: Bundle, as_json: bool) -> None:
    "Print each alert with its state."
    declared = all_alerts(bundle)
    with Outbox(bundle.state) as outbox:
        store = AlertStore(outbox)
        states = [(alert, store.state(key)) for key, alert in declared.items()]
    if as_json:
        click.echo(json.dumps({"alerts": [_as_json(alert, state) for alert, state in states]}))
        return
    table = _table("alert", "name", "state", "since", "snoozed until")
    for alert, state in states:
        table.add_row(alert.key, Text(alert.name), state.state, _time(state.since), _time(_snoozed(state)))
    console().print(table)


def run_alerts(bundle: Bundle, name: str | None, as_json: bool, foreground: bool | None = None, start: int | None = None) -> int:
    "Evaluate one alert (for the planned `start` of it, if given), or all; return 1 if one could not be evaluated, else 0."
    wanted = list(all_alerts(bundle).values()) if name is None else [find_alert(bundle, name)]
    if start is not None and name is None:
        raise BundleError("a planned start belongs to one alert.", Where("--trigger-start"), "Name the alert.")
    if not wanted:
        raise BundleError("the bundle has no alerts.", Where(bundle.file.name), "They are declared in `resources.alerts`.")
    settings, catalogs = read_settings(bundle.root, bundle.target), named_catalogs(bundle)
    with (
        cluster_of(bundle, lambda line: click.echo(line, err=True), spawn=wants_own(foreground), foreground=foreground) as cluster,
        Sender(bundle.state, settings) as sender,
    ):
        sender.resume()
        done = [
            evaluate_alert(bundle, one, lambda text: cluster.sql(text, bundle.catalog, catalogs), sender, now_ms, start) for one in wanted
        ]
    if as_json:
        click.echo(json.dumps({"alerts": [_as_json(one.alert, one.state) | _result(one) for one in done]}))
    else:
        _print_evaluated(done)
    for line in sender.report():
        click.echo(line, err=True)
    return 1 if any(one.result.state == ERROR for one in done) else 0


def show_alert(bundle: Bundle, name: str, limit: int, as_json: bool) -> None:
    "Print the last evaluations of an alert, newest first, and its last notifications."
    alert = find_alert(bundle, name)
    with Outbox(bundle.state) as outbox:
        store = AlertStore(outbox)
        state, rows = store.state(alert.key), store.evaluations(alert.key, limit)
        sent = [row for row in outbox.of_run(0) if row["event"].split()[1] == alert.key][-limit:]
    if as_json:
        click.echo(json.dumps(_as_json(alert, state) | {"evaluations": rows, "notifications": sent}))
        return
    table = _table("time", "state", "value", "threshold", "notified", "message")
    for row in rows:
        cells = (format_cell(row["value"]), format_cell(row["threshold"]), row["notified"] or "", row["message"].split("\n")[0])
        table.add_row(_time(row["time"]), row["state"], *(Text(cell) for cell in cells))
    console().print(table)
    print_notifications((row, _time(row["created"])) for row in sent)


def snooze_alert(bundle: Bundle, name: str, duration: str, as_json: bool) -> None:
    "Mute the notifications of an alert for a duration, or end that with `off`."
    alert = find_alert(bundle, name)
    seconds = parse_duration(duration)
    with Outbox(bundle.state) as outbox:
        store = AlertStore(outbox)
        with outbox.transaction():
            state = replace(store.state(alert.key), snoozed_until=now_ms() + seconds * 1000 if seconds else None)
            store.save(alert.key, state)
    if as_json:
        click.echo(json.dumps(_as_json(alert, state)))
    else:
        click.echo(f"alert {alert.key}: " + (f"snoozed until {_time(state.snoozed_until)}" if seconds else "not snoozed"))


def parse_duration(text: str) -> int:
    "Return the seconds of a duration such as 90m, 12h or 2d; 0 for `off`. Raises BundleError for another text."
    found = re.fullmatch(r"([1-9][0-9]{0,4})([smhdw])", text)
    if text != "off" and found is None:
        raise BundleError(f"a duration must be a number and one of s, m, h, d, w, such as 12h or 2d, got '{text}'.")
    return int(found[1]) * SECONDS[found[2]] if found else 0


def _print_evaluated(done: list[Evaluated]) -> None:
    table = _table("alert", "state", "value", "threshold", "notified", "message")
    for one in done:
        cells = (format_cell(one.result.value), format_cell(one.result.threshold), one.notified or "", one.result.message.split("\n")[0])
        table.add_row(one.alert.key, one.state.state, *(Text(cell) for cell in cells))
    console().print(table)


def _as_json(alert: AlertDefinition, state: AlertState) -> dict[str, Any]:
    times = {"since": state.since, "notified_at": state.notified_at, "snoozed_until": _snoozed(state)}
    return {"key": alert.key, "display_name": alert.name, "state": state.state, **times}


def _result(one: Evaluated) -> dict[str, Any]:
    return {"value": one.result.value, "threshold": one.result.threshold, "message": one.result.message, "notified": one.notified}


def _snoozed(state: AlertState) -> int | None:
    return state.snoozed_until if state.snoozed_until is not None and state.snoozed_until > now_ms() else None


def _time(at: int | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at / 1000).isoformat(" ", "seconds")


def _table(*columns: str) -> Table:
    table = plain_table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
