"""Variables of a bundle and the `${...}` references that read them, the bundle, the workspace and other resources."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.workspace import yamlfile
from boathouse.workspace.errors import BundleError, Where, did_you_mean
from boathouse.workspace.yamlfile import List, Map, where

_SEGMENT = r"[a-zA-Z]+(?:[-_]*[a-zA-Z0-9]+)*"
REFERENCE = re.compile(rf"\$\{{({_SEGMENT}(?:\[[0-9]+\])*(?:\.{_SEGMENT}(?:\[[0-9]+\])*)*)\}}")
SPACES = ("bundle", "workspace", "var", "variables", "resources", "artifacts")
VARIABLE_KEYS = ("default", "description", "type", "lookup")


@dataclass(frozen=True)
class Variable:
    "One variable with the value that won, and where that value was written; `lookup` values exist in a workspace only."

    name: str
    value: Any
    at: Where
    lookup: bool = False


def variable_values(tree: Map, target: str, given: Mapping[str, str], environ: Mapping[str, str], root: Path) -> dict[str, Variable]:
    "The variables by name: --var, then BUNDLE_VAR_*, then the overrides file, then the target's value, then the default."
    declared = tree.get("variables") or Map(tree.at)
    chosen = tree.pop("target_variables", None) or Map(tree.at)
    for name, at in [(n, Where("--var")) for n in given] + [(n, chosen.keys_at[n]) for n in chosen]:
        if name not in declared:
            raise BundleError(f"the bundle declares no variable '{name}'.", at, did_you_mean(name, declared))
    saved = _saved_overrides(root, target)
    return {name: _variable(name, declared, chosen, given, environ, saved) for name in declared}


def _saved_overrides(root: Path, target: str) -> Map:
    path = root / ".databricks" / "bundle" / target / "variable-overrides.json"
    return yamlfile.load(path, path.relative_to(root).as_posix()) if path.is_file() else Map(Where(str(path)))


def _variable(name: str, declared: Map, chosen: Map, given: Mapping[str, str], environ: Mapping[str, str], saved: Map) -> Variable:
    definition, here = _definition(name, declared), declared.keys_at[name]
    complex_type = definition.get("type") == "complex"
    if name in given:
        if complex_type:
            raise BundleError(f"variable '{name}' is complex and cannot be given by --var.", Where("--var"), "Set it in the target.")
        return Variable(name, given[name], Where("--var"))
    if f"BUNDLE_VAR_{name}" in environ and not complex_type:
        return Variable(name, environ[f"BUNDLE_VAR_{name}"], Where(f"BUNDLE_VAR_{name}"))
    if name in saved:
        return Variable(name, saved[name], saved.values_at[name])
    override = chosen.get(name)
    if isinstance(override, Map) and not (complex_type and "default" not in override):
        definition = _over(definition, override)
    elif override is not None:
        return Variable(name, override, chosen.values_at[name])
    if definition.get("lookup") is not None:
        return Variable(name, None, definition.values_at["lookup"], lookup=True)
    if definition.get("default") is not None:
        return Variable(name, definition["default"], definition.values_at["default"])
    hint = f"Give one with --var {name}=..., BUNDLE_VAR_{name}, in the target, or as its default."
    raise BundleError(f"variable '{name}' has no value.", here, hint)


def _over(below: Map, above: Map) -> Map:
    "The entries of `above` over those of `below`, one level deep: a target replaces a variable's default whole."
    out = below.like()
    for part in (below, above):
        for key in part:
            out.put(key, part[key], part.keys_at[key], part.values_at[key])
    return out


def _definition(name: str, declared: Map) -> Map:
    definition = declared[name]
    if definition is None:
        return Map(declared.keys_at[name])
    if not isinstance(definition, Map):
        raise BundleError(f"variable '{name}' must be a mapping.", declared.values_at[name], "Write `default: ...` below it.")
    for key in definition:
        if key not in VARIABLE_KEYS:
            raise BundleError(f"'{key}' is not a key of a variable.", definition.keys_at[key], did_you_mean(key, VARIABLE_KEYS))
    return definition


class Interpolation:
    "Fills `${...}` into a tree; a string that is nothing but one reference takes over the type of what it names."

    def __init__(self, tree: Map, variables: Mapping[str, Variable], state: Path) -> None:
        self._tree, self._variables, self._state = tree, variables, state

    def filled(self) -> Map:
        "The whole tree with every reference replaced."
        return self.value(self._tree, self._tree.at)

    def variables(self) -> dict[str, Any]:
        "The plain values of all variables that have one on this machine."
        return {n: yamlfile.plain(self.value(v.value, v.at)) for n, v in self._variables.items() if not v.lookup}

    def value(self, node: Any, at: Where, above: tuple[str, ...] = ()) -> Any:
        "The node, written at `at`, with every reference below it replaced; `above` are the references being followed."
        if isinstance(node, Map):
            out = node.like()
            for key, value in node.items():
                out.put(key, self.value(value, node.values_at[key], above), node.keys_at[key], node.values_at[key])
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
        steps = [int(s) if s.isdigit() else s for s in re.findall(r"[^.\[\]]+", path)]
        if steps[0] not in SPACES:
            hint = did_you_mean(str(steps[0]), SPACES)
            if hint:
                raise BundleError(f"{written} names nothing: '{steps[0]}' is not one of {', '.join(SPACES)}.", at, hint)
            return written
        value, found_at, rest = self._start(steps, written, at)
        # `var.x.y` needs x itself filled first, since x may be nothing but a reference to a mapping.
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
            if variable.lookup:
                raise BundleError(
                    f"{written} is looked up in a workspace, which does not exist on this machine.", at, "Give it a value with --var."
                )
            rest = steps[2:]
            return variable.value, variable.at, rest[1:] if steps[0] == "variables" and rest[:1] in (["value"], ["default"]) else rest
        if steps[0] == "resources" and len(steps) == 4:
            computed = self._computed(*steps[1:], at=at)
            if computed is not None:
                return computed, at, []
        return self._tree, self._tree.at, steps

    def _step(self, value: Any, step: str | int, written: str, at: Where, found_at: Where) -> tuple[Any, Where]:
        if isinstance(value, Map) and step in value:
            return value[step], value.values_at[str(step)]
        if isinstance(value, List) and isinstance(step, int) and step < len(value):
            return value[step], value.items_at[step]
        if isinstance(value, dict) and step in value:
            return value[step], found_at
        hint = did_you_mean(str(step), value) if isinstance(value, dict) else ""
        raise BundleError(f"{written} names nothing on this machine: there is no '{step}'.", at, hint)

    def _computed(self, kind: str, key: str, field: str, at: Where) -> Any:
        "Fields that exist once a resource is deployed, as this machine's stand-in deploys it."
        resource = ((self._tree.get("resources") or {}).get(kind) or {}).get(key)
        if not isinstance(resource, Map):
            return None

        def text(name: str) -> str:
            return str(self.value(resource.get(name), where(resource, name)))

        if kind == "jobs" and field == "id":
            return job_id(str(self._tree["bundle"]["name"]), key)
        if kind == "volumes" and field == "volume_path":
            return str(self._state / "volumes" / text("catalog_name") / text("schema_name") / text("name"))
        if kind == "schemas" and field in ("id", "full_name"):
            return f"{text('catalog_name')}.{text('name')}"
        if kind in ("volumes", "registered_models") and field in ("id", "full_name"):
            return f"{text('catalog_name')}.{text('schema_name')}.{text('name')}"
        return None


def job_id(bundle: str, key: str) -> int:
    "The id of a job on this machine: the same number on every run, as the Jobs API's ids are."
    return int.from_bytes(hashlib.sha256(f"{bundle}/{key}".encode()).digest()[:6], "big")


def _as_text(value: Any, written: str, at: Where) -> str:
    if isinstance(value, dict | list):
        raise BundleError(f"{written} is a {'mapping' if isinstance(value, dict) else 'list'} and cannot be part of a longer string.", at)
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
