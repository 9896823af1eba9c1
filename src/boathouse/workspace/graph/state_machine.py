"""The state machine of a job run: events in, decisions out. It does no work, reads no clock and stores nothing.

A run is a `Progress`. `start_run` returns the first one, `apply_event` the next one after each event. Both also return the next decisions:
launch a task, settle one that does not run, stop one that runs, or finish the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Result(StrEnum):
    "Name how a task or run ended, spelled as in the Jobs API."

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    TIMEDOUT = "TIMEDOUT"
    CANCELED = "CANCELED"
    EXCLUDED = "EXCLUDED"
    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    UPSTREAM_CANCELED = "UPSTREAM_CANCELED"
    DISABLED = "DISABLED"
    SUCCESS_WITH_FAILURES = "SUCCESS_WITH_FAILURES"
    MAXIMUM_CONCURRENT_RUNS_REACHED = "MAXIMUM_CONCURRENT_RUNS_REACHED"


SUCCEEDED = frozenset({Result.SUCCESS, Result.SUCCESS_WITH_FAILURES})
CANCELED = frozenset({Result.CANCELED, Result.UPSTREAM_CANCELED})
# A dependency that timed out, or never ran because of an upstream one, counts as failed for every run_if.
FAILED = frozenset({Result.FAILED, Result.TIMEDOUT, Result.UPSTREAM_FAILED}) | CANCELED


@dataclass(frozen=True)
class Edge:
    "Hold a dependency on the task `key`; with `outcome`, only on that outcome of a condition."

    key: str
    outcome: str | None = None


@dataclass(frozen=True)
class Node:
    "Hold one task of the graph. `retries` is -1 for no limit."

    key: str
    needs: tuple[Edge, ...] = ()
    run_if: str = "ALL_SUCCESS"
    disabled: bool = False
    retries: int = 0
    retry_on_timeout: bool = False


@dataclass(frozen=True)
class Graph:
    "Hold the tasks of a job by key, in the order they are written."

    nodes: Mapping[str, Node]

    def upstream(self, key: str) -> list[str]:
        "Return every task that must settle before `key` can start, in the order they are written."
        seen, todo = set[str](), [key]
        while todo:
            new = {e.key for e in self.nodes[todo.pop()].needs if e.key in self.nodes} - seen
            seen |= new
            todo.extend(new)
        return [k for k in self.nodes if k in seen]

    def cycle(self) -> list[str]:
        "Return tasks that wait for each other in a circle, or an empty list."
        for key in self.nodes:
            if key in self.upstream(key):
                return self._circle(key)
        return []

    def _circle(self, start: str) -> list[str]:
        paths = [[start]]
        while paths:
            path = paths.pop(0)
            for edge in self.nodes[path[-1]].needs:
                if edge.key == start:
                    return [*path, start]
                if edge.key in self.nodes and edge.key not in path:
                    paths.append([*path, edge.key])
        return []


@dataclass(frozen=True)
class Settled:
    "Hold how a task ended; `outcome` is the result of a condition."

    result: Result
    outcome: str | None = None


@dataclass(frozen=True)
class Progress:
    "Hold the progress of a run: settled tasks, running tasks with the number of their attempt (from 0), and whether the run is being stopped."

    settled: Mapping[str, Settled] = field(default_factory=dict)
    running: Mapping[str, int] = field(default_factory=dict)
    stopping: Result | None = None


@dataclass(frozen=True)
class Ended:
    "Event: the running attempt of a task has ended."

    key: str
    result: Result
    outcome: str | None = None


@dataclass(frozen=True)
class Stopped:
    "Event: the whole run must stop, because it was cancelled or has timed out."

    result: Result = Result.CANCELED


@dataclass(frozen=True)
class Launch:
    "Decision: start this attempt of a task; from the second attempt on, after the task's retry interval."

    key: str
    attempt: int = 0


@dataclass(frozen=True)
class Settle:
    "Decision: the task does not run; this is its result."

    key: str
    result: Result


@dataclass(frozen=True)
class Stop:
    "Decision: stop the running attempt of a task; an `Ended` for it still follows."

    key: str


@dataclass(frozen=True)
class Finish:
    "Decision: nothing is left to do; this is the result of the run."

    result: Result


Event = Ended | Stopped
Decision = Launch | Settle | Stop | Finish


def start_run(graph: Graph, kept: Mapping[str, Settled] | None = None) -> tuple[Progress, list[Decision]]:
    "Return the first progress of a run and the tasks that can start at once; a repair begins with the tasks that it keeps."
    return _advance(graph, Progress(settled=dict(kept or {})))


def kept_tasks(
    graph: Graph, before: Mapping[str, Settled], rerun: Iterable[str] = (), rerun_dependents: bool = False
) -> dict[str, Settled]:
    """Return the tasks that a repair keeps of a run that ended with `before`: the successful ones. All others are decided again.

    A task of `rerun` is not kept. With `rerun_dependents`, no task downstream of one that runs again is kept.
    """
    again = {k for k in graph.nodes if k in set(rerun) or k not in before or before[k].result in FAILED}
    lost = {k for k in graph.nodes if rerun_dependents and again & set(graph.upstream(k))}
    return {k: before[k] for k in graph.nodes if k not in again | lost and before[k].result in SUCCEEDED}


def apply_event(graph: Graph, progress: Progress, event: Event) -> tuple[Progress, list[Decision]]:
    "Return the progress after an event, and the next decisions."
    if isinstance(event, Stopped):
        if progress.stopping is not None:
            return progress, []
        stopping = replace(progress, stopping=event.result)
        done, decisions = _advance(graph, stopping)
        return done, [*(Stop(key) for key in progress.running), *decisions]
    attempt = progress.running[event.key]
    running = {k: n for k, n in progress.running.items() if k != event.key}
    if progress.stopping is None and is_retried(graph.nodes[event.key], event.result, attempt):
        again = replace(progress, running=running | {event.key: attempt + 1})
        return again, [Launch(event.key, attempt + 1)]
    settled = {**progress.settled, event.key: Settled(event.result, event.outcome)}
    return _advance(graph, replace(progress, running=running, settled=settled))


def is_retried(node: Node, result: Result, attempt: int) -> bool:
    "Return whether another attempt follows the attempt with this number and result."
    due = result == Result.FAILED or (result == Result.TIMEDOUT and node.retry_on_timeout)
    return due and (node.retries < 0 or attempt < node.retries)


def _advance(graph: Graph, progress: Progress) -> tuple[Progress, list[Decision]]:
    settled, running, decisions = dict(progress.settled), dict(progress.running), list[Decision]()
    moved = True
    while moved:
        moved = False
        for key, node in graph.nodes.items():
            if key in settled or key in running:
                continue
            verdict = _stopped(progress, node) or decide_run_if(node, settled)
            if verdict is None:
                continue
            moved = True
            if verdict == "run":
                running[key] = 0
                decisions.append(Launch(key))
            else:
                settled[key] = Settled(Result(verdict))
                decisions.append(Settle(key, Result(verdict)))
    done = replace(progress, settled=settled, running=running)
    if len(settled) == len(graph.nodes):
        decisions.append(Finish(run_result(graph, done)))
    return done, decisions


def _stopped(progress: Progress, node: Node) -> str | None:
    if progress.stopping is None:
        return None
    return Result.DISABLED if node.disabled else Result.CANCELED


def decide_run_if(node: Node, settled: Mapping[str, Settled]) -> str | None:
    "Return `run`, the result of a task that does not run, or None while a dependency is still open."
    if node.disabled:
        return Result.DISABLED
    if not node.needs:
        return "run"
    if any(e.key not in settled for e in node.needs):
        return None
    needs = [settled[e.key] for e in node.needs]
    results = [s.result for s in needs]
    if Result.DISABLED in results:
        return Result.DISABLED
    if all(r == Result.EXCLUDED for r in results):
        return Result.EXCLUDED
    missed = [s.result for e, s in zip(node.needs, needs, strict=True) if e.outcome is not None and s.outcome != e.outcome]
    if any(r not in FAILED for r in missed):
        return Result.EXCLUDED
    verdict = _run_if(node.run_if, results)
    return Result.EXCLUDED if verdict == "run" and missed else verdict


def _run_if(rule: str, results: list[Result]) -> str:
    failed = [r for r in results if r in FAILED]
    if rule in ("AT_LEAST_ONE_FAILED", "ALL_FAILED"):
        met = bool(failed) and (rule == "AT_LEAST_ONE_FAILED" or len(failed) == len(results))
        return "run" if met else Result.EXCLUDED
    met = {
        # An excluded dependency counts as successful; the case that all of them are excluded is settled above.
        "ALL_SUCCESS": not failed,
        "NONE_FAILED": not failed,
        "AT_LEAST_ONE_SUCCESS": any(r in SUCCEEDED for r in results),
        "ALL_DONE": True,
    }[rule]
    if met:
        return "run"
    return Result.UPSTREAM_CANCELED if failed and all(r in CANCELED for r in failed) else Result.UPSTREAM_FAILED


def run_result(graph: Graph, progress: Progress) -> Result:
    "Return the result of a run whose tasks have all settled; its leaves decide."
    if progress.stopping is not None:
        return progress.stopping
    leaves = [progress.settled[k].result for k in leaf_tasks(graph, progress.settled)]
    if any(r in FAILED - CANCELED for r in leaves):
        return Result.FAILED
    if any(r in CANCELED for r in leaves):
        return Result.CANCELED
    every = [s.result for s in progress.settled.values()]
    return Result.SUCCESS_WITH_FAILURES if any(r in FAILED | {Result.SUCCESS_WITH_FAILURES} for r in every) else Result.SUCCESS


def leaf_tasks(graph: Graph, settled: Mapping[str, Settled]) -> list[str]:
    "Return the tasks that no other task depends on, without disabled ones."
    enabled = [k for k in graph.nodes if settled[k].result != Result.DISABLED]
    needed = {e.key for k in enabled for e in graph.nodes[k].needs}
    return [k for k in enabled if k not in needed]
