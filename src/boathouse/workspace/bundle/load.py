"""Load one target of a bundle for this machine, with variables and references replaced by values."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boathouse.workspace.bundle.includes import BundleSource, find_root_file, read_bundle, targets_of
from boathouse.workspace.bundle.interpolation import Interpolation
from boathouse.workspace.bundle.merge import merge_keyed, overlay
from boathouse.workspace.bundle.presets import apply_presets
from boathouse.workspace.bundle.variables import variable_values
from boathouse.workspace.bundle.yaml_tree import Map, copy_tree
from boathouse.workspace.errors import BundleError, Where, did_you_mean

__all__ = [
    "Bundle",
    "BundleSource",
    "choose_target",
    "find_root_file",
    "load",
    "read_bundle",
    "state_folder",
    "target_names",
    "with_target",
]

OVERLAID = ("bundle", "workspace", "artifacts", "resources", "sync", "permissions", "presets")
WITHOUT_EFFECT = ("permissions", "run_as", "sync", "scripts")


@dataclass(frozen=True)
class Bundle:
    """Hold a bundle with one target chosen. `data` is the whole tree after merging and interpolation; `state` is the target's folder.

    `written` is the bundle before a target was chosen. `unfilled` are the `${...}` that have a value only in a workspace.
    """

    root: Path
    file: Path
    target: str
    targets: tuple[str, ...]
    variables: dict[str, Any]
    data: Map
    notes: tuple[str, ...] = ()
    written: BundleSource | None = None
    unfilled: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        "Return the name of the bundle."
        return str(self.data["bundle"]["name"])

    @property
    def state(self) -> Path:
        "Return the folder with everything that this target has created; deleting it resets the target."
        return state_folder(self.root, self.target)

    @property
    def catalog(self) -> str:
        "Return the catalog that is current in the target: the variable `catalog`, else Spark's own."
        return str(self.variables.get("catalog") or "spark_catalog")

    @property
    def jobs(self) -> Map:
        "Return the job definitions by key."
        return self.resources("jobs")

    def resources(self, kind: str) -> Map:
        "Return the resources of one type by key."
        group = (self.data.get("resources") or {}).get(kind)
        return group if isinstance(group, Map) else Map(self.data.at)

    def path(self, where: Where, text: str) -> Path:
        "Return the path for a text written at `where`; it is relative to the file that holds it."
        return (self.root / Path(where.file).parent / text).resolve()


def state_folder(root: Path, target: str) -> Path:
    "Return the state folder of a target of the bundle at `root`."
    return root / ".boathouse" / target


def load(
    folder: Path, target: str | None = None, overrides: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> Bundle:
    "Load the bundle in `folder` with `target` (or its default target) applied and every `${...}` replaced."
    return with_target(read_bundle(folder), target, overrides, environ)


def with_target(
    written: BundleSource, target: str | None = None, overrides: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> Bundle:
    "Return one target of a bundle, with every `${...}` replaced."
    root = written.root
    name, names = choose_target(written.tree, target)
    tree = _with_target(copy_tree(written.tree), name)
    notes = _notes(written, tree)
    values = variable_values(tree, name, overrides or {}, os.environ if environ is None else environ, root)
    tree = _with_local_workspace(tree, root, name)
    state = state_folder(root, name)
    tree = apply_presets(tree, Interpolation(tree, values, root, state).value)
    filling = Interpolation(tree, values, root, state)
    data, variables = filling.filled(), filling.variables()
    return Bundle(root, written.file, name, names, variables, data, notes, written, filling.unfilled)


def target_names(folder: Path) -> tuple[str, ...]:
    "Return the names of all targets of the bundle in `folder`."
    return read_bundle(folder).target_names


def choose_target(tree: Map, wanted: str | None) -> tuple[str, tuple[str, ...]]:
    "Return the target to use, and the names of all."
    targets = targets_of(tree)
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


def _with_target(tree: Map, name: str) -> Map:
    target = targets_of(tree).get(name) or Map(tree.at)
    out = tree.like()
    for key in tree:
        if key not in ("targets", "environments", "include"):
            out.add_entry(key, tree[key], tree.keys_at[key], tree.values_at[key])
    for key in target:
        if key in OVERLAID and key in out:
            out.add_entry(key, overlay(out[key], target[key]), out.keys_at[key], out.values_at[key])
        elif key in OVERLAID or key in ("run_as", "mode"):
            out.add_entry(key, target[key], target.keys_at[key], target.values_at[key])
    if target.get("variables"):
        out.add_entry("target_variables", target["variables"], target.keys_at["variables"], target.values_at["variables"])
    jobs = (out.get("resources") or {}).get("jobs")
    if jobs is not None:
        for key in jobs:
            jobs[key] = merge_keyed(jobs[key])
    return out


def _with_local_workspace(tree: Map, root: Path, target: str) -> Map:
    user = getpass.getuser()
    bundle, workspace = tree["bundle"], tree.get("workspace") or Map(tree.at)
    bundle.add_entry("target", target, bundle.at, bundle.at)
    bundle.add_entry("environment", target, bundle.at, bundle.at)
    person = Map(workspace.at)
    for name, text in {"userName": user, "short_name": re.sub(r"\W", "_", user), "domain_friendly_name": user}.items():
        person.add_entry(name, text, workspace.at, workspace.at)
    local: dict[str, Any] = {
        "current_user": person,
        "file_path": str(root),
        "root_path": workspace.get("root_path") or f"~/.bundle/{bundle['name']}/{target}",
        "artifact_path": str(state_folder(root, target) / "artifacts"),
        "state_path": str(state_folder(root, target)),
        "resource_path": str(state_folder(root, target)),
        "host": workspace.get("host") or "http://localhost",
    }
    for key, value in local.items():
        workspace.add_entry(key, value, workspace.at, workspace.values_at.get(key, workspace.at))
    tree.add_entry("workspace", workspace, tree.at, workspace.at)
    return tree


def _notes(written: BundleSource, tree: Map) -> tuple[str, ...]:
    odd = [str(p.error) for p in written.remarks]
    python = tree.get("python") or (tree.get("experimental") or {}).get("python")
    unloaded = ["Resources that Python code makes ('python') are not loaded on this machine."] if python else []
    without_effect = [key for key in WITHOUT_EFFECT if key in tree]
    without_effect += [f"workspace.{key}" for key in ("host", "profile") if key in (tree.get("workspace") or {})]
    return (*odd, *unloaded, *(f"'{key}' has no effect on this machine." for key in without_effect))
