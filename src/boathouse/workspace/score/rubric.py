"""Read a rubric: sections of tests, and for each test the evidence that earns half a point or a whole one. Errors name file and line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boathouse.workspace.bundle.yaml_tree import List, Map, load, where
from boathouse.workspace.errors import BundleError, Where, did_you_mean

FILE = "ml_test_score.yml"
OF_RUN = ("metric", "param", "tag", "artifact")
KINDS: dict[str, tuple[str, ...]] = {"test": ("seconds",), "task": ("seconds",), "run": OF_RUN, "table": ("where", "rows"), "document": ()}
TABLE = re.compile(r"\w+\.\w+")
TASK = re.compile(r"[\w-]+\.[\w-]+")


@dataclass(frozen=True)
class Requirement:
    "Hold one piece of evidence that a test of the rubric needs: its kind, what it names, and further settings of the kind."

    kind: str
    subject: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        more = "".join(f" {key} {value}" for key, value in self.options.items())
        return f"{self.kind} {self.subject}{more}"


@dataclass(frozen=True)
class RubricTest:
    """Hold one test of the rubric. `half` earns half a point, `full` a whole one, each if everything in it is there.

    `missing` names what the project lacks for a whole point.
    """

    key: str
    name: str
    question: str
    half: tuple[Requirement, ...] = ()
    full: tuple[Requirement, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class RubricSection:
    "Hold a section of the rubric with its tests."

    name: str
    tests: tuple[RubricTest, ...]


@dataclass(frozen=True)
class Rubric:
    """Hold a rubric. Evidence that is older than `stale_after_days` earns nothing; None sets no limit.

    `model` is the registered model, as `schema.name`, whose champion `run` and `table` may ask for. `commands` say how to renew evidence, by kind.
    """

    name: str
    source: str
    sections: tuple[RubricSection, ...]
    stale_after_days: float | None = None
    model: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)


def read_rubric(file: Path, shown: str | None = None) -> Rubric:
    "Return the rubric in a YAML file. Raises BundleError, with file and line, for one that is not valid."
    tree = load(file, shown)
    _only(tree, ("name", "source", "stale_after_days", "model", "commands", "sections"), "a rubric")
    days = tree.get("stale_after_days")
    if days is not None and (isinstance(days, bool) or not isinstance(days, int | float) or days <= 0):
        raise BundleError(f"stale_after_days must be a number above 0, got {days!r}.", where(tree, "stale_after_days"))
    sections = tuple(_section(one, at) for one, at in _items(tree, "sections"))
    _unique([(test.key, at) for section, found in sections for test, at in zip(section.tests, found, strict=True)])
    return Rubric(
        _text(tree, "name"),
        _text(tree, "source", ""),
        tuple(section for section, _ in sections),
        days,
        _text(tree, "model", "", TABLE, "schema.name, without the catalog"),
        _commands(tree),
    )


def _commands(tree: Map) -> dict[str, str]:
    found = tree.get("commands")
    if found is None:
        return {}
    if not isinstance(found, Map):
        raise BundleError("commands must be a mapping of a kind of evidence to the command that renews it.", where(tree, "commands"))
    _only(found, tuple(KINDS), "commands")
    return {kind: _text(found, kind) for kind in found}


def _section(tree: Any, at: Where) -> tuple[RubricSection, list[Where]]:
    if not isinstance(tree, Map):
        raise BundleError("a section must be a mapping with name and tests.", at)
    _only(tree, ("name", "tests"), "a section")
    tests = [(_test(one, place), place) for one, place in _items(tree, "tests")]
    return RubricSection(_text(tree, "name"), tuple(test for test, _ in tests)), [place for _, place in tests]


def _test(tree: Any, at: Where) -> RubricTest:
    if not isinstance(tree, Map):
        raise BundleError("a test of the rubric must be a mapping with id, name and question.", at)
    _only(tree, ("id", "name", "question", "half", "full", "missing"), "a test of the rubric")
    half, full = (tuple(_requirement(*item) for item in _items(tree, key)) if key in tree else () for key in ("half", "full"))
    if not full and "missing" not in tree:
        raise BundleError("a test without `full` needs `missing`: what the project lacks for a whole point.", at)
    return RubricTest(_text(tree, "id"), _text(tree, "name"), _text(tree, "question"), half, full, _text(tree, "missing", ""))


def _requirement(tree: Any, at: Where) -> Requirement:
    if not isinstance(tree, Map):
        raise BundleError("evidence must be a mapping, such as `test: tests/test_x.py::test_y`.", at)
    kinds = [key for key in tree if key in KINDS]
    if len(kinds) != 1:
        hint = next((found for key in tree if (found := did_you_mean(key, KINDS))), "")
        raise BundleError(f"evidence must have one of {', '.join(KINDS)}, got {', '.join(tree) or 'nothing'}.", at, hint)
    kind = kinds[0]
    _only(tree, (kind, *KINDS[kind]), f"evidence of kind '{kind}'")
    requirement = Requirement(kind, _text(tree, kind), {key: tree[key] for key in tree if key != kind})
    if problem := CHECKS[kind](requirement):
        raise BundleError(problem, where(tree, kind))
    return requirement


def _check_test(requirement: Requirement) -> str:
    return _check_path(requirement) or _check_seconds(requirement)


def _check_seconds(requirement: Requirement) -> str:
    limit = requirement.options.get("seconds", 1)
    well = not isinstance(limit, bool) and isinstance(limit, int | float) and limit > 0
    return "" if well else f"seconds must be a number above 0, got {limit!r}."


def _check_path(requirement: Requirement) -> str:
    path = Path(re.split("::|#", requirement.subject)[0])
    return f"the path must be relative to the bundle's folder, got '{path}'." if path.is_absolute() or ".." in path.parts else ""


def _check_task(requirement: Requirement) -> str:
    if not TASK.fullmatch(requirement.subject):
        return f"a task must be written as job.task, got '{requirement.subject}'."
    return _check_seconds(requirement)


def _check_run(requirement: Requirement) -> str:
    named = [key for key in OF_RUN if isinstance(requirement.options.get(key), str)]
    if requirement.subject != "champion":
        return f"run must be 'champion', got '{requirement.subject}'."
    return "" if len(named) == 1 == len(requirement.options) else f"a run needs one of {', '.join(OF_RUN)}, as text."


def _check_table(requirement: Requirement) -> str:
    rows, condition = requirement.options.get("rows", 1), requirement.options.get("where", "")
    if not TABLE.fullmatch(requirement.subject):
        return f"a table must be written as schema.table, without the catalog, got '{requirement.subject}'."
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        return f"rows must be a whole number of at least 1, got {rows!r}."
    return "" if isinstance(condition, str) else f"where must be a condition in SQL, got {condition!r}."


CHECKS: dict[str, Callable[[Requirement], str]] = {
    "test": _check_test,
    "document": _check_path,
    "task": _check_task,
    "run": _check_run,
    "table": _check_table,
}


def _only(tree: Map, known: tuple[str, ...], what: str) -> None:
    for key in tree:
        if key not in known:
            hint = did_you_mean(key, known) or f"It has {', '.join(known)}."
            raise BundleError(f"{what} has no '{key}'.", tree.keys_at[key], hint)


def _items(tree: Map, key: str) -> list[tuple[Any, Where]]:
    found = tree.get(key)
    if not isinstance(found, List) or not found:
        raise BundleError(f"'{key}' must be a list with at least one item.", where(tree, key))
    return list(zip(found, found.items_at, strict=True))


def _text(tree: Map, key: str, default: str | None = None, form: re.Pattern[str] | None = None, means: str = "") -> str:
    value = tree.get(key, default)
    if not isinstance(value, str) or (not value and key in tree) or (value and form and not form.fullmatch(value)):
        raise BundleError(f"'{key}' must be {means or 'text'}, got {'nothing' if value is None else repr(value)}.", where(tree, key))
    return " ".join(value.split())


def _unique(keys: list[tuple[str, Where]]) -> None:
    seen: dict[str, Where] = {}
    for key, at in keys:
        if key in seen:
            raise BundleError(f"the id '{key}' appears twice (first at line {seen[key].line}).", at)
        seen[key] = at
