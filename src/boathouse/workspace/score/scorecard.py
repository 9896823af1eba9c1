"Add up a rubric: the points of each test and section, and the score, which is the lowest sum of a section (Breck et al. 2017)."

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.score.checks import check_requirement
from boathouse.workspace.score.rubric import Requirement, Rubric, RubricTest
from boathouse.workspace.score.source import EvidenceFinding, EvidenceSource


@dataclass(frozen=True)
class ScoredTest:
    "Hold a test of the rubric with its points, and what was found for half a point and for a whole one."

    test: RubricTest
    points: float
    half: tuple[EvidenceFinding, ...]
    full: tuple[EvidenceFinding, ...]

    @property
    def evidence(self) -> tuple[EvidenceFinding, ...]:
        "Return the findings that earned the points; without points, those that could have."
        return self.full if self.points == 1 or not self.half else self.half

    @property
    def lacking(self) -> tuple[EvidenceFinding, ...]:
        "Return the findings that stand between the test and a whole point; those for half a point come first while it is not earned."
        if self.points == 1:
            return ()
        wanted = [*(self.half if not self.points else ()), *self.full]
        return tuple(one for n, one in enumerate(wanted) if not one.holds and one not in wanted[:n])


@dataclass(frozen=True)
class ScoredSection:
    "Hold a section with its scored tests."

    name: str
    tests: tuple[ScoredTest, ...]

    @property
    def points(self) -> float:
        "Return the sum of the points."
        return sum(one.points for one in self.tests)


@dataclass(frozen=True)
class Scorecard:
    "Hold the scored sections of a rubric for one target, and the commit of the checkout."

    rubric: Rubric
    target: str
    at: datetime
    commit: str
    sections: tuple[ScoredSection, ...]

    @property
    def score(self) -> float:
        "Return the score: the lowest sum of a section."
        return min(section.points for section in self.sections)

    @property
    def commands(self) -> dict[str, int]:
        "Return the commands that would renew missing evidence, with the number of pieces that each would record."
        found: dict[str, int] = {}
        for one in self.every_lack():
            if command := self.rubric.commands.get(one.renew, ""):
                found[command] = found.get(command, 0) + 1
        return found

    def every_lack(self) -> list[EvidenceFinding]:
        "Return the findings that stand between the tests and a whole point."
        return [one for section in self.sections for test in section.tests for one in test.lacking]

    def as_json(self) -> dict[str, Any]:
        "Return the scorecard as `--json` prints it."
        sections = [
            {"name": section.name, "points": section.points, "of": len(section.tests), "tests": [_test_json(one) for one in section.tests]}
            for section in self.sections
        ]
        about = {"rubric": self.rubric.name, "target": self.target, "at": self.at.isoformat(), "commit": self.commit or None}
        return {"score": self.score, **about, "sections": sections, "commands": list(self.commands)}


def _test_json(one: ScoredTest) -> dict[str, Any]:
    test = one.test
    about = {"id": test.key, "name": test.name, "question": test.question, "points": one.points, "missing": test.missing or None}
    return about | {"half": [_finding_json(found) for found in one.half], "full": [_finding_json(found) for found in one.full]}


def _finding_json(found: EvidenceFinding) -> dict[str, Any]:
    about = {"evidence": str(found.requirement), "kind": found.requirement.kind, "holds": found.holds, "found": found.text}
    return about | {"at": found.at.isoformat() if found.at else None, "commit": found.commit or None}


def score_rubric(bundle: Bundle, rubric: Rubric, now: datetime) -> Scorecard:
    "Return the scorecard of a rubric in one target of a bundle; `now` decides which evidence is stale. Starts no JVM."
    source = EvidenceSource(bundle, rubric, now)
    checked: dict[str, EvidenceFinding] = {}

    def find(requirement: Requirement) -> EvidenceFinding:
        key = str(requirement)
        if key not in checked:
            checked[key] = check_requirement(source, requirement)
        return checked[key]

    sections = []
    for section in rubric.sections:
        tests = tuple(_score_test(test, tuple(map(find, test.half)), tuple(map(find, test.full))) for test in section.tests)
        sections.append(ScoredSection(section.name, tests))
    return Scorecard(rubric, bundle.target, now, source.commit[0], tuple(sections))


def _score_test(test: RubricTest, half: tuple[EvidenceFinding, ...], full: tuple[EvidenceFinding, ...]) -> ScoredTest:
    points = 1.0 if full and all(one.holds for one in full) else 0.5 if half and all(one.holds for one in half) else 0.0
    return ScoredTest(test, points, half, full)
