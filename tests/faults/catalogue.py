"""The list of faults: what is changed, what breaks, and which tests are there to notice it."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = ("src", "bundles")  # where the runner looks for a snippet that is not in its file any more
KEYWORD = re.compile(r"(?P<path>\S+)(?:\s+-k\s+(?P<words>.+))?")


class Unusable(Exception):
    "A fault that cannot be applied, or whose tests cannot be found; the message is the reason."


@dataclass(frozen=True)
class Fault:
    """One realistic mistake of one line.

    `old` and `new` may list further spellings of the same mistake, for versions in which the line reads differently: the first `old` that is
    found is replaced. `pure` faults are seen by tests without a Spark session; `own_jvm` faults by tests that start tasks, or look at the state folder. `slow` are tests that take minutes, run on request only.
    """

    id: str
    area: str
    kind: str
    file: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    breaks: str
    tests: tuple[str, ...]
    tests_after: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    pure: bool = False
    own_jvm: bool = False
    seconds: int = 400

    @property
    def shares(self) -> bool:
        "Whether its tests can use a JVM that other tests have used before."
        return not self.pure and not self.own_jvm

    def selections(self, suite: str) -> tuple[str, ...]:
        "The test selections for `suite`, which is 'before' or 'after'; those of 'before' stand in where none are listed."
        return self.tests_after if suite == "after" and self.tests_after else self.tests

    @property
    def digest(self) -> str:
        "Eight letters that change with the fault or its tests: a stored result of another digest does not count."
        return hashlib.sha256(json.dumps([self.old, self.new, self.tests, self.tests_after]).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Edit:
    "The text of one file with the fault in it, and as it was."

    path: Path
    before: str
    after: str


@dataclass(frozen=True)
class Selection:
    "What pytest runs: files, and for each the words of which one must be in a test's name (none: every test)."

    rules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def load(folder: Path = HERE) -> list[Fault]:
    "Every fault of the TOML files in `folder`; ValueError for an id that comes twice."
    found: list[Fault] = []
    for file in sorted(folder.glob("*.toml")):
        for given in tomllib.loads(file.read_text(encoding="utf-8"))["fault"]:
            texts = {name: _tuple(given[name]) for name in ("old", "new", "tests", "tests_after", "slow") if name in given}
            found.append(Fault(**{**given, **texts}))
    ids = [fault.id for fault in found]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise ValueError(f"fault ids must be unique, got twice: {', '.join(twice)}")
    return found


def edits(fault: Fault, root: Path) -> list[Edit]:
    """The changes that put the fault into the checkout at `root`: its module and, where one exports this line, its notebook.

    Raises `Unusable` if the snippet is nowhere, or in several places.
    """
    for old, new in zip(fault.old, fault.new, strict=True):
        path = _place(fault.file, old, root)
        if path is not None:
            text = path.read_text(encoding="utf-8")
            return [Edit(path, text, text.replace(old, new)), *_in_notebook(old, new, root)]
    raise Unusable(f"the snippet is in no file: {fault.old[0][:80]!r}")


def _place(file: str, old: str, root: Path) -> Path | None:
    "The one file that holds the snippet once: its own, else any other of the sources."
    own = root / file
    if own.is_file() and (count := own.read_text(encoding="utf-8").count(old)):
        if count > 1:
            raise Unusable(f"the snippet is {count} times in {file}: {old[:80]!r}")
        return own
    every = [path for name in SOURCES for kind in ("*.py", "*.yml") for path in sorted((root / name).rglob(kind))]
    counts = {path: path.read_text(encoding="utf-8").count(old) for path in every}
    holding = [path for path, count in counts.items() if count]
    if sum(counts.values()) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in holding)
        raise Unusable(f"the snippet is {sum(counts.values())} times in {names}: {old[:80]!r}")
    return holding[0] if holding else None


def _in_notebook(old: str, new: str, root: Path) -> Iterator[Edit]:
    "A module is exported from a chapter: a person would make the mistake there, so the chapter gets it too."
    for path in sorted((root / "notebooks").rglob("*.ipynb")):
        before = path.read_text(encoding="utf-8")
        if json.dumps(old.split("\n")[0], ensure_ascii=False)[1:-1] not in before:
            continue
        content = json.loads(before)
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).startswith("#| export")]
        holding = [cell for cell in cells if old in "".join(cell["source"])]
        for cell in holding:
            cell["source"] = "".join(cell["source"]).replace(old, new).splitlines(keepends=True)
        if holding:
            yield Edit(path, before, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def select(selections: tuple[str, ...], root: Path) -> Selection:
    "Test selections, such as `tests/kit/point_in_time/test_join.py` or `... -k lookback or ties`, as files and words; `Unusable` if a file is not found."
    rules: dict[str, tuple[str, ...]] = {}
    for text in selections:
        found = KEYWORD.fullmatch(text.strip())
        if found is None:
            raise Unusable(f"a selection is a file, or a file and -k with words, got {text!r}")
        words = tuple(word.strip() for word in (found["words"] or "").split(" or ") if word.strip())
        for path in _test_files(found["path"], words, root):
            known = rules.get(path)
            rules[path] = words if known is None else (*known, *words) if known and words else ()
    return Selection(rules)


def _test_files(path: str, words: tuple[str, ...], root: Path) -> list[str]:
    "The file, or, if it has moved, the one of its name, else those that hold a test whose name has one of the words."
    if (root / path).exists():
        return [path]
    every = [file for file in sorted((root / "tests").rglob("test_*.py")) if "bundles" not in file.relative_to(root / "tests").parts]
    moved = [file for file in every if file.name == Path(path).name]
    if len(moved) != 1 and words:
        tests = re.compile(rf"^\s*(?:async )?def test_\w*(?:{'|'.join(map(re.escape, words))})", re.MULTILINE)
        moved = [file for file in every if tests.search(file.read_text(encoding="utf-8"))]
    if not moved:
        raise Unusable(f"there is no {path}, and no other file of that name or with such a test")
    return [file.relative_to(root).as_posix() for file in moved]
