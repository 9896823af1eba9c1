"""Check the registered models and the model serving endpoints of a bundle.

A name, version or percentage that only a workspace knows (`${...}`) is not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeGuard

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.schema import MissingKey, schema_problems
from boathouse.workspace.bundle.sdk import serving_endpoint
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import did_you_mean
from boathouse.workspace.problems import Problem, problem

NAME = re.compile(r"[A-Za-z0-9_-]+")
SIZES = ("Small", "Medium", "Large")
CONCURRENCY = ("min_provisioned_concurrency", "max_provisioned_concurrency")
# The SDK requires more keys; whether the platform does is not documented.
REQUIRED = ("name", "provider", "task", "model_name", "model_version", "traffic_percentage")
# Deprecated served_models have other names for what served_entities hold.
MODEL, VERSION = ("entity_name", "model_name"), ("entity_version", "model_version")


def problems(bundle: Bundle) -> Iterator[Problem]:
    "Yield everything that is wrong or doubtful about registered models and serving endpoints."
    for key, model in _maps(bundle.resources("registered_models")):
        if model.get("aliases"):
            message = f"the aliases of registered model '{key}' are not set by a deployment, which reports them as set."
            yield problem("model-aliases", message, where(model, "aliases", key=True), "Set an alias in a job, after the gates.")
    named: dict[str, str] = {}
    for key, endpoint in _maps(bundle.resources("model_serving_endpoints")):
        yield from _schema(endpoint)
        yield from _name(
            endpoint, key, named, "endpoint-name", "serving endpoint", "'{name}' is the name of the serving endpoint '{other}' too."
        )
        yield from _served(bundle, key, endpoint)
    yield from _identity(bundle)


def _schema(endpoint: Map) -> Iterator[Problem]:
    for found in schema_problems(endpoint, serving_endpoint(), "a serving endpoint"):
        sure = isinstance(found, MissingKey) and found.key in REQUIRED
        yield problem("endpoint-required" if sure else "endpoint-key", found.message, found.where, found.hint)


def _name(entry: Map, key: str, known: dict[str, str], rule: str, what: str, twice: str) -> Iterator[Problem]:
    name = entry.get("name")
    if not _is_written(name):
        return
    if not NAME.fullmatch(name):
        message = f"the name '{name}' of a {what} holds other characters than letters, digits, dashes and underscores."
        yield problem(rule, message, where(entry, "name"))
    if name in known:
        yield problem(rule, twice.format(name=name, other=known[name]), where(entry, "name"))
    known.setdefault(name, key)


def _served(bundle: Bundle, key: str, endpoint: Map) -> Iterator[Problem]:
    config = endpoint.get("config")
    if not isinstance(config, Map):
        return
    if config.get("auto_capture_config") is not None:
        message = f"endpoint '{key}' logs requests by the deprecated 'auto_capture_config'."
        hint = "Use `ai_gateway.inference_table_config` of the endpoint."
        yield problem("auto-capture", message, where(config, "auto_capture_config", key=True), hint)
    if config.get("served_models"):
        at = where(config, "served_models", key=True)
        if config.get("served_entities"):
            yield problem("two-served-lists", f"endpoint '{key}' has both 'served_models' and 'served_entities'.", at, "Keep the latter.")
            return
        yield problem("served-models", f"endpoint '{key}' uses the deprecated 'served_models'.", at, "Use `served_entities`.")
    entities = [one for one in config.get("served_entities") or config.get("served_models") or () if isinstance(one, Map)]
    names: dict[str, str] = {}
    for entity in entities:
        yield from _name(
            entity, key, names, "served-name", "served entity", "endpoint '{other}' has two served entities of the name '{name}'."
        )
        yield from _model(bundle, entity)
        yield from _compute(bundle, entity)
    yield from _traffic(key, config, set(names) if all(_is_written(e.get("name")) for e in entities) else None)


def _model(bundle: Bundle, entity: Map) -> Iterator[Problem]:
    at_name, at_version = _first(entity, MODEL), _first(entity, VERSION)
    name, version = entity.get(at_name), entity.get(at_version)
    declared = {full.lower(): one for one, full in _full_names(bundle)}
    if not _is_written(name):
        return
    if name.lower() in declared and version is None:
        message = f"'{name}' is served without '{at_version}'."
        yield problem("entity-version", message, entity.at, "Write the number of a version: an endpoint follows no alias.")
    elif version is not None and "${" not in str(version) and not re.fullmatch(r"[1-9][0-9]*", str(version)):
        message = f"'{at_version}' is '{version}', not the number of a version."
        yield problem(
            "entity-version", message, where(entity, at_version), "An endpoint follows no alias; a job moves it to a new version."
        )
    if name.lower() not in declared and (meant := _meant(bundle, name)):
        message = f"no registered model of the bundle is called '{name}'."
        yield problem("entity-name", message, where(entity, at_name), meant)


def _meant(bundle: Bundle, name: str) -> str:
    "Return the hint for a name that is almost that of a registered model of the bundle; an empty string if none is similar."
    known = {full: key for key, full in _full_names(bundle)}
    for full, key in known.items():
        # A name of one level is in the workspace's own registry; in development mode the CLI puts a prefix before a model's name.
        written = _written_name(bundle, key)
        catalog, schema, own = full.split(".", 2)
        if name.lower() in {own.lower(), written.lower(), f"{catalog}.{schema}.{written}".lower()}:
            return f"The deployed model is '{full}': write ${{resources.registered_models.{key}.id}}."
    return did_you_mean(name, known)


def _compute(bundle: Bundle, entity: Map) -> Iterator[Problem]:
    size = entity.get("workload_size")
    if _is_written(size) and size not in SIZES:
        same = next((one for one in SIZES if one.lower() == size.lower()), "")
        hint = f"Did you mean '{same}'?" if same else did_you_mean(size, SIZES) or "A workspace may have sizes of its own."
        yield problem("endpoint-compute", f"'{size}' is not one of the sizes {', '.join(SIZES)}.", where(entity, "workload_size"), hint)
    if (given := [one for one in CONCURRENCY if entity.get(one) is not None]) and size is not None:
        message = f"'workload_size' and '{given[0]}' both set the concurrency."
        yield problem("endpoint-compute", message, where(entity, given[0], key=True), "Leave out one of the two.")
    if entity.get("scale_to_zero_enabled") is True and bundle.data.get("mode") == "production":
        message = "'scale_to_zero_enabled' is true in a target of mode production: the first request after a pause waits for a machine."
        yield problem("endpoint-compute", message, where(entity, "scale_to_zero_enabled"), "Databricks advises against it.")
    if entity.get("external_model") is not None and (both := [one for one in (*MODEL, *VERSION) if entity.get(one) is not None]):
        message = f"a served entity has 'external_model' and '{both[0]}'."
        yield problem("endpoint-compute", message, where(entity, both[0], key=True), "Serve the two as two entities.")


def _traffic(key: str, config: Map, names: set[str] | None) -> Iterator[Problem]:
    "Check the routes; `names` are those of the served entities, None if one of them has the name that the platform gives it."
    traffic = config.get("traffic_config")
    routes = traffic.get("routes") if isinstance(traffic, Map) else None
    if not isinstance(routes, List) or not routes or not all(isinstance(one, Map) for one in routes):
        return
    used: set[str] = set()
    for route in routes:
        at = _first(route, ("served_entity_name", "served_model_name"))
        if not _is_written(name := route.get(at)):
            continue
        if names is not None and name not in names:
            message = f"a route of endpoint '{key}' leads to '{name}', which it does not serve."
            hint = did_you_mean(name, names) or f"It serves {', '.join(sorted(names)) or 'nothing'}."
            yield problem("traffic-route", message, where(route, at), hint)
        if name in used:
            yield problem("traffic-route", f"endpoint '{key}' has two routes to '{name}'.", where(route, at))
        used.add(name)
    shares = [_number(one.get("traffic_percentage")) for one in routes]
    for route, share in zip(routes, shares, strict=True):
        if share is not None and not 0 <= share <= 100:
            yield problem("traffic-sum", f"{share} is not a percentage from 0 to 100.", where(route, "traffic_percentage"))
    whole = [one for one in shares if one is not None]
    if len(whole) == len(shares) and sum(whole) != 100:
        message = f"the percentages of endpoint '{key}' add up to {sum(whole)}, not to 100."
        yield problem("traffic-sum", message, where(config, "traffic_config", "routes", key=True))


def _identity(bundle: Bundle) -> Iterator[Problem]:
    run_as = bundle.data.get("run_as")
    if isinstance(run_as, Map) and bundle.resources("model_serving_endpoints"):
        message = "the bundle has a serving endpoint and 'run_as'."
        hint = "Deploy as that identity, or write `run_as` at each job."
        yield problem("endpoint-run-as", message, run_as.at, hint)


def _full_names(bundle: Bundle) -> Iterator[tuple[str, str]]:
    for key, model in _maps(bundle.resources("registered_models")):
        parts = [model.get(part) for part in ("catalog_name", "schema_name", "name")]
        if all(_is_written(part) for part in parts):
            yield key, ".".join(map(str, parts))


def _written_name(bundle: Bundle, key: str) -> str:
    "Return the name of a registered model as the bundle has it, before a prefix of the target."
    tree = bundle.written.tree if bundle.written is not None else bundle.data
    model = ((tree.get("resources") or {}).get("registered_models") or {}).get(key)
    return str(model.get("name")) if isinstance(model, Map) else ""


def _maps(group: Map) -> Iterator[tuple[str, Map]]:
    for key, value in group.items():
        if isinstance(value, Map):
            yield key, value


def _first(node: Map, keys: tuple[str, ...]) -> str:
    return next((key for key in keys if node.get(key) is not None), keys[0])


def _is_written(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value) and "${" not in value


def _number(value: Any) -> int | None:
    text = str(value)
    return int(text) if not isinstance(value, bool) and re.fullmatch(r"-?[0-9]+", text) else None
