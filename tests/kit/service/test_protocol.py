"Each request form gives the same columns, and a malformed body is refused with its status and the place."

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.models.requests import ColumnPlan, InputColumn
from boathouse.service.protocol import ProtocolError, parse_body, parse_infer, parse_json, render_infer, render_json, render_raw

PLAN = ColumnPlan((InputColumn("pier", "string"), InputColumn("wind", "double"), InputColumn("holiday", "boolean")))
COLUMNS = {"pier": ["east", None], "wind": [3, 11.5], "holiday": [True, False]}
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
ROWS = [list(record.values()) for record in RECORDS]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": list(COLUMNS), "index": [7, 8], "data": ROWS}},
        {"dataframe_records": RECORDS, "params": {}, "client_request_id": None},
        {"inputs": COLUMNS},
        {"inputs": {name: [[value] for value in values] for name, values in COLUMNS.items()}},
        {"inputs": RECORDS},
        {"instances": RECORDS},
        {"instances": ROWS},
    ],
    ids=lambda body: f"{next(iter(body))} {type(next(iter(body.values()))).__name__}",
)
def test_each_json_form_gives_the_same_columns(body: dict[str, Any]) -> None:
    parsed = parse_json(json.dumps(body).encode(), PLAN)
    assert (dict(parsed.columns), parsed.rows, parsed.problems) == (COLUMNS, 2, ())


def test_csv_gives_the_columns_of_json_and_keeps_texts_as_they_are() -> None:
    body = 'pier,wind,holiday,boat\neast,3,true,B6\n,11.5,FALSE,"a ""b"", c"\n2013-06-01,NA,true,007\n'
    parsed = parse_body(body.encode("utf-8-sig"), "text/csv", PLAN)
    assert parsed.columns == {
        "pier": ["east", None, "2013-06-01"], "wind": [3, 11.5, None], "holiday": [True, False, True], "boat": ["B6", 'a "b", c', "007"],
    }  # fmt: skip


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.floats(), st.booleans()), max_size=5))
def test_what_pandas_writes_in_any_orient_is_read_back(rows: list[tuple[str, float, bool]]) -> None:
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    split = json.dumps({"dataframe_split": {"columns": list(frame), "data": frame.to_numpy(object).tolist()}}).encode()
    records = json.dumps({"dataframe_records": frame.to_dict("records")}).encode()
    for body in (split, records):
        parsed = parse_json(body, PLAN)
        assert parsed.rows == len(rows)
        assert repr([list(row) for row in zip(*parsed.columns.values(), strict=True)]) == repr([list(row) for row in rows])


@given(st.recursive(st.one_of(st.none(), st.floats(), st.text(), st.integers()), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_feast_6930_whatever_an_answer_holds_it_is_json_that_a_strict_parser_reads(content: Any) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(render_json({"predictions": content, "more": np.array([np.nan, 1.0]), "one": np.float32("inf")}), parse_constant=refuse)


def test_a_pyfunc_that_returns_a_frame_an_array_or_a_list_is_rendered_as_by_mlflow() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert json.loads(render_json(render_raw(frame))) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert render_raw(np.array([[0.5, 0.5]])) == [[0.5, 0.5]]
    assert render_raw(["yes"]) == ["yes"]


def tensor(name: str = "wind", datatype: str = "FP64", shape: Any = (1,), data: Any = (3,)) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def test_mlserver_1625_each_datatype_keeps_its_values_and_their_type() -> None:
    body = {
        "inputs": [
            tensor("pier", "BYTES", [2], ["2013-06-01", "3"]), tensor("wind", "FP32", [2, 1], [[3], [None]]), tensor("holiday", "BOOL", [2], [True, False]),
            tensor("flight", "INT64", [2], [9007199254740993, 1]),
        ],
        "outputs": [{"name": "probability"}], "id": "7", "parameters": {},
    }  # fmt: skip
    parsed = parse_infer(json.dumps(body).encode(), PLAN)
    assert dict(parsed.columns) == {
        "pier": ["2013-06-01", "3"],
        "wind": [3, None],
        "holiday": [True, False],
        "flight": [9007199254740993, 1],
    }
    records = [{"probability": 0.5, "other": "x"}, {"probability": float("nan"), "other": "y"}]
    answer = render_infer("late", 3, records, parsed)
    assert answer["outputs"] == [{"name": "probability", "datatype": "FP64", "shape": [2], "data": [0.5, None]}]
    with pytest.raises(ProtocolError, match="outputs must be among probability, got risk"):
        render_infer("late", 3, [{"probability": 0.5}], parse_infer(json.dumps({**body, "outputs": [{"name": "risk"}]}).encode(), PLAN))


INFER_FAULTS = [
    ({}, "inputs must be a list of tensors, got null"),
    ({"inputs": [3]}, "input 0 must be an object with a name, got the number 3"),
    ({"inputs": [tensor(), tensor()]}, "inputs must be named once, got wind more than once"),
    ({"inputs": [tensor(datatype="FP65")]}, "datatype of input wind (double) must be one of INT8"),
    ({"inputs": [tensor(datatype="BYTES")]}, "datatype of input wind (double) must be one of INT8"),
    ({"inputs": [tensor(shape=[2])]}, "data of input wind must have 2 values by its shape, got 1"),
    ({"inputs": [tensor(shape=[1, 2])]}, "shape of input wind must be [rows] or [rows, 1], got the list [1, 2]"),
    ({"inputs": [tensor(shape=[-1])]}, "shape of input wind must be"),
    ({"inputs": [tensor(data="AA==")]}, "data of input wind must be a list, got the text 'AA=='"),
    ({"inputs": [tensor(), tensor("pier", "BYTES", [2], ["a", "b"])]}, "inputs must have the same number of rows, got wind: 1, pier: 2"),
]


@pytest.mark.parametrize(("body", "message"), INFER_FAULTS, ids=lambda v: v[:50] if isinstance(v, str) else "")
def test_a_malformed_inference_request_names_the_input(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError) as error:
        parse_infer(json.dumps(body).encode(), PLAN)
    assert error.value.status == 400
    assert str(error.value).startswith(message)
