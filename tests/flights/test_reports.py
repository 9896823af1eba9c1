"Reports say plainly what they lack, and their charts show the numbers that they were given."

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from execnb.shell import CaptureShell
from fastcore.nbio import read_nb
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from pyspark.sql import SparkSession

from boathouse.plots import CONTEXT, OBSERVED, plot_calibration, plot_roc
from flights.reports import (
    BADGES,
    as_table,
    auc_by_month,
    bar_chart,
    drift_bars,
    format_number,
    format_table,
    gate_table,
    headline,
    score_distribution,
    share_by_day,
    shares_by_month,
    summarize_gains,
)

REPORTS = Path(__file__).parents[2] / "notebooks/reports"


def month() -> pd.DataFrame:
    rows = [
        {
            "flight_date": f"2013-10-{d:02}",
            "step": s,
            "rows": 2,
            "labelled": 1,
            "positives": int(s > 5000),
            "p_labelled": s / 1e4,
            "p_sum": s / 5e3,
        }
        for d in (1, 2, 3)
        for s in (1000, 9000)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", ["monitoring", "validation", "lifecycle"])
def test_a_report_without_data_runs_and_says_what_to_do(name: str, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["report", "--model=spark_catalog.ml.nobody", "--month=2013-10"])
    notebook, shell = read_nb(REPORTS / f"{name}.ipynb"), CaptureShell(mpl_format="png")
    shell.run_all(notebook, exc_stop=True)
    shell.close()
    text = "".join("".join(o.get("text", "")) for cell in notebook.cells if cell.cell_type == "code" for o in cell.get("outputs", []) or [])
    assert "spark_catalog.ml.nobody" in text or "does not exist yet" in text
    assert "run the job `" in text


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_report_is_short_and_what_it_keeps_of_a_run_begins_with_a_headline_and_has_no_paths_ids_or_times(path: Path) -> None:
    code = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    assert all(len(c.source.splitlines()) <= 30 for c in code)
    assert all("def " not in c.source for c in code)
    assert "get_spark()" in code[0].source  # a notebook opened by hand reads the workspace's models from then on
    shown = [o for c in code for o in c.outputs]
    assert path.stem != "validation" or shown
    assert not shown or "font-size:1.4em" in shown[0].data["text/html"]  # the headline, before anything else
    texts = [str(o.get("text") or o.data.get("text/html", "")) for o in shown]
    assert not [text for text in texts if re.search(r"/(tmp|home|root|Users)/|\b[0-9a-f]{12,}\b|\d ms\b|\d\d:\d\d:\d\d", text)]


def test_the_days_show_what_happened_and_what_was_said() -> None:
    lines = {line.get_label(): line for line in share_by_day(month()).axes[0].lines}
    assert lines["observed"].get_ydata().tolist() == [0.5, 0.5, 0.5]
    assert lines["predicted"].get_ydata() == pytest.approx([0.5, 0.5, 0.5])


def test_every_scored_flight_is_in_the_distribution() -> None:
    everybody, late = score_distribution(month()).axes[0].containers
    assert sum(bar.get_height() for bar in everybody) == 12
    assert sum(bar.get_height() for bar in late) == 3


def test_only_drifted_features_are_red_and_the_worst_is_on_top() -> None:
    drifts = [
        {"column_name": n, "population_stability_index": p, "threshold": t, "drifted": p > t}
        for n, p, t in (("temp", 3.0, 6.0), ("wind", 0.3, 0.1))
    ]
    axes = drift_bars(drifts, {"wind": 0.4}).axes[0]
    assert [(label.get_text(), to_hex(bar.get_facecolor())) for label, bar in zip(axes.get_yticklabels(), axes.patches, strict=True)] == [
        ("temp", CONTEXT),
        ("wind", OBSERVED),
    ]
    assert any("40% of the model" in text.get_text() for text in axes.texts)


def test_a_month_without_labels_is_left_out_of_the_charts() -> None:
    known = {
        "month": "2013-10",
        "model_id": "1",
        "roc_auc_score": 0.7,
        "roc_auc_interval": {"low": 0.6, "high": 0.8},
        "estimated_roc_auc_score": 0.7,
        "share_positive": 0.2,
        "mean_probability": 0.2,
    }
    unknown = {**known, "month": "2013-11", "roc_auc_score": None, "share_positive": None}
    for chart in (auc_by_month, shares_by_month):
        assert [t.get_text() for t in chart([known, unknown]).axes[0].get_xticklabels()] == ["2013-10"]


def test_charts_of_a_candidate_carry_their_numbers() -> None:
    curve = [(0.0, 0.0), (0.5, 0.8), (1.0, 1.0)]
    legend = plot_roc({"candidate": curve, "baseline": curve}, {"candidate": 0.75, "baseline": 0.6}).axes[0].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["candidate, AUC 0.750", "baseline, AUC 0.600"]
    assert [t.get_text() for t in bar_chart({"a": 0.1, "b": 0.2}, "t", "x").axes[0].get_yticklabels()] == ["a", "b"]
    observed = plot_calibration(pd.DataFrame({"predicted": [0.1, 0.5], "observed": [0.2, 0.4]})).axes[0].lines[1].get_ydata()
    assert np.allclose(observed, [0.2, 0.4])


def test_a_table_of_a_report_is_html_whose_cells_stay_text_and_lists_are_lines() -> None:
    frame = pd.DataFrame({"month": ["<b>"], "late": [0.168], "AUC": [float("nan")], "why": [["one & two", "three"]]})
    cells = BeautifulSoup(as_table(frame).data, "html.parser").find_all("td")
    assert [cell.get_text("|") for cell in cells] == ["<b>", "16.8%", "", "one & two|three"]
    assert [str(cell["style"]).partition(";")[0] for cell in cells] == [
        "text-align:left",
        "text-align:right",
        "text-align:right",
        "text-align:left",
    ]


def test_a_date_beside_a_long_text_stays_on_one_line() -> None:
    cells = BeautifulSoup(as_table(pd.DataFrame({"from": ["2013-10-01"], "why": ["better than before"]})).data, "html.parser").find_all(
        "td"
    )
    assert ["nowrap" in str(cell["style"]) for cell in cells] == [True, False]


def test_the_legend_of_the_shares_hides_no_line_and_the_days_of_a_month_do_not_overlap() -> None:
    days = [f"2013-11-{day:02}" for day in range(1, 31)]
    rows = pd.DataFrame({"flight_date": days, "step": 1000, "rows": 2, "labelled": 2, "positives": 1, "p_labelled": 0.2, "p_sum": 0.2})
    months = [{"month": "2013-10", "share_positive": 0.2, "mean_probability": 0.2}]
    for figure in (share_by_day(rows), shares_by_month(months)):
        FigureCanvasAgg(figure).draw()
        axes = figure.axes[0]
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().y0 >= axes.bbox.y1 - 1
        places = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(places))


def test_the_bars_of_few_months_stand_in_the_middle() -> None:
    rows = [{"month": f"2013-{m}", "share_positive": 0.2, "mean_probability": 0.2} for m in range(10, 13)]
    assert [sum(shares_by_month(rows[:n]).axes[0].get_xlim()) / 2 for n in (1, 2, 3)] == pytest.approx([0, 0.5, 1])


def test_a_headline_shows_verdict_sentence_and_numbers() -> None:
    page = BeautifulSoup(headline("refused", False, "version <2>", {"AUC": "0.700"}).data, "html.parser")
    assert page.p is not None
    assert page.p.get_text() == "refused version <2>"
    assert BADGES["bad"] in str(page.strong)
    assert [cell.get_text("|") for cell in page.find_all("div")] == ["AUC|0.700"]


def test_a_number_that_is_not_known_is_a_dash() -> None:
    assert [format_number(value, ".1%") for value in (None, float("nan"), 0.168)] == ["-", "-", "16.8%"]


def test_refusals_and_warnings_stand_above_what_passed_and_machine_figures_are_left_out_of_what_passed() -> None:
    gates = [
        {"passed": True, "blocks": True, "outcome": "pass", "name": "fast", "reason": "72.5 ms a row (39dc4eebabbf)"},
        {"passed": False, "blocks": False, "outcome": "refuse", "name": "holdout", "reason": "used 6 times"},
        {"passed": False, "blocks": True, "outcome": "refuse", "name": "slow", "reason": "900 ms a row"},
    ]
    rows = [[cell.get_text() for cell in row.find_all("td")] for row in BeautifulSoup(gate_table(gates).data, "html.parser").find_all("tr")]
    assert rows == [["refused", "slow", "900 ms a row"], ["warning", "holdout", "used 6 times"], ["pass", "fast", "… ms a row"]]


@pytest.mark.parametrize(
    ("gained", "verdict", "good"),
    [([], "no retrained champion", None), ([0.02, 0.01], "retraining paid", True), ([-0.001], "retraining made no difference", None), ([-0.02], "retraining did harm", False)],
)  # fmt: skip
def test_a_gain_within_the_noise_of_the_seed_is_no_verdict_on_retraining(gained: list[float], verdict: str, good: bool | None) -> None:
    assert summarize_gains(pd.DataFrame({"gained": gained}), 3)[:2] == (verdict, good)


def test_a_table_as_text_shows_shares_in_percent_and_gaps_as_nothing() -> None:
    text = format_table(
        pd.DataFrame({"month": ["2013-10"], "flights": [28889], "late": [0.168], "AUC": [float("nan")], "gained": [0.0321]})
    )
    assert text.splitlines()[1].split() == ["2013-10", "28,889", "16.8%", "+0.032"]
    assert format_table(pd.DataFrame()) == "(nothing)"
