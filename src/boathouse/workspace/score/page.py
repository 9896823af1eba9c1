"Write a scorecard as one HTML page, which needs no network and no script."

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from boathouse.workspace import pages
from boathouse.workspace.score.scorecard import Scorecard

BADGES = {1.0: "ok", 0.5: "warn", 0.0: "bad"}


def scorecard_html(card: Scorecard) -> str:
    "Return the page of a scorecard."
    environment = Environment(
        loader=FileSystemLoader(pages.FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("score.html.j2").render(card=card, badges=BADGES)


def write_scorecard(card: Scorecard, file: Path) -> None:
    "Write the page of a scorecard to a file."
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(scorecard_html(card), encoding="utf-8")
