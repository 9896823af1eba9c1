"""The card holds what it shows, asks nobody for more, and lets no stranger's word become markup."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from boathouse.validation.card import format_code, format_value, model_card
from boathouse.validation.gate import Evidence, Gate, GateResult, RegisteredVersion, conclude, run_gates

RNG = np.random.default_rng(3)
DAYS = np.repeat(np.arange(20), 50)
EVIL = "<img src=x onerror=alert(1)>&\"'"
LATE = RNG.random(1000) < 0.3
ROWS = pd.DataFrame({"late": LATE, "at": pd.Timestamp("2013-06-01") + pd.to_timedelta(DAYS, "D"), "day": DAYS, "port": EVIL})
SCORES = {"candidate": np.clip(LATE * 0.2 + RNG.random(1000) * 0.7, 0, 1), EVIL: RNG.random(1000)}


def refuse(evidence: Evidence) -> GateResult:
    return conclude(False, None, 1, EVIL)


refuse.__doc__ = EVIL


def page(scores: dict[str, np.ndarray], explanation: Figure | None = None) -> str:
    evidence = Evidence(EVIL, 1, ROWS, scores, "late", "at", "day", registered=RegisteredVersion(EVIL, {"owner": EVIL}, {EVIL: "double"}))
    verdict = run_gates([Gate(EVIL, refuse)], evidence)
    return model_card(evidence, verdict, ["port"], {EVIL: 1.0}, [{EVIL: EVIL}], [{"trial": EVIL}], explanation)


def test_words_of_strangers_stay_words() -> None:
    html = page(SCORES)
    assert "<img src=x" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;&amp;&#34;&#39;") >= 10


def test_nothing_is_fetched_and_all_pictures_are_inside() -> None:
    html = page(SCORES)
    assert re.findall(r'(?:src|href)="([^"]{0,26})', html) == ["data:image/svg+xml;base64,"] * 4
    assert "://" not in html


def test_an_explanation_is_one_more_picture_inside() -> None:
    drawn = Figure()
    drawn.add_subplot().set_title(EVIL)
    html = page(SCORES, drawn)
    assert "<h2>Explanation</h2>" in html
    assert re.findall(r'(?:src|href)="([^"]{0,26})', html) == ["data:image/svg+xml;base64,"] * 5
    assert "://" not in html


def test_the_same_evidence_gives_the_same_card() -> None:
    assert page(SCORES) == page(SCORES)


def test_scores_that_are_no_probabilities_still_get_a_card() -> None:
    html = page({"candidate": np.full(1000, np.nan)})
    assert "refused" in html
    assert html.count("<img") == 1  # importance needs no scores


def test_numbers_are_as_long_as_a_reader_can_use() -> None:
    assert [format_value(v) for v in (None, float("nan"), 3, 1234567.8, 0.123456, 1e-9)] == ["", "", "3", "1,234,568", "0.1235", "1e-09"]


def test_names_in_backticks_are_shown_as_code_and_nothing_else_becomes_markup() -> None:
    assert format_code("above `limit` & <i>`<b>`</i>") == "above <code>limit</code> &amp; &lt;i&gt;<code>&lt;b&gt;</code>&lt;/i&gt;"
