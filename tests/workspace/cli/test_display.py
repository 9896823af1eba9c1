"""What a run prints: lines where there is no terminal, a tree where there is one, a table at the end."""

from __future__ import annotations

import re
import time
from io import StringIO
from pathlib import Path

from rich.console import Console

from boathouse.workspace.cli.display import Display, last_lines
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.store import JobRun, TaskEnd, TaskRun


def play(display: Display, folder: Path) -> None:
    "A run of a job whose first task runs a job with a failing task, and whose second is a notebook."
    top = JobRun(1, 5, "outer", "outer", "local", {"day": "x"}, folder)
    nested = TaskRun(2, top, "nested", 0, "run_job_task", folder / "nested")
    report = TaskRun(3, top, "report", 1, "notebook_task", folder / "report", depends_on=(("nested", None),))
    below = JobRun(4, 6, "inner", "inner", "local", {}, folder / "nested", parent=2, path=nested.path)
    bad = TaskRun(5, below, "bad", 0, "spark_python_task", folder / "nested" / "bad")
    for task in (nested, report):
        (folder / task.key).mkdir()
    (folder / "nested" / "bad").mkdir()
    (folder / "nested" / "bad" / "log.txt").write_text("\n".join(f"line {i} [red]" for i in range(100)))
    (folder / "index.html").write_text("<html>")
    display.run_started(top)
    for task in (nested, report):
        display.task_waiting(task)
    display.task_started(nested)
    display.run_started(below)
    display.task_waiting(bad)
    display.task_started(bad)
    display.task_ended(bad, TaskEnd(Result.FAILED, "ValueError: oops [bold]"))
    display.run_ended(below, Result.FAILED, "")
    display.task_ended(nested, TaskEnd(Result.FAILED, "Run 4 of job 'inner' ended FAILED."))
    display.task_started(report)
    display.task_ended(report, TaskEnd(Result.SUCCESS, exit_value="a | b\n1 | 2"))
    display.run_ended(top, Result.SUCCESS_WITH_FAILURES, "")


def test_without_a_terminal_each_event_is_a_line_and_the_table_nests(tmp_path: Path) -> None:
    out = StringIO()
    with Display(Console(file=out, width=200, highlight=False)) as display:
        play(display, tmp_path)
    message = re.sub(r"\d+\.\ds", "N", out.getvalue())
    lines = [" ".join(line.split()) for line in message.splitlines()]
    assert lines[0] == "run 1 of job 'outer' (target local): day=x"
    assert "N nested/bad started" in lines
    assert "N nested/bad FAILED N" in lines
    assert "nested/bad FAILED: ValueError: oops [bold]" in lines
    assert "line 99 [red]" in lines
    assert "line 84 [red]" not in lines
    assert f"the whole log: {tmp_path}/nested/bad/log.txt" in lines
    table = [line for line in message.splitlines() if line.startswith(("nested  ", "  bad  ", "report  "))]
    assert [line.split() for line in table] == [["nested", "FAILED", "N"], ["bad", "FAILED", "N"], ["report", "SUCCESS", "N"]]
    assert "\nreport:\na | b\n1 | 2\n" in message
    assert lines[-3].startswith("run 1 of job 'outer': SUCCESS_WITH_FAILURES in N.")
    assert lines[-2].startswith("warning: a task failed")
    assert lines[-1] == f"page: {(tmp_path / 'index.html').as_uri()}"


def test_on_a_terminal_a_tree_shows_what_runs_and_the_table_stays(tmp_path: Path) -> None:
    out = StringIO()
    display = Display(Console(file=out, width=100, force_terminal=True, color_system=None, highlight=False))
    with display:
        play(display, tmp_path)
        probe = Console(file=StringIO(), width=100)
        probe.print(display._tree())
    tree = [" ".join(re.sub(r"\d+\.\ds", "N", line).split()) for line in probe.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert tree == ["outer (run 1)", "├── nested FAILED N", "│ └── bad FAILED N", "└── report SUCCESS N"]
    assert "nested/bad  started" not in out.getvalue()
    assert "SUCCESS_WITH_FAILURES in " in out.getvalue()


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("x" * 10_000_000 + "\nthe end\n")
    assert last_lines(log)[-1] == "the end"
    assert len(last_lines(log)[0]) == 500
    assert last_lines(tmp_path / "none") == []


def long_task(display: Display, folder: Path) -> Path:
    "A task that began ten seconds ago beside one that began just now; the log of the first."
    top = JobRun(1, 5, "outer", "outer", "local", {}, folder)
    display.run_started(top)
    for number, key in enumerate(("long", "short")):
        task = TaskRun(2 + number, top, key, number, "python_wheel_task", folder / key)
        task.folder.mkdir()
        (task.folder / "log.txt").write_text(f"{key}: trial 1 of 6\n\n")
        display.task_waiting(task)
        display.task_started(task)
    display._rows[2].begun = time.monotonic() - 10
    return folder / "long" / "log.txt"


def test_without_a_terminal_a_long_task_prints_its_newest_line_once_and_at_most_every_few_seconds(tmp_path: Path) -> None:
    out = StringIO()
    display = Display(Console(file=out, width=200, highlight=False))
    log = long_task(display, tmp_path)
    for _ in range(3):
        display.progress()
    assert out.getvalue().count("long  ... long: trial 1 of 6") == 1
    log.write_text("long: trial 1 of 6\nlong: trial 2 of 6\n")
    display.progress()  # too early after the last line
    assert "trial 2" not in out.getvalue()
    display._rows[2].shown = (time.monotonic() - 6, display._rows[2].shown[1])
    display.progress()
    assert "long  ... long: trial 2 of 6" in out.getvalue()
    assert "short: trial" not in out.getvalue()


def test_on_a_terminal_a_long_task_shows_its_newest_line_in_one_row_until_it_ends(tmp_path: Path) -> None:
    display = Display(Console(file=StringIO(), width=100, force_terminal=True, color_system=None, highlight=False))
    log = long_task(display, tmp_path)
    log.write_text("first\n" + "trial 2 of 6 " * 30 + "\n")

    def shown() -> list[str]:
        probe = Console(file=StringIO(), width=60)
        probe.print(display._tree())
        return probe.file.getvalue().splitlines()  # type: ignore[attr-defined]

    assert len(shown()) == 3
    assert "trial 2 of 6 trial 2" in shown()[1]
    assert re.fullmatch(r"└── short  running  \d\.\ds", shown()[2].strip())
    display.task_ended(display._rows[2].task, TaskEnd(Result.SUCCESS))
    assert "trial" not in shown()[1]
