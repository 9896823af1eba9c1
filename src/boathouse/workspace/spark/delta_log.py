"""Check, from the log of a table and without Spark, that its files exist and are complete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = re.compile(r"(\d{20})\.json")
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\.[\w-]+)*\.(parquet|json)")
AGAIN = "then run the job again"
Action = tuple[str, int | None]  # a data file with its bytes if it was added, without them if it was removed


@dataclass(frozen=True)
class Damage:
    "Hold a table with a damaged file, and the command that restores the table."

    table: str
    found: str
    fix: str


def table_folders(warehouse: Path) -> Iterator[tuple[str, Path]]:
    "Yield the Delta tables below a warehouse as `schema.table` and folder; those of schema `default` are in the warehouse itself."
    for log in sorted([*warehouse.glob("*/_delta_log"), *warehouse.glob("*.db/*/_delta_log")]):
        schema = "default" if log.parent.parent == warehouse else log.parent.parent.stem
        if log.is_dir():
            yield f"{schema}.{log.parent.name}", log.parent


@dataclass
class Log:
    "Hold the log of a table: the data files that its commits and checkpoints list, and its unreadable files."

    folder: Path
    commits: dict[int, Path] = field(default_factory=dict)
    checkpoints: dict[int, list[Path]] = field(default_factory=dict)
    actions: dict[Path, list[Action]] = field(default_factory=dict)
    bad: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Log:
        "Read the log of the table in `folder`, each of its files once."
        log = cls(folder)
        for file in sorted((folder / "_delta_log").iterdir()):
            if found := COMMIT.fullmatch(file.name):
                log.commits[int(found[1])] = file
            elif found := CHECKPOINT.fullmatch(file.name):
                log.checkpoints.setdefault(int(found[1]), []).append(file)
            else:
                continue
            try:
                log.actions[file] = list(_in_json(file) if file.suffix == ".json" else _in_parquet(file))
            except (ValueError, OSError):
                log.bad[file] = f"cannot be read ({file.stat().st_size:,} bytes)"
        return log

    @property
    def latest(self) -> int:
        "Return the last version in the log; -1 without any."
        return max([*self.commits, *self.checkpoints], default=-1)

    def start(self, version: int) -> int | None:
        """Return the last complete checkpoint at or before a version after which every commit is complete.

        Return -1 for the first commit, and None if there is no such start.
        """
        for at in (*sorted((n for n in self.checkpoints if n <= version), reverse=True), -1):
            needed = [*self.checkpoints.get(at, []), *(self.commits.get(n) for n in range(at + 1, version + 1))]
            if all(file in self.actions for file in needed):
                return at
        return None

    def files(self, version: int) -> dict[str, tuple[int, int]] | None:
        "Return the data files of a version, as path -> (bytes, last version that added it); None if the log does not suffice."
        at = self.start(version)
        if at is None:
            return None
        logs = [(at, file) for file in self.checkpoints.get(at, [])] + [(n, self.commits[n]) for n in range(at + 1, version + 1)]
        live: dict[str, tuple[int, int]] = {}
        for number, file in logs:
            for path, size in self.actions[file]:
                if size is None:
                    live.pop(path, None)
                else:
                    live[path] = (size, number)
        return live


def damages(warehouse: Path) -> Iterator[Damage]:
    "Yield the damages of the tables below the warehouse, table by table."
    for table, folder in table_folders(warehouse):
        yield from _of_table(table, folder)


def _of_table(table: str, folder: Path) -> Iterator[Damage]:
    log = Log.of(folder)
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
    "Return the command that restores a table whose later versions have lost a file."
    whole = log.files(version) if version >= 0 else None
    if whole is None or any(_broken(_place(log.folder, path), size) for path, (size, _) in whole.items()):
        return f'boathouse sql "DROP TABLE {table}", {AGAIN}: it is filled again from the tables before it'
    return f'boathouse sql "RESTORE TABLE {table} TO VERSION AS OF {version}", {AGAIN}'


def _fix_of_log(log: Log, table: str, file: Path) -> str:
    name = file.relative_to(log.folder)
    if CHECKPOINT.fullmatch(file.name) and log.start(log.latest) is not None:
        return f"Stop the cluster and delete {name}: the commits tell the same"
    if file == log.commits.get(log.latest) and (log.latest == 0 or log.start(log.latest - 1) is not None) and log.latest > 0:
        return f"Stop the cluster, delete {name} and the .crc beside it, {AGAIN}: that commit is then as if it had never been"
    return f'boathouse sql "DROP TABLE {table}", {AGAIN}: it is filled again from the tables before it'


def _place(folder: Path, path: str) -> Path:
    "Return the path of a data file. The log holds a URL, absolute or relative to the table's folder."
    url = urlparse(path)
    return Path(unquote(url.path)) if url.scheme or url.path.startswith("/") else folder / unquote(path)


def _broken(file: Path, size: int) -> str:
    "Return what is wrong with a data file; empty text if nothing is."
    if not file.is_file():
        return "is missing"
    if (there := file.stat().st_size) != size:
        return f"has {there:,} of {size:,} bytes"
    with file.open("rb") as data:
        data.seek(-4, 2)
        return "" if data.read(4) == b"PAR1" else "is not Parquet any more"


def _in_json(file: Path) -> Iterator[Action]:
    lines = file.read_text().splitlines()
    for action in map(json.loads, lines or [""]):  # an empty log file is damaged
        if add := action.get("add"):
            yield add["path"], add["size"]
        elif remove := action.get("remove"):
            yield remove["path"], None


def _in_parquet(file: Path) -> Iterator[Action]:
    import pyarrow as pa  # takes a third of a second, which a session that checks no table saves
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        added = pq.ParquetFile(file).read(["add", "remove"])["add"].drop_null()
    except pa.ArrowException as error:
        raise ValueError(f"{file} must be a Parquet file: {error}") from error
    yield from zip(*(pc.struct_field(added, name).to_pylist() for name in ("path", "size")), strict=True)
