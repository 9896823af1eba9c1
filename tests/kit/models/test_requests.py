"A request's plain values become the types of the signature, or one problem per cell: nothing is guessed."

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from boathouse.models.requests import (
    ColumnPlan,
    InputColumn,
    RequestError,
    columns_from_records,
    compile_plan,
    convert_column,
    fill_plan,
    frame_from_rows,
    refuse_problems,
)

FITTING: list[tuple[str, Any, Any]] = [
    ("double", 3, 3.0),
    ("double", 3.5, 3.5),
    ("double", Decimal("2.5"), 2.5),
    ("double", float("inf"), float("inf")),
    ("double", np.float32(0.5), 0.5),
    ("double", np.int64(4), 4.0),
    ("float", 0.1, float(np.float32(0.1))),
    ("long", 2**63 - 1, 2**63 - 1),
    ("long", 9007199254740993, 9007199254740993),
    ("long", 3.0, 3),
    ("integer", -(2**31), -(2**31)),
    ("boolean", False, False),
    ("string", "2013-06-01", "2013-06-01"),
    ("string", "", ""),
    ("string", "NaN", "NaN"),
    ("binary", "aGk=", b"hi"),
    ("datetime", "2013-06-01", datetime(2013, 6, 1)),
    ("datetime", date(2013, 6, 1), datetime(2013, 6, 1)),
    ("datetime", datetime(2013, 6, 1, 9, tzinfo=timezone(timedelta(hours=2))), datetime(2013, 6, 1, 7)),
    ("datetime", "2013-06-01T09:00:00Z", datetime(2013, 6, 1, 9)),
]
REFUSED: list[tuple[str, Any, str]] = [
    ("double", "3", "a number (double), got the text '3'"),
    ("double", True, "a number (double), got the boolean true"),
    ("double", 10**400, "a number (double), got the number 1000"),
    ("double", [3], "a number (double), got the list [3]"),
    ("float", 1e39, "a number in the range of 32 bits (float), got the number 1e+39"),
    ("long", 3.5, "a whole number of 64 bits (long), got the number 3.5"),
    ("long", 2**63, "a whole number of 64 bits (long), got the number 9223372036854775808"),
    ("long", None, "a whole number of 64 bits (long) (null is not allowed), got null"),
    ("long", float("inf"), "a whole number of 64 bits (long), got the number inf"),
    ("integer", 2**31, "a whole number of 32 bits (integer), got the number 2147483648"),
    ("integer", float("nan"), "(null is not allowed), got null"),
    ("boolean", 1, "true or false (boolean), got the number 1"),
    ("boolean", "true", "true or false (boolean), got the text 'true'"),
    ("boolean", None, "(null is not allowed), got null"),
    ("string", 3, "a text (string), got the number 3"),
    ("string", True, "a text (string), got the boolean true"),
    ("datetime", "tomorrow", "a date or timestamp in ISO 8601 (datetime), got the text 'tomorrow'"),
    ("datetime", 20130601, "a date or timestamp in ISO 8601 (datetime), got the number 20130601"),
    ("binary", "?", "a text in base64 (binary), got the text '?'"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), FITTING, ids=lambda v: repr(v)[:30])
def test_a_value_that_fits_becomes_the_type_of_the_signature(kind: str, value: Any, expected: Any) -> None:
    for values in ([value], [value, value]):
        filled, problems = convert_column(InputColumn("x", kind), values)
        assert problems == []
        found = filled.astype("datetime64[us]").tolist()[0] if kind == "datetime" else filled.tolist()[0]
        assert found == expected
        assert type(found) is type(expected)


@pytest.mark.parametrize(("kind", "value", "message"), REFUSED, ids=lambda v: repr(v)[:30])
def test_a_value_that_does_not_fit_is_named_with_column_row_expectation_and_finding(kind: str, value: Any, message: str) -> None:
    fitting = next(v for k, v, _ in FITTING if k == kind)
    _, (problem,) = convert_column(InputColumn("x", kind), [fitting, value, fitting])
    assert str(problem).startswith("column x of row 1 must be ")
    assert message in str(problem)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.float64("nan")], ids=repr)
def test_each_null_of_python_and_pandas_is_null_in_a_column_that_allows_it(missing: Any) -> None:
    for kind in ("double", "float", "string", "datetime", "binary"):
        filled, problems = convert_column(InputColumn("x", kind), [missing])
        assert problems == []
        assert pd.isna(filled[0])
        assert kind not in ("string", "binary") or filled[0] is None


def test_mlflow_25593_a_nullable_whole_number_is_a_column_with_its_type_and_its_nulls() -> None:
    rows = pd.DataFrame({"berth": pd.array([1, None, 3], "Int64")})
    filled = fill_plan(ColumnPlan((InputColumn("berth", "double"),)), {"berth": rows.berth.tolist()}, 3)
    assert filled.problems == ()
    assert np.array_equal(filled.columns["berth"], [1.0, np.nan, 3.0], equal_nan=True)


def test_mlflow_5525_a_whole_number_of_32_bits_is_accepted_from_each_form_of_json() -> None:
    filled, problems = convert_column(InputColumn("berth", "integer"), [1, 2.0, 3])
    assert (filled.dtype, filled.tolist(), problems) == (np.int32, [1, 2, 3], [])


def test_mlflow_3713_a_text_that_resembles_a_date_stays_a_text() -> None:
    columns, _ = columns_from_records(plan := ColumnPlan((InputColumn("day", "string"),)), [{"day": "2013-06-01"}, {"day": "1371"}])
    assert frame_from_rows(plan, refuse_problems(fill_plan(plan, columns, 2))).day.tolist() == ["2013-06-01", "1371"]


def test_mlflow_3996_a_number_is_no_boolean_and_a_boolean_no_number() -> None:
    for kind, value in (("boolean", 0), ("boolean", 1.0), ("double", True), ("long", False)):
        assert len(convert_column(InputColumn("x", kind), [value])[1]) == 1


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)), max_size=8))
def test_the_quick_conversion_of_a_column_equals_that_of_each_value_alone(values: list[Any]) -> None:
    for kind in ("double", "long", "boolean", "string"):
        column = InputColumn("x", kind)
        whole, problems = convert_column(column, values)
        alone = [convert_column(column, [value]) for value in values]
        assert [p.row for p in problems] == [n for n, (_, wrong) in enumerate(alone) if wrong]
        assert [repr(v) for v in whole.tolist()] == [repr(one.tolist()[0]) for one, _ in alone]


def test_all_problems_are_reported_at_once_and_the_good_rows_are_kept() -> None:
    plan = ColumnPlan((InputColumn("pier", "string"), InputColumn("wind", "double")))
    records = [{"pier": "east", "wind": 1}, {"pier": 4, "wind": "x"}, {"pier": "west"}, 7]
    columns, problems = columns_from_records(plan, records)
    filled = fill_plan(plan, columns, 4, problems)
    assert filled.bad_rows == {1, 2, 3}
    assert filled.take([0]).columns["wind"].tolist() == [1.0]
    with pytest.raises(RequestError) as error:
        refuse_problems(filled)
    assert {(p.column, p.row) for p in error.value.problems} == {("of every name", 3), ("wind", 2), ("pier", 1), ("wind", 1)}


def test_a_missing_column_is_named_once_with_the_nearest_name_and_an_optional_one_is_null() -> None:
    plan = ColumnPlan((InputColumn("pier", "string"), InputColumn("wind", "double", required=False)))
    filled = fill_plan(plan, {"peer": ["east", "west"], "boat": [1, 2]}, 2)
    assert [str(p) for p in filled.problems] == ["column pier must be in the request (string), got peer, boat (did you mean peer?)"]
    assert np.isnan(filled.columns["wind"]).all()


def test_other_columns_and_no_rows_are_allowed() -> None:
    plan = ColumnPlan((InputColumn("wind", "double"),))
    assert fill_plan(plan, {"wind": [1], "flight_id": ["x"]}, 1).problems == ()
    assert len(frame_from_rows(plan, refuse_problems(fill_plan(plan, {}, 0)))) == 0


@pytest.mark.parametrize(
    ("signature", "found"),
    [
        (None, "no signature"),
        (ModelSignature(Schema([TensorSpec(np.dtype("float64"), (-1, 2))])), "tensors"),
        (ModelSignature(Schema([ColSpec("double")])), "columns without names"),
    ],
)
def test_a_model_without_named_columns_is_refused_when_it_is_compiled(signature: ModelSignature | None, found: str) -> None:
    with pytest.raises(ValueError, match=f"late must have a signature with named columns to answer requests, got {found}"):
        compile_plan(signature, "late")
