"A little bundle to break, and the page that shows what `validate` reports about it."

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.problems import RULES, SUBJECTS
from boathouse.workspace.validate.check import bundle_findings, findings

PAGE = Path(__file__).parents[3] / "docs" / "validate.md"
BEGIN = "<!-- `pytest tests/workspace/validate --save-outputs` writes what follows. -->"
JOB = "bundle: {name: demo}\nresources:\n  jobs:\n    a:\n"
Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """What is reported about a bundle, notes aside, as `rule ^ message`, where `^` stands for the place that `^` marks in the text.

    Given a job's body, it is the body of job `a`. A script `s.py` and a notebook `n.py` that may read any widget are there.
    """

    def check(text: str, files: dict[str, str] | None = None, target: str | None = None) -> list[str]:
        text = textwrap.dedent(text).lstrip("\n")
        whole = text if text.startswith("bundle:") else JOB + textwrap.indent(text, " " * 6)
        before, _, after = whole.partition("^")
        place = f"databricks.yml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}:"
        notebook = "# Databricks notebook source\nprint(dbutils.widgets.getAll())\n"
        every = {"databricks.yml": before + after, "s.py": "print(1)\n", "n.py": notebook} | (files or {})
        for name, content in every.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(textwrap.dedent(content).lstrip("\n"))
        bundle = load(tmp_path, target, environ={})
        jobs = all_jobs(bundle)
        expected = [*bundle_findings(bundle), *(f for job in jobs.values() for f in findings(jobs, job))]
        return [f"{f.rule} {f.problem}".replace(place, "^", 1) for f in expected if f.level != "note"]

    return check


class Page:
    "The tables of `docs/validate.md`: compared with what the rules say, or written from it."

    def __init__(self, saving: bool) -> None:
        self.saving, self.examples = saving, dict[str, str]()
        self.text = PAGE.read_text(encoding="utf-8")

    def shows(self, rule: str, expected: str) -> None:
        "The example of a rule on the page is the first one that its tests have."
        if self.examples.setdefault(rule, expected) != expected:
            return
        if not self.saving and row(rule, expected) not in self.text.splitlines():
            pytest.fail(f"docs/validate.md does not say (write it with --save-outputs):\n{row(rule, expected)}", pytrace=False)

    def write(self) -> None:
        "Writes all tables."
        assert sorted(self.examples) == sorted(RULES), sorted(set(RULES) ^ set(self.examples))
        parts = [self.text.partition(BEGIN)[0] + BEGIN]
        for subject, rules in SUBJECTS.items():
            head = f"## {subject}\n\n| rule | level | looks at | for example |\n|---|---|---|---|"
            parts.append("\n".join([head, *(row(rule, self.examples[rule]) for rule in rules)]))
        PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def row(rule: str, expected: str) -> str:
    "One rule as a row of its table."
    about = f"{RULES[rule].looks_at}. {RULES[rule].why}".strip()
    tick = "``" if "`" in expected else "`"
    example = f"{tick} {expected} {tick}" if tick == "``" else f"{tick}{expected}{tick}"
    return f"| `{rule}` | {RULES[rule].level} | {about} | {example} |".replace(" || ", " \\|\\| ")


@pytest.fixture(scope="session")
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    saving = bool(request.config.getoption("--save-outputs"))
    yield (found := Page(saving))
    if saving:
        found.write()
