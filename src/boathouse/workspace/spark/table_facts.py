"""Read facts about a Delta table from its log: version, rows, bytes, last change. This takes milliseconds, without Spark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

COMMIT = re.compile(r"(\d{20})\.json")
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")


class UnreadableLog(Exception):
    "Signal that the log of a table cannot be read: it is damaged, or has no commit."


@dataclass(frozen=True)
class TableFacts:
    "Hold the facts about one table. `rows` is None if a data file was written without its number of rows; `changed_at` is UTC."

    version: int
    rows: int | None
    size_bytes: int
    files: int
    changed_at: datetime
    operation: str


@dataclass(frozen=True)
class _DataFile:
    size: int
    rows: int | None


def read_table_facts(folder: Path) -> TableFacts:
    "Return the facts about the Delta table in `folder`. Raises UnreadableLog if its log does not hold them."
    try:
        return _read(folder / "_delta_log")
    except (ValueError, KeyError, OSError) as error:
        raise UnreadableLog(f"the log of {folder} cannot be read: {error}") from error


def _read(log: Path) -> TableFacts:
    commits = {int(found[1]): file for file in log.iterdir() if (found := COMMIT.fullmatch(file.name))}
    if not commits:
        raise UnreadableLog(f"there is no commit in {log}")
    latest = max(commits)
    base, parts = _newest_checkpoint(log, latest)
    live: dict[str, _DataFile] = {}
    for part in parts:
        live |= _files_of_checkpoint(part)
    change: Mapping[str, Any] = {}
    for version in range(base + 1, latest + 1):
        actions = [json.loads(line) for line in commits[version].read_text(encoding="utf-8").splitlines()]
        change = _apply(actions, live)
    if base == latest:
        lines = commits[latest].read_text(encoding="utf-8").splitlines()
        change = next((info for line in lines if (info := json.loads(line).get("commitInfo"))), {})
    rows = [file.rows for file in live.values()]
    milliseconds = change.get("timestamp") or commits[latest].stat().st_mtime * 1000
    return TableFacts(
        version=latest,
        rows=None if None in rows else sum(r for r in rows if r is not None),
        size_bytes=sum(file.size for file in live.values()),
        files=len(live),
        changed_at=datetime.fromtimestamp(milliseconds / 1000, UTC),
        operation=str(change.get("operation", "")),
    )


def _apply(actions: Iterable[Mapping[str, Any]], live: dict[str, _DataFile]) -> Mapping[str, Any]:
    """Apply one commit to the live files, and return its commitInfo.

    A file whose deleted rows change is removed and added in one commit.
    """
    added: dict[str, _DataFile] = {}
    info: Mapping[str, Any] = {}
    for action in actions:
        if remove := action.get("remove"):
            live.pop(remove["path"], None)
        elif add := action.get("add"):
            added[add["path"]] = _DataFile(int(add["size"]), _count_rows(add.get("stats"), add.get("deletionVector")))
        elif found := action.get("commitInfo"):
            info = found
    live |= added
    return info


def _count_rows(stats: str | None, deleted: Mapping[str, Any] | None) -> int | None:
    number = json.loads(stats).get("numRecords") if stats else None
    return None if number is None else int(number) - int((deleted or {}).get("cardinality") or 0)


def _newest_checkpoint(log: Path, latest: int) -> tuple[int, list[Path]]:
    "Return the newest checkpoint up to a version that has all of its parts; -1 without any."
    found: dict[tuple[int, int], list[Path]] = {}
    for file in log.iterdir():
        if (named := CHECKPOINT.fullmatch(file.name)) and int(named[1]) <= latest:
            found.setdefault((int(named[1]), int(named[3] or 1)), []).append(file)
    whole = {version: parts for (version, count), parts in found.items() if len(parts) == count}
    return max(whole.items(), default=(-1, []))


def _files_of_checkpoint(file: Path) -> dict[str, _DataFile]:
    import pyarrow as pa  # takes a third of a second, which a table without checkpoint saves
    import pyarrow.parquet as pq

    try:
        rows = pq.ParquetFile(file).read(["add"])["add"].drop_null().to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"{file} must be a Parquet file: {error}") from error
    return {add["path"]: _DataFile(int(add["size"]), _count_rows(add.get("stats"), add.get("deletionVector"))) for add in rows}
