"""A search whose trials run on executors: neither an error nor a dead process ends it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperopt import hp
from pyspark.sql import SparkSession

from boathouse.training.search import Budget, Trial, search_parameters

FATES, SEED = ["sails", "sinks", "nan", "dies"], 4


def on_executors(spark: SparkSession, folder: Path) -> dict[str, Any]:
    "What a search on two executors says, and the same again after it was cut short."
    driver = os.getpid()

    def score(p: Mapping[str, Any]) -> tuple[float, ...]:
        if os.getpid() == driver and p["x"] != 0.3:
            raise RuntimeError("scored on the driver")
        if p["fate"] == "sinks":
            raise RuntimeError("sank")
        if p["fate"] == "dies":
            os._exit(1)
        return (float("nan") if p["fate"] == "nan" else 0.5, 1 - abs(p["x"] - 0.3))

    def told(trials: list[Trial]) -> list[list[Any]]:
        return [[t.name, t.parameters, list(t.scores), t.error] for t in trials]

    # The first four proposals are drawn before anything is known, so by the seed alone; with this one they are of all four fates.
    journal, space = folder / "search.jsonl", {"x": hp.uniform("x", 0, 1), "fate": hp.choice("fate", FATES)}
    words = (space, {"defaults": {"x": 0.3, "fate": "sails"}})
    part = search_parameters(score, *words, Budget(9), SEED, spark, journal=journal, tell=quiet)
    whole = search_parameters(score, *words, Budget(11), SEED, spark, journal=journal, tell=quiet)
    return {"part": told(part), "whole": told(whole), "lines": len(journal.read_text().splitlines())}


def quiet(_: str) -> None:
    "Tell nobody."


def test_on_a_cluster_trials_run_on_executors_and_neither_an_error_nor_a_dead_process_ends_the_search(executors: dict[str, Any]) -> None:
    said = executors[Path(__file__).stem]
    assert len(said["part"]) == 9
    assert len(said["whole"]) == 11
    assert said["lines"] == 1 + 11, "a trial that the first search had finished was written, so done, again"
    assert [row for row in said["part"] if row not in said["whole"]] == []
    errors = {"sails": "", "sinks": "RuntimeError: sank", "nan": "fold 1 scored nan", "dies": "its process died: "}
    for name, parameters, scores, error in said["whole"]:
        assert bool(scores) == (parameters["fate"] == "sails"), (name, parameters, error)
        assert error.startswith(errors[parameters["fate"]]), (name, parameters, error)
        assert bool(error) == (not scores)
    assert {row[1]["fate"] for row in said["part"]} == set(FATES)
