"""What becomes of notifications whose process is killed: sent by the next run, with the same key; and of the run that it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from boathouse.workspace.notifications.outbox import Message, Occasion, Outbox

JOB = """
a:
  webhook_notifications: {on_start: [{id: team}], on_failure: [{id: team}]}
  tasks: [{task_key: t, notebook_task: {notebook_path: n.py}, webhook_notifications: {on_failure: [{id: team}]}}]
"""
RUN = """
import sys, time
from pathlib import Path
from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.history.store import History, JobRun, TaskRun
from boathouse.workspace.notifications.notifier import Notifier

bundle = load(Path(sys.argv[1]), environ={})
jobs = all_jobs(bundle)
with History(bundle.state) as history, Notifier(bundle, jobs, history) as notifier:
    run = JobRun(history.new_id(), jobs["a"].id, "a", "a", "default", {}, bundle.state / "runs" / "1")
    task = TaskRun(history.new_id(), run, "t", 0, "notebook_task", run.folder / "t")
    history.run_started(run)
    history.admit(run, 9)
    for watcher in (history, notifier):
        watcher.task_waiting(task)
        watcher.task_started(task)
    time.sleep(600)
"""


def test_what_a_killed_process_was_sending_is_sent_by_the_next_run_and_its_run_is_reported_as_failed(
    scene: Any, receiver: Any, until: Any, tmp_path: Path
) -> None:
    made = scene(JOB, f"destinations: {{team: {{kind: webhook, url: '{receiver.url}'}}}}")
    receiver.hold.set()
    killed = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)])
    assert until(lambda: len(receiver.requests) == 1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    receiver.hold.clear()
    (row,) = made.rows()
    assert (row["event"], row["state"], row["tries"]) == ("on_start", "pending", 1)

    (left,) = made.history.close_abandoned()
    for _ in range(2):  # the second time, everything has been said
        with made.notifier:
            pass
    assert made.events() == ["on_start", "t: on_failure", "on_failure"]
    assert {row["state"] for row in made.rows()} == {"sent"}
    keys = [headers["Idempotency-Key"] for headers, _ in receiver.requests]
    assert keys.count(row["key"]) == 2  # the receiver can see that it has it already
    assert len(keys) == 4
    ends = [body for body in receiver.bodies if body["event_type"] == "jobs.on_failure"]
    why = f"The process that ran it (pid {killed.pid}) ended before the run did."
    assert [(body["run"]["run_id"], body["state"]["state_message"]) for body in ends] == [(str(left), why)] * 2
    assert [body.get("task", {}).get("task_key") for body in sorted(ends, key=len)] == [None, "t"]


def test_a_row_of_a_living_process_is_left_to_it_and_one_of_a_dead_process_is_taken_by_one(tmp_path: Path) -> None:
    with Outbox(tmp_path) as first, Outbox(tmp_path) as second:
        (number,) = first.add(Occasion("on_start", run_id=1), Message("s", "t", {}), ["email:me@example.com", "email:me@example.com"])
        assert first.add(Occasion("on_start", run_id=1), Message("s", "t", {}), ["email:me@example.com"]) == []
        assert second.adopt_pending() == []
        first._db.execute("UPDATE notifications SET pid_started = 100")
        assert second.adopt_pending() == [number]
        assert first.adopt_pending() == []
        second.mark(number, "sent")
        first._db.execute("UPDATE notifications SET pid_started = 100")
        assert first.adopt_pending() == []
