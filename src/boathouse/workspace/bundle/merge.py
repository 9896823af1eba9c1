"""Merge one part of a bundle over another, by the rules of the Databricks CLI, and keep the place of every node."""

from __future__ import annotations

from typing import Any

from boathouse.workspace.bundle.yaml_tree import List, Map
from boathouse.workspace.errors import BundleError, Where

KEYED = {"tasks": "task_key", "parameters": "name", "job_clusters": "job_cluster_key", "environments": "environment_key"}


def overlay(below: Any, above: Any) -> Any:
    """Return `above` merged over `below`.

    Mappings are merged by entry, sequences are joined, and anything else is replaced. Null changes nothing.
    """
    if isinstance(below, Map) and isinstance(above, Map):
        return _overlay_maps(below, above)
    if isinstance(below, List) and isinstance(above, List):
        out = List(below.at)
        for part in (below, above):
            for item, at in zip(part, part.items_at, strict=True):
                out.add(item, at)
        return out
    return below if above is None else above


def _overlay_maps(below: Map, above: Map) -> Map:
    out = below.like()
    for key in [*below, *(k for k in above if k not in below)]:
        if key not in above:
            out.add_entry(key, below[key], below.keys_at[key], below.values_at[key])
        elif key not in below or below[key] is None:
            out.add_entry(key, above[key], above.keys_at[key], above.values_at[key])
        else:
            scalar = not isinstance(above[key], Map | List) and above[key] is not None
            at: Where = above.values_at[key] if scalar else below.values_at[key]
            out.add_entry(key, overlay(below[key], above[key]), below.keys_at[key], at)
    return out


def refuse_duplicates(job: Map) -> None:
    "Refuse two tasks (parameters, clusters, environments) with the same key in one definition of a job."
    for key, by in KEYED.items():
        seen: dict[str, Where] = {}
        items = job.get(key)
        for item in items if isinstance(items, List) else ():
            name = item.get(by) if isinstance(item, Map) else None
            if isinstance(name, str) and name in seen:
                raise BundleError(f"{by} '{name}' appears twice under '{key}' (first at line {seen[name].line}).", item.values_at[by])
            if isinstance(name, str):
                seen[name] = item.values_at[by]


def merge_keyed(job: Map) -> Map:
    "Return the job with tasks, parameters, clusters and environments of equal key merged, in order of first appearance."
    out = job.like()
    for key, value in job.items():
        merged = _merge_items(value, KEYED[key]) if key in KEYED and isinstance(value, List) else value
        out.add_entry(key, merged, job.keys_at[key], job.values_at[key])
    return out


def _merge_items(items: List, by: str) -> List:
    out, index = List(items.at), dict[str, int]()
    for item, at in zip(items, items.items_at, strict=True):
        name = item.get(by) if isinstance(item, Map) else None
        if isinstance(name, str) and name in index:
            out[index[name]] = overlay(out[index[name]], item)
        else:
            if isinstance(name, str):
                index[name] = len(out)
            out.add(item, at)
    return out
