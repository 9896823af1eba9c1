"""Apply a target's `mode` and `presets` to the resources: name prefixes, tags, concurrency, pausing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from boathouse.workspace.bundle.yaml_tree import List, Map
from boathouse.workspace.errors import BundleError, Where, did_you_mean

PRESETS: dict[str, tuple[type, str]] = {
    "name_prefix": (str, "a string"),
    "tags": (Map, "a mapping"),
    "trigger_pause_status": (str, "PAUSED or UNPAUSED"),
    "jobs_max_concurrent_runs": (int, "a whole number"),
    "pipelines_development": (bool, "true or false"),
    "source_linked_deployment": (bool, "true or false"),
    "artifacts_dynamic_version": (bool, "true or false"),
}
PAUSE = ("PAUSED", "UNPAUSED")
# Per type of resource, the field with the name that gets the prefix.
NAMES = {
    "jobs": "name",
    "pipelines": "name",
    "models": "name",
    "sql_warehouses": "name",
    "clusters": "cluster_name",
    "dashboards": "display_name",
    "alerts": "display_name",
}
PLAIN_NAMES = ("registered_models", "model_serving_endpoints", "schemas")
Fill = Callable[[Any, Where], Any]


def apply_presets(tree: Map, fill: Fill) -> Map:
    "Return the tree with the presets of its target applied to the resources; `fill` replaces the `${...}` of one value."
    presets = _presets(tree, fill)
    prefix = presets.get("name_prefix") or ""
    keep_schemas = fill((tree.get("experimental") or {}).get("skip_name_prefix_for_schema"), tree.at)
    resources = tree.get("resources") or Map(tree.at)
    _follow_schemas(resources, fill)
    for kind, group in resources.items():
        for resource in (group or {}).values():
            if prefix and not (kind == "schemas" and keep_schemas):
                _prefix(kind, resource, prefix)
            _tag(kind, resource, presets.get("tags") or {})
            if kind == "jobs":
                _job(resource, presets)
            if kind == "pipelines" and presets.get("pipelines_development"):
                _default(resource, "development", True)
    return tree


def _presets(tree: Map, fill: Fill) -> dict[str, Any]:
    written = tree.get("presets") or Map(tree.at)
    if not isinstance(written, Map):
        raise BundleError("'presets' must be a mapping.", tree.values_at["presets"])
    own = {}
    for key in written:
        if key not in PRESETS:
            raise BundleError(f"'{key}' is not a preset.", written.keys_at[key], did_you_mean(key, PRESETS))
        own[key] = fill(written[key], written.values_at[key])
        kind, shown = PRESETS[key]
        wrong = not isinstance(own[key], kind) or (kind is int and isinstance(own[key], bool))
        if own[key] is not None and (wrong or (key == "trigger_pause_status" and own[key] not in PAUSE)):
            raise BundleError(f"the preset '{key}' is {own[key]!r}, not {shown}.", written.values_at[key])
    mode = tree.get("mode")
    if mode not in (None, "development", "production"):
        hint = did_you_mean(mode, ("development", "production")) or "The modes are development and production."
        raise BundleError(f"'{mode}' is not a mode.", tree.values_at["mode"], hint)
    if mode != "development":
        return own
    user = tree["workspace"]["current_user"]["short_name"]
    base = {"name_prefix": f"[dev {user}] ", "jobs_max_concurrent_runs": 4, "trigger_pause_status": "PAUSED", "pipelines_development": True}
    return base | {k: v for k, v in own.items() if v not in (None, "")} | {"tags": {"dev": user} | (own.get("tags") or {})}


def _follow_schemas(resources: Map, fill: Fill) -> None:
    "Rename a schema also in volumes and models that name it literally, as the Databricks CLI does."
    schemas = resources.get("schemas") or {}
    known = {(fill(s.get("catalog_name"), s.at), fill(s.get("name"), s.at)): key for key, s in schemas.items()}
    for kind in ("volumes", "registered_models"):
        for resource in (resources.get(kind) or {}).values():
            literal = resource.get("schema_name")
            if isinstance(literal, str) and "${resources." not in literal:
                at = resource.values_at["schema_name"]
                key = known.get((fill(resource.get("catalog_name"), resource.at), fill(literal, at)))
                if key is not None:
                    resource.add_entry("schema_name", f"${{resources.schemas.{key}.name}}", resource.keys_at["schema_name"], at)


def _prefix(kind: str, resource: Map, prefix: str) -> None:
    if kind == "jobs":
        _default(resource, "name", "Untitled")
    field = NAMES.get(kind, "name")
    name = resource.get(field)
    if not isinstance(name, str):
        return
    if kind in NAMES:
        resource[field] = prefix + name
    elif kind == "experiments":
        folder, slash, base = name.rpartition("/")
        resource[field] = f"{folder}{slash}{prefix}{base}"
    elif kind in PLAIN_NAMES:
        resource[field] = re.sub(r"[^a-zA-Z0-9]+", "_", prefix).strip("_") + "_" + name


def _tag(kind: str, resource: Map, tags: dict[str, Any]) -> None:
    "Add the tags that the resource does not set itself: a mapping for jobs, a list of pairs for experiments and models."
    if tags and kind == "jobs":
        _default(resource, "tags", Map(resource.at))
        for key, value in tags.items():
            if isinstance(resource["tags"], Map):
                _default(resource["tags"], key, value)
    elif tags and kind in ("experiments", "models"):
        _default(resource, "tags", List(resource.at))
        named = {tag.get("key") for tag in resource["tags"] if isinstance(tag, Map)}
        for key, value in tags.items():
            if key not in named:
                pair = Map(resource.at)
                pair.add_entry("key", key, resource.at, resource.at)
                pair.add_entry("value", value, resource.at, resource.at)
                resource["tags"].add(pair, resource.at)


def _job(job: Map, presets: dict[str, Any]) -> None:
    if presets.get("jobs_max_concurrent_runs"):
        _default(job, "max_concurrent_runs", presets["jobs_max_concurrent_runs"])
    pause = presets.get("trigger_pause_status")
    for key in ("schedule", "trigger", "continuous"):
        trigger = job.get(key)
        if pause and isinstance(trigger, Map):
            _default(trigger, "pause_status", pause)


def _default(node: Map, key: str, value: Any) -> None:
    if node.get(key) is None:
        node.add_entry(key, value, node.at, node.at)
