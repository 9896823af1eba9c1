"Rows scored without pandas have the bits of MLflow's pyfunc, whatever the rows hold."

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from support.services import bundle_registry

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.models.requests import RequestError, fill_plan, refuse_problems
from boathouse.models.row_scoring import RowScorer, compile_scorer, forget_model, prediction_records
from boathouse.models.scoring import _loaded, output_fields, pack_folder

PIERS = ["east", "west", "Kai 3", "", None]
# Each learner and task of the kit that has an encoder: the parameters, and whether it must be compiled.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "trees": ("binary", {"n_estimators": 12}),
    "three classes": ("multiclass", {"n_estimators": 6}),
    "tree regression": ("regression", {"n_estimators": 12}),
    "logistic": ("binary", {"learner": "logistic"}),
    "logistic of three": ("multiclass", {"learner": "logistic"}),
    "ridge": ("regression", {"learner": "ridge"}),
    "forest": ("binary", {"learner": "extra_trees", "n_estimators": 5}),
    "categories alone": ("binary", {"columns": ["pier", "berth"], "n_estimators": 5}),
    "numbers alone": ("binary", {"columns": ["wind", "crew"], "learner": "logistic"}),
}


def seen_rows() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"pier": rng.choice(np.array(PIERS, object), 500, p=[0.4, 0.4, 0.1, 0.005, 0.095]), "wind": rng.gamma(4, 3, 500)})
    rows["berth"] = rng.choice([1.0, 2.0, 7.0, np.nan], 500)
    rows["holiday"] = rng.random(500) < 0.1
    rows["crew"] = rng.integers(1, 9, 500)
    rows["tide"] = rng.normal(0, 2, 500)
    rows.loc[rng.random(500) < 0.1, "tide"] = np.nan
    delay = 6 * (rows.pier == "east") + rows.wind * rows.crew / 3 + rows.tide.fillna(0) + rng.normal(0, 2, 500)
    return rows.assign(delay=delay, late=delay > 15, arrival=np.select([delay < 8, delay < 20], ["early", "late"], "very late"))


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RowScorer]:
    rows, found = seen_rows(), {}
    labels = {"binary": "late", "multiclass": "arrival", "regression": "delay"}
    with bundle_registry(tmp_path_factory.mktemp("bundle")):
        for name, (task, parameters) in MODELS.items():
            recipe = Recipe(("pier", "berth", "holiday"), ("wind", "crew", "tide"), labels[task], task=task)  # type: ignore[arg-type]
            used = Recipe(
                *(tuple(c for c in group if c in parameters.get("columns", recipe.inputs)) for group in (recipe.categorical, recipe.numeric)),
                labels[task], task=task,  # type: ignore[arg-type]
            )  # fmt: skip
            with mlflow.start_run(), tempfile.TemporaryDirectory() as folder:
                uri = log_pipeline(fit(recipe, rows, parameters), used, rows, "model")
                found[name] = compile_scorer(pack_folder(Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder)), name, 1))
    return found


record = st.fixed_dictionaries(
    {
        "pier": st.one_of(st.sampled_from([*PIERS, "north"]), st.text(max_size=3)),
        "berth": st.one_of(st.sampled_from([1.0, 2, 7, None, 3.5, -0.0]), st.floats(allow_infinity=False)),
        "holiday": st.booleans(),
        "wind": st.one_of(st.none(), st.floats(allow_infinity=False, width=32), st.integers(-5, 40)),
        "crew": st.integers(-(2**62), 2**62),
        "tide": st.one_of(st.none(), st.floats(-10, 10)),
    }
)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(record, min_size=1, max_size=4))
def test_rows_scored_without_pandas_equal_the_pyfunc_to_the_last_bit(scorers: dict[str, RowScorer], name: str, records: list[Any]) -> None:
    scorer = scorers[name]
    assert scorer.is_compiled
    filled = refuse_problems(fill_plan(scorer.plan, {c: [r[c] for r in records] for c in scorer.plan.names}, len(records)))
    for rows in (filled, filled.take([0])):
        ours, theirs = scorer.predict(rows), np.asarray(scorer.predict_by_pandas(rows))
        assert ours.shape == theirs.shape
        assert ours.astype(float).tobytes() == np.ascontiguousarray(theirs).astype(float).tobytes()


def test_the_columns_of_an_answer_are_those_of_batch_scoring(scorers: dict[str, RowScorer]) -> None:
    for name, scorer in scorers.items():
        values = {"pier": ["east"], "berth": [1], "holiday": [True], "wind": [3], "crew": [2], "tide": [None]}
        (answer,) = prediction_records(scorer.model, scorer.predict(fill_plan(scorer.plan, values, 1)))
        assert list(answer) == [f.name for f in output_fields(scorer.model)], name


def test_mlflow_3849_a_category_of_served_json_reaches_lightgbm_as_in_training(scorers: dict[str, RowScorer]) -> None:
    scorer, rows = scorers["categories alone"], seen_rows().head(200)
    filled = refuse_problems(fill_plan(scorer.plan, {c: rows[c].tolist() for c in scorer.plan.names}, 200))
    trained = scorer.predict_by_pandas(filled)
    assert np.array_equal(scorer.predict(filled), trained)
    piers = [fill_plan(scorer.plan, {**{c: rows[c].tolist() for c in scorer.plan.names}, "pier": [one] * 200}, 200) for one in PIERS]
    assert len({tuple(scorer.predict(one)) for one in piers}) > 1


def test_an_infinite_number_is_refused_with_its_column_by_a_linear_model_and_accepted_by_trees(scorers: dict[str, RowScorer]) -> None:
    values = {"pier": ["east"] * 2, "berth": [1] * 2, "holiday": [True] * 2, "wind": [3, float("inf")], "crew": [2] * 2, "tide": [None] * 2}
    filled = fill_plan(scorers["logistic"].plan, values, 2)
    with pytest.raises(RequestError, match="column wind of row 1 must be a finite number for a linear model, got inf"):
        scorers["logistic"].predict(filled)
    assert np.isfinite(scorers["trees"].predict(filled)).all()


def test_no_rows_give_no_predictions(scorers: dict[str, RowScorer]) -> None:
    for scorer in scorers.values():
        assert prediction_records(scorer.model, scorer.predict(fill_plan(scorer.plan, {}, 0))) == []


def test_another_pipeline_and_a_model_without_task_are_scored_through_pandas(tmp_path: Path) -> None:
    rows = seen_rows()[["wind", "crew", "delay"]]
    model = make_pipeline(LinearRegression()).fit(rows[["wind", "crew"]], rows.delay)
    mlflow.sklearn.save_model(
        model, tmp_path / "m", signature=mlflow.models.infer_signature(rows[["wind", "crew"]], rows.delay), pip_requirements=[]
    )
    scorer = compile_scorer(pack_folder(tmp_path / "m", "plain", 1))
    assert not scorer.is_compiled
    filled = refuse_problems(fill_plan(scorer.plan, {"wind": [3, 4.5], "crew": [2, 3.0]}, 2))
    assert np.array_equal(scorer.predict(filled), model.predict(pd.DataFrame({"wind": [3, 4.5], "crew": [2, 3]})))
    forget_model(scorer.model)
    assert scorer.model.digest not in _loaded


def test_one_different_bit_sends_a_model_through_pandas(monkeypatch: pytest.MonkeyPatch, scorers: dict[str, RowScorer]) -> None:
    from boathouse.models import row_scoring

    compile_one = row_scoring.compile_pipeline

    def off_by_one_bit(*given: Any) -> Any:
        compiled = compile_one(*given)
        return lambda columns: np.nextafter(compiled(columns), 2)

    monkeypatch.setattr(row_scoring, "compile_pipeline", off_by_one_bit)
    assert not compile_scorer(scorers["trees"].model).is_compiled
