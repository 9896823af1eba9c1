"What is due when, as a pure function: schedules under sleep and changed clocks, changes under timers, failures of continuous jobs."

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.workspace.triggers.evaluate import GRACE, DueStart, Observation, TriggerState, arm, evaluate, next_time
from boathouse.workspace.triggers.settings import JobTrigger

NOON = datetime(2013, 10, 1, 12, tzinfo=UTC).timestamp()
HOURLY = JobTrigger("cron", expression="0 0 * * * ?", zone="UTC")
HOURS = JobTrigger("periodic", interval=3600)
H = 3600.0


def follow(trigger: JobTrigger, *steps: tuple[float, Observation], grace: float | None = GRACE) -> list[tuple[float, str]]:
    "The starts of a trigger that is armed at noon and evaluated at these seconds after noon; each with the second at which it was noticed."
    state, found = arm(trigger, NOON), list[tuple[float, str]]()
    for after, observed in steps:
        decision = evaluate(trigger, TriggerState.from_json(state.to_json()), observed, NOON + after, grace)
        state, found = decision.state, [*found, *((after, start.key) for start in decision.starts)]
    return found


@pytest.mark.parametrize("trigger", [HOURLY, HOURS])
def test_a_schedule_starts_at_its_times_and_not_at_those_that_it_slept_through(trigger: JobTrigger) -> None:
    awake = [(H - 1, {}), (H, {}), (H + 1, {}), (2 * H + 0.7, {})]
    asleep = [(5 * H + GRACE - 1, {}), (7 * H + GRACE + 1, {}), (8 * H, {})]
    assert follow(trigger, *awake, *asleep) == [
        (H, "2013-10-01T13:00:00Z"), (2 * H + 0.7, "2013-10-01T14:00:00Z"),
        (5 * H + GRACE - 1, "2013-10-01T17:00:00Z"), (8 * H, "2013-10-01T20:00:00Z"),
    ]  # fmt: skip


def test_what_was_missed_is_reported_with_its_first_time() -> None:
    decision = evaluate(HOURLY, arm(HOURLY, NOON), {}, NOON + 5 * H + 100)
    assert (decision.starts, decision.missed) == ((), NOON + H)
    assert evaluate(HOURLY, decision.state, {}, NOON + 5 * H + 101).missed is None


def test_a_simulated_clock_misses_nothing() -> None:
    assert [key for _, key in follow(HOURLY, (3 * H + 5, {}), grace=None)] == [f"2013-10-01T{h}:00:00Z" for h in (13, 14, 15)]


def test_a_clock_that_goes_back_a_little_repeats_nothing_and_one_that_was_wrong_starts_over() -> None:
    assert [at for at, _ in follow(HOURLY, (H, {}), (H - 30, {}), (H, {}), (2 * H, {}))] == [H, 2 * H]
    assert [key for _, key in follow(HOURLY, (1000 * H, {}), (H - 1, {}), (H, {}))][-1] == "2013-10-01T13:00:00Z"


def test_a_changed_trigger_starts_over_and_an_unchanged_one_goes_on() -> None:
    state = evaluate(HOURS, arm(HOURS, NOON), {}, NOON + H).state
    assert arm(HOURS, NOON + 2 * H, state) == state
    changed = arm(replace(HOURS, interval=60), NOON + 2 * H, state)
    assert (changed.anchor, changed.last_start, changed.number) == (NOON + 2 * H, None, state.number)  # the number keeps keys unique


@given(st.lists(st.integers(0, 30 * 60), min_size=1, max_size=60), st.sampled_from([HOURLY, HOURS]))
def test_however_often_it_is_evaluated_each_time_starts_once(pauses: list[int], trigger: JobTrigger) -> None:
    times = [sum(pauses[: n + 1]) for n in range(len(pauses))]
    found = follow(trigger, *((at, {}) for at in times))
    hours = [n for n in range(1, int(times[-1] // H) + 1) if any(0 <= at - n * H <= GRACE for at in times)]
    assert [key for _, key in found] == [f"{datetime.fromtimestamp(NOON + n * H, UTC):%Y-%m-%dT%H:%M:%SZ}" for n in hours]


@given(st.lists(st.integers(0, 10 * 3600), min_size=1, max_size=30), st.sampled_from([HOURLY, HOURS]))
def test_however_fast_a_simulated_clock_is_each_time_starts_once(pauses: list[int], trigger: JobTrigger) -> None:
    end = sum(pauses)
    found = follow(trigger, *((sum(pauses[: n + 1]), {}) for n in range(len(pauses))), grace=None)
    expected = [datetime.fromtimestamp(NOON + n * H, UTC) for n in range(1, int(end // H) + 1)]
    assert [key for _, key in found] == [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in expected]


ONE = JobTrigger("table_update", tables=("c.s.a", "c.s.b"))


def test_a_table_that_is_there_starts_nothing_and_each_new_version_or_table_does() -> None:
    steps = [
        (0, {"c.s.a": "4/0"}),
        (1, {"c.s.a": "4/0"}),
        (2, {"c.s.a": "5/9"}),
        (3, {"c.s.a": "5/9"}),
        (4, {"c.s.a": "5/9", "c.s.b": "0/9"}),
    ]
    dropped = [(5, {"c.s.b": "0/9"}), (6, {"c.s.a": "0/10", "c.s.b": "0/9"})]
    assert follow(ONE, *steps, *dropped) == [(2, "1: c.s.a@5/9"), (4, "2: c.s.b@0/9"), (6, "3: c.s.a@0/10")]


def test_all_updated_waits_for_every_table() -> None:
    steps = [(0, {"c.s.a": "0/0", "c.s.b": "0/0"}), (1, {"c.s.a": "1/1", "c.s.b": "0/0"}), (2, {"c.s.a": "2/2", "c.s.b": "0/0"})]
    last = {"c.s.a": "2/2", "c.s.b": "1/3"}
    assert follow(replace(ONE, every_table=True), *steps, (3, last), (4, last)) == [(3, "1: c.s.a@2/2, c.s.b@1/3")]


def test_the_timers_hold_a_start_back_until_changes_have_ended_and_the_last_start_is_long_ago() -> None:
    trigger = replace(ONE, wait=60, min_time=600)
    changes = [(t, {"c.s.a": f"{t}/0"}) for t in (0, 10, 40, 80)]
    quiet = [(t, {"c.s.a": "80/0"}) for t in (139, 140, 200)]
    again = [(t, {"c.s.a": "99/0"}) for t in (300, 370, 739, 740)]
    assert [at for at, _ in follow(trigger, *changes, *quiet, *again)] == [140, 740]
    state = evaluate(trigger, evaluate(trigger, arm(trigger, NOON), {}, NOON).state, {"c.s.a": "1/0"}, NOON + 5).state
    assert next_time(trigger, state) == NOON + 65


def test_new_files_start_a_run_and_changed_or_removed_ones_do_not() -> None:
    files = JobTrigger("file_arrival", url="/in/")
    steps = [(0, {"a": "1"}), (1, {"a": "2"}), (2, {}), (3, {"b": "1"}), (4, {"b": "2"}), (5, {"a": "1", "b": "2"})]
    assert follow(files, *steps) == [(3, "1: b@1"), (5, "2: a@1")]


def test_a_file_that_still_grows_is_waited_for() -> None:
    files = JobTrigger("file_arrival", url="/in/", wait=60)
    grown = [(t, {"a": str(min(t, 100))}) for t in (10, 50, 100, 159, 160)]
    assert follow(files, (0, {}), *grown) == [(160, "1: a@100")]


def test_an_alias_that_is_set_starts_a_run_also_when_it_returns_to_an_earlier_version() -> None:
    model = JobTrigger("model", condition="MODEL_ALIAS_SET")
    steps = [(0, {"m/1@champion": ""}), (1, {"m/2@champion": ""}), (2, {"m/2@champion": ""}), (3, {"m/1@champion": ""})]
    assert follow(model, *steps) == [(1, "1: m/2@champion"), (3, "2: m/1@champion")]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.integers(0, 3), st.integers(0, 5))
def test_no_change_is_lost_and_none_starts_two_runs(versions: list[int], wait: int, min_time: int) -> None:
    trigger = replace(ONE, wait=wait, min_time=min_time)
    later = [(len(versions) + n, {"c.s.a": f"{versions[-1]}/0"}) for n in range(wait + min_time + 1)]
    starts = [at for at, _ in follow(trigger, *((n, {"c.s.a": f"{v}/0"}) for n, v in enumerate(versions)), *later)]
    handled = [versions[0], *(versions[min(int(at), len(versions) - 1)] for at in starts)]
    assert handled[-1] == versions[-1]  # the last version led to a start, or was that of the last start
    assert all(before != after for before, after in pairwise(handled))
    assert all(after - before >= min_time for before, after in pairwise(starts))


def test_a_continuous_job_has_one_run_and_pauses_twice_as_long_after_each_failure() -> None:
    steps = [(0, "", "none"), (1, "1", "active"), (50, "1", "succeeded"), (51, "2", "active"), (60, "2", "failed"), (69, "2", "failed"),
             (70, "2", "failed"), (71, "3", "active"), (80, "3", "failed"), (99, "3", "failed"), (100, "3", "failed"), (101, "4", "active"),
             (102, "4", "succeeded"), (103, "5", "failed"), (112, "5", "failed"), (113, "5", "failed")]  # fmt: skip
    trigger = JobTrigger("continuous")
    assert [at for at, _ in follow(trigger, *((at, {run: result}) for at, run, result in steps))] == [0, 50, 70, 100, 102, 113]


def test_a_start_names_its_changes_for_the_references() -> None:
    state = evaluate(ONE, arm(ONE, NOON), {"c.s.b": "1/1"}, NOON).state
    (start,) = evaluate(ONE, state, {"c.s.a": "0/5", "c.s.b": "1/1"}, NOON + 1).starts
    assert start == DueStart("1: c.s.a@0/5", NOON + 1, {"changes": {"c.s.a": "0/5"}, "tables": {"c.s.a": "0/5", "c.s.b": "1/1"}})
