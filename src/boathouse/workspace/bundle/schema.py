"""Check a definition against the dataclasses of the SDK: unknown keys, wrong types, bad enum values, missing keys."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Iterator
from typing import Any

from boathouse.workspace.bundle.interpolation import REFERENCE
from boathouse.workspace.bundle.sdk import JobSettings, Task
from boathouse.workspace.bundle.yaml_tree import List, Map
from boathouse.workspace.errors import BundleError, Where, did_you_mean

BUNDLE_ONLY = ("permissions", "lifecycle", "deployment")


class MissingKey(BundleError):
    "Signal that the required `key` is missing."

    def __init__(self, message: str, where: Where | None = None, hint: str = "", key: str = "") -> None:
        super().__init__(message, where, hint)
        self.key = key


def job_settings(job: Map) -> tuple[JobSettings, list[BundleError]]:
    "Return the job as the SDK's `JobSettings`, and everything in it that does not fit the schema of the Jobs API."
    problems: list[BundleError] = []
    fitted = _fit(_without_bundle_keys(job), JobSettings, job.at, "a job", problems)
    settings = JobSettings.from_dict(fitted)
    if not problems and _without_empty(settings.as_dict()) != _without_empty(fitted):
        problems.append(BundleError("the Jobs API's dataclasses lose a part of this definition.", job.at))
    return settings, problems


def schema_problems(resource: Map, kind: type, what: str) -> list[BundleError]:
    "Return everything in a resource that does not fit the dataclass `kind`; a `MissingKey` for each required key that is missing."
    problems: list[BundleError] = []
    _fit(_without_bundle_keys(resource), kind, resource.at, what, problems)
    return problems


def _without_bundle_keys(resource: Map) -> Map:
    body = resource.like()
    for key in resource:
        if key not in BUNDLE_ONLY:
            body.add_entry(key, resource[key], resource.keys_at[key], resource.values_at[key])
    return body


def _fit(value: Any, hint: Any, at: Where, what: str, problems: list[BundleError]) -> Any:
    "Return the value as the SDK requires it; add parts that do not fit to `problems`, and leave them out."
    hint = _without_none(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return dict(_fields(value, hint, at, what, problems)) if _is(value, Map, at, what, "a mapping", problems) else {}
    if origin is list:
        items = value if _is(value, List, at, what, "a list", problems) else List(at)
        each = "a task" if args[0] is Task else f"an item of {what}"
        problems.extend(BundleError(f"{each} is empty.", a) for v, a in zip(items, items.items_at, strict=True) if v is None)
        return [_fit(v, args[0], a, each, problems) for v, a in zip(items, items.items_at, strict=True) if v is not None]
    if origin is dict:
        entries = value if _is(value, Map, at, what, "a mapping", problems) else Map(at)
        return {k: _fit(v, args[1], entries.values_at[k], f"'{k}'", problems) for k, v in entries.items() if v is not None}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _enum(value, hint, at, what, problems)
    return _scalar(value, hint, at, what, problems)


def _fields(value: Map, cls: Any, at: Where, what: str, problems: list[BundleError]) -> Iterator[tuple[str, Any]]:
    hints = _hints(cls)
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and value.get(field.name) is None:
            problems.append(MissingKey(f"{what} lacks '{field.name}'.", at, key=field.name))
            if hints[field.name] is str:
                yield field.name, ""
    for key, item in value.items():
        if key not in hints:
            hint = did_you_mean(key, hints) or (f"Known keys: {', '.join(sorted(hints))}." if len(hints) < 12 else "")
            problems.append(BundleError(f"'{key}' is not a key of {what}.", value.keys_at[key], hint))
        elif item is not None:
            yield key, _fit(item, hints[key], value.values_at[key], f"'{key}'", problems)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    "Return the types of a dataclass's fields, cached because computing them takes longer than a check of a whole job."
    return typing.get_type_hints(cls)


def _enum(value: Any, hint: type[enum.Enum], at: Where, what: str, problems: list[BundleError]) -> Any:
    known = [str(member.value) for member in hint]
    if value not in known:
        problems.append(BundleError(f"{what} is '{value}', not one of {', '.join(known)}.", at, did_you_mean(value, known)))
        return known[0]
    return value


def _scalar(value: Any, hint: Any, at: Where, what: str, problems: list[BundleError]) -> Any:
    "Convert numbers and booleans to strings, and numeric strings to numbers, as the Databricks CLI does."
    if hint is str and isinstance(value, str | int | float):
        return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    if hint is bool and (isinstance(value, bool) or value in ("true", "false")):
        return value in (True, "true")
    if hint in (int, float) and not isinstance(value, bool):
        try:
            return hint(value) if hint is float or float(value) == int(float(value)) else _refuse(value, hint, at, what, problems)
        except (TypeError, ValueError):
            pass
    if hint in (bool, int, float) and isinstance(value, str) and REFERENCE.fullmatch(value):
        # A value that exists only in a workspace is not an error of the definition.
        return hint()
    if hint in (str, bool, int, float):
        return _refuse(value, hint, at, what, problems)
    return value


def _refuse(value: Any, hint: type, at: Where, what: str, problems: list[BundleError]) -> Any:
    name = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}[hint]
    shown = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"'{value}'"
    problems.append(BundleError(f"{what} is {shown}, not {name}.", at))
    return hint()


def _is(value: Any, kind: type, at: Where, what: str, name: str, problems: list[BundleError]) -> bool:
    if not isinstance(value, kind):
        problems.append(BundleError(f"{what} must be {name}.", at))
    return isinstance(value, kind)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def _without_empty(value: Any) -> Any:
    "Return the same tree without empty containers, which the SDK leaves out."
    if isinstance(value, dict):
        kept = {k: _without_empty(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in ({}, [])}
    return [_without_empty(v) for v in value] if isinstance(value, list) else value
