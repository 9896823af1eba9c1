"`boathouse score`: print the scorecard of a rubric, and write its page."

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.text import Text

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.cli.display import console, plain_table
from boathouse.workspace.errors import BundleError
from boathouse.workspace.score.outcomes import FILE as OUTCOMES
from boathouse.workspace.score.page import write_scorecard
from boathouse.workspace.score.rubric import FILE, Rubric, read_rubric
from boathouse.workspace.score.scorecard import Scorecard, ScoredTest, score_rubric

COLOURS = {1.0: "green", 0.5: "yellow", 0.0: "red"}
SHOWN = 3  # pieces of missing evidence per test


def show_score(bundle: Bundle, rubric: Path | None, page: Path | None, at_least: float | None, as_json: bool) -> int:
    "Print the scorecard of the bundle's rubric, or of another one; return 1 if the score is below `at_least`, else 0."
    card = score_rubric(bundle, find_rubric(bundle, rubric), datetime.now(UTC))
    if page is not None:
        write_scorecard(card, page)
    if as_json:
        click.echo(json.dumps(card.as_json()))
    else:
        print_scorecard(card, bundle)
        if page is not None:
            click.echo(f"page: {page.resolve().as_uri()}")
    if at_least is not None and card.score < at_least:
        click.echo(f"the score is {card.score:g}, below {at_least:g}.", err=True)
        return 1
    return 0


def find_rubric(bundle: Bundle, file: Path | None) -> Rubric:
    "Return the rubric in `file`, or else the one in the bundle's folder."
    if file is not None:
        return read_rubric(file)
    if not (own := bundle.root / FILE).is_file():
        raise BundleError(
            f"the bundle has no rubric: there is no {own}.", hint="Write one (docs/ml-test-score.md), or name one by --rubric."
        )
    return read_rubric(own, FILE)


def print_scorecard(card: Scorecard, bundle: Bundle) -> None:
    "Print the sections with points, each test with its evidence or what is missing, and the commands that renew evidence."
    screen = console()
    for section in card.sections:
        screen.print(Text(f"{section.name}: {section.points:g} of {len(section.tests)}", style="bold"))
        table = plain_table(show_header=False)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        for one in section.tests:
            table.add_row(Text(f"  {one.points:g}", style=COLOURS[one.points]), Text(f"{one.test.key} {one.test.name}"))
            for line in describe_test(one):
                table.add_row("", Text(f"  {line}", style="bright_black"))
        screen.print(table)
        screen.print()
    sums = ", ".join(f"{section.name} {section.points:g}" for section in card.sections)
    screen.print(Text(f"Score {card.score:g}: the lowest of {sums}.", style="bold"))
    commit = f" at commit {card.commit[:8]}" if card.commit else ""
    click.echo(f"Evidence of target '{card.target}'{commit}; outcomes of tests are in {bundle.root / OUTCOMES}.")
    for command, number in card.commands.items():
        click.echo(
            f"{number} pieces of missing evidence: run `{command}`" if number > 1 else f"1 piece of missing evidence: run `{command}`"
        )


def describe_test(one: ScoredTest) -> list[str]:
    "Return the evidence of a scored test in one line, and a line for each thing that is missing."
    held = [found for found in one.evidence if found.holds]
    dated = [found for found in held if found.at is not None]
    kinds = {found.requirement.kind: 0 for found in held}
    for found in held:
        kinds[found.requirement.kind] += 1
    counts = ", ".join(f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in kinds.items())
    lines = []
    if one.points:
        oldest = min(dated, key=lambda found: found.at or datetime.max) if dated else None
        lines.append(f"by {counts}" + (f"; the oldest: {oldest.requirement.subject}, {oldest.text}" if oldest else ""))
    lines += [f"missing: {found.requirement}: {found.text}" for found in one.lacking[:SHOWN]]
    if len(one.lacking) > SHOWN:
        lines.append(f"missing: {len(one.lacking) - SHOWN} more")
    if one.points < 1 and one.test.missing:
        lines.append(f"missing: {one.test.missing}")
    return lines
