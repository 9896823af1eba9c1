"A column that is hidden from the log of requests is in no file and no table of it; the command passes the names on."

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from deltalake import DeltaTable

from boathouse.service.answers import Exchange
from boathouse.service.command import connect_log, parse_serve_words
from boathouse.service.connections import ExchangeLog
from boathouse.service.inference_log import InferenceLog

SECRET = "Ada Lovelace"


def exchange() -> Exchange:
    sent, completed = {"name": [SECRET], "boat": ["A"]}, {"name": [SECRET], "boat": ["A"], "wind": [3.0]}
    return Exchange("r-1", "late", 1, 200, sent, 1, [{"probability": 0.1}], 0.003, 40, completed)


def bytes_below(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def test_a_hidden_column_is_in_no_request_no_features_and_no_file_of_the_buffer(tmp_path: Path) -> None:
    def at_noon() -> datetime:
        return datetime(2013, 6, 1, 12)

    hidden = ExchangeLog(InferenceLog(tmp_path / "a/buffer", tmp_path / "a/requests"), "late", at_noon, frozenset({"name"}))
    shown = ExchangeLog(InferenceLog(tmp_path / "b/buffer", tmp_path / "b/requests"), "late", at_noon)
    for log in (hidden, shown):
        log.record(exchange())
    assert SECRET.encode() in bytes_below(tmp_path / "b")
    assert SECRET.encode() not in bytes_below(tmp_path / "a")
    for log in (hidden, shown):
        log.log.close()
    (row,) = DeltaTable(tmp_path / "a/requests").to_pyarrow_table(columns=["request", "features", "response"]).to_pylist()
    assert json.loads(row["request"]) == {"dataframe_split": {"columns": ["boat"], "data": [["A"]]}}
    assert json.loads(row["features"]) == [{"boat": "A", "wind": 3.0}]
    assert SECRET.encode() not in bytes_below(tmp_path / "a")


def test_the_command_hides_each_column_that_it_names(tmp_path: Path) -> None:
    words = ["late_arrival", "--log", str(tmp_path / "log"), "--hide", "name", "--hide", "card"]
    log = connect_log(parse_serve_words(words), "late_arrival")
    assert log is not None
    assert log.hidden == {"name", "card"}
    log.log.close()
