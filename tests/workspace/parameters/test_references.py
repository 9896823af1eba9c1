"""`{{...}}` references, parameters pushed down to tasks, conditions and loop items."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from databricks.sdk.service.jobs import ConditionTask, ConditionTaskOp, NotebookTask, PythonWheelTask, SparkPythonTask, Task

from boathouse.workspace.bundle.jobs import TaskSource
from boathouse.workspace.bundle.yaml_tree import Map
from boathouse.workspace.errors import CannotStart, Where
from boathouse.workspace.parameters import arguments as parameters
from boathouse.workspace.parameters.for_each import items_of
from boathouse.workspace.parameters.references import Context, Upstream, find_references, reference_problem, render

UPSTREAM = {"up": Upstream(7, "success", {"n": 3, "s": "text", "l": ["a", 1], "yes": True}), "a-b": Upstream(8, "excluded")}
CONTEXT = Context(
    11,
    "demo",
    42,
    datetime(2013, 10, 1, 9, 5, 7, tzinfo=UTC),
    {"month": "2013-10"},
    task="here",
    task_run_id=43,
    notebook_path="/n",
    tasks=UPSTREAM,
    input={"id": 7.0, "k": "v"},
)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{job.parameters.month}}", "2013-10"),
        ("x={{ job.parameters.month }};", "x=2013-10;"),
        ("{{job.id}}/{{job.name}}/{{job.run_id}}/{{job.repair_count}}", "11/demo/42/0"),
        ("{{task.name}} {{task.run_id}} {{task.execution_count}}", "here 43 1"),
        (
            "{{job.start_time.iso_date}} {{job.start_time.hour}} {{job.start_time.iso_weekday}} {{job.start_time.is_weekday}}",
            "2013-10-01 9 2 true",
        ),
        ("{{job.start_time.timestamp_ms}}", "1380618307000"),
        ("{{tasks.up.values.n}} {{tasks.up.values.s}} {{tasks.up.values.l}} {{tasks.up.values.yes}}", '3 text ["a",1] true'),
        ("{{tasks.up.result_state}} {{tasks.up.run_id}} {{tasks.`a-b`.result_state}}", "success 7 excluded"),
        ("{{input}} {{input.id}} {{input.k}}", '{"id":7.0,"k":"v"} 7.0 v'),
        ("{{job_id}} {{run_id}} {{task_key}} {{start_date}}", "11 43 here 2013-10-01"),
        ("{{parent_run_id}} {{start_time}} {{task_retry_count}}", "42 1380618307000 0"),
        ("{{workspace.id}} {{workspace.url}} {{task.notebook_path}} {{tasks.up.error_code}}", "0 http://localhost /n "),
        ("{{job.trigger.type}}", "one_time"),
        (
            "{{job.parameters.month} {{ }} {{a b}} {{tasks.a-b.values.x}} {x}",
            "{{job.parameters.month} {{ }} {{a b}} {{tasks.a-b.values.x}} {x}",
        ),
        ("{{user.name}}", "{{user.name}}"),
    ],
)
def test_references_are_replaced_by_the_text_of_their_values_and_malformed_ones_stay(text: str, filled: str) -> None:
    assert render(text, CONTEXT) == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{job.parameters.mont}}", ("{{job.parameters.mont}}: the job declares no parameter 'mont'.", "Did you mean 'month'?")),
        ("{{job.nme}}", ("{{job.nme}} names nothing.", "Did you mean 'name'?")),
        ("{{jobs.parameters.month}}", ("{{jobs.parameters.month}} names nothing.", "Did you mean 'job'?")),
        ("{{job.start_time.iso_dat}}", ("{{job.start_time.iso_dat}} names nothing.", "Did you mean 'iso_date'?")),
        ("{{tasks.upp.values.n}}", ("{{tasks.upp.values.n}}: the job has no such task.", "Did you mean 'up'?")),
        ("{{tasks.other.values.n}}", ("{{tasks.other.values.n}}: the task 'other' is not upstream of this one.", "Add it to depends_on.")),
        ("{{tasks.up.value.n}}", ("{{tasks.up.value.n}} names nothing.", "Did you mean 'values'?")),
        ("{{tasks.up.values}}", ("{{tasks.up.values}} names nothing.", "Write {{tasks.<task>.values.<key>}}.")),
        ("{{input.x}}", ("{{input.x}} has a meaning only inside a for_each_task.", "")),
        ("{{job.parameters.month}}", ("", "")),
        ("{{tasks.up.values.n}}", ("", "")),
        ("{{user.name}}", ("", "")),
    ],
)
def test_a_reference_that_can_never_have_a_value_is_known_before_the_run(text: str, message: tuple[str, str]) -> None:
    assert (
        reference_problem(find_references(text)[0], parameters=["month"], upstream=["up"], tasks=["up", "other"], in_loop=False) == message
    )


def test_a_missing_task_value_is_named_when_the_task_starts() -> None:
    with pytest.raises(CannotStart, match=r"Task value referenced by '\{\{tasks.up.values.gone\}\}' was not found"):
        render("{{tasks.up.values.gone}}", CONTEXT)
    with pytest.raises(CannotStart, match="has no key 'x'"):
        render("{{input.x}}", CONTEXT)


def source(loop: str | None = None, **task: Any) -> TaskSource:
    node = Map(Where("f"))
    for key in task:
        node[key] = {}
    return TaskSource(Task("here", **task), node, loop)


def test_job_parameters_are_pushed_down_to_named_ones_and_beat_those_of_the_task() -> None:
    wheel = PythonWheelTask("p", "e", named_parameters={"month": "mine", "n": "{{tasks.up.values.n}}"})
    assert parameters.argv(source(python_wheel_task=wheel), CONTEXT) == ("--month=2013-10", "--n=3")
    notebook = NotebookTask("n.ipynb", base_parameters={"month": "mine", "other": "{{job.id}}"})
    assert parameters.widgets(source(notebook_task=notebook), CONTEXT) == {"month": "2013-10", "other": "11"}


def test_positional_parameters_get_nothing_pushed_down() -> None:
    script = SparkPythonTask("s.py", parameters=["-m", "{{job.parameters.month}}"])
    assert parameters.argv(source(spark_python_task=script), CONTEXT) == ("-m", "2013-10")
    wheel = PythonWheelTask("p", "e", parameters=["a"])
    assert parameters.argv(source(python_wheel_task=wheel), CONTEXT) == ("a",)


def test_the_body_of_a_loop_gets_no_job_parameters_by_itself() -> None:
    wheel = PythonWheelTask("p", "e", named_parameters={"i": "{{input.k}}"})
    assert parameters.argv(source("loop", python_wheel_task=wheel), CONTEXT) == ("--i=v",)


@pytest.mark.parametrize(
    ("left", "op", "right", "answer"),
    [
        ("12.0", "EQUAL_TO", "12", False),
        ("12", "EQUAL_TO", "{{tasks.up.values.n}}", False),
        ("3", "EQUAL_TO", "{{tasks.up.values.n}}", True),
        ("true", "EQUAL_TO", "{{tasks.up.values.yes}}", True),
        ("a", "NOT_EQUAL", "b", True),
        ("10", "GREATER_THAN", "9", True),
        ("3.0", "GREATER_THAN_OR_EQUAL", "3", True),
        ("2", "LESS_THAN", "10", True),
        ("3", "LESS_THAN_OR_EQUAL", "2", False),
    ],
)
def test_equality_compares_strings_and_orderings_compare_numbers(left: str, op: str, right: str, answer: bool) -> None:
    assert parameters.is_condition_true(ConditionTask(ConditionTaskOp(op), left, right), CONTEXT) is answer


def test_a_condition_on_a_word_or_a_list_fails_its_task() -> None:
    with pytest.raises(CannotStart, match="'many' is not a number"):
        parameters.is_condition_true(ConditionTask(ConditionTaskOp.LESS_THAN, "many", "3"), CONTEXT)
    with pytest.raises(CannotStart, match="neither a string, a number nor a boolean"):
        parameters.is_condition_true(ConditionTask(ConditionTaskOp.EQUAL_TO, "all: {{tasks.up.values.l}}", "3"), CONTEXT)
    with pytest.raises(CannotStart, match="neither a string, a number nor a boolean"):
        parameters.is_condition_true(ConditionTask(ConditionTaskOp.EQUAL_TO, "{{tasks.up.values.l}}", "3"), CONTEXT)


@pytest.mark.parametrize(
    ("number", "text"),
    [("7", "7.0"), ("-0.5", "-0.5"), ("9999999", "9999999.0"), ("10000000", "1.0E7"), ("123456789", "1.23456789E8"), ("0.0005", "5.0E-4"), ("0", "0.0")],
)  # fmt: skip
def test_a_number_inside_a_loops_object_is_written_as_java_writes_a_double(number: str, text: str) -> None:
    (item,) = items_of(f'[{{"n": {number}, "deep": [{number}]}}]')
    here = replace(CONTEXT, input=item)
    assert render("{{input.n}} {{input}}", here) == f'{text} {{"n":{text},"deep":[{text}]}}'


def test_whole_numbers_inside_loop_objects_become_doubles_and_bare_ones_stay() -> None:
    assert render("{{input}}", replace(CONTEXT, input=items_of("[12345678901]")[0])) == "12345678901"
    assert items_of('[{"id": 7, "s": "x", "b": true}]') == [{"id": 7.0, "s": "x", "b": True}]
    assert str(items_of('[7, "a", true]')) == "[7, 'a', True]"


@pytest.mark.parametrize("text", ["", "{}", "7", "[null]", "[[1]]", '[{"a": 1}, 2]', "['a']"])
def test_inputs_that_are_no_array_of_items_are_refused(text: str) -> None:
    with pytest.raises(CannotStart, match="'inputs'"):
        items_of(text)
