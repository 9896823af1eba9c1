"A group that the label hangs on is missed, one that it does not hang on is not, and the interval is that of left-out days."

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from boathouse.models.learners import Recipe, fit, predict
from boathouse.validation.ablation import check_groups, drop_and_retrain, drop_groups

RNG = np.random.default_rng(2)
N = 2400
ROWS = pd.DataFrame(
    {"day": np.repeat(np.arange(24), 100), "port": RNG.choice(["a", "b"], N), "wind": RNG.normal(size=N), "moon": RNG.normal(size=N)}
)
ROWS["delay"] = 3 * ROWS.wind + 2 * (ROWS.port == "a") + RNG.normal(size=N)
ROWS["late"] = ROWS.delay > 2
TRAINING, HELD = ROWS[ROWS.day < 16], ROWS[ROWS.day >= 16].reset_index(drop=True)
GROUPS = {"sky": ("moon",), "weather": ("wind",), "place": ("port",)}
SMALL = {"n_estimators": 30, "learning_rate": 0.1, "num_leaves": 7}


def recipe(label: str, task: str = "binary") -> Recipe:
    return Recipe(("port",), ("wind", "moon"), label, task=task)  # type: ignore[arg-type]


@pytest.mark.parametrize(("label", "task"), [("late", "binary"), ("delay", "regression")])
def test_groups_are_in_order_of_their_loss_for_each_task_and_both_ways(label: str, task: str) -> None:
    of = recipe(label, task)
    model = fit(of, TRAINING, SMALL)
    shuffled = drop_groups(model, of, HELD, GROUPS, "day")
    retrained = drop_and_retrain(of, TRAINING, HELD, GROUPS, "day", SMALL)
    for found in (shuffled, retrained):
        assert found.group.tolist() == ["weather", "place", "sky"]
        assert found.helps.tolist()[:2] == [True, True]
        assert found.helps.tolist()[2] is not True
        assert found.loss.tolist() == pytest.approx((found.with_all - found.without).tolist())
    assert drop_groups(model, of, HELD, GROUPS, "day").equals(shuffled)  # the same seed, the same shuffle


def test_the_loss_and_its_interval_are_those_of_days_that_are_left_out() -> None:
    of = recipe("delay", "regression")
    model = fit(of, TRAINING, SMALL)
    row = drop_groups(model, of, HELD, {"weather": ("wind",)}, "day").iloc[0]
    shuffled = HELD.assign(wind=HELD.wind.to_numpy()[np.random.default_rng(of.seed).permutation(len(HELD))])
    whole, without = predict(model, of, HELD), predict(model, of, shuffled)
    kept = [HELD.day != day for day in HELD.day.unique()]
    losses = np.array([r2_score(HELD.delay[k], whole[k]) - r2_score(HELD.delay[k], without[k]) for k in kept])
    error = np.sqrt((len(kept) - 1) / len(kept) * ((losses - losses.mean()) ** 2).sum())
    assert row.loss == pytest.approx(r2_score(HELD.delay, whole) - r2_score(HELD.delay, without))
    assert row.high - row.low == pytest.approx(2 * 2.3646 * error, rel=1e-3)  # the 0.975 quantile of t with 7 degrees of freedom


def test_columns_of_a_group_are_shuffled_together() -> None:
    rows = HELD.assign(moon=HELD.wind)
    of = recipe("late")
    model = fit(of, TRAINING.assign(moon=TRAINING.wind), SMALL)
    order = np.random.default_rng(of.seed).permutation(len(rows))
    by_hand = rows.assign(wind=rows.wind.to_numpy()[order], moon=rows.moon.to_numpy()[order])
    together = drop_groups(model, of, rows, {"both": ("wind", "moon")}, "day").iloc[0]
    assert together.without == pytest.approx(roc_auc_score(rows.late, predict(model, of, by_hand)))
    assert together.loss > 0.2


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, "must have at least one input each"),
        ({"a": ()}, "must have at least one input each"),
        ({"a": ("winds",)}, r"must name inputs of the recipe \(port, wind, moon\), got winds"),
        ({"a": ("wind",), "b": ("wind", "moon")}, "one group only, got wind in several"),
    ],
)
def test_groups_that_do_not_fit_the_recipe_are_refused(groups: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_groups(recipe("late"), groups)


def test_a_group_of_all_inputs_leaves_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="all has all of them"):
        drop_and_retrain(recipe("late"), TRAINING, HELD, {"all": ("wind", "moon", "port")}, "day", SMALL)
