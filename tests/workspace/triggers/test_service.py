"The loop of `boathouse up` on a real database, with runs that end at once: its end, and crashes between any two of its steps."

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest

from boathouse.workspace.alerts.definition import find_alert
from boathouse.workspace.alerts.store import AlertStore
from boathouse.workspace.alerts.watch import evaluate_alert
from boathouse.workspace.bundle.load import load
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.store import History, JobRun
from boathouse.workspace.history.trigger_starts import TriggerStart, alert_key
from boathouse.workspace.notifications.outbox import Outbox
from boathouse.workspace.notifications.sender import Sender
from boathouse.workspace.notifications.settings import NotificationSettings
from boathouse.workspace.triggers.clock import JUMPING, Clock, format_time
from boathouse.workspace.triggers.launch import Launcher, StartEvent
from boathouse.workspace.triggers.service import Service
from boathouse.workspace.triggers.settings import JobTrigger, TriggeredJobs
from boathouse.workspace.triggers.store import TriggerStore, begin_clock

BEGIN = 1380585600.0  # 2013-10-01
HOUR = 3600.0
BUNDLE = """
bundle: {name: b}
resources:
  alerts:
    late:
      query_text: select n
      evaluation: {source: {name: n}, comparison_operator: IS_NULL, notification: {subscriptions: [{user_email: me@example.com}]}}
"""


class Crash(Exception):
    "Stands for the end of the process."


class InstantRuns(Launcher):
    "Carry out a start in this process: claim it, run nothing, end it; or evaluate the alert."

    def _launch(self, start: TriggerStart) -> None:
        history = self.store.history
        if alert_key(start.job_key) is not None:
            bundle, time = load(self.root, environ={}), int(start.planned * 1000)
            with Sender(history.path.parent, NotificationSettings()) as sender:
                evaluate_alert(bundle, find_alert(bundle, "late"), lambda _: (["n"], [[None]]), sender, lambda: time, start.start_id)
            return
        run_id = history.new_id()
        run = JobRun(run_id, 7, start.job_key, start.job_key, "local", {}, history.path.parent, trigger_start=start.start_id)
        history.run_started(run)
        history.run_ended(run, Result.SUCCESS, "")


def service(history: History, clock: Clock, number: int, armed: dict[str, JobTrigger], until: float) -> Service:
    store = TriggerStore(history, number)
    launcher = InstantRuns(store, {}, history.path.parent, (), list[StartEvent]().append)
    return Service(TriggeredJobs(armed), clock, store, launcher, list[str]().append, until)


def crashing(chance: random.Random, work: Any) -> Any:
    "The function, which at times crashes before it works, and at times after."

    def wrapped(*given: Any, **named: Any) -> Any:
        if chance.random() < 0.1:
            raise Crash
        result = work(*given, **named)
        if chance.random() < 0.1:
            raise Crash
        return result

    return wrapped


def test_the_loop_ends_with_its_clock_although_a_continuous_job_always_starts_again(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        armed = {"always": JobTrigger("continuous"), "hourly": JobTrigger("periodic", interval=3600)}
        made = service(history, Clock(BEGIN, 4 * HOUR), 1, armed, BEGIN + 3 * HOUR)
        assert made.run(threading.Event())
        jobs = [row["job_key"] for row in history.runs()]
        assert (jobs.count("hourly"), "always" in jobs) == (2, True)  # the start at the end is not before it


@pytest.mark.parametrize("seed", range(2))
def test_a_crash_between_any_two_steps_loses_no_start_and_doubles_none(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "databricks.yml").write_text(BUNDLE)
    chance = random.Random(seed)
    armed = {
        "daily": JobTrigger("cron", expression="0 30 1 * * ?", zone="America/New_York"),
        "period": JobTrigger("periodic", interval=40_000),
        "alert late": JobTrigger("cron", expression="0 0 8 * * ?", zone="UTC"),
    }
    for owner, name in (
        (TriggerStore, "record"),
        (TriggerStore, "settle"),
        (InstantRuns, "_launch"),
        (AlertStore, "claim_start"),
        (Clock, "jump"),
    ):
        monkeypatch.setattr(owner, name, crashing(chance, getattr(owner, name)))
    crashes, over = 0, False
    while not over:
        with History(tmp_path) as history:
            number, position = begin_clock(history, BEGIN)
            assert number == 1
            try:
                over = service(history, Clock(position, JUMPING), number, armed, BEGIN + 10 * 86_400).run(threading.Event())
            except Crash:
                crashes += 1
    with History(tmp_path) as history:
        found = [(row["job_key"], format_time(row["trigger_time"])) for row in history.runs()]
    expected = [("daily", f"2013-10-{day:02} 05:30:00") for day in range(1, 11)]
    expected += [("period", format_time(BEGIN + n * 40_000)) for n in range(1, 22)]
    assert crashes > 5
    assert sorted(found) == sorted(expected)
    with Outbox(tmp_path) as outbox:
        evaluated = [(format_time(row["time"] / 1000), row["notified"]) for row in AlertStore(outbox).evaluations("late", 100)]
    assert evaluated == [(f"2013-10-{day:02} 08:00:00", "TRIGGERED" if day == 1 else None) for day in range(10, 0, -1)]
