"Commands about the project as a whole: score."

from __future__ import annotations

import sys
from pathlib import Path

import click

from boathouse.workspace.cli.options import BundleOptions, bundle_options, examples


@click.command(
    epilog=examples(
        "score  # by ml_test_score.yml in the bundle's folder",
        "score -t year --html score.html",
        "score --rubric other.yml --at-least 4  # exit code 1 below 4 points",
    )
)
@click.option(
    "--rubric", type=click.Path(dir_okay=False, path_type=Path), help="Rubric to score by. Default: ml_test_score.yml of the bundle."
)
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Also write the scorecard as a page.")
@click.option("--at-least", type=float, metavar="POINTS", help="Exit with 1 if the score is lower.")
@bundle_options
def score(options: BundleOptions, rubric: Path | None, page: Path | None, at_least: float | None) -> None:
    """Score the project by a rubric, such as the 28 tests of the ML Test Score, from recorded evidence.

    Evidence is what tests, runs, tables and documents have recorded. Nothing runs, and no cluster is started.
    """
    from boathouse.workspace.cli.score import show_score

    sys.exit(show_score(options.load(), rubric, page, at_least, options.as_json))
