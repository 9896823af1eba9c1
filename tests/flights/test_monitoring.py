"A month is judged by what was known, against what its own model learned from, and a repetition leaves no trace."

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from boathouse.monitoring.decision import record_decision
from boathouse.monitoring.drift import DRIFTED, VERDICTS, compare_profiles
from boathouse.monitoring.evidence import DecisionPolicy, WindowEvidence
from boathouse.monitoring.tables import table_rows
from boathouse.registry.promotions import promote
from boathouse.tables.table import Lakehouse, Table, read
from boathouse.tables.versions import fingerprint
from boathouse.tables.writes import append
from flights.features import model_rows
from flights.monitoring import (
    ModelTooOld,
    check_champion_age,
    feature_profile,
    measure_month,
    month_summary,
    month_window,
    months_of,
    read_stored,
    scored_with_labels,
    training_profile,
    training_windows,
)
from flights.reports import counterfactual_quality, format_table, missing_inputs, month_story, month_tables, retraining_gain
from flights.retraining import decide_month, previous_of_month
from flights.scoring import score_month, scoring_rows
from flights.tables import (
    GOLD_DEPARTURES,
    ML_PREDICTIONS,
    MONITORING_DRIFT,
    MONITORING_PROFILE,
    MONITORING_QUALITY_METRICS,
    OPS_DECISIONS,
)
from flights.training import TrainedVersion

MODEL, SEPTEMBER, OCTOBER = "spark_catalog.ops_ml.judged", "2013-09", date(2013, 10, 1)


@dataclass(frozen=True)
class Served:
    "A lake in which one month was scored and measured, and what measuring it gave."

    lake: Lakehouse
    version: int
    profiles: list[dict[str, Any]]
    drifts: list[dict[str, Any]]


@pytest.fixture(scope="module")
def served(airport: Lakehouse, earlier: TrainedVersion, registered: Callable[[str, TrainedVersion], int]) -> Iterator[Served]:
    "The airport with a champion that was trained on August, and the first days of September, scored by it and measured."
    version = registered(MODEL, earlier)
    promote(airport, MODEL, version, datetime(2013, 9, 1), "first")
    score_month(airport, MODEL, SEPTEMBER)
    yield Served(airport, version, *measure_month(airport, MODEL, SEPTEMBER, OCTOBER))
    MlflowClient().delete_registered_model(MODEL)


def as_table(table: Table, rows: Any, **values: str) -> Any:
    "The rows with the table's columns: from `values` (SQL), by name, or null."
    names = set(rows.columns)
    return rows.select(
        *[F.expr(values.get(f.name, f.name if f.name in names else "null")).cast(f.dataType).alias(f.name) for f in table.schema]
    )


def test_a_month_is_new_yorks_also_when_the_clocks_change() -> None:
    assert month_window("2013-03") == (datetime(2013, 3, 1, 5), datetime(2013, 4, 1, 4))
    assert month_window("2013-12")[1] == month_window("2014-01")[0]


def test_training_windows_cover_the_training_days_and_no_other() -> None:
    for first, end in ((date(2013, 1, 1), date(2013, 9, 2)), (date(2013, 1, 1), date(2013, 1, 24)), (date(2013, 1, 1), date(2013, 3, 20))):
        _, windows = training_windows(first, end)
        starts = [pd.Timestamp(s, tz="UTC").tz_convert("America/New_York") for w in windows for s in w]
        assert all(t.hour == 0 for t in starts)
        assert starts[0].date() == first
        assert starts[-1].date() <= end
        assert all(a[1] == b[0] for a, b in pairwise(windows))
    assert months_of(date(2013, 11, 30), date(2014, 1, 1)) == ["2013-11", "2013-12"]


def test_a_label_that_was_not_known_yet_is_not_used_and_a_cancelled_flight_is_never_judged(spark: SparkSession) -> None:
    lake = Lakehouse(spark, prefix="opslabels_")
    rows = spark.sql("""
        SELECT id AS flight_id, timestamp'2013-10-31 20:00:00' AS scheduled_at, timestamp(landed) AS label_time, late FROM VALUES
        (1L, '2013-11-01 23:59:59', true), (2L, '2013-11-02 00:00:00', true), (3L, null, null) AS t(id, landed, late)""")
    month = dict(month="'2013-10'", predict_at="scheduled_at - interval 2 hours", flight_date="'2013-10-31'")
    append(
        lake,
        GOLD_DEPARTURES,
        as_table(GOLD_DEPARTURES, rows, **month, carrier="'B6'", origin="'JFK'", dest="'BOS'", flight="1", status="'arrived'"),
    )
    said = as_table(
        ML_PREDICTIONS,
        rows,
        **month,
        probability="0.4",
        prediction="false",
        model_name="'m'",
        model_version="1",
        alias="'c'",
        run_id="'r'",
        batch_id="'2013-10'",
        scored_at="'2013-10-01'",
    )
    append(lake, ML_PREDICTIONS, said)
    known = {
        day: {row.flight_id: row.late for row in scored_with_labels(lake, "2013-10", day).collect()}
        for day in (date(2013, 11, 1), date(2013, 11, 2))
    }
    assert known == {date(2013, 11, 1): {1: True, 2: None, 3: None}, date(2013, 11, 2): {1: True, 2: True, 3: None}}


def test_rows_that_no_column_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="got surprise"):
        table_rows([{"month": "2013-10", "surprise": 1}], MONITORING_DRIFT.columns)


def test_the_drift_table_lists_the_verdicts() -> None:
    comments = {c.name: c.comment for c in MONITORING_DRIFT.columns}
    assert all(name in comments["verdict"] for name in VERDICTS)
    assert all(name in comments["drifted"] for name in DRIFTED)


def test_each_feature_of_a_month_has_one_verdict_and_the_probability_none(served: Served) -> None:
    assert len({d["column_name"] for d in served.drifts}) == len(served.drifts) == 41
    assert {d["verdict"] for d in served.drifts} <= set(VERDICTS)


def test_a_month_is_profiled_whole_and_by_airport(served: Served) -> None:
    flights = read(served.lake, ML_PREDICTIONS).where(f"batch_id = '{SEPTEMBER}'").count()
    tables = {r["slice_value"]: r for r in served.profiles if r["column_name"] == ":table"}
    assert set(tables) == {None, "EWR", "JFK", "LGA"}
    assert tables[None]["count"] == flights == sum(t["count"] for name, t in tables.items() if name)
    assert tables[None]["labelled_share"] == 1.0
    low, auc, high = tables[None]["roc_auc_interval"]["low"], tables[None]["roc_auc_score"], tables[None]["roc_auc_interval"]["high"]
    assert 0 < low < auc < high < 1
    assert {r["column_name"] for r in served.profiles} >= {"carrier", "wind_speed", "leg_delay", "probability"}
    assert "flights scored by version" in month_summary(served.profiles, served.drifts)


def test_the_baseline_is_the_training_data_of_the_version_that_served(served: Served) -> None:
    rows = [r for r in training_profile(served.lake, MODEL, served.version) if r["column_name"] == "wind_speed"]
    assert {r["log_type"] for r in rows} == {"BASELINE"}
    assert min(r["window"]["start"] for r in rows) == datetime(2013, 8, 1, 4)
    assert max(r["window"]["end"] for r in rows) <= datetime(2013, 9, 1, 4)
    august = (
        model_rows(served.lake, read(served.lake, GOLD_DEPARTURES).where("month = '2013-08'"))
        .agg(F.min("wind_speed"), F.max("wind_speed"))
        .first()
    )
    assert august[0] <= min(r["min"] for r in rows)
    assert max(r["max"] for r in rows) <= august[1]


def test_a_repetition_changes_nothing_and_other_months_are_left_alone(served: Served) -> None:
    tables = {t: fingerprint(read(served.lake, t)) for t in (MONITORING_PROFILE, MONITORING_DRIFT)}
    measure_month(served.lake, MODEL, SEPTEMBER, OCTOBER)
    assert {t: fingerprint(read(served.lake, t)) for t in tables} == tables


def test_stored_rows_come_back_as_they_were(served: Served) -> None:
    columns = MONITORING_DRIFT.columns
    kept = read_stored(read(served.lake, MONITORING_DRIFT))
    same = {"model_name": MODEL, "month": SEPTEMBER}
    key = [c.name for c in columns].index("column_name")
    assert sorted(table_rows(kept, columns, **same), key=lambda r: r[key]) == sorted(
        table_rows(served.drifts, columns, **same), key=lambda r: r[key]
    )


def test_a_sensor_that_reads_double_is_drift(served: Served) -> None:
    rows = scoring_rows(served.lake, SEPTEMBER).withColumn("wind_speed", F.col("wind_speed") * 2)
    profiles = feature_profile(rows, [month_window(SEPTEMBER)], "1 month", "INPUT", served.version)
    broken = {d["column_name"]: d for d in compare_profiles(profiles, training_profile(served.lake, MODEL, served.version))}
    sound = {d["column_name"]: d for d in served.drifts}
    assert broken["wind_speed"]["drifted"]
    assert broken["wind_speed"]["population_stability_index"] > 2 * sound["wind_speed"]["population_stability_index"]
    assert broken["carrier"] == sound["carrier"]


def test_open_failures_of_a_feed_ask_for_repair_and_closed_ones_permit_retraining(served: Served) -> None:
    lake, eager = served.lake, DecisionPolicy(drifted_weight=-1.0, seen=1, drift_alone=True, new_labels=100)
    rule = lake.spark.sql("SELECT 'silver.weather' AS table_name, 'wind_in_range' AS rule, 100L AS checked, 60L AS failed")
    append(
        lake,
        MONITORING_QUALITY_METRICS,
        as_table(MONITORING_QUALITY_METRICS, rule, action="'quarantine'", batch="'1'", measured_at="timestamp'2013-09-20'"),
    )
    held, found = decide_month(lake, MODEL, SEPTEMBER, OCTOBER, eager)
    lake.spark.sql(f"DELETE FROM {lake.name(MONITORING_QUALITY_METRICS)}")
    assert held.action == "fix_data"
    assert "wind_in_range (60.0%)" in held.reasons[0]
    assert found["new_labels"] > 100
    assert decide_month(lake, MODEL, SEPTEMBER, OCTOBER, eager)[0].action == "retrain"


def test_the_story_of_a_lifecycle_is_told_from_its_tables(served: Served) -> None:
    lake = served.lake
    assert [line.split(" ")[0] for line in missing_inputs(lake, MODEL, MONITORING_PROFILE, OPS_DECISIONS)] == [lake.name(OPS_DECISIONS)]
    decision, found = decide_month(lake, MODEL, SEPTEMBER, OCTOBER)
    record_decision(lake, MODEL, served.version, SEPTEMBER, datetime(2013, 10, 1), decision, found)
    months = month_story(lake, MODEL)
    assert (months.month.tolist(), months.decision.tolist(), months.champion.tolist()) == ([SEPTEMBER], ["keep"], [served.version])
    assert SEPTEMBER in format_table(months.drop(columns="why"))
    assert len(retraining_gain(lake, MODEL, {SEPTEMBER: str(OCTOBER)})) == 0  # the first champion served throughout


def test_the_model_that_served_would_have_been_as_good_as_it_was(served: Served) -> None:
    stayed = counterfactual_quality(served.lake, MODEL, SEPTEMBER, served.version, str(OCTOBER))
    (asked,) = month_tables(served.lake, MODEL)
    assert {name: stayed[name] for name in ("count", "roc_auc_score", "log_loss")} == {
        name: asked[name] for name in ("count", "roc_auc_score", "log_loss")
    }


def test_a_champion_beyond_its_age_is_refused_with_both_dates() -> None:
    assert check_champion_age(3, date(2013, 9, 1), date(2013, 12, 1), days=91) == 91
    with pytest.raises(
        ModelTooOld, match="version 3 must be trained on data of the last 90 days, but they end at 2013-09-01, 91 days before 2013-12-01"
    ):
        check_champion_age(3, date(2013, 9, 1), date(2013, 12, 1), days=90)


def test_the_previous_champion_scores_the_flights_of_the_newest_month_with_labels_if_they_show_a_symptom(
    served: Served, earlier: TrainedVersion, registered: Callable[[str, TrainedVersion], int]
) -> None:
    lake, policy = served.lake, DecisionPolicy()
    untrue = WindowEvidence(SEPTEMBER, gap=0.1, gap_low=0.05, gap_high=0.15, labelled_share=1.0)
    assert previous_of_month(lake, MODEL, served.version, [untrue], OCTOBER, policy) is None  # the first champion
    copy = registered(MODEL, earlier)
    promote(lake, MODEL, copy, datetime(2013, 9, 20), "a copy of the first")
    october = WindowEvidence("2013-10", labelled_share=0.1)
    found = previous_of_month(lake, MODEL, copy, [untrue, october], OCTOBER, policy)
    assert found is not None
    assert (found.version, found.promoted, found.metric, found.gain) == (served.version, date(2013, 9, 20), "AUC", 0.0)
    sound = WindowEvidence(SEPTEMBER, gap=0.0, gap_low=-0.1, gap_high=0.1, labelled_share=1.0)
    assert previous_of_month(lake, MODEL, copy, [sound, october], OCTOBER, policy) is None
    assert previous_of_month(lake, MODEL, copy, [october], OCTOBER, policy) is None
