"The dashboard and the alerts of the flights: their queries run on the declared tables, and each widget shows columns that its query returns."

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from boathouse.tables.evolution import create
from boathouse.tables.table import Lakehouse, Table, drop_all
from boathouse.tables.writes import append
from boathouse.workspace.alerts.definition import AlertDefinition, all_alerts
from boathouse.workspace.alerts.evaluation import OK, TRIGGERED, judge_rows
from boathouse.workspace.bundle.load import load
from flights.tables import MONITORING_DRIFT, MONITORING_PROFILE, MONITORING_TABLE_HEALTH, OPS_DECISIONS

ROOT = Path(__file__).parents[2]
BUNDLE = load(ROOT)
FILE = ROOT / "bundles" / str(BUNDLE.resources("dashboards")["late_arrivals"]["file_path"])
PAGES: list[dict[str, Any]] = json.loads(FILE.read_text())["pages"]
DATASETS = {one["name"]: "".join(one["queryLines"]) for one in json.loads(FILE.read_text())["datasets"]}
WIDGETS = {one["widget"]["name"]: one["widget"] for page in PAGES for one in page["layout"]}
VERSIONS = {"line": 3, "heatmap": 3, "table": 1}
START, END = datetime(2013, 10, 1, 4), datetime(2013, 11, 1, 4)


def rows_of(lake: Lakehouse, table: Table, *rows: dict[str, Any]) -> DataFrame:
    names = [column.name for column in table.columns]
    return lake.spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], table.schema)


def quality(month: str, auc: float, low: float | None = None, **more: Any) -> dict[str, Any]:
    "A `:table` row of a month; `low` is the end of the estimate's interval."
    ends = {"low": low, "high": 0.8} if low else None
    same = {"model_name": "late", "month": month, "window": {"start": START, "end": END}, "granularity": "1 month", "model_id": "1"}
    found = {"roc_auc_score": auc, "roc_auc_interval": {"low": auc - 0.02, "high": auc + 0.02}, "calibrated_roc_auc_score": low and 0.77}
    return same | {"column_name": ":table", "log_type": "INPUT", "count": 100, "calibrated_roc_auc_interval": ends} | found | more


@pytest.fixture(scope="module")
def lake(spark: SparkSession) -> Iterator[Lakehouse]:
    "The four tables, with two months in which the second has an AUC below its estimate, a decision to fix the data and a late table."
    made = Lakehouse(spark, prefix="dashboard_")
    for table in (MONITORING_PROFILE, MONITORING_DRIFT, MONITORING_TABLE_HEALTH, OPS_DECISIONS):
        create(made, table)
    months = [quality("2013-10", 0.75), quality("2013-11", 0.7, 0.74), quality("2013-11", 0.6, slice_key="origin", slice_value="JFK")]
    append(made, MONITORING_PROFILE, rows_of(made, MONITORING_PROFILE, *months))
    drift = {"model_name": "late", "month": "2013-11", "window": {"start": START, "end": END}, "granularity": "1 month", "model_id": "1"}
    drift |= {"column_name": "temp", "drift_type": "BASELINE", "population_stability_index": 0.3, "threshold": 0.1}
    append(made, MONITORING_DRIFT, rows_of(made, MONITORING_DRIFT, drift | {"verdict": "drift", "reason": "PSI 0.3", "drifted": True}))
    decisions = [("2013-10", datetime(2013, 11, 1), "keep", []), ("2013-11", datetime(2013, 12, 1), "fix_data", ["no rows", "no labels"])]
    named = [dict(zip(("period", "decided_at", "action", "reasons"), row, strict=True)) for row in decisions]
    append(made, OPS_DECISIONS, rows_of(made, OPS_DECISIONS, *(row | {"model_name": "late", "run_id": "1"} for row in named)))
    checks = [
        {"event_time": at, "catalog_name": "c", "schema_name": "silver", "table_name": "weather", "table_status": status, "status": status}
        | {"check_name": "event_freshness", "reason": "late by 3 h"}
        for at, status in ((datetime(2013, 11, 1), "Healthy"), (datetime(2013, 12, 1), "Unhealthy"))
    ]
    append(made, MONITORING_TABLE_HEALTH, rows_of(made, MONITORING_TABLE_HEALTH, *checks))
    yield made
    drop_all(made)


def run(lake: Lakehouse, text: str) -> pd.DataFrame:
    "The rows of a query on the tables of the lake."
    text = text.replace(f"{BUNDLE.catalog}.", "")
    for schema in ("monitoring", "ops"):
        text = text.replace(f" {schema}.", f" dashboard_{schema}.")
    return lake.spark.sql(text).toPandas()


@pytest.fixture(scope="module")
def shown(lake: Lakehouse) -> dict[str, pd.DataFrame]:
    return {name: run(lake, text) for name, text in DATASETS.items()}


def fields(widget: dict[str, Any]) -> list[str]:
    return [field["name"] for query in widget["queries"] for field in query["query"]["fields"]]


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_shows_columns_of_its_dataset_and_has_the_version_of_its_kind(name: str, shown: dict[str, pd.DataFrame]) -> None:
    spec, (query,) = WIDGETS[name]["spec"], WIDGETS[name]["queries"]
    columns = spec["encodings"].get("columns") or spec["encodings"].values()
    assert {column["fieldName"] for column in columns} == set(fields(WIDGETS[name]))
    assert set(fields(WIDGETS[name])) <= set(shown[query["query"]["datasetName"]].columns)
    assert [field["expression"] for field in query["query"]["fields"]] == [f"`{field}`" for field in fields(WIDGETS[name])]
    assert spec["version"] == VERSIONS[spec["widgetType"]]
    assert spec["frame"]["title"]


def test_names_are_unique_and_every_dataset_is_shown() -> None:
    assert len(WIDGETS) == sum(len(page["layout"]) for page in PAGES)
    used = {query["query"]["datasetName"] for widget in WIDGETS.values() for query in widget["queries"]}
    assert used == set(DATASETS)
    assert len({page["name"] for page in PAGES}) == len(PAGES)


def test_widgets_lie_side_by_side_on_a_grid_of_six_columns() -> None:
    for page in PAGES:
        places = [one["position"] for one in page["layout"]]
        assert all(p["x"] >= 0 and p["x"] + p["width"] <= 6 and p["height"] > 0 for p in places)
        cells = [{(x, y) for x in range(p["x"], p["x"] + p["width"]) for y in range(p["y"], p["y"] + p["height"])} for p in places]
        assert not any(one & other for one, other in combinations(cells, 2))


def test_the_datasets_have_the_months_the_drift_the_decisions_and_what_is_not_healthy(shown: dict[str, pd.DataFrame]) -> None:
    assert set(shown["auc"]["figure"]) == {"realised", "estimated before the labels", "interval, low", "interval, high"}
    assert shown["auc"].query("month == '2013-10'")["figure"].tolist() == ["interval, high", "interval, low", "realised"]
    assert shown["quality"]["month"].tolist() == ["2013-11", "2013-10"]
    assert shown["slices"]["slice"].tolist() == ["origin = JFK"]
    assert shown["drift"]["times_threshold"].tolist() == pytest.approx([3.0])
    assert shown["drifted"]["reason"].tolist() == ["PSI 0.3"]
    assert shown["decisions"]["reasons"].tolist() == ["no rows; no labels", ""]
    assert shown["health"]["table_name"].tolist() == ["weather"]


ALERTS: dict[str, AlertDefinition] = all_alerts(BUNDLE)


def judged(lake: Lakehouse, alert: AlertDefinition, text: str) -> str:
    found = run(lake, text)
    return judge_rows(alert, list(found.columns), found.astype(object).to_numpy().tolist()).state


NEWEST = {"data_failures": ("period", "2013-11"), "concept_drift": ("month", "2013-11"), "unhealthy_tables": ("event_time", "2013-12-01")}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_triggered_by_the_newest_rows_alone(name: str, lake: Lakehouse) -> None:
    alert, (key, newest) = ALERTS[name], NEWEST[name]
    assert judged(lake, alert, alert.query) == TRIGGERED
    earlier = re.sub(r"FROM (\S+\.\w+)", rf"FROM (SELECT * FROM \1 WHERE {key} < '{newest}')", alert.query)
    assert judged(lake, alert, earlier) == OK
