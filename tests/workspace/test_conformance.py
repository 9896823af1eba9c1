"""The table of rules: each is listed once and names a test that exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROW = re.compile(r"^\| (?P<id>[45][\w.-]+) \| (?P<rule>.+) \| (?P<test>`[^`]+`|pending) \|$")
SECTIONS = ("4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "4.7", "5")


def rows(text: str) -> list[tuple[str, str]]:
    "(id, test) of each rule of the table."
    return [(found["id"], found["test"].strip("`")) for line in text.splitlines() if (found := ROW.match(line))]


def named_in(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def faults(text: str) -> list[str]:
    "What is wrong with the table."
    settled, _, pending = text.partition("## Pending")
    twice = [f"{id} is listed {n} times" for id, n in Counter(id for id, _ in rows(text)).items() if n > 1]
    waiting = [f"{id} is pending" for id, test in rows(settled) if test == "pending"]
    waiting += [f"{id} is not pending any more" for id, test in rows(pending) if test != "pending"]
    missing = []
    for id, test in rows(settled):
        file, _, name = test.partition("::")
        if test != "pending" and (not (HERE / file).is_file() or name not in named_in(HERE / file)):
            missing.append(f"{id}: there is no test {test}")
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| id |")]
    misread = [f"not a rule: {line}" for line in lines if not ROW.match(line)]
    empty = [f"section {section} has no rule" for section in SECTIONS if not any(id.startswith(f"{section}-") for id, _ in rows(settled))]
    return [*twice, *waiting, *missing, *misread, *empty]


def test_every_rule_is_listed_once_with_a_test_that_exists() -> None:
    assert faults((HERE / "CONFORMANCE.md").read_text()) == []


def test_a_table_with_a_missing_test_a_double_rule_or_a_broken_row_is_found() -> None:
    good = "| 4.1-a | rule | `graph/test_state_machine.py::test_only_leaves_decide_the_result_of_a_run` |\n"
    told = faults(
        good + good + "| 4.1-b | rule | `graph/test_state_machine.py::test_gone` |\n| 4.1-c | rule | pending |\n| 4.1-d | rule | none |\n"
    )
    assert told[:4] == [
        "4.1-a is listed 2 times",
        "4.1-c is pending",
        "4.1-b: there is no test graph/test_state_machine.py::test_gone",
        "not a rule: | 4.1-d | rule | none |",
    ]
    assert "section 5 has no rule" in told
