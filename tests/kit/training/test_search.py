"""A search is never worse than where it began, ends when it should, and says of every trial what became of it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hyperopt import hp
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from sklearn.tree import DecisionTreeRegressor

from boathouse.models.learners import LEARNERS, PRIOR, Recipe
from boathouse.training.search import (
    Budget,
    Journal,
    SearchError,
    Trial,
    fold_rows,
    fold_scores,
    log_trials,
    parameters_from_run,
    plot_trials,
    run_trial,
    search_parameters,
    summarize_run,
)
from boathouse.training.splits import HoldoutError, KeySplit, SplitError, split_by_time

RECIPE = Recipe(("hull",), ("knots",), "late")
SPLIT = split_by_time(dt.date(2013, 1, 1), dt.date(2013, 3, 2))
SPACE = hp.choice(
    "learner",
    [
        {"learner": "lightgbm", "n_estimators": hp.quniform("trees", 2, 20, 2), "deep": {"rate": hp.uniform("rate", 0, 1)}},
        {"learner": "logistic", "C": hp.loguniform("C", -5, 2)},
        {"learner": "extra_trees", "min_samples_leaf": hp.quniform("leaf", 5, 50, 5)},
    ],
)
X = {"x": hp.uniform("x", 0, 1)}
SPACE_OF_X = hp.choice("half", [{"x": hp.uniform("low", 0, 0.5)}, {"x": hp.uniform("high", 0.5, 1), "also": hp.randint("also", 3)}])


def boats(days: int = 60, a_day: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = days * a_day
    day = np.repeat([dt.date(2013, 1, 1) + dt.timedelta(days=d) for d in range(days)], a_day)
    rows = pd.DataFrame({"day": day, "boat": np.arange(n) % 97, "hull": rng.choice(["s", "l"], n), "knots": rng.gamma(4, 3, n)})
    return rows.assign(late=rng.random(n) < 1 / (1 + np.exp(4 - 0.3 * rows.knots)))


def hill(p: Mapping[str, Any]) -> tuple[float, ...]:
    return (1 - abs(p["x"] - 0.3), 0.9 - abs(p["x"] - 0.3))


def quiet(line: str) -> None: ...


def test_no_fold_is_trained_on_its_own_days_or_later_ones() -> None:
    # The label turns round on the fold's first day: a model that had seen one day of the fold would not be this wrong.
    rows, split = boats(), split_by_time(dt.date(2013, 1, 1), dt.date(2013, 3, 2), folds=1)
    start = split.folds[0][0]
    turned = rows.assign(late=np.where(rows.day >= start, rows.knots < 12, rows.knots >= 12))
    assert next(fold_scores(RECIPE, fold_rows(RECIPE, turned[split.training(rows)], split), {"n_estimators": 10})) < 0.05


def test_no_key_is_learned_from_and_judged_in_the_same_fold() -> None:
    split, rows = KeySplit(("boat",)), boats()
    folds = fold_rows(RECIPE, rows[split.training(rows)], split)
    for known, judged in folds:
        assert not set(rows.boat[known.index]) & set(rows.boat[judged.index])
    assert sum(len(judged) for _, judged in folds) == split.training(rows).sum()


def test_a_key_that_is_a_numeric_input_too_splits_its_doubles_as_the_whole_numbers_that_they_were() -> None:
    ages, split = pd.DataFrame({"age": range(20, 80), "delay": 1.0}), KeySplit(("age",))
    whole = ages[split.training(ages)]
    doubles = whole.astype({"age": float})  # as collect_training_rows returns a numeric input
    recipe = Recipe((), ("age",), "delay", task="regression")
    judged = [list(rows["age"]) for _, rows in fold_rows(recipe, doubles, split)]
    assert judged == [list(whole.loc[fold, "age"]) for _, fold in split.folded(whole)]
    assert fold_rows(recipe, doubles, split)[0][0]["age"].dtype == float
    with pytest.raises(SplitError, match=r"got the float 20\.5"):
        fold_rows(recipe, doubles.assign(age=20.5), split)


def test_one_held_out_row_among_the_rows_ends_the_search_before_it_begins() -> None:
    rows = boats()
    training = SPLIT.training(rows)
    assert len(fold_rows(RECIPE, rows[training], SPLIT)) == 3
    training[np.flatnonzero(SPLIT.held_out(rows))[0]] = True
    with pytest.raises(HoldoutError, match=r"^1 of \d+ rows are held out, 0 are in no part"):
        fold_rows(RECIPE, rows[training], SPLIT)


def test_the_search_never_ends_below_its_known_points() -> None:
    trials = search_parameters(hill, X, {"defaults": {"x": 0.3}, "baseline": {"x": 0.9}}, Budget(12), seed=1, tell=quiet)
    assert trials[0].name == "defaults"
    assert trials[0].scores == (1.0, 0.9)
    assert len(trials) == 12
    assert [t.score for t in trials] == sorted((t.score for t in trials), reverse=True)
    found = search_parameters(hill, X, {"defaults": {"x": 0.9}}, Budget(20), seed=1, tell=quiet)
    assert found[0].score > 0.9 > found[-1].score


def test_baselines_are_trials_beside_the_budget_and_neither_chosen_over_something_better_nor_hidden() -> None:
    words = {"known": {"defaults": {"x": 0.8}}, "budget": Budget(6), "seed": 1, "tell": quiet}
    without = search_parameters(hill, X, **words)
    beaten = search_parameters(hill, X, baselines={"the tide": {"x": 0.95}}, **words)
    assert [t for t in beaten if not t.baseline] == [replace(t, number=t.number + (t.number > 1)) for t in without]
    assert [(t.name, t.kind, t.number) for t in beaten if t.baseline] == [("the tide", "baseline", 2)]
    best = search_parameters(hill, X, baselines={"the tide": {"x": 0.3}}, **words)[0]
    assert (best.name, best.baseline, best.score) == ("the tide", True, 0.95)
    even = search_parameters(hill, X, baselines={"the tide": {"x": 0.8}}, **words | {"budget": Budget(1)})
    assert [t.name for t in even] == ["defaults", "the tide"]


def test_the_share_alone_scores_one_half_exactly_on_every_fold() -> None:
    rows = boats()
    folds = fold_rows(RECIPE, rows[SPLIT.training(rows)], SPLIT)
    assert tuple(fold_scores(RECIPE, folds, {"learner": PRIOR})) == (0.5, 0.5, 0.5)
    assert tuple(fold_scores(RECIPE, folds, {"learner": "logistic", "columns": ["knots"]})) > (0.6, 0.6, 0.6)


def test_a_proposal_is_given_up_after_the_fold_on_which_it_falls_behind_the_best_known_set_and_never_wins() -> None:
    asked: list[tuple[float, int]] = []

    def score(p: Mapping[str, float]) -> Iterator[float]:
        for fold, easier in enumerate((0.4, 0.0, 0.0)):  # the first fold is much easier: a mean over it alone would win
            asked.append((p["x"], fold))
            yield 0.5 - (p["x"] - 0.3) ** 2 + easier

    trials = search_parameters(
        score, X, {"defaults": {"x": 0.35}, "poor": {"x": 0.9}}, Budget(30), seed=1, baselines={"the tide": {"x": 0.8}}, tell=quiet
    )
    folds = {t.name: len(t.scores) for t in trials}
    assert folds["defaults"] == folds["poor"] == folds["the tide"] == 3  # what is known is tried on every fold
    given_up = [t for t in trials if t.expected is not None]
    assert {len(t.scores) for t in given_up} == {1}
    worse = [t for t in trials if t.name.startswith("proposed") and (t.parameters["x"] - 0.3) ** 2 > 0.0025 + 0.001]
    assert given_up
    assert {t.name for t in given_up} == {t.name for t in worse}
    assert sum(x == given_up[0].parameters["x"] for x, _ in asked) == 1
    truth = [0.5 - (t.parameters["x"] - 0.3) ** 2 + 0.4 / 3 for t in given_up]
    assert [t.score for t in given_up] == pytest.approx(truth)
    assert trials[0].expected is None
    assert [t.score for t in trials] == sorted((t.score for t in trials), reverse=True)


def test_the_same_seed_gives_the_same_trials_and_another_seed_others() -> None:
    one, two, other = (search_parameters(hill, SPACE_OF_X, {"defaults": {"x": 0.3}}, Budget(14), seed, tell=quiet) for seed in (1, 1, 2))
    assert one == two
    assert [t.parameters for t in one] != [t.parameters for t in other]


def test_trials_that_raise_or_score_no_number_are_failures_and_not_the_end() -> None:
    def score(p: Mapping[str, float]) -> tuple[float, ...]:
        if p["x"] > 0.8:
            raise RuntimeError("out of memory")
        return (0.5, float("nan")) if p["x"] > 0.5 else (float("inf"), 0.5) if p["x"] > 0.4 else () if p["x"] > 0.35 else hill(p)

    known = {"raises": {"x": 0.9}, "nan": {"x": 0.6}, "infinite": {"x": 0.45}, "nothing": {"x": 0.37}, "good": {"x": 0.3}}
    said: list[str] = []
    trials = search_parameters(score, X, known, Budget(25), seed=1, tell=said.append)
    assert len(trials) == 25
    errors = {t.name: t.error for t in trials if t.name in known}
    assert errors == {
        "raises": "RuntimeError: out of memory",
        "nan": "fold 2 scored nan",
        "infinite": "fold 1 scored inf",
        "nothing": "no fold was scored",
        "good": "",
    }
    failed = [t for t in trials if t.name.startswith("proposed") and not t.scores]
    assert failed
    assert all(t.error and t.parameters["x"] > 0.35 for t in failed)
    assert trials[0].name == "good"
    assert len(said) == 25
    assert said[0] == "trial 1/25 raises, lightgbm: failed: RuntimeError: out of memory; none so far"
    assert said[4] == "trial 5/25 good, lightgbm: 0.9500 ± 0.0500, worst fold 0.9000; best so far 0.9500 (good)"


def test_a_search_in_which_everything_fails_names_the_most_frequent_error_and_returns_no_trial(tmp_path: Path) -> None:
    def sinks(p: Mapping[str, float]) -> tuple[float, ...]:
        if p["x"] == 0.5:
            raise RuntimeError("sank")
        return (float("nan"),)

    said: list[str] = []
    words = {"known": {"defaults": {"x": 0.5}, "poor": {"x": 0.1}}, "budget": Budget(9), "seed": 1, "tell": said.append}
    with pytest.raises(
        SearchError, match=r"got none: 8 of 9 trials ended with 'fold 1 scored nan', as with the parameters \{'x': 0.1\}. Correct"
    ) as error:
        search_parameters(sinks, X, **words)
    assert len(said) == 9
    assert "remove" not in str(error.value)
    # A baseline that works is not what was searched for.
    with pytest.raises(
        SearchError,
        match=r"got none: 8 of 9 trials ended with 'fold 1 scored nan'.* and remove search.jsonl, which keeps the failed trials",
    ):
        search_parameters(
            lambda p: (0.5,) if p["x"] == 2 else sinks(p), X, **words, baselines={"the tide": {"x": 2}}, journal=tmp_path / "search.jsonl"
        )
    with pytest.raises(SearchError, match="got none: 0 of 0 trials ended with 'no trial was run'"):
        search_parameters(hill, X, {}, Budget(0), seed=1, tell=quiet)
    for limits in ({"max_evals": -1}, {"max_evals": 3, "seconds": -2.0}, {"max_evals": 3, "patience": -1}):
        with pytest.raises(ValueError, match="limits of a Budget must be 0 or more, got"):
            Budget(**limits)
    with pytest.raises(SearchError, match="needs a trial that was scored, got the failed trial defaults: sank"):
        summarize_run(RECIPE, SPLIT, {}, Trial("defaults", {"x": 0.5}, error="sank"), 100)
    only = search_parameters(hill, X, {}, Budget(0), seed=1, baselines={"the tide": {"x": 0.3}}, tell=quiet)
    assert [t.name for t in only] == ["the tide"]


@pytest.mark.parametrize("name", ["n_jobs", "random_state"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_parameter_that_the_search_sets_itself_is_named(learner: str, name: str) -> None:
    rows = boats(days=2)
    with pytest.raises(ValueError, match=f"parameters must not include {name}: fit sets the seed"):
        next(fold_scores(RECIPE, [(rows, rows)], {"learner": learner, name: 1}))


def test_a_fold_is_scored_by_the_primary_metric_of_its_task_and_a_class_that_it_did_not_learn_fails_the_trial() -> None:
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"knots": rng.normal(size=200)})
    rows["delay"] = 5 * rows.knots + rng.normal(size=200)
    rows["arrival"] = np.where(rows.knots > 0.5, "late", np.where(rows.knots < -0.5, "early", "on time"))
    folds, own = [(rows[:120], rows[120:])], {"tree": DecisionTreeRegressor}
    delay, arrival = (Recipe((), ("knots",), label, task=task) for label, task in (("delay", "regression"), ("arrival", "multiclass")))
    (r2,) = fold_scores(delay, folds, {"learner": "ridge"})
    (by_tree,) = fold_scores(delay, folds, {"learner": "tree", "max_depth": 3.0}, own)
    (d2,) = fold_scores(arrival, folds, {"learner": "logistic"})
    assert 0.9 < by_tree < r2 < 1
    assert 0.3 < d2 < 1
    unseen = [(rows[rows.arrival != "late"], rows)]
    failed = run_trial("defaults", partial(fold_scores, arrival, unseen), {"learner": "logistic"})
    assert failed.error == "ValueError: label arrival must be one of early, on time, got late: the model was not trained on it"


# What scikit-learn's parameters may be: also None, booleans, and dictionaries whose keys are classes, which are numbers.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["None", "True", "1", "__pairs__"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=6,
)
PARAMETERS = st.dictionaries(st.text("abc_", min_size=1, max_size=6), VALUES, max_size=5)


def exact(value: Any) -> Any:
    "A value with the types of all its parts: 1, 1.0 and True are equal, and not the same parameter."
    if isinstance(value, dict):
        return dict, sorted(((exact(k), exact(v)) for k, v in value.items()), key=repr)
    return type(value), [exact(v) for v in value] if isinstance(value, list | tuple) else value


@given(PARAMETERS)
@example(
    {
        "class_weight": {0: 1, 1: 5},
        "max_depth": None,
        "bootstrap": True,
        "warm": False,
        "trees": 20,
        "rate": 20.0,
        "columns": ["a"],
        "hidden": (8, 4),
    }
)
@example({"__pairs__": {"__pairs__": [[1, 2]]}, "__tuple__": {"__tuple__": [1]}, "long": "x" * 12_000})
@example({"learner": "prior", "nested": {"deep": {"1": None, 1: "None"}}, "nan": [float("inf")]})
def test_parameters_that_are_read_back_from_a_run_or_a_journal_are_what_they_were(tmp_path_factory, parameters: dict[str, Any]) -> None:
    best = Trial("best", parameters, (0.5,))
    params = summarize_run(RECIPE, SPLIT, {}, best, 100)
    assert exact(parameters_from_run(params)) == exact(parameters)
    assert all(len(value) <= 6000 for name, value in params.items() if not name.startswith("model."))  # MLflow cuts what is longer
    journal = Journal(tmp_path_factory.mktemp("journal") / "search.jsonl", {"seed": 1})
    journal.add(best)
    (again,) = journal.trials().values()
    assert exact(again.parameters) == exact(parameters)


def test_numbers_of_numpy_are_stored_as_numbers_and_what_cannot_be_stored_is_named_before_it_is_scored() -> None:
    drawn = {"trees": np.int64(20), "rate": np.float32(0.5), "warm": np.bool_(True), "name": np.str_("hull")}
    found = parameters_from_run(summarize_run(RECIPE, SPLIT, {}, Trial("drawn", drawn, (0.5,)), 100))
    assert exact(found) == exact({"trees": 20, "rate": 0.5, "warm": True, "name": "hull"})
    for parameters, place in (({"loss": max}, "parameter 'loss'"), ({"deep": {"loss": [max]}}, "an item of parameter 'deep' 'loss'")):
        with pytest.raises(
            SearchError, match=f"^{place} must be None, a boolean, a number, .* got <built-in function max> of type builtin"
        ):
            search_parameters(lambda p: pytest.fail("scored"), X, {"defaults": parameters}, Budget(3), seed=1, tell=quiet)


def test_a_run_of_an_earlier_version_is_read_by_its_flat_text() -> None:
    params = {
        "seed": "7",
        "model.learner": "logistic",
        "model.C": "0.5",
        "model.trees": "20",
        "model.columns": '["knots"]',
        "model.depth": "None",
    }
    assert exact(parameters_from_run(params)) == exact({"learner": "logistic", "C": 0.5, "trees": 20, "columns": ["knots"], "depth": None})


def test_it_stops_after_so_many_trials_without_progress() -> None:
    trials = search_parameters(lambda p: (0.5,), X, {"defaults": {"x": 0.5}}, Budget(50, patience=4), seed=1, tell=quiet)
    assert len(trials) == 1 + 4
    rising = iter(np.linspace(0.5, 0.9, 60))
    assert len(search_parameters(lambda p: (next(rising),), X, {"defaults": {"x": 0.5}}, Budget(20, patience=4), seed=1, tell=quiet)) == 20


def test_it_stops_when_the_time_is_up_but_known_points_are_always_tried() -> None:
    known = {"defaults": {"x": 0.5}, "baseline": {"x": 0.1}}
    assert {t.name for t in search_parameters(hill, X, known, Budget(50, seconds=0), seed=1, tell=quiet)} == set(known)
    slow = search_parameters(lambda p: time.sleep(0.02) or hill(p), X, known, Budget(10_000, seconds=0.5), seed=1, tell=quiet)
    assert len(slow) < 10_000


def test_each_learner_of_a_conditional_space_gets_its_own_parameters_also_nested_ones() -> None:
    wanted = {"lightgbm": {"learner", "n_estimators", "deep"}, "logistic": {"learner", "C"}, "extra_trees": {"learner", "min_samples_leaf"}}
    trials = search_parameters(lambda p: (float(set(p) == wanted[p["learner"]]),), SPACE, {}, Budget(30), seed=1, tell=quiet)
    assert {t.learner for t in trials} == set(LEARNERS)
    assert all(t.score == 1.0 and set(t.parameters) == wanted[t.learner] for t in trials)
    assert all(set(t.parameters["deep"]) == {"rate"} for t in trials if t.learner == "lightgbm")


def test_finished_trials_are_not_tried_again_and_a_torn_line_is(tmp_path: Path) -> None:
    known, calls = {"defaults": {"x": 0.3}, "fails": {"x": 2}}, []

    def score(p: Mapping[str, float]) -> tuple[float, ...]:
        calls.append(p["x"])
        if p["x"] == 2:
            raise RuntimeError("sank")
        return hill(p)

    journal = tmp_path / "search.jsonl"
    first = search_parameters(score, X, known, Budget(10), seed=1, journal=journal, tell=quiet)
    assert len(calls) == 10
    written = journal.read_bytes()
    assert search_parameters(score, X, known, Budget(10), seed=1, journal=journal, tell=quiet) == first
    assert len(calls) == 10
    assert [found.name for found in tmp_path.iterdir()] == [journal.name]
    journal.write_bytes(written[:-20])
    assert search_parameters(score, X, known, Budget(10), seed=1, journal=journal, tell=quiet) == first
    assert len(calls) == 11
    assert journal.read_bytes() == written
    longer = search_parameters(score, X, known, Budget(12), seed=1, journal=journal, tell=quiet)
    assert len(calls) >= 13
    assert len(longer) == 12


def test_a_journal_of_another_search_is_refused_in_words(tmp_path: Path) -> None:
    journal = tmp_path / "search.jsonl"
    search_parameters(hill, X, {}, Budget(2), seed=1, journal=journal, about="boats at version 3", tell=quiet)
    for changed, why in (
        ({"seed": 2}, "seed is 1, expected 2"),
        ({"about": "boats at version 4"}, "about is 'boats at version 3', expected 'boats at version 4'"),
        ({"space": {"x": hp.uniform("x", 0, 2)}}, "space is "),
    ):
        words = {"space": X, "known": {}, "budget": Budget(2), "seed": 1, "about": "boats at version 3", **changed}
        with pytest.raises(SearchError, match=f"search.jsonl is the journal of another search: {why}"):
            search_parameters(hill, journal=journal, tell=quiet, **words)
    (tmp_path / "notes.txt").write_text("Ida sailed at noon\n")
    with pytest.raises(SearchError, match="is not a journal of a search"):
        Journal(tmp_path / "notes.txt", {}).trials()


def test_every_trial_is_a_nested_run_with_parameters_and_fold_spread_and_a_failed_one_says_why(spark: SparkSession) -> None:
    client = MlflowClient()
    mlflow.set_experiment("/test_search")
    trials = [
        Trial(
            "good",
            {"learner": "logistic", "C": 0.5, "deep": {"rate": 0.25}, "columns": ["knots"]},
            (0.7, 0.8, 0.6),
            number=2,
            baseline=True,
        ),
        Trial("bad", {"n_estimators": -1}, error="ValueError: " + "x" * 600, number=1),
    ]
    with mlflow.start_run() as run:
        mlflow.log_params(summarize_run(RECIPE, SPLIT, {"gold.trips": 3}, trials[0], 100))
        log_trials(client, run.info.run_id, trials)
    logged = client.get_run(run.info.run_id)
    assert parameters_from_run(logged.data.params) == {"learner": "logistic", "C": 0.5, "deep": {"rate": 0.25}, "columns": ["knots"]}
    assert logged.data.params["model.deep.rate"] == "0.25"  # for people
    assert logged.data.params["split"] == SPLIT.to_json()
    nested = {
        r.data.tags["trial"]: r for r in client.search_runs([logged.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    }
    good, bad = nested["good"], nested["bad"]
    assert good.data.params == {"learner": "logistic", "C": "0.5", "deep.rate": "0.25", "columns": '["knots"]'}
    assert (good.data.tags["baseline"], bad.data.tags["baseline"]) == ("true", "false")
    assert {k: round(v, 6) for k, v in good.data.metrics.items()} == {
        "fold_auc": 0.6, "mean_auc": 0.7, "std_auc": 0.081650, "worst_auc": 0.6, "number": 2,
    }  # fmt: skip
    assert [m.value for m in client.get_metric_history(good.info.run_id, "fold_auc")] == [0.7, 0.8, 0.6]
    assert (good.info.status, bad.info.status) == ("FINISHED", "FAILED")
    assert bad.data.tags["error"].startswith("ValueError: xxx")
    assert bad.data.params == {"n_estimators": "-1"}
    assert "search.png" in {f.path for f in client.list_artifacts(run.info.run_id)}


def test_the_chart_shows_each_learner_the_spread_of_folds_the_best_so_far_and_failures() -> None:
    trials = [
        Trial("b", {"learner": "logistic"}, (0.7, 0.9), number=3),
        Trial("a", {}, (0.6, 0.8), number=1),
        Trial("c", {}, (0.5, 0.5), number=4),
        Trial("d", {}, error="sank", number=2),
        Trial("e", {"learner": "prior"}, (0.5, 0.5), number=5, baseline=True),
        Trial("f", {"columns": ["hull"]}, (0.5, 0.6), number=6, baseline=True),
    ]
    axes = plot_trials(trials).axes[0]
    shown = {container.get_label(): container for container in axes.containers}
    assert set(shown) == {"lightgbm", "logistic", "baseline"}
    assert len({container[0].get_color() for container in shown.values()}) == 3
    assert [list(point) for point in shown["baseline"][0].get_xydata()] == [[5, 0.5], [6, 0.55]]
    assert [list(point) for point in shown["lightgbm"][0].get_xydata()] == [[1, pytest.approx(0.7)], [4, 0.5]]
    reach = shown["logistic"][2][0].get_segments()[0]
    assert [round(y, 6) for _, y in reach] == [0.7, 0.9]
    lines = {line.get_label(): line for line in axes.lines}
    assert [round(y, 6) for y in lines["best so far"].get_ydata()] == [0.7, 0.8, 0.8, 0.8, 0.8]
    assert list(lines["failed"].get_xdata()) == [2]
    assert plot_trials([trials[3]]).axes[0].lines[0].get_label() == "failed"
