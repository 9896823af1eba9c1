"The page of a run: what stands in it, where its links lead, and that names and messages stay text."

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from mlflow.tracking import MlflowClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from boathouse.workspace.graph.layout import place_tasks
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.history.as_json import run_json
from boathouse.workspace.history.mlflow_runs import TASK_RUN
from boathouse.workspace.history.store import History, JobRun, TaskEnd, TaskRun
from boathouse.workspace.run.page import RunPages, write_page
from boathouse.workspace.worker.notebook.output import write_notebook_page

HOSTILE = "<script>alert('&\"')</script>"


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "state") as opened:
        yield opened


def begin(history: History, key: str = "training", parent: TaskRun | None = None, **parameters: str) -> JobRun:
    number = history.new_id()
    folder = parent.folder if parent else history.path.parent / "runs" / str(number)
    run = JobRun(number, 7, key, key, "local", parameters, folder, parent.run_id if parent else None)
    history.run_started(run)
    history.admit(run, 1)
    return run


def task(
    history: History, run: JobRun, key: str, *needs: str, position: int = 0, kind: str = "python_wheel_task", **more: object
) -> TaskRun:
    attempt = int(more.get("attempt", 0))  # type: ignore[call-overload]
    folder = run.folder / key / (f"attempt-{attempt}" if attempt else "")
    one = TaskRun(history.new_id(), run, key, position, kind, folder, depends_on=tuple((n, None) for n in needs), **more)  # type: ignore[arg-type]
    folder.mkdir(parents=True)
    history.task_waiting(one)
    return one


def carry_out(history: History, one: TaskRun, result: Result = Result.SUCCESS, log: str = "rowed\n", **more: object) -> None:
    history.task_started(one)
    (one.folder / "log.txt").write_text(log)
    history.task_ended(one, TaskEnd(result, **more))  # type: ignore[arg-type]


def end(history: History, run: JobRun, result: Result = Result.SUCCESS, message: str = "") -> BeautifulSoup:
    history.run_ended(run, result, message)
    return page_of(history, run)


def page_of(history: History, run: JobRun) -> BeautifulSoup:
    return BeautifulSoup(write_page(history, run.run_id).read_text(), "html.parser")


def rows(page: BeautifulSoup, section: str) -> list[list[str]]:
    found = page.select(f"#{section} tbody tr")
    return [[" ".join(cell.get_text(" ").split()) for cell in row.find_all("td")] for row in found]


def badge(page: BeautifulSoup | Tag) -> str:
    found = page.select_one(".badge")
    assert found is not None
    return found.get_text()


def test_a_page_names_job_target_run_state_and_parameters_and_needs_nothing_from_outside(history: History) -> None:
    run = begin(history, as_of="2013-10-01", empty="")
    carry_out(history, task(history, run, "train"))
    page = end(history, run)
    facts = {d.dt.get_text(): d.dd.get_text() for d in page.select(".facts div")}  # type: ignore[union-attr]
    assert {
        "job": "training",
        "target": "local",
        "run": str(run.run_id),
        "as_of": "2013-10-01",
        "empty": "(empty)",
    }.items() <= facts.items()
    assert (badge(page.header), page.title.get_text()) == ("SUCCESS", f"training, run {run.run_id}: SUCCESS")  # type: ignore[arg-type, union-attr]
    assert not page.find_all(["script", "link"])
    assert not [a for a in page.select("[src], [href]") if str(a.get("src") or a.get("href")).startswith(("http", "/"))]
    assert page.select_one("meta[http-equiv]") is None


def test_a_failed_task_shows_its_message_the_end_of_its_log_and_where_the_whole_log_is(history: History) -> None:
    run = begin(history)
    bad = task(history, run, "train")
    carry_out(history, bad, Result.FAILED, "\n".join(f"line {i}" for i in range(100)), message="ValueError: no oars")
    history.task_ended(task(history, run, "validate", "train", position=1), TaskEnd(Result.UPSTREAM_FAILED))
    failures = end(history, run, Result.FAILED, "Task train failed: ValueError: no oars").select_one("#failures")
    assert failures is not None
    assert [h.get_text(" ", strip=True) for h in failures.find_all("h3")] == ["train FAILED"]
    assert "ValueError: no oars" in failures.get_text()
    tail = failures.pre.get_text().splitlines()  # type: ignore[union-attr]
    assert (tail[0], tail[-1]) == ("line 85", "line 99")
    assert (run.folder / unquote(str(failures.a["href"]))).read_text().startswith("line 0\n")  # type: ignore[index]


def test_names_messages_and_logs_stay_text(history: History) -> None:
    run = begin(history, HOSTILE, given=HOSTILE)
    each = task(history, run, "each", kind="for_each_task")
    history.task_started(each)
    one = TaskRun(history.new_id(), run, "i", 0, "python_wheel_task", each.folder / "0 #%?", loop=each.run_id, item=HOSTILE)
    one.folder.mkdir()
    history.task_waiting(one)
    carry_out(history, one, Result.FAILED, HOSTILE, message=HOSTILE, values={HOSTILE: HOSTILE}, exit_value=HOSTILE)
    history.task_ended(each, TaskEnd(Result.FAILED, HOSTILE))
    page = end(history, run, Result.FAILED, HOSTILE)
    assert page.find_all("script") == []
    assert page.h1.get_text().startswith(HOSTILE)  # type: ignore[union-attr]
    for section in ("failures", "graph", "tasks", "published"):
        assert HOSTILE in page.select_one(f"#{section}").get_text(), section  # type: ignore[union-attr]
    log = [unquote(str(a["href"])) for a in page.select("#tasks a") if a.get_text() == "log"]
    assert [(run.folder / name).read_text() for name in log] == [HOSTILE]


def test_the_graph_shows_every_task_its_state_and_what_it_depends_on(history: History) -> None:
    run = begin(history)
    for position, (key, *needs) in enumerate((("a",), ("b", "a"), ("c", "a"), ("d", "b", "c"), ("e", "a", "d"))):
        carry_out(history, task(history, run, key, *needs, position=position), Result.SUCCESS if key != "c" else Result.FAILED)
    graph = end(history, run, Result.SUCCESS_WITH_FAILURES).select_one("#graph")
    assert graph is not None
    states = {a.select_one(".key").get_text(): a.g["class"][1] for a in graph.select("svg a")}  # type: ignore[union-attr, index]
    assert states == {"a": "ok", "b": "ok", "c": "bad", "d": "ok", "e": "ok"}
    assert len(graph.select("path.line")) == 6


def test_boxes_of_a_graph_do_not_overlap_and_no_line_crosses_one() -> None:
    needs: dict[str, list[str]] = {
        "a": [],
        "b": ["a"],
        "c": ["a"],
        "d": ["b", "c"],
        "e": ["a", "d"],
        "f": ["a"],
        "alone": [],
        "g": ["gone"],
    }
    drawing = place_tasks(needs, dict.fromkeys(needs, 120.0), 60.0)
    boxes = drawing.boxes
    assert all(b.x >= 0 and b.x + b.width <= drawing.width and b.y >= 0 and b.y + b.height <= drawing.height for b in boxes.values())
    pairs = [(boxes[m], boxes[n]) for m in boxes for n in boxes if m < n]
    assert all(m.x + m.width < n.x or n.x + n.width < m.x or m.y + m.height < n.y or n.y + n.height < m.y for m, n in pairs)
    assert set(drawing.lines) == {(n, key) for key, upstream in needs.items() for n in upstream if n in needs}
    inner = [point for points in drawing.lines.values() for point in points[1:-1]]
    assert inner
    assert not [1 for x, y in inner for b in boxes.values() if b.x <= x <= b.x + b.width and b.y <= y <= b.y + b.height]
    assert place_tasks({}, {}, 60.0).boxes == {}


def test_loops_and_nested_jobs_are_listed_drawn_and_linked_to_their_own_pages(history: History) -> None:
    top = begin(history, "lifecycle")
    nested = task(history, top, "training", kind="run_job_task")
    history.task_started(nested)
    below = begin(history, "training", nested)
    carry_out(history, task(history, below, "train"), values={"accepted": "true"})
    bad = task(history, below, "validate", "train", position=1)
    carry_out(history, bad, Result.FAILED, "no champion\n", message="KeyError: 'champion'")
    end(history, below, Result.FAILED)
    history.task_ended(nested, TaskEnd(Result.FAILED, "Run 3 ended FAILED.", child=below.run_id))
    page = end(history, top, Result.FAILED)
    assert [d.title.get_text() for d in page.select("#graph svg a g g")] == ["train: SUCCESS", "validate: FAILED"]  # type: ignore[union-attr]
    (address,) = {str(a["href"]) for a in page.select("#graph svg a")}
    assert address == "training/index.html"
    assert (top.folder / address).is_file()
    assert [h.get_text(" ", strip=True) for h in page.select("#failures h3")] == ["training / validate FAILED"]
    assert rows(page, "published") == [["training / train", "accepted", "true"]]
    assert run_json(history, below.run_id)["run_page_url"] == (top.folder / address).as_uri()


def test_a_repaired_run_shows_all_attempts_and_all_repairs(history: History) -> None:
    run = begin(history)
    carry_out(history, task(history, run, "train"), Result.FAILED, message="no oars")
    end(history, run, Result.FAILED)
    again = JobRun(run.run_id, 7, "training", "training", "local", {}, run.folder, repair=1)
    history.run_started(again)
    carry_out(history, task(history, again, "train", attempt=1))
    page = end(history, again)
    attempts = [row for row in rows(page, "tasks") if len(row) == 6]
    assert [(row[1], row[2]) for row in attempts] == [("FAILED", "1 of 2"), ("SUCCESS", "2 of 2 repair 1")]
    assert [row[:2] for row in rows(page, "repairs")] == [["original run", "FAILED"], ["repair 1", "SUCCESS"]]
    assert page.select_one("#failures") is None
    assert len({a["href"] for a in page.select("#tasks a") if a.get_text() == "log"}) == 2


def report(folder: Path, secret_code: str = "x = 1") -> None:
    cells = [
        new_markdown_cell("# Boats"),
        new_code_cell(
            secret_code, outputs=[new_output("display_data", {"text/html": "<table class='dataframe'><tr><td>17 boats</td></tr></table>"})]
        ),
        new_code_cell(
            "1 / 0",
            outputs=[new_output("error", ename="ZeroDivisionError", evalue="division", traceback=["Traceback", "ZeroDivisionError"])],
        ),
    ]
    write_notebook_page(nbformat.from_dict(new_notebook(cells=cells)), folder / "notebook.html")


def test_the_last_report_stands_in_the_page_without_its_code_and_the_others_are_linked(history: History) -> None:
    run = begin(history)
    for position, (key, *needs) in enumerate((("first",), ("last", "first"))):
        one = task(history, run, key, *needs, position=position, kind="notebook_task")
        report(one.folder)
        carry_out(history, one)
    page = end(history, run)
    (shown,) = page.select("#reports article .report")
    assert (shown.h1.get_text(), shown.td.get_text()) == ("Boats", "17 boats")  # type: ignore[union-attr]
    assert [(a.get_text(), a["href"]) for a in page.select("#reports li a")] == [("first", "first/notebook.html")]
    style = page.style.get_text()  # type: ignore[union-attr]
    assert ".report .code { display: none; }" in style
    assert ".report .code.failed { display: block; }" in style
    assert [" ".join(d["class"]) for d in shown.select(".code")] == ["code", "code failed"]


def test_a_notebooks_page_has_its_code_behind_a_switch_and_loads_scripts_only_for_results_that_need_them(tmp_path: Path) -> None:
    report(tmp_path)
    page = BeautifulSoup((tmp_path / "notebook.html").read_text(), "html.parser")
    assert page.select_one("input#code[type=checkbox]") is not None
    assert page.find_all("script") == []
    active = new_code_cell("", outputs=[new_output("display_data", {"text/html": "<script>draw()</script>"})])
    write_notebook_page(nbformat.from_dict(new_notebook(cells=[active, new_markdown_cell("$x^2$")])), tmp_path / "active.html")
    loaded = [str(s["src"]) for s in BeautifulSoup((tmp_path / "active.html").read_text(), "html.parser").find_all("script", src=True)]
    assert [next(n for n in ("require", "jquery", "mathjax") if n in address.lower()) for address in loaded] == [
        "require",
        "jquery",
        "mathjax",
    ]


def test_files_and_mlflow_runs_of_a_task_are_linked_and_nested_mlflow_runs_are_not(history: History, tmp_path: Path) -> None:
    state = history.path.parent
    client = MlflowClient(f"sqlite:///{state}/mlflow.db")
    experiment = client.create_experiment("boats", artifact_location=str(tmp_path / "artifacts of boats"))
    run = begin(history)
    one = task(history, run, "train")
    (one.folder / "chart.png").write_bytes(b"")
    (one.folder / "data.csv").write_text("")
    (one.folder / "result.json").write_text("{}")
    tagged = client.create_run(experiment, tags={TASK_RUN: str(one.run_id)}, run_name="late boats")
    client.create_run(experiment, tags={TASK_RUN: str(one.run_id), "mlflow.parentRunId": tagged.info.run_id}, run_name="trial 1")
    client.create_run(experiment, tags={TASK_RUN: "999"}, run_name="somebody else's")
    client.log_text(tagged.info.run_id, "<p>card</p>", "card.html")
    other = client.create_run(experiment, run_name="named by a value")
    carry_out(history, one, values={"model_run": other.info.run_id, "accepted": False, "months": ["a", "b"]})
    page = end(history, run)
    found = {name: value for _, name, value in rows(page, "published")}
    assert (found["accepted"], found["months"], found["files"]) == ("false", '["a", "b"]', "chart.png")
    logged = [value for _, name, value in rows(page, "published") if name == "MLflow run"]
    assert sorted(value.split(" in boats")[0] for value in logged) == ["late boats", "named by a value"]
    (card,) = [unquote(str(a["href"])) for a in page.select("#published a") if a.get_text() == "card.html"]
    assert (run.folder / card).resolve().read_text() == "<p>card</p>"


def test_a_run_that_goes_on_loads_itself_again_and_its_page_follows_what_happens(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boathouse.workspace.run.page.REFRESH", 0.01)
    pages, over = RunPages(history), threading.Event()
    thread = threading.Thread(target=pages.refresh, args=(over,), daemon=True)
    thread.start()
    run = begin(history)
    one = task(history, run, "train")
    history.task_started(one)
    pages.task_started(one)
    file, deadline = run.folder / "index.html", time.monotonic() + 20
    while not file.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    page = BeautifulSoup(file.read_text(), "html.parser")
    assert (badge(page.header), page.select_one("meta[http-equiv=refresh]") is None) == ("RUNNING", False)  # type: ignore[arg-type]
    history.task_ended(one, TaskEnd(Result.CANCELED))
    history.run_ended(run, Result.CANCELED, "The run was cancelled.")
    pages.run_ended(run, Result.CANCELED, "")
    over.set()
    thread.join()
    assert badge(BeautifulSoup(file.read_text(), "html.parser").header) == "CANCELED"  # type: ignore[arg-type]


def test_a_page_that_cannot_be_written_is_said_and_nothing_else_happens(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin(history)
    (run.folder / "index.html").mkdir(parents=True)
    RunPages(history).run_ended(run, Result.SUCCESS, "")
    assert f"The page of run {run.run_id} could not be written: IsADirectoryError" in capsys.readouterr().err


def test_a_store_that_mlflow_has_not_filled_yet_is_no_error(history: History) -> None:
    with closing(sqlite3.connect(history.path.with_name("mlflow.db"))) as store:
        store.execute("CREATE TABLE alembic_version (version_num TEXT)")
    run = begin(history)
    carry_out(history, task(history, run, "train"), values={"rows": json.loads("17")})
    assert rows(end(history, run), "published") == [["train", "rows", "17"]]
