"""Replace `${...}` references by values of variables, the bundle, the workspace and other resources, as the Databricks CLI does."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from boathouse.workspace.bundle import yaml_tree as yamlfile
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import BundleError, Where, did_you_mean

# A letter, then letters, digits, dashes and underscores, the last of them a letter or digit. Each text matches in one way only:
# with two ways per letter, a text that is not a reference would be tried in exponentially many.
_SEGMENT = r"[^\W\d_][^\W_]*(?:[-_]+[^\W_]+)*"
REFERENCE = re.compile(rf"\$\{{({_SEGMENT}(?:\[[0-9]+\])*(?:\.{_SEGMENT}(?:\[[0-9]+\])*)*)\}}")
SPACES = ("bundle", "workspace", "var", "variables", "resources", "artifacts")
DEEPEST = 11
# Fields that a resource has once it is deployed, in addition to those that are written.
DEPLOYED = ("id", "url", "name", "full_name", "volume_path", "service_principal_client_id", "service_principal_id", "creator", "state")
GIT = {
    "branch": ("rev-parse", "--abbrev-ref", "HEAD"),
    "actual_branch": ("rev-parse", "--abbrev-ref", "HEAD"),
    "commit": ("rev-parse", "HEAD"),
    "origin_url": ("remote", "get-url", "origin"),
    "bundle_root_path": ("rev-parse", "--show-prefix"),
}


@dataclass(frozen=True)
class Value:
    "Hold the effective value of a variable and the place where it was written; `lookup` values exist only in a workspace."

    name: str
    value: Any
    at: Where
    lookup: bool = False


class Interpolation:
    """Replace every `${...}` in a tree; a string that is only one reference gets the type of the value.

    A reference whose value exists only in a workspace (a lookup, the id of a warehouse) stays, and `unfilled` holds the reason.
    """

    def __init__(self, tree: Map, variables: Mapping[str, Value], root: Path, state: Path) -> None:
        self._tree, self._variables, self._root, self._state = tree, variables, root, state
        self.unfilled: dict[str, str] = {}

    def filled(self) -> Map:
        "Return the whole tree with every reference replaced."
        return self.value(self._tree, self._tree.at)

    def variables(self) -> dict[str, Any]:
        "Return the plain values of all variables that have one on this machine."
        return {n: yamlfile.to_plain_tree(self.value(v.value, v.at)) for n, v in self._variables.items() if not v.lookup}

    def value(self, node: Any, at: Where, above: tuple[str, ...] = ()) -> Any:
        """Return the node with every reference below it replaced.

        `at` is the place of the node, and `above` are the references that are being followed.
        """
        if isinstance(node, Map):
            out = node.like()
            for key, value in node.items():
                out.add_entry(key, self.value(value, node.values_at[key], above), node.keys_at[key], node.values_at[key])
            return out
        if isinstance(node, List):
            items = List(node.at)
            for value, item_at in zip(node, node.items_at, strict=True):
                items.add(self.value(value, item_at, above), item_at)
            return items
        if isinstance(node, str) and "${" in node:
            return self._text(node, at, above)
        return node

    def _text(self, text: str, at: Where, above: tuple[str, ...]) -> Any:
        whole = REFERENCE.fullmatch(text)
        if whole:
            return self._follow(whole[1], whole[0], at, above)
        return REFERENCE.sub(lambda m: _as_text(self._follow(m[1], m[0], at, above), m[0], at), text)

    def _follow(self, path: str, written: str, at: Where, above: tuple[str, ...]) -> Any:
        if path in above:
            raise BundleError(f"references go round in a circle: {' -> '.join((*above, path))}.", at)
        if len(above) >= DEEPEST:
            raise BundleError(f"{written} leads through more than {DEEPEST} references.", at, "The Databricks CLI follows no more.")
        steps = [int(s) if s.isdigit() else s for s in re.findall(r"[^.\[\]]+", path)]
        if steps[0] not in SPACES:
            hint = did_you_mean(str(steps[0]), SPACES)
            if hint:
                raise BundleError(f"{written} names nothing: '{steps[0]}' is not one of {', '.join(SPACES)}.", at, hint)
            return written
        if why := self._elsewhere(steps):
            self.unfilled[written] = why
            return written
        value, found_at, rest = self._start(steps, written, at)
        # `var.x.y` needs x replaced first, since x may be only a reference to a mapping.
        value = self.value(value, found_at, (*above, path)) if steps[0] == "var" or not rest else value
        for i, step in enumerate(rest):
            value, found_at = self._step(value, step, written, at, found_at)
            if isinstance(value, str) or i == len(rest) - 1:
                value = self.value(value, found_at, (*above, path))
        return value

    def _start(self, steps: list[Any], written: str, at: Where) -> tuple[Any, Where, list[Any]]:
        if steps[0] in ("var", "variables") and len(steps) > 1:
            variable = self._variables.get(steps[1])
            if variable is None:
                raise BundleError(f"{written}: the bundle declares no variable '{steps[1]}'.", at, did_you_mean(steps[1], self._variables))
            rest = steps[2:]
            return variable.value, variable.at, rest[1:] if steps[0] == "variables" and rest[:1] in (["value"], ["default"]) else rest
        if steps[0] == "resources" and len(steps) == 4:
            computed = self._computed(steps[1], steps[2], steps[3], at)
            if computed is not None:
                return computed, at, []
        if steps[:2] == ["bundle", "git"] and len(steps) == 3 and steps[2] in GIT:
            own = self._tree["bundle"].get("git")
            if not (isinstance(own, Map) and own.get(steps[2]) is not None):
                return git_fact(self._root, steps[2]), at, []
        return self._tree, self._tree.at, steps

    def _step(self, value: Any, step: str | int, written: str, at: Where, found_at: Where) -> tuple[Any, Where]:
        if isinstance(value, Map) and step in value:
            return value[str(step)], value.values_at[str(step)]
        if isinstance(value, List) and isinstance(step, int) and step < len(value):
            return value[step], value.items_at[step]
        if isinstance(value, dict) and step in value:
            return value[step], found_at
        hint = did_you_mean(str(step), value) if isinstance(value, dict) else ""
        raise BundleError(f"{written} names nothing on this machine: there is no '{step}'.", at, hint)

    def _resource(self, kind: Any, key: Any) -> Map | None:
        found = ((self._tree.get("resources") or {}).get(kind) or {}).get(key)
        return found if isinstance(found, Map) else None

    def _elsewhere(self, steps: list[Any]) -> str:
        "Return why a reference has a value only in a workspace; empty text if it has one here, or nowhere."
        if steps[0] in ("var", "variables") and len(steps) > 1:
            variable = self._variables.get(steps[1])
            return "it is looked up in a workspace" if variable is not None and variable.lookup else ""
        if steps[0] != "resources" or len(steps) != 4 or steps[3] not in DEPLOYED:
            return ""
        resource = self._resource(*steps[1:3])
        if resource is None or resource.get(steps[3]) is not None or self._computed(steps[1], steps[2], steps[3], resource.at) is not None:
            return ""
        return f"a workspace gives it to resources.{steps[1]}.{steps[2]} when that is deployed"

    def _computed(self, kind: str, key: str, field: str, at: Where) -> Any:
        "Return a field that exists once a resource is deployed, as this machine deploys it."
        resource = self._resource(kind, key)
        if resource is None:
            return None

        def text(name: str) -> str:
            return str(self.value(resource.get(name), where(resource, name)))

        if kind == "jobs" and field == "id":
            return job_id(str(self._tree["bundle"]["name"]), key)
        if kind == "alerts" and field == "id":
            return alert_id(str(self._tree["bundle"]["name"]), key)
        if kind == "volumes" and field == "volume_path":
            return str(self._state / "volumes" / text("catalog_name") / text("schema_name") / text("name"))
        if kind == "schemas" and field in ("id", "full_name"):
            return f"{text('catalog_name')}.{text('name')}"
        if kind in ("volumes", "registered_models") and field in ("id", "full_name"):
            return f"{text('catalog_name')}.{text('schema_name')}.{text('name')}"
        return None


def job_id(bundle: str, key: str) -> int:
    "Return the id of a job on this machine: a number, as in the Jobs API, and the same on every run."
    return int.from_bytes(hashlib.sha256(f"{bundle}/{key}".encode()).digest()[:6], "big")


def alert_id(bundle: str, key: str) -> str:
    "Return the id of an alert on this machine: a UUID, as in the Alerts API, and the same on every run."
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{bundle}/{key}"))


@cache
def git_fact(root: Path, name: str) -> str:
    "Return a fact from Git about the bundle's folder; empty text if there is none, as in a folder outside a repository."
    try:
        done = subprocess.run(["git", "-C", str(root), *GIT[name]], capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return ""
    text = done.stdout.strip() if done.returncode == 0 else ""
    return (text.rstrip("/") or ".") if name == "bundle_root_path" and done.returncode == 0 else text


def _as_text(value: Any, written: str, at: Where) -> str:
    if isinstance(value, dict | list):
        raise BundleError(f"{written} is a {'mapping' if isinstance(value, dict) else 'list'} and cannot be part of a longer string.", at)
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
