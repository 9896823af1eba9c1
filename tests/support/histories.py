"What was decided about registered models before a test begins: declared above the test, written for all tests of a file at once."

from __future__ import annotations

import datetime as dt
from collections.abc import Callable


class Histories(dict[str, list[tuple[str, int, dt.datetime, str]]]):
    "The moves behind each model of a file of tests; each test has a model of its own, named after it."

    def __init__(self, schema: str) -> None:
        super().__init__()
        self.schema = schema

    def model_of(self, test: str) -> str:
        "The name of a test's model."
        return f"spark_catalog.{self.schema}.{test}"

    def history(self, *moves: tuple) -> Callable:
        "Moves (move, version, instant) that the model of a test has behind it; the fourth part is by whom, if not by a job."

        def register_them(test: Callable) -> Callable:
            self[self.model_of(test.__name__)] = [move if len(move) == 4 else (*move, "job") for move in moves]
            return test

        return register_them
