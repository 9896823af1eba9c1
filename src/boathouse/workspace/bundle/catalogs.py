"The catalogs that a target names; on this machine they share one metastore (see `dialect` and `schema_owners`)."

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.yaml_tree import List, Map
from boathouse.workspace.spark.dialect import OWN

NAME = re.compile(r"(?!(?:true|false|\d+)$)\w[\w-]*")


def named_catalogs(bundle: Bundle, parameters: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the catalogs of the target: the values of variables, resources and parameters whose name contains `catalog`.

    `parameters` are those of a run.
    """
    stated = [*_entries(bundle.variables), *_entries(parameters or {}), *_below(bundle.data.get("resources"))]
    catalogs = (bundle.data.get("resources") or {}).get("catalogs") or {}
    stated += [c.get("name") for c in catalogs.values()]
    return tuple(sorted({bundle.catalog, *(n for n in stated if isinstance(n, str) and NAME.fullmatch(n))} - {OWN}))


def _entries(values: Mapping[str, Any]) -> list[Any]:
    return [value for name, value in values.items() if "catalog" in name.lower()]


def _below(node: Any) -> Iterator[Any]:
    if isinstance(node, Map):
        yield from _entries(node)
        if "catalog" in str(node.get("name")).lower():
            yield node.get("default")
    for child in node.values() if isinstance(node, Map) else node if isinstance(node, List) else ():
        yield from _below(child)
