"""Deploy a bundle on this machine: create the folders of its volumes, and its schemas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from boathouse.workspace.bundle.catalogs import named_catalogs
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.yaml_tree import Map, where
from boathouse.workspace.errors import BundleError, QueryFailed
from boathouse.workspace.spark.dialect import OWN
from boathouse.workspace.spark.schema_owners import owners

if TYPE_CHECKING:
    from boathouse.workspace.task.spec import AnyCluster


def deploy(bundle: Bundle, cluster: AnyCluster) -> None:
    "Create the folders of the volumes, and the schemas that are missing or belong to another catalog than the one they name."
    for folder in volume_folders(bundle):
        folder.mkdir(parents=True, exist_ok=True)
    existing = {str(row[0]) for row in cluster.sql("SHOW SCHEMAS", OWN)[1]}
    named, known = named_catalogs(bundle), owners(bundle.state)
    for schema in _resources(bundle, "schemas"):
        catalog, name = str(schema.get("catalog_name")), str(schema["name"])
        catalog = catalog if catalog in named else OWN
        if name.lower() not in existing or known.get(name.lower()) != catalog.lower():
            try:
                cluster.sql(f"CREATE SCHEMA IF NOT EXISTS `{catalog}`.`{name}`", OWN, named)
            except QueryFailed as e:
                raise BundleError(str(e), where(schema, "name")) from e


def volume_folders(bundle: Bundle) -> list[Path]:
    "Return the folder of each volume of the bundle."
    places = [(v.get("catalog_name"), v.get("schema_name"), v.get("name")) for v in _resources(bundle, "volumes")]
    return [bundle.state / "volumes" / str(catalog) / str(schema) / str(name) for catalog, schema, name in places]


def _resources(bundle: Bundle, kind: str) -> Iterator[Map]:
    group = (bundle.data.get("resources") or {}).get(kind)
    yield from (group or {}).values()
