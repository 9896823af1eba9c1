"What a repair keeps of a run: tables of cases, and properties of random runs."

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.workspace.graph import state_machine as g
from boathouse.workspace.graph.state_machine import Edge, Ended, Graph, Launch, Node, Result, Settled

S, F = Result.SUCCESS, Result.FAILED
ABC = Graph({"a": Node("a"), "b": Node("b", (Edge("a"),)), "c": Node("c", (Edge("b"),), "ALL_DONE"), "d": Node("d")})


def played(graph: Graph, ends: dict[str, Result], kept: dict[str, Settled] | None = None) -> tuple[dict[str, Settled], Result, set[str]]:
    "How every task settled, the run's result, and which tasks were launched."
    progress, decisions = g.start_run(graph, kept)
    launched: set[str] = set()
    while True:
        launched |= {d.key for d in decisions if isinstance(d, Launch)}
        if not progress.running:
            return dict(progress.settled), decisions[-1].result, launched
        key = sorted(progress.running)[0]
        progress, decisions = g.apply_event(graph, progress, Ended(key, ends.get(key, S), "true"))


@pytest.mark.parametrize(
    ("rerun", "dependents", "again"),
    [
        ([], False, {"a", "b"}),
        ([], True, {"a", "b", "c"}),
        (["d"], False, {"a", "b", "d"}),
        (["c"], False, {"a", "b", "c"}),
    ],
    ids=["the failed and the skipped", "with what succeeded below them", "and a named one", "a named one below them"],
)
def test_a_repair_runs_again(rerun: list[str], dependents: bool, again: set[str]) -> None:
    before, result, _ = played(ABC, {"a": F})
    assert {k: str(s.result) for k, s in before.items()} == {"a": "FAILED", "b": "UPSTREAM_FAILED", "c": "SUCCESS", "d": "SUCCESS"}
    assert result == Result.SUCCESS_WITH_FAILURES
    kept = g.kept_tasks(ABC, before, rerun, dependents)
    assert set(kept) == set(ABC.nodes) - again
    _, result, launched = played(ABC, {}, kept)
    assert launched == again
    assert result == S


def test_a_kept_condition_keeps_its_outcome_and_the_branch_not_taken_stays_excluded() -> None:
    graph = Graph({
        "c": Node("c"), "yes": Node("yes", (Edge("c", "true"),)), "no": Node("no", (Edge("c", "false"),)),
        "join": Node("join", (Edge("yes"), Edge("no")), "NONE_FAILED"),
    })  # fmt: skip
    before, _, _ = played(graph, {"yes": F})
    kept = g.kept_tasks(graph, before)
    assert kept == {"c": Settled(S, "true")}
    after, result, launched = played(graph, {}, kept)
    assert launched == {"yes", "join"}
    assert after["no"].result == Result.EXCLUDED
    assert result == S


def test_a_task_that_the_job_has_gained_since_runs_and_one_it_has_lost_is_forgotten() -> None:
    before, _, _ = played(Graph({"a": Node("a"), "old": Node("old")}), {})
    now = Graph({"a": Node("a"), "new": Node("new", (Edge("a"),))})
    assert played(now, {}, g.kept_tasks(now, before))[2] == {"new"}


@st.composite
def runs(draw: st.DrawFn) -> tuple[Graph, dict[str, Result]]:
    "A random graph without circles or disabled tasks, and how each task would end."
    rules = ["ALL_SUCCESS", "AT_LEAST_ONE_SUCCESS", "NONE_FAILED", "ALL_DONE", "AT_LEAST_ONE_FAILED", "ALL_FAILED"]
    names = [f"t{i}" for i in range(draw(st.integers(1, 8)))]
    nodes = {}
    for i, name in enumerate(names):
        above = draw(st.lists(st.sampled_from(names[:i]), unique=True, max_size=3)) if i else []
        edges = tuple(Edge(n, draw(st.sampled_from([None, None, "true", "false"]))) for n in above)
        nodes[name] = Node(name, edges, draw(st.sampled_from(rules)))
    return Graph(nodes), {name: draw(st.sampled_from([S, S, F, Result.TIMEDOUT])) for name in names}


@given(runs(), st.integers(), st.booleans())
def test_repairing_a_repaired_run_until_nothing_fails_converges_and_never_loses_a_success(
    run: tuple[Graph, dict[str, Result]], seed: int, dependents: bool
) -> None:
    graph, ends = run
    chance = random.Random(seed)
    settled, result, _ = played(graph, ends)
    for _ in range(2 * len(graph.nodes)):
        bad = sorted(k for k, end in ends.items() if end != S)
        if bad:
            ends = ends | {chance.choice(bad): S}  # between two repairs, one more fault is mended
        before = {k for k, s in settled.items() if s.result == S}
        kept = g.kept_tasks(graph, settled, rerun_dependents=dependents)
        settled, result, launched = played(graph, ends, kept)
        assert not launched & set(kept)
        assert dependents or before <= {k for k, s in settled.items() if s.result == S}
    assert not [k for k, s in settled.items() if s.result in (F, Result.TIMEDOUT)]
    again = g.kept_tasks(graph, settled)
    assert played(graph, ends, again)[:2] == (settled, result)
    assert played(graph, ends, again)[2] == set()
