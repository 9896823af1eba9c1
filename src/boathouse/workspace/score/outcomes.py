"""Record the outcome of each test in one file of the project, merged over runs: when it ran, at which commit, and the hash of its file.

The file holds one JSON object per line, and the last line of a test counts. A run that is killed has recorded the tests that had ended.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

FILE = Path(".boathouse", "evidence", "tests.jsonl")
PASSED = "passed"
LARGEST = 4 << 20  # bytes from which the file is rewritten, with the last line of each test


@dataclass(frozen=True)
class RecordedOutcome:
    """Hold the last outcome of one test: `passed`, `failed`, `skipped` or `xfailed`.

    `at` is in seconds since 1970. `file_hash` is that of the test's file. `commit` is empty outside of git; `dirty` marks uncommitted changes.
    """

    node: str
    outcome: str
    at: float
    seconds: float
    commit: str
    dirty: bool
    file_hash: str

    @property
    def ended(self) -> datetime:
        "Return when the test ended, in UTC."
        return datetime.fromtimestamp(self.at, UTC)


def append_outcomes(file: Path, outcomes: Iterable[RecordedOutcome]) -> None:
    "Append outcomes to the file. A file that has grown large is rewritten, with the last outcome of each test."
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if file.is_file() and file.stat().st_size > LARGEST:
            scratch = file.with_suffix(".new")
            scratch.write_text("".join(map(_line, read_outcomes(file).values())), encoding="utf-8")
            scratch.replace(file)
        with file.open("a", encoding="utf-8") as end:
            end.write("".join(map(_line, outcomes)))


def _line(outcome: RecordedOutcome) -> str:
    return json.dumps(asdict(outcome)) + "\n"


def read_outcomes(file: Path) -> dict[str, RecordedOutcome]:
    "Return the last outcome of each test, by node id. A line that was cut off is left out."
    found: dict[str, RecordedOutcome] = {}
    if not file.is_file():
        return found
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            outcome = RecordedOutcome(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[outcome.node] = outcome
    return found


def hash_file(file: Path) -> str:
    "Return the hash of a file's content, 16 hexadecimal digits; empty if it cannot be read."
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def read_commit(root: Path) -> tuple[str, bool]:
    "Return the commit of the checkout at `root`, and whether tracked files differ from it; empty text and False outside of git."
    commit = git_output(root, "rev-parse", "HEAD")
    return commit, bool(commit and git_output(root, "status", "--porcelain", "--untracked-files=no"))


def count_commits(root: Path, since: str) -> int | None:
    "Return the number of commits from `since` to the present one; None if git does not know."
    counted = git_output(root, "rev-list", "--count", f"{since}..HEAD") if since else ""
    return int(counted) if counted.isdigit() else None


def git_output(root: Path, *words: str) -> str:
    "Return what git prints; empty if it fails, or if there is no git."
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
