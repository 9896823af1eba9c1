"The state machine of a canary: what holds for any plan, any measurements and any failure of an update."

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.serving.canary import FINISH, GROW, HOLD, REVERT, CanaryPlan, Observation, next_step, run_canary

GOOD = Observation(requests=500, errors=0, latency_ratio=1.0, agreement=1.0)
PLAN = CanaryPlan(stable=2, canary=3)
figures = st.none() | st.just(float("nan")) | st.floats(-2, 4)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    requests = draw(st.sampled_from([0, 1, 199, 200, 5000]))
    errors = draw(st.integers(0, requests) | st.just(0))
    return Observation(
        requests, errors, draw(st.sampled_from([0.0, 0.1])), draw(figures), draw(figures), draw(st.sampled_from(["", "", "", "refused"]))
    )


any_observation = st.just(GOOD) | observations()
plans = st.builds(
    CanaryPlan,
    st.just(2),
    st.just(3),
    st.sets(st.integers(1, 99), min_size=1, max_size=5).map(lambda steps: tuple(sorted(steps))),
    patience=st.integers(0, 3),
)


class Endpoint:
    "Serves the traffic that it took over last. An update fails at the numbers given, and leaves the traffic as it was."

    def __init__(self, failing: set[int]) -> None:
        self.traffic: Mapping[int, int] = {2: 100}
        self.updates, self.failing = 0, failing

    def shift(self, traffic: Mapping[int, int]) -> None:
        self.updates += 1
        if self.updates in self.failing:
            raise RuntimeError("the container did not start")
        self.traffic = dict(traffic)


@given(plans, st.lists(any_observation, max_size=12))
def test_a_decision_has_the_traffic_of_one_step_and_its_reason(plan: CanaryPlan, seen: list[Observation]) -> None:
    decision = next_step(plan, seen)
    assert sum(decision.traffic.values()) == 100
    assert set(decision.traffic) <= {2, 3}
    assert decision.reasons
    share = decision.traffic.get(3, 0)
    assert {REVERT: share == 0, FINISH: share == 100}.get(decision.action, share in plan.steps)


@given(plans, st.lists(any_observation, max_size=12), any_observation)
def test_traffic_grows_by_one_step_after_an_observation_that_decides_and_never_after_another(
    plan: CanaryPlan, seen: list[Observation], newest: Observation
) -> None:
    levels = [0, *plan.steps, 100]
    before, after = (levels.index(next_step(plan, rows).traffic.get(3, 0)) for rows in (seen, [*seen, newest]))
    assert after in (0, before, before + 1)
    if after > before:
        assert newest.requests >= plan.requests
        assert not newest.failed_update
        assert newest.errors <= (plan.error_share + newest.stable_error_share) * newest.requests
        assert newest.latency_ratio is not None
        assert newest.latency_ratio <= plan.latency_ratio
        assert newest.agreement is not None
        assert newest.agreement >= plan.agreement


@given(plans, st.lists(any_observation, max_size=8), st.lists(any_observation, max_size=5))
def test_no_later_observation_revives_a_canary_that_was_reverted(
    plan: CanaryPlan, seen: list[Observation], later: list[Observation]
) -> None:
    if next_step(plan, seen).action == REVERT:
        assert next_step(plan, [*seen, *later]) == next_step(plan, seen)


@given(plans, st.lists(any_observation, max_size=40))
def test_a_rollout_ends(plan: CanaryPlan, seen: list[Observation]) -> None:
    most = len(plan.steps) * (plan.patience + 1)
    if len(seen) >= most:
        assert next_step(plan, seen).action in (REVERT, FINISH)


@given(plans, st.lists(any_observation, min_size=40, max_size=40), st.sets(st.integers(1, 8), max_size=3))
def test_an_endpoint_never_keeps_a_canary_route_after_a_revert_nor_loses_its_old_route_in_a_failed_update(
    plan: CanaryPlan, measured: list[Observation], failing: set[int]
) -> None:
    "kserve#2130: the route to a canary stayed after its removal. ray#66252: a failed update answered 503 though the old replicas were healthy."
    endpoint, answers, rows = Endpoint(failing), iter(measured), []

    def shift(traffic: Mapping[int, int]) -> None:
        before = endpoint.traffic
        try:
            endpoint.shift(traffic)
        finally:
            assert endpoint.traffic in (traffic, before)
            assert sum(endpoint.traffic.values()) == 100

    try:
        last = run_canary(plan, shift, lambda decision: replace(next(answers), failed_update=""), lambda *row: rows.append(row))
    except RuntimeError:  # the update of a revert failed, and perhaps its repetition too
        assert rows[-1][1].action == REVERT
        assert endpoint.traffic == {2: 100} or {endpoint.updates, endpoint.updates - 1} <= failing
        return
    assert endpoint.traffic == last.traffic == ({2: 100} if last.action == REVERT else {3: 100})
    assert [number for number, _, _ in rows] == list(range(len(rows)))
    assert rows[-1][1] == last
    # A process that was killed at any decision reaches the same decision from the rows.
    for number, decision, _ in rows:
        assert next_step(plan, [seen for _, _, seen in rows[: number + 1] if seen is not None]) == decision


def test_a_canary_that_breaks_off_leaves_all_requests_with_the_stable_version_and_a_row() -> None:
    endpoint, rows = Endpoint(set()), []

    def observe(decision: object) -> Observation:
        if endpoint.traffic == {2: 75, 3: 25}:
            raise KeyboardInterrupt
        return GOOD

    with pytest.raises(KeyboardInterrupt):
        run_canary(PLAN, endpoint.shift, observe, lambda *row: rows.append(row))
    assert endpoint.traffic == {2: 100}
    assert [decision.action for _, decision, _ in rows] == [GROW, GROW, REVERT]


@pytest.mark.parametrize(
    ("fails_to_record", "fails_to_shift", "notes"),
    [
        (False, False, []),
        (True, False, ["decision 2 (revert) must be recorded, but its record failed: OSError: no space left"]),
        (False, True, ["all requests must go back to version 2, but the update failed: RuntimeError: the container did not start"]),
        (True, True, ["all requests must go back to version 2", "decision 2 (revert) must be recorded"]),
    ],
)
def test_what_fails_while_a_canary_is_sent_back_is_noted_on_the_error_that_ended_it(
    fails_to_record: bool, fails_to_shift: bool, notes: list[str]
) -> None:
    endpoint, rows, measured = Endpoint({3} if fails_to_shift else set()), [], iter([GOOD])

    def record(number: int, *rest: object) -> None:
        if number == 2 and fails_to_record:
            raise OSError("no space left")
        rows.append(number)

    with pytest.raises(StopIteration) as error:
        run_canary(PLAN, endpoint.shift, lambda decision: next(measured), record)
    found = getattr(error.value, "__notes__", [])
    assert len(found) == len(notes)
    assert all(one.startswith(note) for one, note in zip(found, notes, strict=True))
    assert endpoint.traffic == ({2: 75, 3: 25} if fails_to_shift else {2: 100})
    assert rows == ([0, 1] if fails_to_record else [0, 1, 2])


CASES = [
    ("errors that a step may have at all", Observation(199, 2), HOLD),
    ("more errors than a step may have at all", Observation(20, 3), REVERT),
    ("as many errors as the stable version", Observation(500, 50, 0.1, 1.0, 1.0), GROW),
    ("slow, on too few requests to say so", Observation(50, 0, 0.0, 9.0, 1.0), HOLD),
    ("other predictions, on too few requests to say so", Observation(50, 0, 0.0, 1.0, -1.0), HOLD),
    ("slow", Observation(500, 0, 0.0, 1.26, 1.0), REVERT),
    ("other predictions", Observation(500, 0, 0.0, 1.0, 0.49), REVERT),
    ("no latency of the stable version", Observation(500, 0, 0.0, float("nan"), 1.0), HOLD),
    ("an update that failed", Observation(0, failed_update="refused"), REVERT),
]


@pytest.mark.parametrize(("name", "seen", "action"), CASES, ids=[case[0] for case in CASES])
def test_each_check_decides_at_its_limit(name: str, seen: Observation, action: str) -> None:
    assert next_step(PLAN, [seen]).action == action


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canary": 2}, "must be another version"),
        ({"steps": (50, 5)}, r"growing percentages from 1 to 99, got \(50, 5\)"),
        ({"steps": (5, 100)}, "growing percentages"),
        ({"steps": ()}, "growing percentages"),
        ({"latency_ratio": 0.0}, "a positive ratio"),
        ({"requests": 0}, "at least 1 request"),
    ],
)  # fmt: skip
def test_a_plan_without_meaning_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **changes)
    with pytest.raises(ValueError, match="got 3 errors of 2 requests"):
        Observation(2, 3)
