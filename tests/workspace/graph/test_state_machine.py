"""The state machine of a run, by the platform's own table of cases, and by properties over random graphs."""

from __future__ import annotations

import random

import pytest
from databricks.sdk.service.jobs import RunResultState
from hypothesis import given
from hypothesis import strategies as st

from boathouse.workspace.graph import state_machine as g
from boathouse.workspace.graph.selection import expand, select
from boathouse.workspace.graph.state_machine import (
    Edge,
    Ended,
    Finish,
    Graph,
    Launch,
    Node,
    Progress,
    Result,
    Settle,
    Settled,
    Stop,
    Stopped,
)

S, F, X, U = Result.SUCCESS, Result.FAILED, Result.EXCLUDED, Result.UPSTREAM_FAILED
RULES = ["ALL_SUCCESS", "AT_LEAST_ONE_SUCCESS", "NONE_FAILED", "ALL_DONE", "AT_LEAST_ONE_FAILED", "ALL_FAILED"]


def graph(**needs: str | Node) -> Graph:
    "Tasks by name; a string lists what the task depends on."
    return Graph({k: v if isinstance(v, Node) else Node(k, tuple(Edge(n) for n in v.split())) for k, v in needs.items()})


def play(
    tasks: Graph, results: dict[str, Result | tuple[Result, str]], order: random.Random | None = None
) -> tuple[Progress, Result, list[Launch]]:
    "Runs a graph whose tasks end as told, in the order of a random number generator."
    progress, decisions = g.start_run(tasks)
    launched: list[Launch] = []
    open_now: list[str] = []
    while True:
        for decision in decisions:
            match decision:
                case Launch(key, _):
                    launched.append(decision)
                    open_now.append(key)
                case Finish(result):
                    return progress, result, launched
        assert open_now, "nothing runs, and the run is not finished"
        key = open_now.pop(order.randrange(len(open_now)) if order else 0)
        told = results.get(key, S)
        result, outcome = told if isinstance(told, tuple) else (told, None)
        progress, decisions = g.apply_event(tasks, progress, Ended(key, result, outcome))


def ends(tasks: Graph, **results: Result | tuple[Result, str]) -> dict[str, str]:
    progress, result, _ = play(tasks, results)
    return {k: s.result.value for k, s in progress.settled.items()} | {"run": result.value}


@pytest.mark.parametrize(
    ("rule", "first", "second", "expected"),
    [
        ("ALL_SUCCESS", S, S, "run"),
        ("ALL_SUCCESS", S, F, U),
        ("ALL_SUCCESS", S, X, "run"),
        ("ALL_SUCCESS", S, Result.CANCELED, Result.UPSTREAM_CANCELED),
        ("ALL_SUCCESS", F, Result.CANCELED, U),
        ("ALL_SUCCESS", S, Result.TIMEDOUT, U),
        ("ALL_SUCCESS", S, Result.SUCCESS_WITH_FAILURES, "run"),
        ("AT_LEAST_ONE_SUCCESS", S, F, "run"),
        ("AT_LEAST_ONE_SUCCESS", F, F, U),
        ("AT_LEAST_ONE_SUCCESS", X, F, U),
        ("NONE_FAILED", S, X, "run"),
        ("NONE_FAILED", X, F, U),
        ("NONE_FAILED", S, U, U),
        ("ALL_DONE", F, F, "run"),
        ("ALL_DONE", Result.CANCELED, U, "run"),
        ("AT_LEAST_ONE_FAILED", S, F, "run"),
        ("AT_LEAST_ONE_FAILED", S, Result.TIMEDOUT, "run"),
        ("AT_LEAST_ONE_FAILED", S, U, "run"),
        ("AT_LEAST_ONE_FAILED", S, S, X),
        ("ALL_FAILED", F, F, "run"),
        ("ALL_FAILED", F, S, X),
        ("ALL_FAILED", F, X, X),
        *((rule, X, X, X) for rule in RULES),
        *((rule, S, Result.DISABLED, Result.DISABLED) for rule in RULES),
    ],
)
def test_run_if_judges_settled_dependencies_as_the_platform_does(rule: str, first: Result, second: Result, expected: str) -> None:
    node = Node("c", (Edge("a"), Edge("b")), rule)
    assert g.decide_run_if(node, {"a": Settled(first), "b": Settled(second)}) == expected
    assert g.decide_run_if(node, {"b": Settled(second), "a": Settled(first)}) == expected
    assert g.decide_run_if(node, {"a": Settled(first)}) is None


def test_the_branch_not_taken_is_excluded_with_all_below_it_and_the_join_runs() -> None:
    tasks = graph(
        c="",
        yes=Node("yes", (Edge("c", "true"),)),
        no=Node("no", (Edge("c", "false"),)),
        below="no",
        join=Node("join", (Edge("yes"), Edge("below")), "NONE_FAILED"),
    )
    assert ends(tasks, c=(S, "true")) == {
        "c": "SUCCESS",
        "yes": "SUCCESS",
        "no": "EXCLUDED",
        "below": "EXCLUDED",
        "join": "SUCCESS",
        "run": "SUCCESS",
    }


def test_two_unmet_outcomes_are_anded_not_else_if() -> None:
    tasks = graph(a="", b="", c=Node("c", (Edge("a", "true"), Edge("b", "true"))))
    assert ends(tasks, a=(S, "true"), b=(S, "false"))["c"] == "EXCLUDED"
    assert ends(tasks, a=(S, "true"), b=(S, "true"))["c"] == "SUCCESS"


def test_a_branch_not_taken_is_excluded_even_beside_a_failure() -> None:
    tasks = graph(c="", bad="", no=Node("no", (Edge("c", "false"), Edge("bad"))))
    assert ends(tasks, c=(S, "true"), bad=F)["no"] == "EXCLUDED"


def test_a_failed_condition_fails_both_its_branches() -> None:
    tasks = graph(c="", yes=Node("yes", (Edge("c", "true"),)), no=Node("no", (Edge("c", "false"),)))
    assert ends(tasks, c=F) == {"c": "FAILED", "yes": "UPSTREAM_FAILED", "no": "UPSTREAM_FAILED", "run": "FAILED"}


@pytest.mark.parametrize(
    ("ended", "plain", "beside"),
    [((S, "true"), S, S), ((S, "false"), S, X), (F, U, U), (Result.CANCELED, Result.UPSTREAM_CANCELED, Result.UPSTREAM_CANCELED)],
    ids=["true", "false", "failed", "cancelled"],
)
def test_a_dependant_that_names_no_outcome_of_a_condition_waits_for_it_as_for_any_task(
    ended: Result | tuple[Result, str], plain: Result, beside: Result
) -> None:
    tasks = graph(c="", plain="c", yes=Node("yes", (Edge("c", "true"),)), beside=Node("beside", (Edge("c"), Edge("c", "true"))))
    told = ends(tasks, c=ended)
    assert (told["plain"], told["beside"], told["yes"]) == (plain, beside, beside)


def test_below_a_condition_that_was_excluded_a_dependant_without_outcome_is_excluded_too() -> None:
    tasks = graph(c="", d=Node("d", (Edge("c", "false"),)), plain="d")
    assert ends(tasks, c=(S, "true"))["plain"] == "EXCLUDED"


def test_only_leaves_decide_the_result_of_a_run() -> None:
    tasks = graph(a="", b=Node("b", (Edge("a"),), "ALL_DONE"))
    assert ends(tasks, a=F)["run"] == "SUCCESS_WITH_FAILURES"
    assert ends(tasks, b=F)["run"] == "FAILED"
    assert ends(tasks, b=Result.CANCELED)["run"] == "CANCELED"
    assert ends(graph(a="", b="a"), a=F)["run"] == "FAILED"


def test_a_failure_above_a_disabled_task_is_still_a_failure() -> None:
    tasks = graph(a="", b=Node("b", (Edge("a"),), disabled=True), c=Node("c", (Edge("a"), Edge("b"))))
    assert ends(tasks, a=F) == {"a": "FAILED", "b": "DISABLED", "c": "DISABLED", "run": "FAILED"}


def test_a_failed_task_is_launched_again_until_its_retries_are_used_up() -> None:
    tasks = Graph({"a": Node("a", retries=2), "t": Node("t", retries=2), "u": Node("u", retries=1, retry_on_timeout=True)})
    _, result, launched = play(tasks, {"a": F, "t": Result.TIMEDOUT, "u": Result.TIMEDOUT})
    assert sorted((x.key, x.attempt) for x in launched) == [("a", 0), ("a", 1), ("a", 2), ("t", 0), ("u", 0), ("u", 1)]
    assert result == F


def test_minus_one_retries_go_on_without_end_and_only_failures_are_retried() -> None:
    forever = Node("a", retries=-1)
    assert g.is_retried(forever, F, 10_000)
    assert not any(g.is_retried(forever, result, 0) for result in Result if result != F)
    assert g.is_retried(Node("a", retries=1, retry_on_timeout=True), Result.TIMEDOUT, 0)
    assert not g.is_retried(Node("a", retries=1, retry_on_timeout=True), Result.TIMEDOUT, 1)


def test_a_cancelled_task_cancels_what_is_below_it_except_what_handles_failures() -> None:
    tasks = graph(
        a="",
        b="a",
        c="b",
        cleanup=Node("cleanup", (Edge("a"),), "AT_LEAST_ONE_FAILED"),
        report=Node("report", (Edge("c"),), "ALL_DONE"),
    )
    assert ends(tasks, a=Result.CANCELED) == {
        "a": "CANCELED", "b": "UPSTREAM_CANCELED", "c": "UPSTREAM_CANCELED", "cleanup": "SUCCESS", "report": "SUCCESS", "run": "SUCCESS_WITH_FAILURES",
    }  # fmt: skip


def test_all_below_a_disabled_task_is_disabled_whatever_its_run_if() -> None:
    tasks = graph(a=Node("a", disabled=True), b=Node("b", (Edge("a"),), "ALL_DONE"), c=Node("c", (Edge("b"),), "AT_LEAST_ONE_FAILED"), d="")
    assert ends(tasks) == {"a": "DISABLED", "b": "DISABLED", "c": "DISABLED", "d": "SUCCESS", "run": "SUCCESS"}
    assert ends(select(tasks, ["a"])) == {"a": "SUCCESS", "b": "DISABLED", "c": "DISABLED", "d": "DISABLED", "run": "SUCCESS"}


def test_a_task_waits_for_all_it_depends_on_even_when_one_has_failed() -> None:
    tasks = graph(a="", b="", c=Node("c", (Edge("a"), Edge("b")), "AT_LEAST_ONE_FAILED"))
    progress, _ = g.start_run(tasks)
    progress, decisions = g.apply_event(tasks, progress, Ended("a", F))
    assert decisions == []
    assert g.apply_event(tasks, progress, Ended("b", S))[1] == [Launch("c")]


def test_results_are_spelled_as_in_the_jobs_api() -> None:
    assert {result.value for result in Result} | {"MAXIMUM_CONCURRENT_RUNS_REACHED"} == {result.value for result in RunResultState}


def test_a_run_that_timed_out_ends_so_once_its_tasks_have_ended() -> None:
    tasks = graph(a="", b="a", off=Node("off", disabled=True))
    progress, _ = g.start_run(tasks)
    progress, _ = g.apply_event(tasks, progress, Stopped(Result.TIMEDOUT))
    progress, decisions = g.apply_event(tasks, progress, Ended("a", Result.CANCELED))
    assert decisions == [Finish(Result.TIMEDOUT)]
    assert {k: s.result.value for k, s in progress.settled.items()} == {"a": "CANCELED", "b": "CANCELED", "off": "DISABLED"}


def test_stopping_a_run_stops_what_runs_starts_nothing_and_finishes_when_it_has_ended() -> None:
    tasks = graph(a="", b="a", c=Node("c", (Edge("a"),), "ALL_DONE"))
    progress, _ = g.start_run(tasks)
    progress, decisions = g.apply_event(tasks, progress, Stopped())
    assert decisions == [Stop("a"), Settle("b", Result.CANCELED), Settle("c", Result.CANCELED)]
    assert g.apply_event(tasks, progress, Stopped()) == (progress, [])
    _, decisions = g.apply_event(tasks, progress, Ended("a", Result.CANCELED))
    assert decisions == [Finish(Result.CANCELED)]


def test_only_keeps_the_order_across_tasks_that_are_left_out() -> None:
    tasks = select(graph(a="", b="a", c="b"), ["a", "c"])
    _, result, launched = play(tasks, {})
    assert [x.key for x in launched] == ["a", "c"]
    assert result == S


def test_only_with_plus_takes_what_is_above_or_below() -> None:
    tasks = graph(a="", b="a", c="b", d="")
    assert expand(tasks, ["+b"]) == {"a", "b"}
    assert expand(tasks, ["b+"]) == {"b", "c"}
    assert ends(select(tasks, ["c"])) == {"a": "DISABLED", "b": "DISABLED", "c": "SUCCESS", "d": "DISABLED", "run": "SUCCESS"}


def test_a_circle_of_tasks_is_found() -> None:
    assert graph(a="c", b="a", c="b", d="").cycle() == ["a", "c", "b", "a"]
    assert graph(a="", b="a", c="a b").cycle() == []


@st.composite
def runs(draw: st.DrawFn) -> tuple[Graph, dict[str, Result | tuple[Result, str]]]:
    "A random graph without circles and how each of its tasks would end."
    nodes, results = {}, {}
    names = [f"t{i}" for i in range(draw(st.integers(1, 9)))]
    for i, name in enumerate(names):
        above = draw(st.lists(st.sampled_from(names[:i]), unique=True, max_size=3)) if i else []
        edges = tuple(Edge(n, draw(st.sampled_from([None, None, "true", "false"]))) for n in above)
        disabled, again = draw(st.sampled_from([False] * 9 + [True])), draw(st.booleans())
        nodes[name] = Node(name, edges, draw(st.sampled_from(RULES)), disabled, draw(st.integers(0, 2)), again)
        results[name] = (draw(st.sampled_from([S, S, F, Result.TIMEDOUT, Result.CANCELED])), draw(st.sampled_from(["true", "false"])))
    return Graph(nodes), results


@given(runs(), st.integers(), st.integers())
def test_every_task_settles_once_and_the_order_of_events_changes_nothing(run: tuple[Graph, dict], first: int, second: int) -> None:
    tasks, results = run
    one, result_one, launched = play(tasks, results, random.Random(first))
    two, result_two, _ = play(tasks, results, random.Random(second))
    assert set(one.settled) == set(tasks.nodes)
    assert not one.running
    assert (dict(one.settled), result_one) == (dict(two.settled), result_two)
    assert len(set(launched)) == len(launched)
    for launch in launched:
        assert launch.attempt <= tasks.nodes[launch.key].retries


@given(runs(), st.integers())
def test_what_runs_was_allowed_to_and_what_does_not_was_settled_once_and_for_a_reason(run: tuple[Graph, dict], seed: int) -> None:
    tasks, results = run
    progress, _, launched = play(tasks, results, random.Random(seed))
    started = {launch.key for launch in launched}
    for key, node in tasks.nodes.items():
        verdict = g.decide_run_if(node, progress.settled)
        assert (verdict == "run") == (key in started)
        if key not in started:
            assert progress.settled[key].result == verdict


@given(runs(), st.integers(0, 12), st.integers())
def test_a_run_stopped_at_any_moment_starts_nothing_more_and_ends_canceled(run: tuple[Graph, dict], steps: int, seed: int) -> None:
    tasks, results = run
    order = random.Random(seed)
    progress, decisions = g.start_run(tasks)
    for _ in range(steps):
        if not progress.running:
            return
        key = order.choice(sorted(progress.running))
        progress, decisions = g.apply_event(tasks, progress, Ended(key, *results[key]))
    if not progress.running:
        return
    progress, decisions = g.apply_event(tasks, progress, Stopped())
    seen = list(decisions)
    while progress.running:
        progress, decisions = g.apply_event(tasks, progress, Ended(sorted(progress.running)[0], F))
        seen += decisions
    assert not [d for d in seen if isinstance(d, Launch)]
    assert seen[-1] == Finish(Result.CANCELED)
