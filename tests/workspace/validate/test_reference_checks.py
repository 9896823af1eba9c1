"""Every `{{...}}` of the platform: which ones can have a value in a run here, and what is said about the others before it starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.parameters.references import TIMES, Context, Upstream, find_references, reference_problem, render
from boathouse.workspace.validate.check import findings

CONTEXT = Context(
    11,
    "demo",
    42,
    datetime(2013, 10, 5, 9, 5, 7, 120000, tzinfo=UTC),
    {"month": "2013-10"},
    task="here",
    task_run_id=43,
    tasks={"up": Upstream(7)},
)


def said(text: str, *, in_loop: bool = False, triggers: tuple[str, ...] = ()) -> tuple[str, str]:
    (ref,) = find_references(text)
    kinds = {"up": "notebook_task", "query": "sql_task"}
    return reference_problem(ref, parameters=["month", "a-b"], upstream=["up", "query"], tasks=["up", "query", "other"], in_loop=in_loop, kinds=kinds, triggers=triggers)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "job.id", "job.name", "job.run_id", "job.repair_count", "job.parameters.month", "job.parameters.`a-b`", "job.trigger.type",
        *(f"job.start_time.{t}" for t in TIMES), *(f"job.trigger.time.{t}" for t in TIMES),
        "task.name", "task.run_id", "task.execution_count", "task.notebook_path",
        "tasks.up.run_id", "tasks.up.result_state", "tasks.up.error_code", "workspace.id", "workspace.url",
        "job_id", "run_id", "parent_run_id", "start_date", "start_time", "task_key", "task_retry_count",
    ],
)  # fmt: skip
def test_a_reference_that_may_be_written_has_a_value(text: str) -> None:
    braced = "{{" + text + "}}"
    context = Context(**{**vars(CONTEXT), "parameters": {"month": "2013-10", "a-b": "x"}})
    assert said(braced) == ("", "")
    assert render(braced, context) != braced


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{{job.notebook_url}}", "names nothing.", ""),
        ("{{job}}", "names nothing.", "Known: id, name, run_id, repair_count, start_time, parameters, trigger."),
        ("{{job.id.x}}", "names nothing.", ""),
        ("{{job.retry_count}}", "names nothing.", "Did you mean 'repair_count'?"),
        ("{{task.retry_count}}", "names nothing.", "Did you mean 'execution_count'?"),
        ("{{job.start_time}}", "names nothing.", f"Known: {', '.join(TIMES)}."),
        ("{{job.parameters.a.b}}", ": the job declares no parameter 'a.b'.", "Did you mean 'a-b'?"),
        ("{{workspace.host}}", "names nothing.", ""),
        ("{{tasks.up.output.rows}}", ": a notebook_task has no output that can be referenced.", "Set a task value, and name that."),
        ("{{tasks.query.output.first_row.n}}", ": the output of SQL tasks does not exist on this machine.", ""),
        ("{{tasks.query.output.row}}", "names nothing.", "Did you mean 'rows'?"),
        ("{{job.trigger.tpe}}", "names nothing.", "Did you mean 'type'?"),
        ("{{job.trigger.type.x}}", "names nothing.", ""),
        ("{{job.trigger.file_arrival.locaton}}", "names nothing.", "Known: location."),
        ("{{job.trigger.file_arrival.location}}", "needs a file arrival trigger, which the job does not have.", ""),
        ("{{job.trigger.table_update.updated_tables}}", "needs a table update trigger, which the job does not have.", ""),
        ("{{job.trigger.table_update.c.s.t.version}}", "needs a table update trigger, which the job does not have.", ""),
        ("{{job.trigger.table_update.`c.s.t`.commit_timestamp.iso_date}}", "needs a table update trigger, which the job does not have.", ""),
        ("{{job.trigger.table_update.c.s.t.commit_timestamp.day_of}}", "names nothing.", "Known: updated_tables, <table>.version, <table>.commit_timestamp.<part of time>."),
        ("{{backfill.iso_date}}", "needs a backfill run.", "This machine runs none."),
        ("{{backfill.iso_dat}}", "names nothing.", "Did you mean 'iso_date'?"),
        ("{{input}}", "has a meaning only inside a for_each_task.", ""),
    ],
)  # fmt: skip
def test_each_reference_that_can_have_no_value_has_its_own_sentence(text: str, message: str, hint: str) -> None:
    assert said(text) == (f"{text}{'' if message.startswith(':') else ' '}{message}", hint)


def test_what_a_trigger_tells_needs_a_job_with_that_trigger() -> None:
    ref = "{{job.trigger.file_arrival.location}}"
    assert said(ref, triggers=("file_arrival",)) == ("", "")
    assert said(ref, triggers=("table_update",)) == (f"{ref} needs a file arrival trigger, which the job does not have.", "")


def test_inside_a_loop_only_the_items_own_keys_are_named() -> None:
    assert said("{{input}}", in_loop=True) == said("{{input.a}}", in_loop=True) == ("", "")
    message = "{{input.a.b}} reaches into a key of the item."
    assert said("{{input.a.b}}", in_loop=True) == (message, "Only the item's own keys can be named: {{input.a}}.")


def test_a_parameter_with_a_dot_in_its_name_is_quoted() -> None:
    (ref,) = find_references("{{job.parameters.a.b}}")
    told = reference_problem(ref, parameters=["a.b"], upstream=(), tasks=(), in_loop=False)
    assert told == ("{{job.parameters.a.b}} names nothing.", "Quote the name: {{job.parameters.`a.b`}}.")
    assert render("{{job.parameters.`a.b`}}", Context(**{**vars(CONTEXT), "parameters": {"a.b": "x"}})) == "x"


@pytest.mark.parametrize(
    "text", ["{{job.id}", "{job.id}}", "{{job.id + 1}}", "{{tasks.a-b.values.x}}", "{{}}", "{{.job}}", "{{job..id}}", "{{mustache}}"]
)
def test_what_is_not_well_formed_or_names_no_space_stays_as_it_is(text: str) -> None:
    assert render(text, CONTEXT) == text
    assert all(reference_problem(ref, parameters=(), upstream=(), tasks=(), in_loop=False) == ("", "") for ref in find_references(text))


def test_the_parts_of_a_time_are_in_utc() -> None:
    new_york = datetime(2013, 10, 4, 21, 5, 7, 120000, tzinfo=timezone(timedelta(hours=-4))).astimezone(UTC)
    parts = {part: render("{{job.start_time." + part + "}}", Context(**{**vars(CONTEXT), "started": new_york})) for part in TIMES}
    assert parts == {"iso_weekday": "6", "is_weekday": "false", "iso_date": "2013-10-05", "iso_datetime": "2013-10-05T01:05:07.120000", "year": "2013",
                     "month": "10", "day": "5", "hour": "1", "minute": "5", "second": "7", "timestamp_ms": "1380935107120"}  # fmt: skip


def test_a_reference_in_a_bundle_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "s.py").touch()
    (tmp_path / "databricks.yml").write_text(
        "bundle: {name: demo}\n"
        "resources: {jobs: {a: {\n"
        "  trigger: {table_update: {table_names: [c.s.t]}},\n"
        "  parameters: [{name: big, default: " + "x" * 9990 + "}],\n"
        "  tasks: [{task_key: t, spark_python_task: {python_file: s.py, parameters: ['{{job.trigger.file_arrival.location}}']}}]}}}\n"
    )
    every = all_jobs(load(tmp_path, environ={}))
    assert [str(f.problem) for f in findings(every, every["a"]) if f.level == "error"] == [
        "databricks.yml:4:3: the parameters of job 'a' take 10024 characters as JSON; 10000 is the most. Pass a path instead.",
        "databricks.yml:5:77: {{job.trigger.file_arrival.location}} needs a file arrival trigger, which the job does not have.",
    ]
