"""What a version is tried on before it serves: rows with every input's edges, agreement with the champion, and the same answers afterwards."""

from __future__ import annotations

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from boathouse.models.learners import Recipe
from boathouse.serving.deployment import Agreement, check_agreement, check_scores_match_shadow, measure_agreement, select_reference_rows

RECIPE = Recipe(("pier",), ("wind",), "late")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.one_of(st.none(), st.floats(-1e6, 1e6))), min_size=1, max_size=40),
    st.integers(1, 60),
)
def test_golden_rows_hold_each_inputs_edges_and_no_more_rows_than_asked(rows: list[tuple], at_most: int) -> None:
    frame = pd.DataFrame(rows, columns=["pier", "wind"]).astype({"pier": object, "wind": float}).assign(late=True)
    golden = select_reference_rows(RECIPE, frame, at_most)
    assert list(golden.columns) == ["pier", "wind"]
    assert len(golden) == min(at_most, len(frame))
    pd.testing.assert_frame_equal(golden, select_reference_rows(RECIPE, frame, at_most))
    if at_most >= 9:  # three piers, a missing one, two extremes and a missing wind
        assert set(golden.pier.dropna()) == set(frame.pier.dropna())
        assert golden.pier.isna().any() == frame.pier.isna().any()
        assert golden.wind.isna().any() == frame.wind.isna().any()
        if frame.wind.notna().any():
            assert (golden.wind.min(), golden.wind.max()) == (frame.wind.min(), frame.wind.max())


def test_a_version_that_leaves_rows_out_moves_the_mean_or_turns_decisions_over_does_not_follow(spark: SparkSession) -> None:
    def scored(rows: list[tuple[float | None, float | None]]) -> DataFrame:
        return spark.createDataFrame(rows, "probability double, champion_probability double")

    good = scored([(0.2, 0.25), (0.6, 0.55), (0.4, 0.4), (0.9, 0.9)])
    assert measure_agreement(good) == Agreement(4, 0, 0.525, 0.525, 0.0)
    assert check_agreement(measure_agreement(good)).passed
    cases = {
        "1 of 2 rows got no probability": [(None, 0.3), (0.2, 0.2)],
        "2 of 3 rows got no probability": [(float("nan"), 0.3), (1.5, 0.2), (0.1, 0.1)],
        "means differ by more than 0.15": [(0.4, 0.2), (0.4, 0.2)],
        "more than 25% changed": [(0.49, 0.51), (0.51, 0.49), (0.1, 0.1)],
        "found no row to score": [],
    }
    for reason, rows in cases.items():
        found = check_agreement(measure_agreement(scored(rows)))
        assert not found.passed
        assert reason in found.reason
    first = check_agreement(measure_agreement(scored([(0.3, None)]), champion=False))
    assert first.passed
    assert "no champion to compare with" in first.reason


def test_what_is_served_must_be_what_was_tried_on_every_row_and_on_no_other(spark: SparkSession) -> None:
    def rows(found: list[tuple[int, float | None]]) -> DataFrame:
        return spark.createDataFrame(found, "boat long, probability double")

    tried = rows([(1, 0.25), (2, 0.5)])
    assert check_scores_match_shadow(rows([(2, 0.5), (1, 0.25 + 1e-12)]), tried, "boat").passed
    for served in ([(1, 0.25)], [(1, 0.25), (2, 0.5), (3, 0.5)], [(1, 0.25), (2, 0.500001)], [(1, 0.25), (2, None)]):
        found = check_scores_match_shadow(rows(served), tried, "boat")
        assert not found.passed
        assert found.reason.startswith("1 of ")
    assert not check_scores_match_shadow(rows([]), rows([]), "boat").passed
