"""The history of runs: what is written as it happens, and what becomes of a run whose process is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from boathouse.workspace.errors import BundleError
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.as_json import run_json, run_summary
from boathouse.workspace.history.store import History, JobRun, TaskEnd, TaskRun


def begun(history: History, folder: Path) -> tuple[JobRun, list[TaskRun]]:
    "A run with two tasks, the first of them running."
    run = JobRun(history.new_id(), 5, "a", "job a", "local", {"p": "1"}, folder)
    history.run_started(run)
    assert history.admit(run, 9) is None
    tasks = [
        TaskRun(history.new_id(), run, key, i, "spark_python_task", folder / key, depends_on=needs)
        for i, (key, needs) in enumerate([("t", ()), ("u", (("t", None),))])
    ]
    for task in tasks:
        history.task_waiting(task)
    history.task_started(tasks[0])
    return run, tasks


def test_a_run_is_readable_by_others_while_it_runs(tmp_path: Path) -> None:
    with History(tmp_path) as writer, History(tmp_path) as reader:
        run, tasks = begun(writer, tmp_path)
        seen = run_json(reader, run.run_id)
        assert seen["state"] == {"life_cycle_state": "RUNNING", "state_message": ""}
        assert [t["state"]["life_cycle_state"] for t in seen["tasks"]] == ["RUNNING", "BLOCKED"]
        assert seen["tasks"][1]["depends_on"] == [{"task_key": "t"}]
        writer.task_ended(tasks[0], TaskEnd(Result.SUCCESS, values={"n": [1, "x"]}))
        assert run_json(reader, run.run_id)["tasks"][0]["values"] == {"n": [1, "x"]}
        assert reader.close_abandoned() == []


def test_an_entry_that_cannot_be_written_leaves_nothing_of_it_and_the_next_one_can_be(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        run, tasks = begun(history, tmp_path)
        with pytest.raises(UnicodeEncodeError):
            history.task_ended(tasks[0], TaskEnd(Result.SUCCESS, values={"\ud800": 1}))
        assert [t["state"]["life_cycle_state"] for t in run_json(history, run.run_id)["tasks"]] == ["RUNNING", "BLOCKED"]
        history.run_ended(run, Result.FAILED, "")
        assert run_json(history, run.run_id)["state"]["result_state"] == "FAILED"


def test_a_run_whose_process_is_gone_becomes_a_failed_one_with_the_reason(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    started = psutil.Process(gone.pid).create_time()
    gone.wait()
    with History(tmp_path) as history:
        run, _ = begun(history, tmp_path)
        history._db.execute("UPDATE runs SET pid = ?, pid_started = ?", (gone.pid, started))
        assert history.close_abandoned() == [run.run_id]
        assert history.close_abandoned() == []
        seen = run_json(history, run.run_id)
    why = f"The process that ran it (pid {gone.pid}) ended before the run did."
    assert seen["state"] == {"life_cycle_state": "INTERNAL_ERROR", "result_state": "FAILED", "state_message": why}
    assert [t["state"]["result_state"] for t in seen["tasks"]] == ["FAILED", "CANCELED"]
    assert seen["end_time"] >= seen["start_time"] > 0


def test_another_process_with_the_number_of_the_gone_one_does_not_keep_a_run_alive(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        run, _ = begun(history, tmp_path)
        history._db.execute("UPDATE runs SET pid = ?, pid_started = 100", (os.getppid(),))
        assert history.close_abandoned() == [run.run_id]


def test_runs_are_listed_newest_first_and_numbered_once(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        first, _ = begun(history, tmp_path)
        second, _ = begun(history, tmp_path)
        assert [run_summary(r)["run_id"] for r in history.runs()] == [second.run_id, first.run_id]
        ids = [r[0] for r in history.rows("SELECT run_id FROM runs UNION ALL SELECT run_id FROM task_runs")]
        assert len(set(ids)) == len(ids) == 6
        with pytest.raises(BundleError, match="there is no run 99"):
            run_json(history, 99)


def test_a_run_and_each_repair_of_it_write_down_whether_they_ran_from_wheels(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        names = (5, "a", "job a", "local", {}, tmp_path)
        run_id = history.new_id()
        for repair, wheel in ((0, False), (1, True), (2, False)):
            history.run_started(JobRun(run_id, *names, repair=repair, wheel=wheel))
            history.run_ended(JobRun(run_id, *names), Result.FAILED, "no")
            assert [row["wheel"] for row in history.runs()] == [wheel]
        assert [r["type"] for r in run_json(history, run_id)["repair_history"]] == ["ORIGINAL", "REPAIR", "REPAIR"]


def entered(history: History, folder: Path, limit: int) -> tuple[JobRun, int | None]:
    "A run of one and the same job that asks to be let in; the run it waits for, None if it is in."
    run = JobRun(history.new_id(), 5, "a", "job a", "local", {}, folder)
    history.run_started(run)
    return run, history.admit(run, limit)


def test_runs_of_a_job_wait_for_each_other_in_their_order(tmp_path: Path) -> None:
    with History(tmp_path) as history, History(tmp_path) as other:
        first, free = entered(history, tmp_path, 1)
        assert free is None
        second, ahead = entered(other, tmp_path, 1)
        third, _ = entered(history, tmp_path, 1)
        assert ahead == first.run_id
        assert run_json(history, second.run_id)["state"]["life_cycle_state"] == "QUEUED"
        history.run_ended(first, Result.SUCCESS, "")
        assert history.admit(third, 1) == second.run_id  # it does not overtake
        assert other.admit(second, 1) is None
        assert entered(history, tmp_path, 2)[1] is not None  # two are there: one runs, one waits
        assert history.admit(third, 2) is None


def test_runs_of_other_jobs_and_targets_do_not_count(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        entered(history, tmp_path, 1)
        for job, target in ((6, "local"), (5, "dev")):
            run = JobRun(history.new_id(), job, "b", "job b", target, {}, tmp_path)
            history.run_started(run)
            assert history.admit(run, 1) is None


def test_a_limit_of_nought_lets_nobody_in(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        run, ahead = entered(history, tmp_path, 0)
        assert ahead == run.run_id
        history.run_ended(run, Result.MAXIMUM_CONCURRENT_RUNS_REACHED, "no")
        assert run_json(history, run.run_id)["state"] == {
            "life_cycle_state": "SKIPPED",
            "result_state": "MAXIMUM_CONCURRENT_RUNS_REACHED",
            "state_message": "no",
        }


def test_a_history_of_an_earlier_version_is_read_and_continued(tmp_path: Path) -> None:
    with History(tmp_path) as history:
        run, _ = begun(history, tmp_path)
        for table, column in (("runs", "repair_count"), ("runs", "cancel_requested"), ("runs", "wheel"), ("task_runs", "repair")):
            history._db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        history._db.execute("DROP TABLE repairs")
    with History(tmp_path) as history:
        assert run_json(history, run.run_id)["repair_history"] == []
        history.request_cancel(run.run_id)
        assert history.cancel_requests() == [run.run_id]
