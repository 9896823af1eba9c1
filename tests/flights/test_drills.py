"""Drills: a year of small data goes through scoring, monitoring and decision, and the decision goes through the graph of the job `month`.

Each drill ends in the right action and the right next task. One model is trained, and one call scores the rows of every drill: each has a year of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hyperopt import hp
from pyspark.sql import DataFrame, SparkSession

from boathouse.features.training_sets import Labels, create_training_set
from boathouse.models.learners import Recipe
from boathouse.monitoring.decision import ModelDecision, decide_action
from boathouse.monitoring.evidence import DecisionPolicy
from boathouse.registry.promotions import champion_as_of, promote
from boathouse.serving.deployment import undo_promotion
from boathouse.steps import MonitoringReport, decide, monitor, score, tune_and_train
from boathouse.tables.table import Column, Lakehouse, Table
from boathouse.tables.writes import append
from boathouse.training.search import Budget
from boathouse.training.splits import KeySplit
from boathouse.workspace.bundle.jobs import Job, all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.graph.state_machine import Edge, Ended, Graph, Launch, Result, apply_event, start_run
from boathouse.workspace.parameters.references import Context, Upstream, render, utc_now

ROOT = Path(__file__).parent.parent.parent
POLICY = DecisionPolicy(new_labels=500)
AFTER = ("fix_data", "data_failures", "roll_back", "rollback", "retrain", "training", "deployment")
NEXT = {  # what runs after each decision, beside the three conditions
    "keep": set[str](),
    "retrain": {"training", "deployment"},
    "roll_back": {"rollback"},
    "fix_data": {"data_failures"},
}


@pytest.fixture(scope="module")
def month_job() -> Job:
    return all_jobs(load(ROOT))["month"]


def run_tasks(job: Job, graph: Graph, action: str, sources: Mapping[str, Any] | None = None) -> set[str]:
    "The tasks that run if `decide` publishes an action, without conditions; every other task succeeds. Operands are filled in as in a run."
    upstream = {
        "decide": Upstream(1, "success", values={"action": action}),
        "dates": Upstream(2, "success", values={"as_of": "2013-11-01"}),
    }
    context = Context(job.id, job.name, 1, utc_now(), {"month": "2013-10", **job.parameters}, tasks=upstream)
    progress, decisions = start_run(graph)
    ran, todo = set[str](), list(decisions)
    while todo:
        one = todo.pop(0)
        if not isinstance(one, Launch):
            continue
        condition = job.tasks[one.key].task.condition_task
        outcome = None
        if condition is None:
            ran.add(one.key)
        else:
            body = (sources or {}).get(one.key, condition)
            same = render(body.left, context) == render(body.right, context)
            outcome = str(same if body.op.value == "EQUAL_TO" else not same).lower()
        progress, more = apply_event(graph, progress, Ended(one.key, Result.SUCCESS, outcome))
        todo += more
    return ran


def tasks_after(job: Job, action: str) -> set[str]:
    return run_tasks(job, job.graph, action) & set(AFTER)


@pytest.mark.parametrize("action", NEXT)
def test_each_action_starts_its_own_tasks_and_no_other(month_job: Job, action: str) -> None:
    assert tasks_after(month_job, action) == NEXT[action]
    assert {"ingest", "features", "monitoring", "decide"} <= run_tasks(month_job, month_job.graph, action)


@pytest.mark.parametrize("key", AFTER)
def test_deleting_or_inverting_a_branch_of_the_job_fails_a_drill(month_job: Job, key: str) -> None:
    nodes, condition = dict(month_job.graph.nodes), month_job.tasks[key].task.condition_task
    broken = [Graph({k: replace(n, disabled=k == key) for k, n in nodes.items()})]
    if edges := [edge for edge in nodes[key].needs if edge.outcome]:
        turned = tuple(Edge(e.key, "false" if e.outcome == "true" else "true") if e in edges else e for e in nodes[key].needs)
        loose = tuple(Edge(e.key) for e in nodes[key].needs)
        broken += [Graph(nodes | {key: replace(nodes[key], needs=needs)}) for needs in (turned, loose)]
    for graph in broken:
        assert any(run_tasks(month_job, graph, action) & set(AFTER) != NEXT[action] for action in NEXT)
    if condition is not None:
        inverted = replace(condition, op=type(condition.op)("NOT_EQUAL"))
        other = replace(condition, right="keep")
        for body in (inverted, other):
            assert any(run_tasks(month_job, month_job.graph, action, {key: body}) & set(AFTER) != NEXT[action] for action in NEXT)


TRIPS = Table(
    "gold.trips",
    "One row per trip.",
    (
        Column("trip", "bigint", "number", nullable=False),
        Column("at", "timestamp", "departure"),
        Column("day", "string", "day of the departure"),
        Column("pier", "string", "pier"),
        Column("wind", "double", "knots"),
        Column("tide", "double", "metres"),
        Column("late", "boolean", "whether it was late"),
    ),
    primary_key=("trip",),
)
World = Callable[[pd.DataFrame], "pd.Series[float]"]


def usual(rows: pd.DataFrame) -> pd.Series[float]:
    "The log odds of a late trip, in the world of the training data."
    return 0.35 * rows.wind - 0.8 * rows.tide - 4.2


def make_trips(year: int, months: range, seed: int, per_month: int = 600, wind: float = 0.0) -> pd.DataFrame:
    "Trips of whole months; `wind` is added to the wind."
    rng, out = np.random.default_rng(seed), []
    for month in months:
        n = per_month
        day = rng.integers(1, 29, n)
        out.append(
            pd.DataFrame(
                {
                    "at": [datetime(year, month, int(d), int(h)) for d, h in zip(day, rng.integers(0, 24, n), strict=True)],
                    "pier": rng.choice(["east", "west", "north"], n),
                    "wind": rng.gamma(6, 2, n) + wind,
                    "tide": rng.normal(1.0, 0.8, n),
                }
            )
        )
    return pd.concat(out, ignore_index=True)


def add_labels(rows: pd.DataFrame, world: World = usual, seed: int = 1) -> pd.DataFrame:
    chance = 1 / (1 + np.exp(-world(rows)))
    return rows.assign(late=np.random.default_rng(seed).random(len(rows)) < chance)


def only_from(rows: pd.DataFrame, month: int, change: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    "The rows, changed from a month on."
    later = rows["at"].dt.month >= month
    return pd.concat([rows[~later], change(rows[later])], ignore_index=True)


def drills() -> dict[str, pd.DataFrame]:
    "The trips of each drill, as they happened, in a year of their own."
    four = range(1, 5)
    stormy = make_trips(2002, range(3, 5), 12, wind=5.0)
    hurt = make_trips(2003, range(3, 5), 13, wind=9.0)
    found = {
        "no change": add_labels(make_trips(2001, range(1, 13), 1)),
        "harmless shift": add_labels(pd.concat([make_trips(2002, range(1, 3), 2), stormy], ignore_index=True)),
        # above 20 knots the harbour sends tugs: the model has never seen it
        "harmful shift": add_labels(
            pd.concat([make_trips(2003, range(1, 3), 3), hurt], ignore_index=True), lambda r: usual(r).where(r.wind < 20, -2.0)
        ),
        "concept drift": add_labels(make_trips(2004, four, 4), lambda r: usual(r) + 1.2 * (r["at"].dt.month >= 3)),
        "one slice": add_labels(
            make_trips(2005, four, 5, per_month=1200), lambda r: usual(r) + 2.0 * ((r["at"].dt.month >= 3) & (r.pier == "west"))
        ),
        "other unit": only_from(add_labels(make_trips(2006, four, 6)), 4, lambda r: r.assign(wind=r.wind * 1.852)),
        "feed stops": only_from(add_labels(make_trips(2007, four, 7)), 4, lambda r: r.head(0)),
        "feed doubles": only_from(add_labels(make_trips(2008, four, 8)), 4, lambda r: pd.concat([r, r], ignore_index=True)),
        "late labels": add_labels(make_trips(2009, range(1, 6), 9), lambda r: usual(r) + 1.2 * (r["at"].dt.month >= 3)),
        "corrected labels": add_labels(make_trips(2010, four, 10)),
        "mistake": add_labels(make_trips(2011, four, 11)),
        "cooldown": add_labels(make_trips(2012, four, 14), lambda r: usual(r) + 1.2 * (r["at"].dt.month >= 3)),
    }
    start = 10_000
    for name, rows in found.items():
        rows = rows.assign(trip=range(start, start + len(rows)), day=rows["at"].dt.strftime("%Y-%m-%d"))
        found[name], start = rows, start + len(rows)
    return found


YEARS = {name: 2001 + n for n, name in enumerate(drills())}


@dataclass(frozen=True)
class Harbour:
    "A model in service, with the scored trips of all drills."

    lake: Lakehouse
    model: str
    trips: Mapping[str, pd.DataFrame]

    def report(self, name: str, at: datetime | None = None, labels: pd.DataFrame | None = None, **more: Any) -> MonitoringReport:
        "The report on the year of a drill; `labels` replaces what is known."
        known = (self.trips[name] if labels is None else labels)[["trip", "late"]]
        there: DataFrame = self.lake.spark.createDataFrame(known, "trip bigint, late boolean")
        year = YEARS[name]
        options: dict[str, Any] = {"time": "at", "unit": "day", "predictions": "ml.drills", "policy": POLICY, **more}
        return monitor(self.lake, self.model, date(year, 1, 1), at or datetime(year, 5, 1), labels=there, **options)


@pytest.fixture(scope="module")
def harbour(spark: SparkSession) -> Harbour:
    lake, model = Lakehouse(spark, prefix="test_drills_"), "spark_catalog.ml.test_drills"
    learned = add_labels(pd.concat([make_trips(2000, range(1, 13), 100, per_month=300)], ignore_index=True))
    learned = learned.assign(trip=range(len(learned)), day=learned["at"].dt.strftime("%Y-%m-%d"))
    append(lake, TRIPS, spark.createDataFrame(learned[[c.name for c in TRIPS.columns]]))
    recipe = Recipe(("pier",), ("wind", "tide"), "late")

    def train(where: str) -> int:
        rows = create_training_set(lake, Labels(TRIPS.name, 1, where), [], "late")
        return tune_and_train(
            lake, rows, recipe, {"learner": "logistic", "C": hp.loguniform("C", -1, 1)}, KeySplit(("trip",)), model=model, key=["trip"],
            at=datetime(2000, 12, 31), unit="day", known={"line": {"learner": "logistic"}}, budget=Budget(1), tell=lambda line: None,
        ).version  # fmt: skip

    good, bad = train("true"), train("late = (wind < 12)")
    promote(lake, model, good, datetime(2000, 12, 31), "first", force=True)
    trips = drills()
    given = ["trip", "at", "day", "pier", "wind", "tide"]
    rows = pd.concat([part for name, part in trips.items() if name != "mistake"])
    score(
        lake,
        f"models:/{model}/{good}",
        spark.createDataFrame(rows[given]),
        to="ml.drills",
        batch="all",
        key=["trip"],
        at=datetime(2013, 1, 1),
    )
    early = trips["mistake"]["at"].dt.month < 4
    for version, part, batch in ((good, trips["mistake"][early], "before"), (bad, trips["mistake"][~early], "after")):
        score(
            lake,
            f"models:/{model}/{version}",
            spark.createDataFrame(part[given]),
            to="ml.drills",
            batch=batch,
            key=["trip"],
            at=datetime(2013, 1, 1),
        )
    return Harbour(lake, model, trips)


def finish(job: Job, decision: ModelDecision, action: str) -> None:
    "Check the decision, and what the job does with it."
    assert decision.action == action, str(decision)
    assert tasks_after(job, decision.action) == NEXT[action]


def test_a_year_without_change_ends_each_month_with_the_decision_to_keep_the_model(harbour: Harbour, month_job: Job) -> None:
    report = harbour.report("no change", datetime(2002, 1, 1))
    assert len(report.evidence) == 12
    for n in range(1, 13):
        decision = decide_action(report.evidence[:n], at=date(2001 + n // 12, n % 12 + 1, 1), new_labels=9_000, policy=POLICY)
        finish(month_job, decision, "keep")
    finish(month_job, decide(report, POLICY), "keep")


def test_a_shift_of_the_inputs_that_does_not_hurt_keeps_the_model(harbour: Harbour, month_job: Job) -> None:
    report = harbour.report("harmless shift")
    assert [e.drifted for e in report.evidence] == [(), (), ("wind",), ("wind",)]
    decision = decide(report, POLICY)
    finish(month_job, decision, "keep")
    assert decision.reasons[-1] == "inputs drifted, but calibration and quality are as expected"


@pytest.mark.parametrize("name", ["harmful shift", "concept drift", "one slice"])
def test_a_change_that_hurts_the_predictions_retrains(harbour: Harbour, month_job: Job, name: str) -> None:
    report = harbour.report(name, slices=["pier"] if name == "one slice" else [])
    decision = decide(report, POLICY)
    finish(month_job, decision, "retrain")
    kind = {"one slice": "where pier is west", "harmful shift": "fewer positives", "concept drift": "more positives"}[name]
    assert kind in "\n".join(decision.reasons)
    assert [bool(e.drifted) for e in report.evidence] == [False, False, name == "harmful shift", name == "harmful shift"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("other unit", "wind looks like km/h instead of knots"),
        ("feed stops", "2007-04: no rows were scored"),
        ("feed doubles", "2008-04: 1,200 rows were scored, 600 are usual"),
    ],
)
def test_broken_data_ask_for_repair_and_change_no_model(harbour: Harbour, month_job: Job, name: str, reason: str) -> None:
    decision = decide(harbour.report(name), POLICY)
    finish(month_job, decision, "fix_data")
    assert reason in decision.reasons[0]


def test_labels_that_come_six_weeks_late_decide_when_they_are_there(harbour: Harbour, month_job: Job) -> None:
    trips = harbour.trips["late labels"]
    expected = {datetime(2009, 5, 1): "keep", datetime(2009, 6, 12): "retrain"}
    for at, action in expected.items():
        report = harbour.report("late labels", at, labels=trips[trips["at"] < at - timedelta(weeks=6)])
        assert report.evidence[-1].labelled_share == 0.0
        finish(month_job, decide(report, POLICY), action)
    first = harbour.report("late labels", datetime(2009, 2, 1), labels=trips.head(0))
    decision = decide(first, POLICY)
    finish(month_job, decision, "keep")
    assert not decision.conclusive


def test_corrected_labels_correct_the_decision(harbour: Harbour, month_job: Job) -> None:
    trips = harbour.trips["corrected labels"]
    wrong = trips.assign(late=trips.late | ((trips["at"].dt.month >= 3) & (trips.trip % 4 == 0)))
    finish(month_job, decide(harbour.report("corrected labels", labels=wrong), POLICY), "retrain")
    finish(month_job, decide(harbour.report("corrected labels"), POLICY), "keep")


def test_a_promotion_that_was_a_mistake_is_rolled_back(harbour: Harbour, month_job: Job) -> None:
    promote(harbour.lake, harbour.model, 2, datetime(2011, 4, 1), "by hand", force=True)
    report = harbour.report("mistake")
    assert report.version == 2
    decision = decide(report, POLICY)
    finish(month_job, decision, "roll_back")
    assert "30 days after the promotion, version 1 has +" in decision.reasons[0]
    undo_promotion(harbour.lake, harbour.model, report.version, report.at, decision.reasons[0])
    assert champion_as_of(harbour.lake, harbour.model, report.at) == 1


def test_drift_during_the_cooldown_waits_for_its_end(harbour: Harbour, month_job: Job) -> None:
    report = harbour.report("cooldown")
    for days, action in ((30, "keep"), (60, "retrain")):
        past = date.fromordinal(report.at.date().toordinal() - days)
        decision = decide_action(report.evidence, at=report.at.date(), retrained=[past], new_labels=report.new_labels, policy=POLICY)
        finish(month_job, decision, action)
    assert report.new_labels == 2_400
