"Find damaged files in the checkpoints of streaming queries, and delete those whose micro-batch the query can make again."

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CheckpointDamage:
    "Hold a damaged file of a checkpoint, by its path within it, and what is wrong with it."

    file: str
    why: str

    def __str__(self) -> str:
        return f"{self.file} {self.why}"


def find_damage(checkpoint: Path) -> CheckpointDamage | None:
    "Return the first damaged file of a streaming checkpoint: a log file that is empty, cut off, or filled with zeros; None if there is none."
    logs = [f"{part}/{number}" for part in ("offsets", "commits") for number in _numbers(checkpoint, part)]
    for log in ("metadata", *logs):
        file = checkpoint / log
        if not file.is_file():
            continue
        text = file.read_bytes()
        lines = [line for line in text.split(b"\n") if line]
        wanted = 1 if log == "metadata" else 2
        if len(lines) < wanted or b"\0" in text or (wanted == 2 and not lines[0].startswith(b"v")):
            return CheckpointDamage(log, f"is damaged ({len(text)} bytes)")
        if not _is_json(lines[-1]) and lines[-1] != b"-":
            return CheckpointDamage(log, "is cut off")
    return None


def is_repairable(checkpoint: Path, found: CheckpointDamage) -> bool:
    """Return whether the query can go on without the damaged file.

    It can without its last offset, if that micro-batch was not committed, and without its last commit. It then repeats its last micro-batch.
    """
    part, _, number = found.file.partition("/")
    offsets, commits = (_numbers(checkpoint, log) for log in ("offsets", "commits"))
    if part == "offsets":
        return int(number) == max(offsets) and int(number) not in commits
    return part == "commits" and int(number) == max(commits) and int(number) in offsets


def repair_checkpoint(checkpoint: Path) -> list[str]:
    """Delete the damaged files without which the query can go on, and return a sentence for each.

    No query may use the checkpoint meanwhile.
    """
    done = []
    while (found := find_damage(checkpoint)) and is_repairable(checkpoint, found):
        file = checkpoint / found.file
        for name in (file.name, f".{file.name}.crc", f"{file.name}.crc"):
            (file.parent / name).unlink(missing_ok=True)
        done.append(f"{checkpoint}: {found}, and was deleted; the query repeats its last micro-batch")
    return done


def _numbers(checkpoint: Path, part: str) -> list[int]:
    "Return the numbers of the micro-batches in a log of the checkpoint, in order."
    return sorted(int(p.name) for p in checkpoint.glob(f"{part}/*") if re.fullmatch(r"\d+", p.name))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False
    return True
