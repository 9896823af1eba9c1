"""Whether the files that a table's log speaks of are there and whole: read from the log itself, without Spark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq

COMMIT = re.compile(r"(\d{20})\.json")
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\.[\w-]+)*\.(parquet|json)")
AGAIN = "then run the job again"


@dataclass(frozen=True)
class Damage:
    "A table with a file that is damaged, and what brings the table back."

    table: str
    found: str
    fix: str


@dataclass
class Log:
    "A table's log: live files by version, as path -> bytes, and what of the log could not be read."

    folder: Path
    commits: dict[int, Path] = field(default_factory=dict)
    checkpoints: dict[int, list[Path]] = field(default_factory=dict)
    bad: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Log:
        "The log of the table in `folder`, each of its files looked at."
        log = cls(folder)
        for file in sorted((folder / "_delta_log").iterdir()):
            if found := COMMIT.fullmatch(file.name):
                log.commits[int(found[1])] = file
            elif found := CHECKPOINT.fullmatch(file.name):
                log.checkpoints.setdefault(int(found[1]), []).append(file)
        for file in log.commits.values():
            if why := _unreadable_json(file):
                log.bad[file] = why
        for file in (file for files in log.checkpoints.values() for file in files):
            if why := _unreadable_json(file) if file.suffix == ".json" else _unreadable_parquet(file):
                log.bad[file] = why
        return log

    @property
    def latest(self) -> int:
        "The last version that the log has; -1 without any."
        return max([*self.commits, *self.checkpoints], default=-1)

    def start(self, version: int) -> int | None:
        "The last whole checkpoint at or before a version from where every commit is there and whole; -1 for the first commit; None if there is none."
        for at in (*sorted((n for n in self.checkpoints if n <= version), reverse=True), -1):
            whole = not any(file in self.bad for file in self.checkpoints.get(at, []))
            after = [self.commits.get(n) for n in range(at + 1, version + 1)]
            if whole and all(file is not None and file not in self.bad for file in after):
                return at
        return None

    def files(self, version: int) -> dict[str, tuple[int, int]] | None:
        "The data files of a version, as path -> (bytes, version that added it at the latest); None if the log cannot tell."
        at = self.start(version)
        if at is None:
            return None
        live: dict[str, tuple[int, int]] = {}
        for number, actions in [(at, _checkpointed(self.checkpoints.get(at, []))), *((n, _lines(self.commits[n])) for n in range(at + 1, version + 1))]:
            for action in actions:
                if add := action.get("add"):
                    live[add["path"]] = (add["size"], number)
                elif remove := action.get("remove"):
                    live.pop(remove["path"], None)
        return live


def damages(warehouse: Path) -> Iterator[Damage]:
    "What is damaged of the tables below the warehouse, a table at a time."
    for folder in sorted(path.parent for path in warehouse.glob("*.db/*/_delta_log") if path.is_dir()):
        yield from _of_table(folder)


def _of_table(folder: Path) -> Iterator[Damage]:
    log, table = Log.of(folder), f"{folder.parent.stem}.{folder.name}"
    for file, why in log.bad.items():
        yield Damage(table, f"{file.relative_to(folder)} {why}", _fix_of_log(log, table, file))
    if log.bad or (live := log.files(log.latest)) is None:
        return
    broken = {path: why for path, (size, _) in live.items() if (why := _broken(_place(folder, path), size))}
    if not broken:
        return
    path, why = min(broken.items())
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    before = min(live[path][1] for path in broken) - 1
    yield Damage(table, f"{path} {why}{more}", _restore(log, table, before))


def _restore(log: Log, table: str, version: int) -> str:
    "What brings a table back whose versions after this one have lost a file."
    whole = log.files(version) if version >= 0 else None
    if whole is None or any(_broken(_place(log.folder, path), size) for path, (size, _) in whole.items()):
        return f'boathouse sql "DROP TABLE {table}", {AGAIN}: it is made anew from what comes before it'
    return f'boathouse sql "RESTORE TABLE {table} TO VERSION AS OF {version}", {AGAIN}'


def _fix_of_log(log: Log, table: str, file: Path) -> str:
    name = file.relative_to(log.folder)
    if CHECKPOINT.fullmatch(file.name) and log.start(log.latest) is not None:
        return f"Stop the cluster and delete {name}: the commits tell the same"
    if file == log.commits.get(log.latest) and (log.latest == 0 or log.start(log.latest - 1) is not None) and log.latest > 0:
        return f"Stop the cluster, delete {name} and the .crc beside it, {AGAIN}: that commit is then as if it had never been"
    return f'boathouse sql "DROP TABLE {table}", {AGAIN}: it is made anew from what comes before it'


def _place(folder: Path, path: str) -> Path:
    "Where a data file lies: the log has a URL, relative to the table's folder or whole."
    url = urlparse(path)
    return Path(unquote(url.path)) if url.scheme or url.path.startswith("/") else folder / unquote(path)


def _broken(file: Path, size: int) -> str:
    "What is wrong with a data file; empty if nothing is."
    if not file.is_file():
        return "is missing"
    if (there := file.stat().st_size) != size:
        return f"has {there:,} of {size:,} bytes"
    with file.open("rb") as data:
        data.seek(-4, 2)
        return "" if data.read(4) == b"PAR1" else "is not Parquet any more"


def _unreadable_json(file: Path) -> str:
    try:
        lines = list(_lines(file))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return f"cannot be read ({file.stat().st_size:,} bytes)"
    return "" if lines else "is empty"


def _unreadable_parquet(file: Path) -> str:
    try:
        pq.ParquetFile(file).read(["add", "remove"])
    except (pa.ArrowException, OSError):
        return f"cannot be read ({file.stat().st_size:,} bytes)"
    return ""


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text().splitlines():
        yield json.loads(line)


def _checkpointed(files: list[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        if file.suffix == ".json":
            yield from _lines(file)
        else:
            yield from pq.ParquetFile(file).read(["add.path", "add.size"]).to_pylist()
