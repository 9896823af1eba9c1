"""A Databricks bundle as this machine sees it: root file, includes, one target, variables and references filled in."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.workspace import yamlfile
from boathouse.workspace.errors import BundleError, Where, did_you_mean
from boathouse.workspace.merge import merge_keyed, overlay, refuse_duplicates
from boathouse.workspace.presets import apply_presets
from boathouse.workspace.variables import Interpolation, variable_values
from boathouse.workspace.yamlfile import List, Map

ROOT_FILES = ("databricks.yml", "databricks.yaml", "bundle.yml", "bundle.yaml")
TOP_LEVEL = [
    "bundle",
    "include",
    "variables",
    "artifacts",
    "sync",
    "workspace",
    "permissions",
    "run_as",
    "presets",
    "python",
    "resources",
    "targets",
    "environments",
    "scripts",
    "experimental",
]
TARGET_KEYS = [
    "default",
    "mode",
    "presets",
    "workspace",
    "variables",
    "resources",
    "artifacts",
    "sync",
    "permissions",
    "run_as",
    "bundle",
    "git",
    "cluster_id",
]
OVERLAID = ("bundle", "workspace", "artifacts", "resources", "sync", "permissions", "presets")


@dataclass(frozen=True)
class Bundle:
    "A bundle with one target chosen. `data` is the whole tree after merging and filling in; `state` is the target's folder."

    root: Path
    file: Path
    target: str
    targets: tuple[str, ...]
    variables: dict[str, Any]
    data: Map
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        "The bundle's name."
        return str(self.data["bundle"]["name"])

    @property
    def state(self) -> Path:
        "The folder that holds everything this target has ever made; deleting it resets the target."
        return state_folder(self.root, self.target)

    @property
    def catalog(self) -> str:
        "The catalog that is current in the target: the variable `catalog`, else Spark's own."
        return str(self.variables.get("catalog") or "spark_catalog")

    @property
    def jobs(self) -> Map:
        "The job definitions by key."
        jobs = (self.data.get("resources") or {}).get("jobs")
        return jobs if isinstance(jobs, Map) else Map(self.data.at)

    def path(self, where: Where, text: str) -> Path:
        "A path written at `where`, which is relative to the file that holds it."
        return (self.root / Path(where.file).parent / text).resolve()


def state_folder(root: Path, target: str) -> Path:
    "Where the state of a target of the bundle at `root` lives."
    return root / ".boathouse" / target


def find_root_file(folder: Path) -> Path:
    "The one root file of the bundle in `folder`."
    found = [folder / name for name in ROOT_FILES if (folder / name).is_file()]
    if not found:
        raise BundleError(f"there is no {ROOT_FILES[0]} in {folder}.", hint="Go to the folder that holds it, or name it with --bundle DIR.")
    if len(found) > 1:
        raise BundleError(f"more than one root file: {', '.join(f.name for f in found)}.", hint="Keep one of them.")
    return found[0]


def load(
    folder: Path, target: str | None = None, overrides: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> Bundle:
    "The bundle in `folder` with `target` (or its default target) applied and every `${...}` filled in."
    root = folder.resolve()
    file = find_root_file(root)
    tree = _with_includes(root, file)
    name, names = choose_target(tree, target)
    tree = _with_target(tree, name)
    notes = _notes(tree)
    values = variable_values(tree, name, overrides or {}, os.environ if environ is None else environ, root)
    tree = _with_local_workspace(tree, root, name)
    state = state_folder(root, name)
    tree = apply_presets(tree, Interpolation(tree, values, state).value)
    filling = Interpolation(tree, values, state)
    return Bundle(root, file, name, names, filling.variables(), filling.filled(), notes)


def target_names(folder: Path) -> tuple[str, ...]:
    "The names of all targets of the bundle in `folder`."
    root = folder.resolve()
    tree = _with_includes(root, find_root_file(root))
    return tuple(_targets(tree)) or ("default",)


def choose_target(tree: Map, wanted: str | None) -> tuple[str, tuple[str, ...]]:
    "The target to use, and the names of all."
    targets = _targets(tree)
    names = tuple(targets) or ("default",)
    if wanted is not None:
        if wanted not in names:
            hint = did_you_mean(wanted, names) or f"The targets are {', '.join(names)}."
            raise BundleError(f"the bundle has no target '{wanted}'.", Where(tree.at.file), hint)
        return wanted, names
    if len(names) == 1:
        return names[0], names
    chosen = [n for n in names if isinstance(targets[n], Map) and targets[n].get("default") is True]
    if len(chosen) > 1:
        raise BundleError(f"more than one target is the default: {', '.join(chosen)}.", targets.keys_at[chosen[1]])
    if not chosen:
        raise BundleError("no target is the default.", targets.at, f"Name one with -t: {', '.join(names)}.")
    return chosen[0], names


def _targets(tree: Map) -> Map:
    for key in ("targets", "environments"):
        if isinstance(tree.get(key), Map):
            return tree[key]
    return Map(tree.at)


def _with_includes(root: Path, file: Path) -> Map:
    tree = _file(file, root)
    for pattern, at in _patterns(tree):
        paths = sorted(p for p in root.glob(pattern) if p.is_file() and p != file)
        if not paths and not re.search(r"[*?\[]", pattern):
            raise BundleError(f"'include' names '{pattern}', which does not exist.", at)
        for path in paths:
            part = _file(path, root)
            if "include" in part:
                raise BundleError("only the root file may have 'include'.", part.keys_at["include"])
            _refuse_same_resources(tree, part)
            tree = overlay(tree, part)
    if not isinstance(tree.get("bundle"), Map) or not isinstance(tree["bundle"].get("name"), str):
        raise BundleError("the bundle has no name.", Where(file.name), "Write `bundle: {name: ...}`.")
    return tree


def _patterns(tree: Map) -> list[tuple[str, Where]]:
    include = tree.get("include")
    if include is None:
        return []
    if not isinstance(include, List) or not all(isinstance(p, str) for p in include):
        raise BundleError("'include' is a list of file patterns.", tree.values_at["include"])
    return list(zip(include, include.items_at, strict=True))


def _file(path: Path, root: Path) -> Map:
    tree = yamlfile.load(path, path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path))
    for key in tree:
        if key not in TOP_LEVEL and did_you_mean(key, TOP_LEVEL):
            raise BundleError(f"'{key}' is not a key of a bundle.", tree.keys_at[key], did_you_mean(key, TOP_LEVEL))
    resources = tree.get("resources")
    _check_resources(resources, tree)
    for name, target in _targets(tree).items():
        if target is not None and not isinstance(target, Map):
            raise BundleError(f"target '{name}' must be a mapping.", yamlfile.where(_targets(tree), name))
        for key in target or ():
            if key not in TARGET_KEYS:
                raise BundleError(f"'{key}' is not a key of a target.", target.keys_at[key], did_you_mean(key, TARGET_KEYS))
        if target:
            _check_resources(target.get("resources"), target)
    return tree


def _check_resources(resources: Any, holder: Map) -> None:
    if resources is None:
        return
    if not isinstance(resources, Map):
        raise BundleError("'resources' must be a mapping of resource types.", holder.values_at["resources"])
    for kind, group in resources.items():
        if group is not None and not isinstance(group, Map):
            raise BundleError(f"'resources.{kind}' must be a mapping of resources by key.", resources.values_at[kind])
        for key, resource in (group or {}).items():
            if not isinstance(resource, Map):
                raise BundleError(f"'resources.{kind}.{key}' must be a mapping.", group.values_at[key])
            if kind == "jobs":
                refuse_duplicates(resource)


def _refuse_same_resources(tree: Map, part: Map) -> None:
    for kind, group in (part.get("resources") or {}).items():
        existing = (tree.get("resources") or {}).get(kind) or {}
        for key in group or ():
            if key in existing:
                first = existing.keys_at[key]
                raise BundleError(f"resources.{kind}.{key} is defined twice (first at {first.file}:{first.line}).", group.keys_at[key])


def _with_target(tree: Map, name: str) -> Map:
    target = _targets(tree).get(name) or Map(tree.at)
    out = tree.like()
    for key in tree:
        if key not in ("targets", "environments", "include"):
            out.put(key, tree[key], tree.keys_at[key], tree.values_at[key])
    for key in target:
        if key in OVERLAID and key in out:
            out.put(key, overlay(out[key], target[key]), out.keys_at[key], out.values_at[key])
        elif key in OVERLAID or key in ("run_as", "mode"):
            out.put(key, target[key], target.keys_at[key], target.values_at[key])
    if target.get("variables"):
        out.put("target_variables", target["variables"], target.keys_at["variables"], target.values_at["variables"])
    jobs = (out.get("resources") or {}).get("jobs")
    for key in jobs or ():
        jobs[key] = merge_keyed(jobs[key])
    return out


def _with_local_workspace(tree: Map, root: Path, target: str) -> Map:
    user = getpass.getuser()
    bundle, workspace = tree["bundle"], tree.get("workspace") or Map(tree.at)
    bundle.put("target", target, bundle.at, bundle.at)
    bundle.put("environment", target, bundle.at, bundle.at)
    person = Map(workspace.at)
    for key, value in {"userName": user, "short_name": re.sub(r"\W", "_", user), "domain_friendly_name": user}.items():
        person.put(key, value, workspace.at, workspace.at)
    local = {
        "current_user": person,
        "file_path": str(root),
        "root_path": workspace.get("root_path") or f"~/.bundle/{bundle['name']}/{target}",
        "artifact_path": str(state_folder(root, target) / "artifacts"),
        "state_path": str(state_folder(root, target)),
        "resource_path": str(state_folder(root, target)),
        "host": workspace.get("host") or "http://localhost",
    }
    for key, value in local.items():
        workspace.put(key, value, workspace.at, workspace.values_at.get(key, workspace.at))
    tree.put("workspace", workspace, tree.at, workspace.at)
    return tree


def _notes(tree: Map) -> tuple[str, ...]:
    unknown = [f"{tree.keys_at[k]}: '{k}' is not a key of a bundle and is ignored." for k in tree if k not in (*TOP_LEVEL, "mode", "target_variables")]
    python = tree.get("python") or (tree.get("experimental") or {}).get("python")
    unloaded = ["Resources that Python code makes ('python') are not loaded on this machine."] if python else []
    without_effect = [k for k in ("permissions", "run_as", "sync", "scripts") if k in tree]
    without_effect += [f"workspace.{k}" for k in ("host", "profile") if k in (tree.get("workspace") or {})]
    return (*unknown, *unloaded, *(f"'{key}' has no effect on this machine." for key in without_effect))
