"What the references of a run read about its planned start, and what they answer in a run by hand."

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from boathouse.workspace.errors import CannotStart
from boathouse.workspace.history.trigger_starts import TriggerStart
from boathouse.workspace.parameters.references import Context, render
from boathouse.workspace.run.trigger import run_time, trigger_facts

PLANNED = datetime(2013, 10, 1, 6, tzinfo=UTC)


def start(kind: str, clock: int = 1, **details: Any) -> TriggerStart:
    return TriggerStart(5, clock, "j", kind, "key", PLANNED.timestamp(), PLANNED.timestamp() + 3600, details)


def read(text: str, planned: TriggerStart | None) -> str:
    return render(text, Context(1, "j", 2, run_time(planned), {}, trigger=trigger_facts(planned)))


TABLES = start("TABLE", changes={"c.s.t": "5/1380607200000"}, tables={"c.s.t": "5/1380607200000", "c.s.u": "9/0"})


@pytest.mark.parametrize(
    ("planned", "text", "value"),
    [
        (start("PERIODIC"), "{{job.trigger.type}} {{job.trigger.time.hour}} {{job.start_time.hour}}", "periodic 6 7"),
        (start("CONTINUOUS", after="4"), "{{job.trigger.type}}", "continuous"),
        (start("FILE_ARRIVAL", changes={"/in/a": "1"}, location="/in"), "{{job.trigger.file_arrival.location}}", "/in"),
        (TABLES, "{{job.trigger.type}} {{job.trigger.table_update.updated_tables}}", 'table ["c.s.t"]'),
        (TABLES, "{{job.trigger.table_update.c.s.t.version}} {{job.trigger.table_update.c.s.u.version}}", "5 9"),
        (TABLES, "{{job.trigger.table_update.`c`.s.`t`.commit_timestamp.iso_date}}", "2013-10-01"),
        (None, "{{job.trigger.type}}", "one_time"),
    ],
)
def test_a_reference_reads_the_planned_start(planned: TriggerStart | None, text: str, value: str) -> None:
    assert read(text, planned) == value


@pytest.mark.parametrize(
    ("planned", "ref", "why"),
    [
        (None, "file_arrival.location", "was not a file arrival trigger"),
        (None, "table_update.c.s.t.version", "was not a table update trigger"),
        (start("PERIODIC"), "table_update.updated_tables", "was not a table update trigger"),
        (TABLES, "table_update.c.s.x.version", "did not watch a table 'c.s.x' that exists"),
    ],
)
def test_a_value_that_the_start_does_not_have_stops_the_task_with_the_reason(planned: TriggerStart | None, ref: str, why: str) -> None:
    with pytest.raises(CannotStart) as refusal:
        read(f"{{{{job.trigger.{ref}}}}}", planned)
    assert str(refusal.value) == f"{{{{job.trigger.{ref}}}}} has no value in this run: what started it {why}."


def test_only_a_simulated_clock_changes_the_time_of_a_run() -> None:
    assert run_time(start("PERIODIC")).hour == 7
    assert run_time(start("PERIODIC", clock=0)) > datetime(2020, 1, 1, tzinfo=UTC)
