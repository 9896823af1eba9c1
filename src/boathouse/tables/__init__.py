"Delta tables with a declared contract: create, read, write, compare versions, pin, maintain."

from boathouse.tables.contracts import ContractViolation, document_tables
from boathouse.tables.evolution import create, evolve, plan_changes
from boathouse.tables.history import read_states
from boathouse.tables.maintenance import MAINTENANCE, MaintenanceFailed, maintain_tables, optimize, vacuum
from boathouse.tables.pins import PINS, PinError, materialise, pin, pin_all, read_pin, unpin
from boathouse.tables.table import Column, Lakehouse, Table, VersionGone, drop_all, exists, read
from boathouse.tables.versions import compare_rows, diff, fingerprint, version_of
from boathouse.tables.writes import append, last_note, merge, replace

__all__ = [
    "Column",
    "ContractViolation",
    "Lakehouse",
    "MAINTENANCE",
    "MaintenanceFailed",
    "PINS",
    "PinError",
    "Table",
    "VersionGone",
    "append",
    "compare_rows",
    "create",
    "diff",
    "document_tables",
    "drop_all",
    "evolve",
    "exists",
    "fingerprint",
    "last_note",
    "maintain_tables",
    "materialise",
    "merge",
    "optimize",
    "pin",
    "pin_all",
    "plan_changes",
    "read",
    "read_pin",
    "read_states",
    "replace",
    "unpin",
    "vacuum",
    "version_of",
]
