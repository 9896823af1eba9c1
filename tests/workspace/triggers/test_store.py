"Planned starts in the database: recorded once, claimed once, given up for a reason; and simulated clocks that go on."

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.errors import BundleError
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.as_json import run_json, run_summary
from boathouse.workspace.history.store import History, JobRun
from boathouse.workspace.triggers.evaluate import DueStart, TriggerState
from boathouse.workspace.triggers.launch import MOST_EVALUATIONS, MOST_LAUNCHES, Launcher, StartEvent
from boathouse.workspace.triggers.store import TriggerStore, begin_clock, last_result

STATE = TriggerState("text", 0.0, 5.0, 3, known={"a": "1"})
DUE = DueStart("2013-10-01T06:00:00Z", 1380607200.0, {"changes": {"a": "2"}})


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path) as made:
        yield made


def job_run(history: History, start: int | None, key: str = "j") -> JobRun:
    run_id = history.new_id()
    return JobRun(run_id, 7, key, key, "local", {}, history.path.parent / "runs" / str(run_id), trigger_start=start)


def test_a_start_is_recorded_once_with_the_state_of_its_trigger(history: History) -> None:
    store = TriggerStore(history)
    (start,) = store.record(9.0, {"j": STATE}, [("j", "PERIODIC", DUE)])
    assert (start.key, start.planned, start.details, start.recorded) == (DUE.key, DUE.planned, DUE.details, 9.0)
    assert store.record(10.0, {}, [("j", "PERIODIC", DUE)]) == []
    assert len(store.record(10.0, {}, [("k", "PERIODIC", DUE), ("j", "PERIODIC", DueStart("later", 1.0))])) == 2
    assert TriggerStore(history).states() == {"j": STATE}
    assert len(TriggerStore(history, clock=1).record(10.0, {}, [("j", "PERIODIC", DUE)])) == 1


def test_of_processes_that_claim_the_same_start_one_gets_a_run(history: History) -> None:
    (start,) = TriggerStore(history).record(9.0, {}, [("j", "PERIODIC", DUE)])

    def claim(_: int) -> str:
        with History(history.path.parent) as own:
            try:
                own.run_started(job_run(own, start.start_id))
            except BundleError as refusal:
                return str(refusal)
            return ""

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(claim, range(8)))
    assert answers[0] == ""
    assert all(answer.endswith(f"has taken the planned start {start.start_id}.") for answer in answers[1:])
    (one,) = TriggerStore(history).open_starts()
    (run,) = history.runs()
    assert one.run_id == run["run_id"]
    assert not TriggerStore(history).give_up(start, "late")
    assert run_json(history, run["run_id"])["trigger"] == run_summary(run)["trigger"] == "PERIODIC"
    assert run_summary(run)["trigger_time"] == DUE.planned * 1000
    with closing(sqlite3.connect(history.path)) as raw, pytest.raises(sqlite3.IntegrityError):
        raw.execute("INSERT INTO runs SELECT run_id + 100, job_id, job_key, job_name, target, parent_task_run, parameters, life_cycle_state,"
                    " result_state, state_message, start_time, end_time, pid, pid_started, 0, 0, 0, trigger_start FROM runs")  # fmt: skip


def test_a_start_that_was_given_up_or_is_another_jobs_is_refused_to_a_process(history: History) -> None:
    store = TriggerStore(history)
    (start,) = store.record(9.0, {}, [("j", "PERIODIC", DUE)])
    with pytest.raises(BundleError, match=f"no planned start {start.start_id} of job 'k'"):
        history.run_started(job_run(history, start.start_id, "k"))
    assert store.give_up(start, "no memory")
    with pytest.raises(BundleError, match="was given up: no memory"):
        history.run_started(job_run(history, start.start_id))
    assert (list(history.runs()), store.open_starts()) == ([], [])


def test_an_interrupted_clock_goes_on_and_an_ended_or_another_one_begins(history: History) -> None:
    assert begin_clock(history, 100.0) == (1, 100.0)
    TriggerStore(history, 1).record(150.0, {})
    assert begin_clock(history, 100.0) == (1, 150.0)
    assert begin_clock(history, 100.0, restart=True) == (2, 100.0)
    TriggerStore(history, 2).end_clock()
    assert begin_clock(history, 100.0) == (3, 100.0)
    assert begin_clock(history, 200.0) == (4, 200.0)


def test_a_continuous_job_sees_how_its_last_start_ended(history: History) -> None:
    store = TriggerStore(history)
    assert last_result(history, 0, "j") == {"": "none"}
    (start,) = store.record(9.0, {}, [("j", "CONTINUOUS", DUE)])
    assert last_result(history, 0, "j") == {str(start.start_id): "active"}
    run = job_run(history, start.start_id)
    history.run_started(run)
    history.run_ended(run, Result.FAILED, "")
    assert last_result(history, 0, "j") == {str(start.start_id): "failed"}
    by_hand = job_run(history, None)
    history.run_started(by_hand)
    assert last_result(history, 0, "j") == {str(start.start_id): "active"}
    (second,) = store.record(9.0, {}, [("j", "CONTINUOUS", DueStart("2", 1.0))])
    history.run_ended(by_hand, Result.SUCCESS, "")
    store.give_up(second, "no memory")
    assert last_result(history, 0, "j") == {str(second.start_id): "failed"}


def test_a_process_that_dies_before_its_claim_is_launched_again_and_then_given_up_with_its_message(
    history: History, tmp_path: Path
) -> None:
    (tmp_path / "databricks.yml").write_text("bundle: {name: b}\n")
    events, store = list[StartEvent](), TriggerStore(history)
    (start,) = store.record(9.0, {}, [("gone", "PERIODIC", DUE)])
    launcher = Launcher(store, {}, tmp_path, ("--bundle", str(tmp_path)), events.append)
    while launcher.step():
        for child in launcher._children.values():
            child.wait()
    launched, failed = events
    assert (launched.result, failed.result, failed.run_id) == ("", "FAILED", None)
    assert failed.message.startswith(f"{MOST_LAUNCHES} processes ended before its run began: ")
    assert "the bundle has no job 'gone'" in failed.message
    assert history.find_start(start.start_id).launches == MOST_LAUNCHES


def test_the_process_of_an_alert_is_launched_like_that_of_a_run_and_given_up_with_its_message(history: History, tmp_path: Path) -> None:
    (tmp_path / "databricks.yml").write_text("bundle: {name: b}\n")
    events, store = list[StartEvent](), TriggerStore(history)
    store.record(9.0, {}, [("alert gone", "PERIODIC", DUE)])
    launcher = Launcher(store, {}, tmp_path, ("--bundle", str(tmp_path)), events.append)
    while launcher.step():
        for child in launcher._children.values():
            child.wait()
    assert [event.result for event in events] == ["", "FAILED"]
    assert events[1].message.startswith(f"{MOST_LAUNCHES} processes ended before its evaluation was recorded: ")
    assert "the bundle has no alert 'gone'" in events[1].message


def test_of_many_alerts_that_are_due_at_once_a_few_are_evaluated_and_the_others_wait(history: History, tmp_path: Path) -> None:
    store, me = TriggerStore(history), psutil.Process()
    starts = store.record(9.0, {}, [(f"alert {n}", "PERIODIC", DUE) for n in range(MOST_EVALUATIONS + 1)])
    for start in starts[:-1]:  # each has a process that lives
        store.launched(start, me.pid, me.create_time())
    launcher = Launcher(store, {}, tmp_path, (), list[StartEvent]().append)
    assert launcher.step() == len(starts)
    assert history.find_start(starts[-1].start_id).launches == 0


def test_an_older_database_gets_the_tables_of_the_triggers(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        history.run_started(job_run(history, None))
    with closing(sqlite3.connect(tmp_path / "workspace.db")) as raw:
        raw.executescript("DROP INDEX run_of_start; ALTER TABLE runs DROP COLUMN trigger_start; DROP TABLE trigger_starts;")
    with History(tmp_path) as history:
        assert [run_summary(run)["trigger"] for run in history.runs()] == ["ONE_TIME"]


def test_a_start_waits_for_the_queue_of_its_job_without_a_process(history: History, tmp_path: Path) -> None:
    task = "tasks: [{task_key: t, condition_task: {op: EQUAL_TO, left: a, right: b}}]"
    (tmp_path / "databricks.yml").write_text(f"bundle: {{name: b}}\nresources: {{jobs: {{j: {{max_concurrent_runs: 1, {task}}}}}}}\n")
    store = TriggerStore(history)
    starts = store.record(9.0, {}, [("j", "PERIODIC", DueStart(str(n), float(n))) for n in range(4)])
    for start in starts[:2]:  # one runs, one is in the queue
        history.run_started(job_run(history, start.start_id))
    launcher = Launcher(store, all_jobs(load(tmp_path)), tmp_path, (), list[StartEvent]().append)
    assert launcher.step() == 4
    assert [history.find_start(start.start_id).launches for start in starts] == [0, 0, 0, 0]
