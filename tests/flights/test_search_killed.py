"""A training that is killed in the middle of its search goes on where it was; what another training left in the volume does not stop it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from boathouse.registry.manifest import Code
from boathouse.tables.table import Lakehouse
from boathouse.training.search import parameter_key
from boathouse.workspace.cluster.cluster import Cluster, TaskSpec
from flights.training import TrainedVersion, TrainingRows, baselines, delete_journal, journal_path, recipe, scores_depend_on

MODEL, AS_OF, EVALS = "spark_catalog.test_ml.killed_flights", date(2013, 9, 30), 3

# Writes down what it tries, and ends itself with SIGKILL in the middle of the trial whose number it was given.
TASK = """
import json, os, signal, sys
from datetime import date
from pathlib import Path
from boathouse.runtime import get_spark
from boathouse.training.search import parameter_key
from boathouse.tables.table import Lakehouse
from flights import training

folder, deadly, model, as_of, evals, defaults = Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
tried, scored = folder / "tried.txt", training.fold_scores

def scores(recipe, folds, parameters):
    with tried.open("a") as file:
        file.write(parameter_key(parameters) + chr(10))
    if len(tried.read_text().splitlines()) == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return scored(recipe, folds, parameters)

training.fold_scores, training.DEFAULTS = scores, json.loads(defaults)
lake = Lakehouse(get_spark(), prefix="rehearsal_")
request = training.TrainingRequest(lake, model, date.fromisoformat(as_of), max_evals=int(evals))
training.train(request, "/test_flights_killed", print, folder / "searches")
"""


@pytest.fixture
def task(cluster: Cluster, airport: Lakehouse, quick: dict[str, Any], tmp_path: Path) -> Iterator[Callable[[int], str]]:
    "A training in a process of its own, killed in that trial (0: not at all): the error it ended with."
    script, numbers = tmp_path / "task.py", itertools.count()
    script.write_text(TASK)

    def call(deadly: int) -> str:
        folder = tmp_path / str(next(numbers))
        argv = (str(tmp_path), str(deadly), MODEL, str(AS_OF), str(EVALS), json.dumps(quick))
        result = cluster.launch(TaskSpec(kind="script", folder=folder, project=tmp_path, file=script, argv=argv)).wait(300)
        assert result is not None
        return result.error or ""

    yield call
    MlflowClient().delete_registered_model(MODEL)


@pytest.mark.long(order=4, minutes=3)  # `make test` kills a search in tests/kit/training/test_search_killed.py
def test_a_training_killed_in_its_fifth_trial_goes_on_with_that_trial_and_ends_as_an_undisturbed_one(
    candidate: TrainedVersion, task: Callable[[int], str], tmp_path: Path
) -> None:
    searches = tmp_path / "searches"
    assert "SIGKILL" in task(5)
    (journal,) = searches.iterdir()
    assert len(journal.read_text().splitlines()) == 1 + 4
    stale = journal.with_name(f"{MODEL}_{AS_OF}_7_0123456789abcdef.jsonl")
    stale.write_text("what other rows left here\n")
    other = journal.with_name(f"{MODEL}_2013-08-31_7_0123456789abcdef.jsonl")
    other.write_text("another training, which may be going on\n")
    assert task(0) == ""

    ordered = sorted(candidate.trials, key=lambda trial: trial.number)
    tried = (tmp_path / "tried.txt").read_text().splitlines()
    assert len(ordered) == EVALS + len(baselines())
    assert tried[:5] + tried[6:] == [parameter_key(trial.parameters) for trial in ordered]
    assert tried[5] == tried[4], "the trial it died of, once more; those before it are not"
    newest = MlflowClient().get_model_version(MODEL, "1")
    lines = [json.loads(line) for line in mlflow.artifacts.load_text(f"runs:/{newest.run_id}/search.jsonl").splitlines()]
    assert [tuple(line["scores"]) for line in lines[1:]] == [trial.scores for trial in ordered]
    assert MlflowClient().get_run(newest.run_id).data.params["chosen"] == candidate.best.name
    assert list(searches.iterdir()) == [other], "the journal and what earlier attempts left are removed, and nothing else"
    with pytest.raises(MlflowException, match="not found"):
        MlflowClient().get_model_version(MODEL, "2")


def test_other_rows_other_code_and_another_seed_have_journals_of_their_own(learned: TrainingRows, tmp_path: Path) -> None:
    code = Code("1f3c9ab", False, {"flights.training": "a"}, {"lightgbm": "4.6.0"}, "3.11.7")
    fewer = replace(learned, spec=replace(learned.spec, fingerprint="that of other rows"))
    changed = Code(code.commit, False, {"flights.training": "b"}, code.libraries, code.python)
    updated = Code(code.commit, False, code.modules, {"lightgbm": "4.7.0"}, code.python)
    given = ((learned, 7, code), (fewer, 7, code), (learned, 8, code), (learned, 7, changed), (learned, 7, updated))
    found = [
        journal_path(tmp_path / "searches", MODEL, AS_OF, recipe(seed), scores_depend_on(rows, recipe(seed), known))
        for rows, seed, known in given
    ]
    assert len(set(found)) == len(given)
    elsewhere = Code("other commit", True, code.modules, code.libraries, code.python)
    assert journal_path(tmp_path / "searches", MODEL, AS_OF, recipe(7), scores_depend_on(learned, recipe(7), elsewhere)) == found[0]
    for journal in found:
        journal.write_text("")
    delete_journal(found[0])
    assert [journal.exists() for journal in found] == [False, False, True, False, False]
