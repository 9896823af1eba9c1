"""Read the files of a bundle: merge the root file and its includes into one tree, and check their outer form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.workspace.bundle import yaml_tree as yamlfile
from boathouse.workspace.bundle.merge import overlay, refuse_duplicates
from boathouse.workspace.bundle.yaml_tree import List, Map
from boathouse.workspace.errors import BundleError, Where, did_you_mean
from boathouse.workspace.problems import Problem, problem

ROOT_FILES = ("databricks.yml", "databricks.yaml", "bundle.yml", "bundle.yaml")
TOP_LEVEL = (
    *("bundle", "include", "variables", "artifacts", "sync", "workspace", "permissions", "run_as", "presets", "python", "resources"),
    *("targets", "environments", "scripts", "experimental"),
)
TARGET_KEYS = (
    *("default", "mode", "presets", "workspace", "variables", "resources", "artifacts", "sync", "permissions", "run_as", "bundle"),
    *("git", "cluster_id", "compute_id"),
)
RESOURCES = (
    *("alerts", "apps", "catalogs", "cluster_policies", "clusters", "dashboards", "database_catalogs", "database_instances", "experiments"),
    *("external_locations", "features", "genie_spaces", "instance_pools", "job_runs", "jobs", "mcp_services", "model_provider_services"),
    *("model_services", "model_serving_endpoints", "models", "pipelines", "postgres_branches", "postgres_endpoints", "postgres_projects"),
    *("quality_monitors", "registered_models", "schemas", "secret_scopes", "secrets", "sql_warehouses", "synced_database_tables"),
    *("vector_search_endpoints", "vector_search_indexes", "volumes"),
)
YAML_OR_JSON = (".yml", ".yaml", ".json")


@dataclass(frozen=True)
class BundleSource:
    "Hold a bundle as it is written, before a target is chosen: `tree` holds all files, `remarks` the findings about them."

    root: Path
    file: Path
    tree: Map
    remarks: tuple[Problem, ...] = ()

    @property
    def targets(self) -> Map:
        "Return the targets by name."
        return targets_of(self.tree)

    @property
    def target_names(self) -> tuple[str, ...]:
        "Return the names of all targets; a bundle without any has one, `default`."
        return tuple(self.targets) or ("default",)


def read_bundle(folder: Path) -> BundleSource:
    "Read the bundle in `folder` as it is written."
    root = folder.resolve()
    file = find_root_file(root)
    remarks: list[Problem] = []
    tree = _file(file, root, remarks)
    for path in _included(tree, root, file):
        part = _file(path, root, remarks)
        if "include" in part:
            message = f"'include' of {part.at.file} is ignored: only the root file's has an effect."
            remarks.append(problem("nested-include", message, part.keys_at["include"]))
            part.take("include")
        _refuse_same_resources(tree, part)
        tree = overlay(tree, part)
    if not isinstance(tree.get("bundle"), Map) or not isinstance(tree["bundle"].get("name"), str):
        raise BundleError("the bundle has no name.", Where(file.name), "Write `bundle: {name: ...}`.")
    return BundleSource(root, file, tree, tuple(remarks))


def find_bundle_root(start: Path) -> Path:
    "Return the nearest folder with a root file, from `start` upwards, as git and the Databricks CLI do."
    searched = [start.resolve(), *start.resolve().parents]
    found = next((folder for folder in searched if any((folder / name).is_file() for name in ROOT_FILES)), None)
    if found is None:
        folders = ", ".join(map(str, searched))
        raise BundleError(
            f"there is no {ROOT_FILES[0]} in the working directory or above it. Searched: {folders}.",
            hint="Go to a folder of a bundle, or name one with --bundle DIR.",
        )
    return found


def find_root_file(folder: Path) -> Path:
    "Return the one root file of the bundle in `folder`."
    found = [folder / name for name in ROOT_FILES if (folder / name).is_file()]
    if not found:
        raise BundleError(f"there is no {ROOT_FILES[0]} in {folder}.", hint="Go to the folder that holds it, or name it with --bundle DIR.")
    if len(found) > 1:
        raise BundleError(f"more than one root file: {', '.join(f.name for f in found)}.", hint="Keep one of them.")
    return found[0]


def targets_of(tree: Map) -> Map:
    "Return the targets of a tree; `environments` is their old name."
    return next((tree[key] for key in ("targets", "environments") if isinstance(tree.get(key), Map)), Map(tree.at))


def _included(tree: Map, root: Path, file: Path) -> list[Path]:
    "Return the included files in the order of their patterns, each once. `**` means `*`, as in the Databricks CLI."
    include = tree.get("include")
    if include is None:
        return []
    if not isinstance(include, List) or not all(isinstance(p, str) for p in include):
        raise BundleError("'include' is a list of file patterns.", tree.values_at["include"])
    found: dict[Path, None] = {}
    for pattern, at in zip(include, include.items_at, strict=True):
        if Path(pattern).is_absolute():
            raise BundleError(f"'include' names '{pattern}'; patterns are relative to the bundle's root.", at)
        paths = sorted(p for p in root.glob(re.sub(r"\*\*+", "*", pattern)) if p.is_file() and p != file)
        if not paths and not re.search(r"[*?\[]", pattern):
            near = did_you_mean(Path(pattern).name, [p.name for p in (root / pattern).parent.glob("*")])
            raise BundleError(f"'include' names '{pattern}', which does not exist.", at, near)
        for path in paths:
            if path.suffix not in YAML_OR_JSON:
                raise BundleError(f"'include' matches {path.relative_to(root).as_posix()}, which is neither YAML nor JSON.", at)
            found[path] = None
    return list(found)


def _file(path: Path, root: Path, remarks: list[Problem]) -> Map:
    tree = yamlfile.load(path, path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path))
    _report_unknown_keys(tree, TOP_LEVEL, "a bundle", path, remarks)
    _check_resources(tree.get("resources"), tree, remarks)
    targets = targets_of(tree)
    for name, target in targets.items():
        if target is not None and not isinstance(target, Map):
            raise BundleError(f"target '{name}' must be a mapping.", yamlfile.where(targets, name))
        if target:
            _report_unknown_keys(target, TARGET_KEYS, "a target", path, remarks)
            _check_resources(target.get("resources"), target, remarks)
    return tree


def _report_unknown_keys(tree: Map, keys: tuple[str, ...], what: str, path: Path, remarks: list[Problem]) -> None:
    """Refuse a misspelled key; report any other unknown key, which the platform ignores with a warning.

    A key whose value has or holds an anchor exists for its aliases. The Databricks CLI accepts it without a warning.
    """
    for key in tree:
        if key not in keys and not _has_anchor(tree, key, path):
            hint = did_you_mean(key, keys)
            if hint:
                raise BundleError(f"'{key}' is not a key of {what}.", tree.keys_at[key], hint)
            remarks.append(problem("unknown-key", f"'{key}' is not a key of {what} and is ignored.", tree.keys_at[key]))


def _has_anchor(tree: Map, key: str, path: Path) -> bool:
    "Return whether the key's value has an anchor. The anchor of an alias is further up in the file."
    own, anchors = tree.keys_at[key], yamlfile.anchors(path, tree.at.file)
    return any(
        at in anchors and (at.line, at.column) > (own.line, own.column) for at in yamlfile.all_places(tree[key], tree.values_at[key])
    )


def _check_resources(resources: Any, holder: Map, remarks: list[Problem]) -> None:
    if resources is None:
        return
    if not isinstance(resources, Map):
        raise BundleError("'resources' must be a mapping of resource types.", holder.values_at["resources"])
    for kind, group in resources.items():
        if kind not in RESOURCES and did_you_mean(kind, RESOURCES):
            hint = did_you_mean(kind, RESOURCES)
            remarks.append(problem("unknown-key", f"'{kind}' is not a type of resource and is ignored.", resources.keys_at[kind], hint))
        if group is None:
            continue
        if not isinstance(group, Map):
            raise BundleError(f"'resources.{kind}' must be a mapping of resources by key.", resources.values_at[kind])
        for key, resource in group.items():
            if not isinstance(resource, Map):
                raise BundleError(f"'resources.{kind}.{key}' must be a mapping.", group.values_at[key])
            if kind == "jobs":
                refuse_duplicates(resource)


def _refuse_same_resources(tree: Map, part: Map) -> None:
    for kind, group in (part.get("resources") or {}).items():
        existing = (tree.get("resources") or {}).get(kind) or Map(part.at)
        for key in group or ():
            if key in existing:
                first = existing.keys_at[key]
                raise BundleError(f"resources.{kind}.{key} is defined twice (first at {first.file}:{first.line}).", group.keys_at[key])
