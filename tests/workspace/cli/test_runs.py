"""`boathouse runs`, `logs` and `open` on a history that is written as a run writes it, without a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from boathouse.workspace.cli.main import main
from boathouse.workspace.graph.state_machine import Result as Ended
from boathouse.workspace.history.as_json import run_json
from boathouse.workspace.history.store import History, JobRun, TaskEnd, TaskRun
from boathouse.workspace.notifications.outbox import Message, Occasion, Outbox


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "databricks.yml").write_text("bundle: {name: tiny}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def history(bundle: Path) -> Iterator[History]:
    with History(bundle / ".boathouse" / "default") as made:
        yield made


def start_run(history: History, key: str = "job", parent: TaskRun | None = None) -> JobRun:
    number = history.new_id()
    folder = parent.folder if parent else history.path.parent / "runs" / str(number)
    run = JobRun(number, 1, key, key, "default", {"day": "x"}, folder, parent and parent.run_id, parent.path if parent else ())
    history.run_started(run)
    history.admit(run, 9)
    return run


def start_task(
    history: History, run: JobRun, key: str, log: str | None = None, attempt: int = 0, kind: str = "spark_python_task"
) -> TaskRun:
    folder = run.folder / key / f"attempt-{attempt}" if attempt else run.folder / key
    task = TaskRun(history.new_id(), run, key, 0, kind, folder, attempt)
    history.task_waiting(task)
    history.task_started(task)
    if log is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").write_text(log)
    return task


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def nested_run(history: History) -> JobRun:
    "A run of two tasks: `first`, which failed once, and `month`, which ran a job with a task `train` and one `first`."
    run = start_run(history, "outer")
    history.task_ended(start_task(history, run, "first", "tried\n"), TaskEnd(Ended.FAILED))
    history.task_ended(start_task(history, run, "first", "done\n", attempt=1), TaskEnd(Ended.SUCCESS))
    month = start_task(history, run, "month", kind="run_job_task")
    below = start_run(history, "inner", month)
    history.task_ended(start_task(history, below, "train", "epoch 1\nepoch 2"), TaskEnd(Ended.SUCCESS))
    history.task_ended(start_task(history, below, "first", "inner first\n"), TaskEnd(Ended.SUCCESS))
    history.run_ended(below, Ended.SUCCESS, "")
    history.task_ended(month, TaskEnd(Ended.SUCCESS, child=below.run_id))
    history.run_ended(run, Ended.SUCCESS, "")
    return run


def test_a_run_shows_its_notifications_and_those_of_the_runs_below_it(history: History) -> None:
    run = nested_run(history)
    month = next(task for task in run_json(history, run.run_id)["tasks"] if task["task_key"] == "month")
    with Outbox(history.path.parent) as outbox:
        message = Message("subject", "text", {})
        (sent,) = outbox.add(Occasion("on_success", run.run_id), message, ["email:me@example.com"])
        outbox.mark(sent, "sent")
        (failed,) = outbox.add(Occasion("on_start", month["run"]["run_id"], task_run=7, task_key="train"), message, ["destination:team"])
        outbox.mark(failed, "failed", "127.0.0.1 answered 404")
    lines = [line.split() for line in call("runs", str(run.run_id)).stdout.splitlines()[-3:]]
    assert lines == [
        ["notification", "of", "to", "state", "tries", "message"],
        ["on_success", "run", "email:me@example.com", "sent", "0"],
        ["on_start", "month/train", "destination:team", "failed", "0", "127.0.0.1", "answered", "404"],
    ]
    shown = json.loads(call("runs", str(run.run_id), "--json").stdout)
    assert [row["event"] for row in shown["notifications"]] == ["on_success"]
    below = next(task for task in shown["tasks"] if task["task_key"] == "month")["run"]
    assert [(row["event"], row["error"]) for row in below["notifications"]] == [("on_start", "127.0.0.1 answered 404")]


def test_a_task_is_named_by_its_key_or_by_its_path_and_its_last_attempt_is_printed(history: History) -> None:
    run = str(nested_run(history).run_id)
    assert call("logs", run, "train").stdout == "epoch 1\nepoch 2"
    assert call("logs", run, "month/first").stdout == "inner first\n"
    assert call("logs", run, "first").stdout == "done\n"  # the path `first` is exact; `month/first` only ends so


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("month/trian", "has no task 'month/trian'. Did you mean 'month/train'?"),
        ("x", "Its tasks are first, month, month/train, month/first."),
    ],
)
def test_a_task_that_is_not_there_is_refused_with_those_that_are(history: History, task: str, expected: str) -> None:
    done = call("logs", str(nested_run(history).run_id), task)
    assert done.exit_code == 2
    assert expected in done.stderr


def test_a_key_that_two_nested_tasks_share_must_be_named_by_its_path(history: History) -> None:
    run = start_run(history)
    for key in ("a", "b"):
        task = start_task(history, run, key, kind="run_job_task")
        below = start_run(history, "inner", task)
        history.task_ended(start_task(history, below, "same", key), TaskEnd(Ended.SUCCESS))
        history.run_ended(below, Ended.SUCCESS, "")
        history.task_ended(task, TaskEnd(Ended.SUCCESS, child=below.run_id))
    done = call("logs", str(run.run_id), "same")
    assert "has several tasks 'same'. Name one of a/same, b/same." in done.stderr
    assert call("logs", str(run.run_id), "b/same").stdout == "b"


def test_without_a_task_all_logs_are_printed_below_their_names(history: History) -> None:
    run = str(nested_run(history).run_id)
    shown = call("logs", run).stdout
    assert shown == "==> first <==\ndone\n==> month/train <==\nepoch 1\nepoch 2\n==> month/first <==\ninner first\n"
    logs = json.loads(call("logs", run, "-o", "json").stdout)["logs"]
    assert [log["task"] for log in logs] == ["first", "month/train", "month/first"]
    assert Path(logs[0]["log"]).read_text() == "done\n"


def test_a_run_without_logs_has_nothing_to_print_and_says_so_on_stderr(history: History) -> None:
    run = start_run(history)
    history.run_ended(run, Ended.SUCCESS, "")
    done = call("logs", str(run.run_id))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"run {run.run_id} has printed nothing.\n")


def test_a_task_that_printed_nothing_has_an_empty_log_and_says_so_on_stderr(history: History) -> None:
    run = start_run(history)
    start_task(history, run, "t", "")
    done = call("logs", str(run.run_id), "t")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"task 't' of run {run.run_id} has printed nothing.\n")


def test_attempts_are_counted_from_one_as_on_the_page_of_the_run(history: History) -> None:
    rows = [line.split() for line in call("runs", str(nested_run(history).run_id)).stdout.splitlines()]
    assert [(row[0], row[2]) for row in rows if row[0] in ("first", "month")] == [("first", "2"), ("month", "1"), ("first", "1")]


def test_the_hole_in_a_log_that_is_too_long_is_not_printed(history: History) -> None:
    run = start_run(history)
    start_task(history, run, "t", "first\n" + "\0" * 100_000 + "last\n")
    assert call("logs", str(run.run_id), "t").stdout == "first\nlast\n"


def test_follow_prints_lines_as_they_come_and_ends_with_the_task(history: History, bundle: Path) -> None:
    run = start_run(history)
    task = start_task(history, run, "t", "one\n")
    code = "from boathouse.workspace.cli.main import main; main()"
    command = [sys.executable, "-u", "-c", code, "logs", str(run.run_id), "t", "-f"]
    follower = subprocess.Popen(command, cwd=bundle, stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    assert follower.stdout.readline() == "one\n"
    with (task.folder / "log.txt").open("a") as log:
        log.write("two\n")
    assert follower.stdout.readline() == "two\n"
    time.sleep(0.5)
    assert follower.poll() is None
    with (task.folder / "log.txt").open("a") as log:
        log.write("three\n")
    history.task_ended(task, TaskEnd(Ended.SUCCESS))
    assert follower.communicate(timeout=30)[0] == "three\n"
    assert follower.returncode == 0


def test_a_run_shows_durations_and_the_paths_of_its_logs(history: History, bundle: Path) -> None:
    run = nested_run(history)
    with history.transaction():
        history._db.execute("UPDATE task_runs SET end_time = start_time + 1316200 WHERE task_key = 'train'")
    lines = [line.split() for line in call("runs", str(run.run_id)).stdout.splitlines()]
    assert ["task", "result", "attempt", "time", "message", "log"] in lines
    assert ["train", "SUCCESS", "1", "21m56s", f".boathouse/default/runs/{run.run_id}/month/train/log.txt"] in lines
    assert [line[0] for line in lines[2:]] == ["first", "month", "train", "first"]


def test_the_list_of_runs_can_be_limited_to_one_job_and_to_the_newest(history: History) -> None:
    for key in ("a", "b", "a", "a"):
        history.run_ended(start_run(history, key), Ended.SUCCESS, "")
    assert [r["run_id"] for r in json.loads(call("runs", "--json", "--job", "a", "--limit", "2").stdout)["runs"]] == [4, 3]
    assert len(json.loads(call("runs", "--json").stdout)["runs"]) == 4
    done = call("runs", "--job", "c")
    assert (done.exit_code, done.stderr) == (2, "there is no job 'c', in the bundle or in the history.\n")
    assert call("runs", "4", "--limit", "2").exit_code == 2


def test_open_prints_the_address_of_the_page_of_the_whole_run_and_opens_it(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    run = nested_run(history)
    page = run.folder / "index.html"
    page.write_text("<html>")
    assert call("open", str(run.run_id), "--print").stdout == f"{page.as_uri()}\n"
    assert opened == []
    inner = next(r["run_id"] for r in history.rows("SELECT run_id FROM runs WHERE job_key = 'inner'"))
    assert call("open", str(inner)).exit_code == 0
    assert call("open").stdout == f"{page.as_uri()}\n"
    assert opened == [page.as_uri()] * 2
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert call("open").stderr == f"no browser could be started. Open {page.as_uri()} in one.\n"


def test_open_without_a_page_or_a_run_names_what_to_do(history: History) -> None:
    assert "no run is recorded" in call("open").stderr
    run = start_run(history)
    assert "The page is written when the run has ended." in call("open", str(run.run_id)).stderr
    history.run_ended(run, Ended.SUCCESS, "")
    done = call("open", str(run.run_id), "--json")
    assert done.exit_code == 2
    assert "run the job again" in json.loads(done.stdout)["error"]["message"]
    assert call("open", "99").stderr.startswith("there is no run 99.")
