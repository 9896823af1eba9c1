"""Check for schemas with the same name in two catalogs of a target.

On this machine they would be one schema, so nothing runs that names both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from boathouse.workspace.bundle.catalogs import named_catalogs
from boathouse.workspace.bundle.jobs import Job
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import Where
from boathouse.workspace.problems import Problem, problem
from boathouse.workspace.spark.dialect import OWN
from boathouse.workspace.validate.references import strings

# A table, a model or a schema by its full name, also as the value of an option: `dev.silver.flights`, `--table=dev.silver.flights`.
NAME = re.compile(r"(?:--[\w-]+[= ])?`?([\w-]+)`?\.`?([\w-]+)`?(?:\.`?[\w-]+`?)?")
PAIRS = (("catalog_name", "schema_name"), ("catalog", "schema"), ("catalog", "target"))


@dataclass(frozen=True)
class Use:
    "Hold a schema of a catalog, and the place that names it."

    catalog: str
    schema: str
    at: Where


def problems(bundle: Bundle) -> Iterator[Problem]:
    "Yield the first schema that resources and variables of the bundle name in two catalogs."
    yield from _first_conflict(_of_bundle(bundle))


def of_job(job: Job) -> Iterator[Problem]:
    "Yield the first schema that a job names in another catalog than the bundle, or in two."
    of_bundle = _of_bundle(job.bundle)
    if not list(_first_conflict(of_bundle)):
        yield from _first_conflict([*of_bundle, *_in_texts(strings(job.source), named_catalogs(job.bundle))])


def refuse_parameters(job: Job, given: Mapping[str, str]) -> None:
    "Raise BundleError if a parameter of a run names a schema in another catalog than the bundle and the job."
    catalogs = named_catalogs(job.bundle, given)
    written = [*_of_bundle(job.bundle), *_in_texts(strings(job.source), catalogs)]
    values = [(value, Where(f"--param {name}")) for name, value in given.items()]
    for found in _first_conflict([*written, *_in_texts(values, catalogs)]):
        raise found.error


def _of_bundle(bundle: Bundle) -> list[Use]:
    resources, declared = bundle.data.get("resources"), bundle.data.get("variables")
    found = [use for kind, group in (resources or {}).items() if kind != "jobs" for use in _in_resource(kind, group)]
    values = [(value, where(declared, name) if isinstance(declared, Map) else bundle.data.at) for name, value in bundle.variables.items()]
    return [*found, *_in_texts(values, named_catalogs(bundle))]


def _in_resource(kind: str, node: Any) -> Iterator[Use]:
    "Yield the schemas below a node with a key for the catalog and one for the schema; a resource of type `schemas` is itself one."
    if isinstance(node, Map):
        for catalog, schema in (*PAIRS, *([("catalog_name", "name")] if kind == "schemas" else [])):
            if isinstance(node.get(catalog), str) and isinstance(node.get(schema), str):
                yield Use(node[catalog], node[schema], where(node, schema))
    for child in node.values() if isinstance(node, Map) else node if isinstance(node, List) else ():
        yield from _in_resource(kind, child)


def _in_texts(texts: Iterable[tuple[Any, Where]], catalogs: Iterable[str]) -> Iterator[Use]:
    "Yield the schemas in texts that are the full name of an object in one of the catalogs."
    known = {name.lower() for name in (*catalogs, OWN)}
    for text, at in texts:
        if isinstance(text, str) and (name := NAME.fullmatch(text)) and name[1].lower() in known:
            yield Use(name[1], name[2], at)


def _first_conflict(uses: Iterable[Use]) -> Iterator[Problem]:
    first: dict[str, Use] = {}
    for use in uses:
        known = first.setdefault(use.schema.lower(), use)
        if known.catalog.lower() != use.catalog.lower() and not any("${" in text for text in (known.catalog, use.catalog, use.schema)):
            message = f"the schema '{use.schema}' is named in two catalogs, '{use.catalog}' here and '{known.catalog}' at {known.at}."
            hint = "The catalogs of a target share their schemas on this machine. Rename the schema in one of them, or give each catalog a target of its own."
            yield problem("shared-schema", message, use.at, hint)
            return
