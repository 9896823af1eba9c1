"The page of rules is whole: every rule once, each with a test of its own."

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from boathouse.workspace.problems import LEVELS, RULES


def test_the_page_lists_every_rule_once_and_no_other(page: Any) -> None:
    if not page.saving:
        assert re.findall(r"^\| `([a-z-]+)` \|", page.text, re.MULTILINE) == list(RULES)
    assert {rule.level for rule in RULES.values()} == set(LEVELS)


def test_every_rule_has_a_test_that_names_it() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert [rule for rule in RULES if f'"{rule}"' not in tests] == []
