"""`boathouse tables` and `boathouse show`: list the tables of the target, and show one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.display import console, plain_table
from boathouse.workspace.cli.query import ResultRows, format_cell, print_rows
from boathouse.workspace.cli.run import cluster_of, session_of, wants_own
from boathouse.workspace.errors import BundleError, QueryFailed, did_you_mean
from boathouse.workspace.spark.delta_log import table_folders
from boathouse.workspace.spark.dialect import OWN
from boathouse.workspace.spark.schema_owners import owners
from boathouse.workspace.spark.table_facts import TableFacts, UnreadableLog, read_table_facts

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HISTORY = 5
# Properties in which the kit keeps the keys of a table: Delta has no constraint for them.
KEYS = {"primary key": "boathouse.primaryKey", "time key": "boathouse.timeKey"}


@dataclass(frozen=True)
class ListedTable:
    "Hold one table of the warehouse; `facts` is None if its log cannot be read, and `problem` the reason."

    catalog: str
    schema: str
    name: str
    facts: TableFacts | None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        "Return the table as `--json` prints it."
        names = {"catalog": self.catalog, "schema": self.schema, "table": self.name}
        if self.facts is None:
            return names | {"error": self.problem}
        f = self.facts
        numbers = {"version": f.version, "rows": f.rows, "size_bytes": f.size_bytes, "files": f.files}
        return names | numbers | {"changed_at": f.changed_at.isoformat(), "operation": f.operation}


def list_tables(bundle: Bundle, schema: str | None, as_json: bool) -> None:
    "Print the Delta tables of the target, or those of one schema (with or without its catalog)."
    found = find_tables(bundle)
    if schema is not None:
        schemas = {t.schema for t in found}
        wanted = schema.rpartition(".")[2]
        if wanted not in schemas:
            hint = did_you_mean(wanted, schemas) or f"Schemas with tables: {', '.join(sorted(schemas)) or 'none'}."
            raise BundleError(f"schema '{schema}' has no Delta table in target '{bundle.target}'.", hint=hint)
        found = [t for t in found if t.schema == wanted]
    if as_json:
        click.echo(json.dumps({"tables": [t.as_json() for t in found]}))
        return
    if not found:
        click.echo(f"target '{bundle.target}' has no Delta table yet.")
        return
    screen = console()
    table = plain_table()
    for column in ("table", "rows", "size", "files", "version", "last change (UTC)", "operation"):
        right = column in ("rows", "size", "files", "version")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    above = ""
    for one in found:
        if (group := f"{one.catalog}.{one.schema}") != above:
            table.add_row(Text(group, style="bold"))
            above = group
        table.add_row(*map(Text, _cells(one)))
    screen.print(table)
    for one in found:
        if one.facts is None:
            click.echo(f"{one.catalog}.{one.schema}.{one.name}: {one.problem}. `boathouse doctor` prints a fix.", err=True)


def find_tables(bundle: Bundle) -> list[ListedTable]:
    "Return the Delta tables of the target's warehouse, ordered by catalog, schema and name."
    catalogs = owners(bundle.state)
    found = []
    for full, folder in table_folders(bundle.state / "warehouse"):
        schema, _, name = full.partition(".")
        catalog = catalogs.get(schema.lower(), OWN)
        try:
            found.append(ListedTable(catalog, schema, name, read_table_facts(folder)))
        except UnreadableLog as e:
            found.append(ListedTable(catalog, schema, name, None, str(e)))
    return sorted(found, key=lambda t: (t.catalog, t.schema, t.name))


def _cells(one: ListedTable) -> list[str]:
    if one.facts is None:
        return [f"  {one.name}", "?", "?", "?", "?", "log cannot be read", ""]
    f = one.facts
    rows = "?" if f.rows is None else f"{f.rows:,}"
    return [
        f"  {one.name}",
        rows,
        format_size(f.size_bytes),
        str(f.files),
        str(f.version),
        f"{f.changed_at:%Y-%m-%d %H:%M:%S}",
        f.operation,
    ]


def format_size(size: float) -> str:
    "Return bytes as text for a reader: 812 B, 4.1 KiB, 13.0 MiB."
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def show_table(bundle: Bundle, name: str, rows: int, as_json: bool, foreground: bool | None = None) -> int:
    "Print columns, keys, history and first rows of a table or view; return 0, or 1 if Spark cannot read it."
    with cluster_of(bundle, lambda line: click.echo(line, err=True), spawn=wants_own(foreground), foreground=foreground) as cluster:
        try:
            found = read_table_details(session_of(cluster, bundle), name, rows)
        except QueryFailed as e:
            if as_json:
                click.echo(json.dumps({"error": {"message": str(e)}}))
            click.echo(str(e), err=True)
            return 1
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print_table(found)
    return 0


def read_table_details(session: SparkSession, name: str, rows: int) -> dict[str, Any]:
    "Return what `boathouse show` prints. Raises QueryFailed if there is no such table. Views have neither keys nor history."
    from boathouse.workspace.cluster.query import run_statement

    quoted = ".".join(f"`{part.strip('`')}`" for part in name.split("."))
    first = _objects(run_statement(session, f"SELECT * FROM {quoted} LIMIT {rows}"))
    fields = session.table(quoted).schema.fields
    described = [(row[0], row[1]) for row in run_statement(session, f"DESCRIBE TABLE EXTENDED {quoted}")[1]]
    about = dict(described[next((i for i, (key, _) in enumerate(described) if key.startswith("# Detailed")), 0) :])
    columns = [
        {"name": f.name, "type": f.dataType.simpleString(), "nullable": f.nullable, "comment": f.metadata.get("comment", "")}
        for f in fields
    ]
    found: dict[str, Any] = {"table": name, "type": about.get("Type", ""), "comment": about.get("Comment", ""), "columns": columns}
    if str(about.get("Provider", "")).lower() == "delta":
        (detail,) = _objects(run_statement(session, f"DESCRIBE DETAIL {quoted}"))
        keys = {title: _words(detail["properties"].get(name)) for title, name in KEYS.items()}
        keys |= {"partitioned by": detail["partitionColumns"], "clustered by": detail.get("clusteringColumns") or []}
        found |= {"size_bytes": detail["sizeInBytes"], "files": detail["numFiles"], "keys": {k: v for k, v in keys.items() if v}}
        history = _objects(run_statement(session, f"DESCRIBE HISTORY {quoted} LIMIT {HISTORY}"))
        kept = ("version", "timestamp", "operation", "operationMetrics")
        found["history"] = [{key: version[key] for key in kept} for version in history]
    return found | {"rows": first}


def _objects(found: ResultRows) -> list[dict[str, Any]]:
    return [dict(zip(found[0], row, strict=True)) for row in found[1]]


def _words(text: str | None) -> list[str]:
    return [word for word in (text or "").split(",") if word]


def _print_table(found: dict[str, Any]) -> None:
    kind = str(found["type"]).lower() or "table"
    size = f", {format_size(found['size_bytes'])} in {found['files']} files" if "files" in found else ""
    click.echo(f"{found['table']}: {kind}{size}" + (f"\n{found['comment']}" if found["comment"] else ""))
    print_rows(
        ["column", "type", "null", "comment"],
        [[c["name"], c["type"], "" if c["nullable"] else "NOT NULL", c["comment"]] for c in found["columns"]],
    )
    for title, columns in found.get("keys", {}).items():
        click.echo(f"{title}: {', '.join(columns)}")
    if history := found.get("history"):
        written = [(h["operationMetrics"] or {}).get("numOutputRows", "") for h in history]
        print_rows(
            ["version", "time", "operation", "rows written"],
            [[h["version"], h["timestamp"], h["operation"], number] for h, number in zip(history, written, strict=True)],
        )
    if rows := found["rows"]:
        print_rows(list(rows[0]), [[format_cell(value) for value in row.values()] for row in rows])
