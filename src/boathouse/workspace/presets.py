"""What a target's `mode` and `presets` do to resources: name prefixes, tags, concurrency, pausing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from boathouse.workspace.errors import BundleError, Where, did_you_mean
from boathouse.workspace.yamlfile import Map

PRESETS = [
    "name_prefix",
    "tags",
    "trigger_pause_status",
    "jobs_max_concurrent_runs",
    "pipelines_development",
    "source_linked_deployment",
    "artifacts_dynamic_version",
]
Fill = Callable[[Any, Where], Any]


def apply_presets(tree: Map, fill: Fill) -> Map:
    "The tree with the presets of its target laid on the resources; `fill` replaces the `${...}` of one value."
    presets = _presets(tree, fill)
    prefix = presets.get("name_prefix") or ""
    schemas_too = not fill((tree.get("experimental") or {}).get("skip_name_prefix_for_schema"), tree.at)
    for kind, group in (tree.get("resources") or {}).items():
        for resource in (group or {}).values():
            if prefix:
                _prefix(kind, resource, prefix, schemas_too)
            if kind == "jobs":
                _job(resource, presets)
    return tree


def _presets(tree: Map, fill: Fill) -> dict[str, Any]:
    written = tree.get("presets") or Map(tree.at)
    for key in written:
        if key not in PRESETS:
            raise BundleError(f"'{key}' is not a preset.", written.keys_at[key], did_you_mean(key, PRESETS))
    mode = tree.get("mode")
    if mode not in (None, "development", "production"):
        raise BundleError(f"'{mode}' is not a mode.", tree.values_at["mode"], "The modes are development and production.")
    own = {key: fill(written[key], written.values_at[key]) for key in written}
    if mode != "development":
        return own
    user = tree["workspace"]["current_user"]["short_name"]
    base = {"name_prefix": f"[dev {user}] ", "tags": {"dev": user}, "jobs_max_concurrent_runs": 4, "trigger_pause_status": "PAUSED"}
    return base | own


def _prefix(kind: str, resource: Map, prefix: str, schemas_too: bool) -> None:
    name = resource.get("name")
    if not isinstance(name, str):
        return
    plain = re.sub(r"[^a-zA-Z0-9]+", "_", prefix).strip("_") + "_"
    if kind in ("jobs", "pipelines", "models", "clusters"):
        resource["name"] = prefix + name
    elif kind == "experiments":
        folder, _, base = name.rpartition("/")
        resource["name"] = f"{folder}/{prefix}{base}" if folder else prefix + base
    elif kind in ("registered_models", "model_serving_endpoints") or (kind == "schemas" and schemas_too):
        resource["name"] = plain + name


def _job(job: Map, presets: dict[str, Any]) -> None:
    if presets.get("jobs_max_concurrent_runs") and "max_concurrent_runs" not in job:
        job.put("max_concurrent_runs", presets["jobs_max_concurrent_runs"], job.at, job.at)
    pause = presets.get("trigger_pause_status")
    for key in ("schedule", "trigger", "continuous"):
        trigger = job.get(key)
        if pause and isinstance(trigger, Map) and "pause_status" not in trigger:
            trigger.put("pause_status", pause, trigger.at, trigger.at)
