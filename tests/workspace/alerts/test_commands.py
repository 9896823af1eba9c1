"""`boathouse alerts` and the evaluation of a bundle's alerts, with a query that is answered here instead of by a cluster."""

from __future__ import annotations

import json
import mailbox
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boathouse.workspace.alerts.definition import all_alerts, find_alert
from boathouse.workspace.alerts.watch import evaluate_alert
from boathouse.workspace.bundle.load import load
from boathouse.workspace.cli.main import main
from boathouse.workspace.errors import BundleError, QueryFailed
from boathouse.workspace.history.store import History
from boathouse.workspace.notifications.sender import Sender
from boathouse.workspace.notifications.settings import read_settings
from boathouse.workspace.triggers.evaluate import DueStart
from boathouse.workspace.triggers.store import TriggerStore

BUNDLE = """
bundle: {name: demo}
resources:
  alerts:
    late:
      display_name: Late flights
      warehouse_id: w
      query_text: select share from late
      schedule: {quartz_cron_schedule: "0 0 8 * * ?", timezone_id: UTC}
      evaluation:
        source: {name: share, aggregation: MAX}
        comparison_operator: GREATER_THAN
        threshold: {value: {double_value: 0.5}}
        notification: {notify_on_ok: true, subscriptions: [{user_email: me@example.com}, {destination_id: nobody}]}
    broken:
      display_name: Broken
      warehouse_id: w
      query_text: selec
      schedule: {quartz_cron_schedule: "0 0 8 * * ?", timezone_id: UTC}
      evaluation: {source: {name: n}, comparison_operator: IS_NULL, notification: {subscriptions: [{user_email: you@example.com}]}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "databricks.yml").write_text(BUNDLE)
    return tmp_path


def call(place: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["alerts", *words, "--bundle", str(place)])


def as_json(place: Path, *words: str) -> Any:
    done = call(place, *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def evaluate(place: Path, share: float, second: int) -> list[tuple[str, str | None]]:
    bundle = load(place, environ={})

    def query(text: str) -> tuple[list[str], list[list[Any]]]:
        if text == "selec":
            raise QueryFailed("[PARSE_SYNTAX_ERROR] Syntax error at or near 'selec'.")
        return ["share"], [[0.1], [share]]

    with Sender(bundle.state, read_settings(place, bundle.target)) as sender:
        done = [evaluate_alert(bundle, one, query, sender, lambda: second * 1000) for one in all_alerts(bundle).values()]
    return [(one.result.state, one.notified) for one in done]


def test_alerts_are_evaluated_recorded_and_notified_of_once(place: Path) -> None:
    before = as_json(place)["alerts"]
    assert [(one["key"], one["display_name"], one["state"]) for one in before] == [
        ("late", "Late flights", "UNKNOWN"),
        ("broken", "Broken", "UNKNOWN"),
    ]
    assert evaluate(place, 0.75, 1) == [("TRIGGERED", "TRIGGERED"), ("ERROR", "ERROR")]
    assert evaluate(place, 0.75, 2) == [("TRIGGERED", None), ("ERROR", None)]
    assert evaluate(place, 0.25, 3) == [("OK", "OK"), ("ERROR", None)]
    assert [(one["state"], one["since"]) for one in as_json(place)["alerts"]] == [("OK", 3000), ("ERROR", 1000)]
    shown = as_json(place, "show", "Late flights", "--limit", "2")
    assert [(row["event"], row["destination"], row["state"]) for row in shown["notifications"]] == [
        ("alert late OK", "email:me@example.com", "sent"),
        ("alert late OK", "destination:nobody", "failed"),
    ]
    assert "boathouse.yml has no destination 'nobody' for this target." in call(place, "show", "late").stdout
    assert shown["evaluations"] == [
        {"time": 3000, "state": "OK", "value": 0.25, "threshold": 0.5, "message": "", "notified": "OK"},
        {"time": 2000, "state": "TRIGGERED", "value": 0.75, "threshold": 0.5, "message": "", "notified": None},
    ]
    mails = list(mailbox.mbox(place / ".boathouse" / "default" / "mailbox", create=False))
    assert sorted((mail["To"], mail["Subject"]) for mail in mails) == [
        ("me@example.com", "[demo default] alert 'Late flights' is OK again"),
        ("me@example.com", "[demo default] alert 'Late flights' is triggered"),
        ("you@example.com", "[demo default] alert 'Broken' could not be evaluated"),
    ]
    text = next(str(mail.get_payload()) for mail in mails if "triggered" in mail["Subject"])
    assert "column: MAX(share)\noperator: GREATER_THAN\nvalue: 0.75\nthreshold: 0.5\n" in text


def test_of_processes_that_evaluate_the_same_planned_start_one_records_and_notifies(place: Path) -> None:
    bundle = load(place, environ={})
    with History(bundle.state) as history:
        (start,) = TriggerStore(history).record(9.0, {}, [("alert late", "PERIODIC", DueStart("2013-10-01T08:00:00Z", 1380614400.0))])
    late = find_alert(bundle, "late")

    def carry_out(second: int) -> str:
        with Sender(bundle.state, read_settings(place, bundle.target)) as sender:
            try:
                evaluate_alert(bundle, late, lambda _: (["share"], [[second / 10]]), sender, lambda: second * 1000, start.start_id)
            except BundleError as refusal:
                return str(refusal)
            return ""

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(carry_out, range(6, 10)))
    assert sorted(answers) == ["", *[f"another process has evaluated the planned start {start.start_id} of alert 'late'."] * 3]
    shown = as_json(place, "show", "late")
    assert [row["value"] for row in shown["evaluations"]] == [(6 + answers.index("")) / 10]
    assert len(shown["notifications"]) == 2  # its two recipients, each once
    with History(bundle.state) as history:
        (one,) = TriggerStore(history).open_starts()
        assert (one.result, one.ended, TriggerStore(history).give_up(start, "late")) == ("TRIGGERED", (6 + answers.index("")) * 1000, False)


def test_a_start_that_was_given_up_or_is_another_alerts_changes_nothing(place: Path) -> None:
    bundle = load(place, environ={})
    with History(bundle.state) as history:
        store = TriggerStore(history)
        (start,) = store.record(9.0, {}, [("alert late", "PERIODIC", DueStart("1", 1.0))])
        assert store.give_up(start, "why")
        with Sender(bundle.state, read_settings(place, bundle.target)) as sender:
            for key, message in (
                ("broken", "there is no planned start 1 of alert 'broken'."),
                ("late", "the planned start 1 was given up: why"),
            ):
                with pytest.raises(BundleError, match=re.escape(message)):
                    evaluate_alert(bundle, find_alert(bundle, key), lambda _: (["share"], []), sender, lambda: 1000, start.start_id)
    assert as_json(place, "show", "late")["evaluations"] == as_json(place, "show", "broken")["evaluations"] == []
    assert {one["state"] for one in as_json(place)["alerts"]} == {"UNKNOWN"}


def test_an_alert_is_found_whatever_is_wrong_with_another_one(place: Path) -> None:
    (place / "databricks.yml").write_text(BUNDLE.replace("      query_text: selec\n", ""))
    assert find_alert(load(place, environ={}), "Late flights").key == "late"
    done = call(place, "run")
    assert (done.exit_code, "alert 'broken' lacks 'query_text'." in done.stderr) == (2, True), done.stderr


def test_a_snoozed_alert_is_shown_as_such_and_can_be_woken(place: Path) -> None:
    assert as_json(place, "snooze", "late", "2d")["snoozed_until"] > 0
    assert evaluate(place, 0.75, 1)[0] == ("TRIGGERED", None)
    assert "snoozed until" in call(place).stdout
    assert as_json(place, "snooze", "late", "off")["snoozed_until"] is None
    assert evaluate(place, 0.75, 2)[0] == ("TRIGGERED", "TRIGGERED")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["snooze", "late", "tomorrow"], "a duration must be a number and one of s, m, h, d, w, such as 12h or 2d, got 'tomorrow'."),
        (["show", "lat"], "the bundle has no alert 'lat'. Did you mean 'late'?"),
        (["run", "--trigger-start", "1"], "--trigger-start: a planned start belongs to one alert. Name the alert."),
        (["run", "nothing like it"], "the bundle has no alert 'nothing like it'. The alerts are late, broken."),
    ],
)
def test_what_cannot_be_done_is_refused_with_2(place: Path, words: list[str], message: str) -> None:
    done = call(place, *words)
    assert (done.exit_code, message in done.stderr) == (2, True), done.output


def test_options_before_the_command_are_refused_because_they_would_be_lost(place: Path) -> None:
    done = CliRunner().invoke(main, ["alerts", "-t", "prod", "show", "late", "--bundle", str(place)])
    assert done.exit_code == 2
    assert "Options follow the command: boathouse alerts show ..." in done.stderr
