"""Print the task graph of a job: as a list, as a tree on the terminal, as mermaid text, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click
from rich.text import Text
from rich.tree import Tree

from boathouse.workspace.alerts.definition import find_alert_key
from boathouse.workspace.bundle.jobs import Job, TaskSource, all_jobs, find_job, job_by_id, repeated_task
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.display import console
from boathouse.workspace.errors import BundleError
from boathouse.workspace.graph.layout import depths
from boathouse.workspace.graph.state_machine import Edge

OPERATORS = {
    "EQUAL_TO": "==",
    "NOT_EQUAL": "!=",
    "GREATER_THAN": ">",
    "GREATER_THAN_OR_EQUAL": ">=",
    "LESS_THAN": "<",
    "LESS_THAN_OR_EQUAL": "<=",
}
SHAPES = {"condition_task": ('{"', '"}'), "for_each_task": ('[["', '"]]'), "run_job_task": ('(["', '"])')}
LONGEST = 60


@dataclass(frozen=True)
class TaskNode:
    "Hold one task of a graph: `text` describes it, `needs` are its dependencies, and `run_if` is empty for ALL_SUCCESS."

    key: str
    kind: str
    text: str
    needs: tuple[Edge, ...]
    run_if: str = ""


def list_jobs(bundle: Bundle, as_json: bool) -> None:
    "Print every job with its description."
    jobs = {key: str(job.get("description") or job.get("name") or "") for key, job in bundle.jobs.items()}
    if as_json:
        click.echo(json.dumps({"jobs": [{"job_key": k, "description": d} for k, d in jobs.items()]}))
        return
    width = max((len(k) for k in jobs), default=0)
    for key, description in jobs.items():
        click.echo(f"{key:<{width}}  {description}")


def show_graphs(bundle: Bundle, key: str | None, mermaid: bool, as_json: bool) -> None:
    "Print the graph of one job, or of every job of the bundle. Raises BundleError for a job whose tasks wait for each other."
    jobs = all_jobs(bundle)
    chosen = [find_job(jobs, key, bundle.file.name)] if key is not None else list(jobs.values())
    for job in chosen:
        if circle := job.graph.cycle():
            raise BundleError(
                f"the tasks of job '{job.key}' wait for each other: {' -> '.join(circle)}.", job.tasks[circle[0]].at("task_key")
            )
    graphs = {job.key: task_nodes(job, jobs) for job in chosen}
    if as_json:
        click.echo(json.dumps({"jobs": [{"job_key": job, "tasks": [_node_json(n) for n in nodes]} for job, nodes in graphs.items()]}))
    elif mermaid:
        click.echo("\n".join(mermaid_lines(graphs)))
    else:
        for key, nodes in graphs.items():
            console().print(task_tree(key, nodes))


def task_nodes(job: Job, jobs: dict[str, Job]) -> list[TaskNode]:
    "Return the tasks of a job in the order they are written."
    nodes = []
    for key, source in job.tasks.items():
        node = job.graph.nodes[key]
        run_if = "" if node.run_if == "ALL_SUCCESS" else node.run_if
        nodes.append(TaskNode(key, source.kind, _describe(source, jobs, job.bundle), node.needs, run_if))
    return nodes


def _describe(source: TaskSource, jobs: dict[str, Job], bundle: Bundle) -> str:
    "Return a short description of a task."
    task = source.task
    if (condition := task.condition_task) is not None:
        operator = OPERATORS.get(condition.op.value, condition.op.value) if condition.op else "?"
        return f"if {condition.left} {operator} {condition.right}"
    if task.for_each_task is not None:
        inner = repeated_task(source)
        return f"for each of {task.for_each_task.inputs}" + (f": {inner.key}, {_describe(inner, jobs, bundle)}" if inner else "")
    if task.run_job_task is not None:
        called = job_by_id(jobs, task.run_job_task.job_id)
        return f"run job {called.key if called else task.run_job_task.job_id}"
    if task.alert_task is not None:
        return f"alert {find_alert_key(bundle, task.alert_task.alert_id) or task.alert_task.alert_id}"
    if task.notebook_task is not None:
        return f"notebook {task.notebook_task.notebook_path}"
    if task.spark_python_task is not None:
        return f"script {task.spark_python_task.python_file}"
    if task.python_wheel_task is not None:
        return f"wheel {task.python_wheel_task.package_name}: {task.python_wheel_task.entry_point}"
    return source.kind


def task_tree(job: str, nodes: list[TaskNode]) -> Tree:
    "Return the tasks as a tree: each below its deepest dependency, with its other dependencies after its name."
    order = {node.key: position for position, node in enumerate(nodes)}
    depth = depths({node.key: [edge.key for edge in node.needs if edge.key in order] for node in nodes})
    tree = Tree(Text(job, style="bold"))
    branches: dict[str, Tree] = {}
    for node in sorted(nodes, key=lambda n: (depth[n.key], order[n.key])):
        needs = sorted((e for e in node.needs if e.key in order), key=lambda e: (-depth[e.key], order[e.key]))
        above = branches[needs[0].key] if needs else tree
        branches[node.key] = above.add(_label(node, needs))
    return tree


def _label(node: TaskNode, needs: list[Edge]) -> Text:
    label = Text.assemble((node.key, "bold"), "  ", (_shorten(node.text), "cyan"))
    if needs and needs[0].outcome:
        label.append(f"  [if {needs[0].outcome}]", "yellow")
    if len(needs) > 1:
        label.append(f"  [also after {', '.join(map(_edge_text, needs[1:]))}]", "bright_black")
    if node.run_if:
        label.append(f"  [run if {node.run_if}]", "yellow")
    return label


def _edge_text(edge: Edge) -> str:
    return f"{edge.key} if {edge.outcome}" if edge.outcome else edge.key


def mermaid_lines(graphs: Mapping[str, list[TaskNode]]) -> Iterator[str]:
    "Yield the lines of one mermaid flowchart of the jobs; each of several jobs is a subgraph."
    yield "flowchart LR"
    for number, (job, nodes) in enumerate(graphs.items()):
        inner = "    " if len(graphs) > 1 else "  "
        ids = {node.key: f"j{number}t{position}" for position, node in enumerate(nodes)}
        if len(graphs) > 1:
            yield f'  subgraph j{number}["{_escape(job)}"]'
        for node in nodes:
            begin, end = SHAPES.get(node.kind, ('["', '"]'))
            lines = [node.key, _shorten(node.text), *([f"run if {node.run_if}"] if node.run_if else [])]
            yield f"{inner}{ids[node.key]}{begin}{'<br/>'.join(map(_escape, lines))}{end}"
        for node in nodes:
            for edge in node.needs:
                if edge.key in ids:
                    yield f"{inner}{ids[edge.key]} -->{f'|{_escape(edge.outcome)}|' if edge.outcome else ''} {ids[node.key]}"
        if len(graphs) > 1:
            yield "  end"


def _escape(text: str) -> str:
    "Return text for a mermaid label, with mermaid's special characters as entities."
    return "".join(f"#{ord(c)};" if c in '"#<>&{}[]|`' else c for c in text)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def _node_json(node: TaskNode) -> dict[str, object]:
    needs = [{"task_key": e.key} | ({"outcome": e.outcome} if e.outcome else {}) for e in node.needs]
    return {"task_key": node.key, "kind": node.kind, "text": node.text, "run_if": node.run_if or "ALL_SUCCESS", "depends_on": needs}
