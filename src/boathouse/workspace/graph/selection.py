"""Select tasks of a job by `--only`; the others are disabled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from boathouse.workspace.graph.state_machine import Edge, Graph, Node


def select(graph: Graph, only: Iterable[str]) -> Graph:
    "Return the graph with every other task disabled; the selected ones keep their order, even across disabled ones."
    chosen = expand(graph, only)
    nodes = {}
    for key, node in graph.nodes.items():
        if key in chosen:
            nodes[key] = replace(node, disabled=False, needs=tuple(_needs_within(graph, node, chosen)))
        else:
            nodes[key] = replace(node, disabled=True)
    return Graph(nodes)


def expand(graph: Graph, only: Iterable[str]) -> set[str]:
    "Return the tasks that `a`, `+a` (with everything upstream) and `a+` (with everything downstream) name."
    chosen = set()
    for word in only:
        key = word.strip("+")
        if key not in graph.nodes:
            raise KeyError(key)
        chosen.add(key)
        if word.startswith("+"):
            chosen.update(graph.upstream(key))
        if word.endswith("+"):
            chosen.update(k for k in graph.nodes if key in graph.upstream(k))
    return chosen


def _needs_within(graph: Graph, node: Node, chosen: set[str]) -> dict[Edge, None]:
    needs: dict[Edge, None] = {}
    for edge in node.needs:
        if edge.key in chosen:
            needs[edge] = None
        else:
            needs |= {Edge(e.key): None for e in _needs_within(graph, graph.nodes[edge.key], chosen)}
    return needs
