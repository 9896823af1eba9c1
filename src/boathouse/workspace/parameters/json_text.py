"""Convert values to text as the Jobs service writes them into parameters: strings unchanged, anything else as compact JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any


class Double(float):
    "A number inside a loop's item, which the platform holds and writes as a Java double."

    def __str__(self) -> str:
        if self == 0 or 1e-3 <= abs(self) < 1e7:
            return float.__repr__(self)
        digits, _, exponent = f"{Decimal(float.__repr__(self)).normalize():E}".partition("E")
        return f"{digits if '.' in digits else f'{digits}.0'}E{int(exponent)}"


def to_text(found: Any) -> str:
    "Return a value as text."
    return found if isinstance(found, str) else _json(found)


def _json(found: Any) -> str:
    if isinstance(found, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_json(v)}" for k, v in found.items()) + "}"
    if isinstance(found, list):
        return "[" + ",".join(map(_json, found)) + "]"
    return str(found) if isinstance(found, Double) else json.dumps(found, ensure_ascii=False)
