"""`boathouse validate`: check every target of a bundle and print the findings as a compiler does: place, problem, fix, reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import BundleSource, choose_target, read_bundle, with_target
from boathouse.workspace.errors import BundleError, Where
from boathouse.workspace.problems import LEVELS, RULES
from boathouse.workspace.validate.check import Finding, bundle_findings, findings


@dataclass(frozen=True)
class Remark:
    "Hold a finding with the targets that it concerns."

    finding: Finding
    targets: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        "Return the finding as `--json` prints it."
        return self.finding.as_json() | {"targets": list(self.targets)}


@dataclass(frozen=True)
class Report:
    "Hold all findings about a bundle, errors first; `refusal` is the reason if a target could not be loaded."

    targets: tuple[str, ...]
    remarks: list[Remark] = field(default_factory=list)
    refusal: BundleError | None = None

    @property
    def errors(self) -> list[Remark]:
        "Return the findings that make the bundle invalid."
        return [r for r in self.remarks if r.finding.level == "error"]

    def as_json(self) -> dict[str, Any]:
        "Return the report as `--json` prints it."
        body = {"targets": list(self.targets), "valid": not self.errors, "findings": [r.as_json() for r in self.remarks]}
        return body | (self.refusal.as_json() if self.refusal else {})


def check_bundle(folder: Path, target: str | None = None, overrides: Mapping[str, str] | None = None) -> Report:
    "Return the report on one target of the bundle in `folder`, or on all."
    written = read_bundle(folder)
    targets = (choose_target(written.tree, target)[0],) if target else written.target_names
    found: dict[tuple[str, str, str], Remark] = {}
    refusal = None
    for name in targets:
        reported, refused = _of_target(written, name, overrides or {})
        refusal = refusal or refused
        for finding in reported:
            key = (finding.level, str(finding.problem), finding.rule)
            known = found.setdefault(key, Remark(finding))
            if name not in known.targets:
                found[key] = replace(known, targets=(*known.targets, name))
    ordered = sorted(found.values(), key=lambda r: LEVELS.index(r.finding.level))
    return Report(targets, ordered, refusal)


def _of_target(written: BundleSource, name: str, overrides: Mapping[str, str]) -> tuple[list[Finding], BundleError | None]:
    try:
        bundle = with_target(written, name, overrides)
    except BundleError as e:
        return [Finding("error", "", e)], e
    jobs = all_jobs(bundle)
    return [*bundle_findings(bundle), *(f for job in jobs.values() for f in findings(jobs, job))], None


def print_report(report: Report, folder: Path, as_json: bool) -> int:
    "Print a report and return the exit code: 2 if there is an error, else 0."
    if as_json:
        click.echo(json.dumps(report.as_json()))
        if report.refusal:
            click.echo(str(report.refusal), err=True)
        return 2 if report.errors else 0
    for remark in report.remarks:
        if remark.finding.level != "note":
            _show(remark, report, folder)
    _show_notes([r for r in report.remarks if r.finding.level == "note"])
    number = len(report.errors)
    names = ", ".join(report.targets)
    click.echo(f"{number} {'error' if number == 1 else 'errors'} in {names}." if number else f"Valid: {names}.", err=bool(number))
    return 2 if number else 0


def _show(remark: Remark, report: Report, folder: Path) -> None:
    finding = remark.finding
    where, text = finding.problem.where, f"{finding.problem.message} {finding.problem.hint}".strip()
    level = "advice: " if finding.level == "advice" else ""
    lines = [f"{where}: {level}{text}" if where else f"{level}{text}"]
    if finding.level == "refused" and finding.job:
        lines[0] += " The other jobs run."
    lines += _excerpt(folder, where) if where else []
    why = [RULES[finding.rule].why] if RULES[finding.rule].why else []
    only = [f"In {', '.join(remark.targets)} only."] if remark.targets != report.targets else []
    lines.append("      " + " ".join([*why, *only, f"[{finding.rule}]"]))
    click.echo("\n".join(lines), err=finding.level == "error")


def _excerpt(folder: Path, where: Where) -> list[str]:
    "Return the line of the file, and a mark below the column."
    file = folder / where.file
    if not where.line or not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    if where.line > len(lines):
        return []
    line = lines[where.line - 1].replace("\t", " ")
    return [f"{where.line:5} | {line}", f"      | {' ' * (where.column - 1)}^"]


def _show_notes(notes: Sequence[Remark]) -> None:
    "Print one line per kind of note, however many places it concerns."
    places: dict[str, list[str]] = {}
    for remark in notes:
        places.setdefault(remark.finding.problem.message, []).append(str(remark.finding.problem.where))
    for message, first in places.items():
        more = f" ({len(first) - 1} more such places)" if len(first) > 1 else ""
        click.echo(f"{first[0]}: note: {message}{more}")
