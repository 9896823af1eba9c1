"Monitoring in one call: windows of the calendar, findings as sentences, and versions with other inputs in one table."

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hyperopt import hp
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from boathouse.features.training_sets import Labels, create_training_set
from boathouse.models.learners import Recipe
from boathouse.monitoring.decision import DECISIONS
from boathouse.monitoring.evidence import DecisionPolicy
from boathouse.service.inference_log import InferenceLog, read_requests
from boathouse.serving.predictions import predictions_table
from boathouse.steps.monitor import (
    MonitoringReport,
    ServedVersion,
    calendar_windows,
    collect_evidence,
    decide,
    list_findings,
    monitor,
    page_of,
)
from boathouse.steps.score import score
from boathouse.steps.train import tune_and_train
from boathouse.tables.table import Column, Lakehouse, Table, read
from boathouse.tables.writes import append, replace
from boathouse.training.search import Budget
from boathouse.training.splits import KeySplit

JANUARY, MARCH = datetime(2026, 1, 1), datetime(2026, 3, 2)
WINDOWS = calendar_windows(date(2026, 1, 1), datetime(2026, 3, 2), "month")


def measured(month: int, count: int = 100, **figures: Any) -> dict[str, Any]:
    "A row of `quality_rows` for a month of 2026."
    row = dict.fromkeys(("slice_key", "metric_value", "metric_expected", "metric_interval", "gap", "gap_interval", "gap_class"))
    return row | {"window": {"start": datetime(2026, month, 1)}, "count": count, "labelled_share": 1.0} | figures


def compared(month: int, column: str, verdict: str = "drift", **figures: Any) -> dict[str, Any]:
    "A row of `compare_profiles` for a month of 2026."
    row = {"window": {"start": datetime(2026, month, 1)}, "column_name": column, "verdict": verdict, "drifted": verdict == "drift"}
    return row | {"reason": "PSI 0.5, threshold 0.1", "unit_change": None, "slice_key": None, "slice_value": None} | figures


def test_a_window_that_would_begin_with_the_report_is_none() -> None:
    assert list(calendar_windows(date(2026, 1, 1), datetime(2026, 3, 1), "month")) == ["2026-01", "2026-02"]


@given(st.dates(date(1990, 1, 1), date(2040, 1, 1)), st.integers(0, 90), st.sampled_from(["day", "week", "month"]))
def test_windows_follow_each_other_without_a_gap_and_hold_both_ends(since: date, days: int, every: Any) -> None:
    at = datetime(since.year, since.month, since.day, 13) + timedelta(days=days)
    found = list(calendar_windows(since, at, every).values())
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert found[0][0] <= datetime(since.year, since.month, since.day) < found[0][1]
    assert found[-1][0] <= at < found[-1][1]
    assert {"day": {1}, "week": {7}, "month": {28, 29, 30, 31}}[every] >= {(end - start).days for start, end in found}


def test_a_window_without_rows_and_missing_labels_are_findings() -> None:
    quality = [measured(1, labelled_share=0.4), measured(2, count=0)]
    evidence = collect_evidence(WINDOWS, quality, [], "binary", {}, None, MARCH)
    assert list_findings(WINDOWS, evidence, [], DecisionPolicy()) == [
        "2026-01: 40% of the labels have arrived",
        "2026-02: no rows were scored",
        "2026-03: no rows were scored",
    ]


def test_a_window_that_is_over_without_rows_is_evidence_of_broken_data_and_one_before_the_first_rows_is_not() -> None:
    quality = [measured(1, count=0), measured(2), measured(3, count=0)]
    assert [(e.window, e.rows) for e in collect_evidence(WINDOWS, quality, [], "binary", {}, None, MARCH)] == [("2026-02", 100)]
    stopped = [measured(1), measured(2, count=0)]
    assert [(e.window, e.rows) for e in collect_evidence(WINDOWS, stopped, [], "binary", {}, None, MARCH)] == [
        ("2026-01", 100),
        ("2026-02", 0),
    ]
    running = [measured(2), measured(3, count=7)]
    assert [(e.window, e.rows) for e in collect_evidence(WINDOWS, running, [], "binary", {}, None, MARCH)] == [
        ("2026-02", 100),
        ("2026-03", None),
    ]


def test_a_drifted_input_in_another_unit_is_named_in_the_evidence() -> None:
    drift = [compared(1, "wind", unit_change="looks like km/h instead of knots"), compared(2, "wind")]
    evidence = collect_evidence(WINDOWS, [measured(1), measured(2)], drift, "binary", {}, None, MARCH)
    assert [e.rescaled for e in evidence] == [("wind looks like km/h instead of knots",), ()]


def test_a_version_that_scored_no_row_has_a_page_with_its_findings() -> None:
    one = ServedVersion("c.ml.m", 1, "run", None, None)  # type: ignore[arg-type]
    page = page_of(one, JANUARY, ["2026-01: no rows were scored"], WINDOWS, [measured(1, count=0)], [])
    assert "2026-01: no rows were scored" in page


def test_a_drifted_input_is_weighed_by_its_importance_and_named_with_its_slice() -> None:
    drift = [
        compared(1, "pier"),
        compared(1, "wind"),
        compared(1, "tide", "ok"),
        compared(1, "pier", slice_key="hull", slice_value="small"),
        compared(2, "tide"),
    ]
    evidence = collect_evidence(
        WINDOWS, [measured(1), measured(1, slice_key="hull")], drift, "binary", {"wind": 0.6, "pier": 0.1, "tide": 0.3}, None, MARCH
    )
    assert [(one.window, one.drifted, one.drifted_weight) for one in evidence] == [("2026-01", ("wind", "pier"), 0.7)]
    findings = list_findings(WINDOWS, evidence, drift, DecisionPolicy())
    assert "2026-01: pier where hull is small: drift, PSI 0.5, threshold 0.1" in findings
    assert "2026-01: wind: drift, PSI 0.5, threshold 0.1" in findings
    assert "2026-01: pier: drift, PSI 0.5, threshold 0.1" in findings
    assert not any("tide" in text for text in findings)


def test_the_expected_value_of_the_training_stands_in_where_the_predictions_imply_none() -> None:
    quality = [measured(1, metric_value=0.5, metric_interval={"low": 0.4, "high": 0.6})]
    evidence = collect_evidence(WINDOWS, quality, [], "regression", {}, 0.7, MARCH)
    assert (evidence[0].expected, evidence[0].observed, evidence[0].observed_high) == (0.7, 0.5, 0.6)
    implied = collect_evidence(WINDOWS, [quality[0] | {"metric_expected": 0.55}], [], "binary", {}, 0.7, MARCH)
    assert implied[0].expected == 0.55


@pytest.mark.parametrize(("since", "every"), [(date(2026, 3, 1), "month"), (date(2026, 1, 1), "fortnight")])
def test_a_window_in_the_future_or_of_another_length_is_refused(since: date, every: Any) -> None:
    with pytest.raises(ValueError, match="every must be month, week, day and since a day before 2026-03-01 00:00:00"):
        calendar_windows(since, datetime(2026, 3, 1), every)


@dataclass(frozen=True)
class Served:
    "Two versions of one model, with other inputs, that scored January and February."

    lake: Lakehouse
    model: str
    report: MonitoringReport


TRIPS = Table(
    "gold.trips",
    "One row per trip.",
    (
        Column("trip", "bigint", "number", nullable=False),
        Column("day", "date", "day of departure"),
        Column("knots", "double", "wind"),
        Column("wave", "double", "height"),
        Column("late", "boolean", "late"),
    ),
    primary_key=("trip",),
)


@pytest.fixture(scope="module")
def served(spark: SparkSession) -> Served:
    lake, model = Lakehouse(spark, prefix="test_monitor_"), "spark_catalog.ml.test_monitor"
    rng = np.random.default_rng(5)
    days = [date(2025, 12, 1) + timedelta(days=n // 20) for n in range(1400)]  # from 30 January on they are scored, not learned
    knots, wave = rng.gamma(4, 3, 1400), rng.gamma(2, 1, 1400)
    rows = pd.DataFrame(
        {"trip": range(1400), "day": days, "knots": knots, "wave": wave, "late": knots + 3 * wave + rng.normal(0, 4, 1400) > 18}
    )
    append(lake, TRIPS, spark.createDataFrame(rows))
    labels, split = create_training_set(lake, Labels(TRIPS.name, 1, "trip < 600"), [], "late"), KeySplit(("trip",))
    for inputs, batch, part in (
        (("knots",), "2026-01", rows[600:1000]),
        (("knots", "wave"), "2026-02", rows[1000:]),
    ):
        made = tune_and_train(
            lake, labels, Recipe((), inputs, "late"), {"learner": "logistic", "C": hp.loguniform("C", -1, 1)}, split, model=model, key=["trip"],
            at=datetime(2026, 1, 1), unit="day", known={"line": {"learner": "logistic"}}, budget=Budget(1), tell=lambda line: None,
        )  # fmt: skip
        given = spark.createDataFrame(part[["trip", "day", *inputs]])
        score(lake, made.uri, given, to="ml.monitored", batch=batch, key=["trip"], at=datetime.fromisoformat(f"{batch}-15"))
    return Served(lake, model, monitor(lake, model, since=date(2026, 1, 1), at=datetime(2026, 2, 28)))


def test_versions_with_other_inputs_share_a_table_and_the_newest_is_monitored(served: Served) -> None:
    rows = read(served.lake, "ml.monitored").groupBy("model_version").agg({"wave": "count", "knots": "count"}).orderBy("model_version")
    assert [tuple(row) for row in rows.select("model_version", "count(knots)", "count(wave)").collect()] == [(1, 400, 0), (2, 400, 400)]
    report = served.report
    assert (report.version, report.task, report.period) == (2, "binary", "2026-02")
    assert report.findings[:2] == ("400 rows were scored by version 1, which is not part of this report", "2026-01: no rows were scored")
    (one,) = report.evidence
    assert (one.window, one.labelled_share, report.new_labels) == ("2026-02", 1.0, 400)
    assert one.observed is not None
    assert one.observed > 0.8
    assert one.observed_high is not None
    earlier = monitor(served.lake, served.model, since=date(2026, 1, 1), at=datetime(2026, 2, 28), version=1)
    assert (earlier.version, [e.window for e in earlier.evidence], earlier.evidence[0].metric) == (1, ["2026-01"], "AUC")
    metrics = read(served.lake, "monitoring.monitored_profile_metrics").where("log_type = 'BASELINE'")
    assert {(r.model_id, r.column_name) for r in metrics.collect()} == {("1", "knots"), ("2", "knots"), ("2", "wave")}


def test_a_report_repeated_replaces_its_rows_and_leaves_earlier_windows_and_the_page_is_stored(served: Served) -> None:
    drift = "monitoring.monitored_drift_metrics"
    before = {(r.window.start, r.column_name) for r in read(served.lake, drift).where("model_id = '2'").collect()}
    report = monitor(served.lake, served.model, since=date(2026, 2, 10), at=datetime(2026, 2, 28), slices=["wave > 2"])
    after = read(served.lake, drift).where("model_id = '2'").collect()
    assert {(r.window.start, r.column_name) for r in after if r.slice_key is None} == before
    assert len([r for r in after if r.slice_key]) == len([row for row in report.drift if row["slice_key"]]) > 0
    assert len(after) == len({(r.window.start, r.slice_key, r.slice_value, r.column_name) for r in after})
    run = mlflow.MlflowClient().get_model_version(served.model, "2").run_id
    assert mlflow.artifacts.load_text(f"runs:/{run}/monitoring.html") == report.page


def test_a_decision_of_a_report_is_recorded_with_its_figures(served: Served) -> None:
    decision = decide(served.report, DecisionPolicy(new_labels=100))
    (row,) = read(served.lake, DECISIONS).collect()
    assert (row.model_name, row.period, row.champion_version, row.action) == (served.model, "2026-02", 2, decision.action)
    assert row.reasons == list(decision.reasons)


def test_what_cannot_be_monitored_says_what_to_do(served: Served, spark: SparkSession) -> None:
    lake, february = served.lake, datetime(2026, 2, 28)
    with pytest.raises(ValueError, match="found none: score rows first, or choose an earlier `since`"):
        monitor(lake, served.model, since=date(2026, 6, 1), at=datetime(2026, 6, 30))
    twice = spark.createDataFrame([(1000, True), (1000, False)], "trip bigint, late boolean")
    with pytest.raises(ValueError, match=r"labels must have one row per trip, but some keys have more, such as trip=1000"):
        monitor(lake, served.model, since=date(2026, 2, 1), at=february, labels=twice)
    with pytest.raises(ValueError, match="labels must have the columns trip, late, got trip without late: pass labels="):
        monitor(lake, served.model, since=date(2026, 2, 1), at=february, labels=twice.select("trip"))
    with pytest.raises(ValueError, match=r"time and unit must be columns of ml[.]monitored, got harbour: it has trip, day"):
        monitor(lake, served.model, since=date(2026, 2, 1), at=february, unit="harbour")
    client, tag = mlflow.MlflowClient(), "boathouse.predictions.ml.copy"
    client.set_registered_model_tag(served.model, tag, "trip")
    with pytest.raises(ValueError, match=r"must have one table of predictions, got ml[.]copy, ml[.]monitored: name one with predictions="):
        monitor(lake, served.model, since=date(2026, 2, 1), at=february)
    client.delete_registered_model_tag(served.model, tag)


def test_logged_requests_are_monitored_like_the_batch_of_the_same_rows(served: Served, tmp_path: Path) -> None:
    lake, at = served.lake, int(datetime(2026, 2, 15, 12).timestamp() * 1000)
    scored = [row.asDict() for row in read(lake, "ml.monitored").where("model_version = 2").orderBy("trip").collect()]
    log = InferenceLog(tmp_path / "buffer", tmp_path / "inference_log", segment_bytes=1 << 20)
    names = {"model_name": served.model, "model_version": 2, "endpoint_name": "late"}
    for n in range(0, len(scored), 50):
        part = scored[n : n + 50]
        inputs = [{c: one[c] for c in ("trip", "knots", "wave")} for one in part]
        split = {"columns": ["wave", "trip", "knots"], "data": [[one["wave"], one["trip"], one["knots"]] for one in part]}
        listed = {c: [one[c] for one in part] for c in ("trip", "knots", "wave")}
        bodies = [
            {"dataframe_records": inputs},
            {"dataframe_split": split},
            {"instances": inputs},
            {"inputs": listed},
            {"dataframe_records": [{"trip": one["trip"]} for one in part]},
        ]
        answer = json.dumps({"predictions": [one["probability"] for one in part]})
        which = n // 50 % 5
        looked_up = json.dumps(inputs) if which == 4 else None
        log.record(
            databricks_request_id=f"r{n}",
            timestamp_ms=at,
            status_code=200,
            execution_time_ms=3,
            request=json.dumps(bodies[which]),
            response=answer,
            request_metadata=names,
            features=looked_up,
        )
    log.record(
        databricks_request_id="bad",
        timestamp_ms=at,
        status_code=400,
        execution_time_ms=1,
        request="{",
        response="{}",
        request_metadata=names,
    )
    log.close()
    rows = read_requests(lake.spark.read.format("delta").load(str(tmp_path / "inference_log")), "trip bigint, knots double, wave double")
    replace(lake, predictions_table("ml.logged", rows, ["databricks_request_id", "request_row"]), rows, "batch_id = '2026-02-15'")
    report = monitor(lake, served.model, since=date(2026, 1, 1), at=datetime(2026, 2, 28), predictions="ml.logged")
    (batch,), (logged,) = served.report.evidence, report.evidence
    assert (logged.window, logged.observed, logged.expected, logged.labelled_share) == ("2026-02", batch.observed, batch.expected, 1.0)
    psi = [
        {row["column_name"]: row["population_stability_index"] for row in one.drift if row["window"]["start"].month == 2}
        for one in (served.report, report)
    ]
    assert psi[0] == psi[1]
    assert set(psi[0]) == {"knots", "wave"}
