"""The items of a for_each_task, and the values of `{{input}}`."""

from __future__ import annotations

import json
from typing import Any

from boathouse.workspace.errors import CannotStart
from boathouse.workspace.parameters.json_text import Double, to_text

Item = str | int | float | bool | dict[str, Any]


def items_of(text: str) -> list[Item]:
    "Return the items of a JSON array, all primitives or all objects; whole numbers inside objects become doubles, as on the platform."
    try:
        found = json.loads(text)
    except json.JSONDecodeError as e:
        raise CannotStart(f"'inputs' is not a JSON array: {e.msg} at character {e.pos + 1}.") from e
    except ValueError as e:  # a number with thousands of digits
        raise CannotStart(f"'inputs' cannot be read: {e}.") from e
    if not isinstance(found, list):
        raise CannotStart(f"'inputs' is a JSON {_kind(found)}, not an array.")
    for item in found:
        if item is None or isinstance(item, list):
            raise CannotStart(f"'inputs' holds {'null' if item is None else 'an array'}; items are strings, numbers, booleans or objects.")
    if len({isinstance(item, dict) for item in found}) > 1:
        raise CannotStart("'inputs' mixes objects with other items.")
    return [_doubles(item) if isinstance(item, dict) else item for item in found]


def _kind(value: Any) -> str:
    return {dict: "object", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")


def _doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _doubles(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_doubles(v) for v in value]
    return Double(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def label(item: Item) -> str:
    "Return an item as a short text, for display and folder names."
    text = to_text(item)
    return text if len(text) <= 60 else f"{text[:57]}..."
