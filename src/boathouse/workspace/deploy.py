"""What deploying a bundle makes on this machine before its jobs run: volume folders and schemas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from boathouse.workspace.bundle import Bundle
from boathouse.workspace.dialect import OWN
from boathouse.workspace.yamlfile import Map

if TYPE_CHECKING:
    from boathouse.workspace.task import AnyCluster


def deploy(bundle: Bundle, cluster: AnyCluster) -> None:
    "Makes the volumes' folders and those schemas that are not there yet; the catalogs that they name are one here."
    for folder in volume_folders(bundle):
        folder.mkdir(parents=True, exist_ok=True)
    existing = {str(row[0]) for row in cluster.sql("SHOW SCHEMAS", OWN)[1]}
    for schema in _resources(bundle, "schemas"):
        if str(schema["name"]).lower() not in existing:
            cluster.sql(f"CREATE SCHEMA IF NOT EXISTS `{OWN}`.`{schema['name']}`", OWN)


def volume_folders(bundle: Bundle) -> list[Path]:
    "The folder of each volume of the bundle."
    places = [(v.get("catalog_name"), v.get("schema_name"), v.get("name")) for v in _resources(bundle, "volumes")]
    return [bundle.state / "volumes" / str(catalog) / str(schema) / str(name) for catalog, schema, name in places]


def _resources(bundle: Bundle, kind: str) -> Iterator[Map]:
    group = (bundle.data.get("resources") or {}).get(kind)
    yield from (group or {}).values()
