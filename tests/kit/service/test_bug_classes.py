"""The bug classes of other servers, and the test that would see each of them here.

| n | issue | symptom | test |
|---|---|---|---|
| 1 | mlflow#25593 | a nullable whole number is not kept in the signature | models/test_requests.py::test_mlflow_25593 |
| 2 | mlflow#3849 | a category of served JSON fails in LightGBM | models/test_row_scoring.py::test_mlflow_3849 |
| 3 | mlflow#5525, #5207 | a whole number of 32 bits is accepted as CSV and refused as JSON | models/test_requests.py::test_mlflow_5525 |
| 4 | mlflow#3713 | a text like a date becomes a date | models/test_requests.py::test_mlflow_3713 |
| 5 | mlflow#3996 | booleans are not checked | models/test_requests.py::test_mlflow_3996 |
| 6 | mlflow#25263 | no metrics | service/test_service.py::test_mlflow_25263 |
| 7 | mlflow#1768, #4039 | a new version needs a restart | service/test_served_versions.py::test_mlflow_1768_and_4039 |
| 8 | mlflow#5381 | the timeout cannot be set | service/test_served_versions.py::test_litserve_423_and_mlflow_5381 |
| 9 | bentoml#4592 | the newest request is answered first, and old ones starve | service/test_served_versions.py::test_bentoml_4592 |
| 10 | bentoml#3710, #3859 | the limit of a batch ignores the rows per request | service/test_bug_classes.py::test_bentoml_3710_and_3859 |
| 11 | LitServe#340 | one bad request fails its batch | service/test_service.py::test_litserve_340_and_382 |
| 12 | LitServe#382 | an answer goes to another client | service/test_service.py::test_litserve_340_and_382 |
| 13 | LitServe#423 | the timeout is ignored | service/test_served_versions.py::test_litserve_423_and_mlflow_5381 |
| 14 | ray#41057 | clients that left spoil batches | service/test_service.py::test_ray_41057 |
| 15 | ray#66252 | a failed update answers 503 though the old version is well | service/test_served_versions.py::test_ray_66252 |
| 16 | kserve#2130 | a route of a removed canary stays | service/test_served_versions.py::test_kserve_2130 |
| 17 | MLServer#1625, #2112, #1873 | a codec loses types and values | service/test_protocol.py::test_mlserver_1625 |
| 18 | feast#6930 | NaN and infinite numbers give JSON that nobody can parse | service/test_protocol.py::test_feast_6930 |

All of them apply. Of 10, 11 and 14 only a part does: this service never puts the rows of two requests into one batch. What remains is the batch of one request, which is
cut by rows (10), the neighbours of a bad request in the queue (11), and the work of a client that has left (14).
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from boathouse.models.requests import FilledRows
from boathouse.service.answers import CHUNK, predict_chunks
from boathouse.service.protocol import ProtocolError

TESTS = Path(__file__).parent.parent


def test_each_of_the_18_bug_classes_has_a_test_of_its_name() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (__doc__ or "").splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[0]) for row in rows] == list(range(1, 19))
    for _, issues, _, where in rows:
        file, name = where.split("::")
        number = re.search(r"#(\d+)", issues)
        assert number is not None
        assert number[1] in name, where
        assert f"def {name}" in (TESTS / file).read_text(), where


class Scorer:
    "A scorer that keeps the sizes of the batches it gets."

    def __init__(self) -> None:
        self.model: Any = SimpleNamespace(task="regression", classes=())
        self.sizes, self.stop = list[int](), threading.Event()

    def predict(self, filled: FilledRows) -> np.ndarray:
        self.sizes.append(filled.rows)
        if len(self.sizes) == 3:
            self.stop.set()
        return filled.columns["wind"]


def test_bentoml_3710_and_3859_a_request_of_many_rows_reaches_the_model_in_parts_and_in_order() -> None:
    wind, scorer = np.arange(2.0 * CHUNK + 7), Scorer()
    found = predict_chunks(scorer, FilledRows({"wind": wind}, len(wind)), threading.Event())  # type: ignore[arg-type]
    assert scorer.sizes == [CHUNK, CHUNK, 7]
    assert [one["prediction"] for one in found] == wind.tolist()
    wind, scorer = np.arange(5.0 * CHUNK), Scorer()
    with pytest.raises(ProtocolError, match=f"given up after {3 * CHUNK} of {5 * CHUNK} rows"):
        predict_chunks(scorer, FilledRows({"wind": wind}, len(wind)), scorer.stop)  # type: ignore[arg-type]
