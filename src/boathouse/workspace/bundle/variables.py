"""The variables of a bundle: their effective values, and where these were written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.workspace.bundle import yaml_tree as yamlfile
from boathouse.workspace.bundle.interpolation import Value
from boathouse.workspace.bundle.yaml_tree import List, Map
from boathouse.workspace.errors import BundleError, Where, did_you_mean

VARIABLE_KEYS = ("default", "description", "type", "lookup")
LOOKUPS = (
    *("alert", "cluster", "cluster_policy", "dashboard", "instance_pool", "job", "metastore", "notification_destination", "pipeline"),
    *("query", "service_principal", "warehouse"),
)


@dataclass(frozen=True)
class Sources:
    "Hold the sources of values apart from the declarations: command line, environment, overrides file, target."

    given: Mapping[str, str]
    environ: Mapping[str, str]
    saved: Map
    chosen: Map


def variable_values(tree: Map, target: str, given: Mapping[str, str], environ: Mapping[str, str], root: Path) -> dict[str, Value]:
    """Return the variables by name.

    The first source that has a value wins: --var, BUNDLE_VAR_*, lookup, overrides file, the target's value, the default.
    """
    declared = tree.get("variables") or Map(tree.at)
    if not isinstance(declared, Map):
        raise BundleError("'variables' must be a mapping of variables by name.", tree.values_at["variables"])
    chosen = tree.take("target_variables") or Map(tree.at)
    if not isinstance(chosen, Map):
        raise BundleError("'variables' of a target must be a mapping of values by name.", tree.at)
    sources = Sources(given, environ, _saved_overrides(root, target), chosen)
    for name, at in [(n, Where("--var")) for n in given] + [(n, chosen.keys_at[n]) for n in chosen]:
        if name not in declared:
            raise BundleError(f"the bundle declares no variable '{name}'.", at, did_you_mean(name, declared))
    return {name: _value(name, _definition(name, declared), declared.keys_at[name], sources) for name in declared}


def _saved_overrides(root: Path, target: str) -> Map:
    path = root / ".databricks" / "bundle" / target / "variable-overrides.json"
    return yamlfile.load(path, path.relative_to(root).as_posix()) if path.is_file() else Map(Where(str(path)))


def _value(name: str, definition: Map, here: Where, sources: Sources) -> Value:
    definition = _with_target(name, definition, sources.chosen)
    is_complex = definition.get("type") == "complex"
    if name in sources.given:
        if is_complex:
            raise BundleError(f"variable '{name}' is complex and cannot be given by --var.", Where("--var"), "Set it in the target.")
        return Value(name, sources.given[name], Where("--var"))
    if f"BUNDLE_VAR_{name}" in sources.environ:
        at = Where(f"BUNDLE_VAR_{name}")
        if is_complex:
            raise BundleError(f"variable '{name}' is complex and cannot be given by the environment.", at, "Set it in the target.")
        return Value(name, sources.environ[f"BUNDLE_VAR_{name}"], at)
    if definition.get("lookup") is not None:
        return Value(name, None, definition.values_at["lookup"], lookup=True)
    holder, key = (sources.saved, name) if sources.saved.get(name) is not None else (definition, "default")
    if holder.get(key) is None:
        hint = f"Give one with --var {name}=..., BUNDLE_VAR_{name}, in the target, or as its default."
        raise BundleError(f"variable '{name}' has no value.", here, hint)
    if isinstance(holder[key], Map | List) and not is_complex:
        kind = "mapping" if isinstance(holder[key], Map) else "list"
        raise BundleError(f"the value of variable '{name}' is a {kind}.", holder.values_at[key], f"Declare '{name}' with `type: complex`.")
    return Value(name, holder[key], holder.values_at[key])


def _with_target(name: str, definition: Map, chosen: Map) -> Map:
    "Return the definition with the target's entry merged over it; the entry is a part of a definition, or only a value."
    over = chosen.get(name)
    if over is None:
        return definition
    out = definition.like()
    for key in definition:
        # A default replaces a lookup, and a lookup a default.
        if key not in ("default", "lookup"):
            out.add_entry(key, definition[key], definition.keys_at[key], definition.values_at[key])
    if _is_definition(over):
        _check_definition(name, over)
        for key in over:
            out.add_entry(key, over[key], over.keys_at[key], over.values_at[key])
    else:
        out.add_entry("default", over, chosen.keys_at[name], chosen.values_at[name])
    return out


def _is_definition(over: Any) -> bool:
    "Return whether a target's mapping is a definition with its own default or lookup, and not the value of a complex variable."
    return isinstance(over, Map) and bool({"default", "lookup"} & set(over)) and set(over) <= set(VARIABLE_KEYS)


def _definition(name: str, declared: Map) -> Map:
    definition = declared[name]
    if definition is None:
        return Map(declared.keys_at[name])
    if not isinstance(definition, Map):
        raise BundleError(f"variable '{name}' must be a mapping.", declared.values_at[name], "Write `default: ...` below it.")
    for key in definition:
        if key not in VARIABLE_KEYS:
            raise BundleError(f"'{key}' is not a key of a variable.", definition.keys_at[key], did_you_mean(key, VARIABLE_KEYS))
    _check_definition(name, definition)
    return definition


def _check_definition(name: str, definition: Map) -> None:
    if definition.get("type") not in (None, "complex"):
        message = f"'{definition['type']}' is not a type of variable."
        raise BundleError(message, definition.values_at["type"], "The only type to write is `complex`; leave it out for plain values.")
    lookup = definition.get("lookup")
    if lookup is None:
        return
    if not isinstance(lookup, Map) or len(lookup) != 1:
        raise BundleError(f"the lookup of variable '{name}' must name one thing.", definition.values_at["lookup"], f"{', '.join(LOOKUPS)}.")
    kind = next(iter(lookup))
    if kind not in LOOKUPS:
        hint = did_you_mean(kind, LOOKUPS) or f"Known: {', '.join(LOOKUPS)}."
        raise BundleError(f"'{kind}' cannot be looked up.", lookup.keys_at[kind], hint)
    if definition.get("default") is not None:
        raise BundleError(f"variable '{name}' has a default and a lookup.", definition.keys_at["lookup"], "Keep one of them.")
