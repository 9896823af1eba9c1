"""Promotion is a decision first and an alias second; history answers for any instant."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession
from support.histories import Histories

from boathouse.models.integrity import CONTENT, UntrustedModel
from boathouse.registry.manifest import retire
from boathouse.registry.promotions import (  # fmt: skip
    APPROVED,
    CHALLENGED,
    CHALLENGER,
    CHAMPION,
    PROMOTED,
    REJECTED,
    ROLLED_BACK,
    TRAINED_BY,
    RegistryError,
    alias_version,
    approve_version,
    challenge,
    champion_as_of,
    promote,
    read_events,
    register,
    rollback,
)
from boathouse.tables.table import Lakehouse
from boathouse.tables.writes import merge
from boathouse.validation.gate import GATES
from boathouse.workspace.cluster.cluster import Cluster, TaskSpec

FEBRUARY, MARCH, APRIL, MAY = (dt.datetime(2013, m, 1) for m in (2, 3, 4, 5))


HISTORIES = Histories("test_registry")
history, model_of = HISTORIES.history, HISTORIES.model_of


@pytest.fixture(scope="module")
def lake(spark: SparkSession, harbour_model, write_history: Callable) -> Iterator[Lakehouse]:
    "A lake with the histories, and their models with three versions each, trained by Ida."
    lake, client = Lakehouse(spark, prefix="test_registry_"), MlflowClient()
    (first, *others), tags = HISTORIES, {TRAINED_BY: "Ida"}
    assert [register(first, harbour_model.uri, harbour_model.run_id, tags) for _ in range(3)] == [1, 2, 3]
    tags = client.get_model_version(first, "1").tags
    for name in others:
        client.create_registered_model(name)
        for _ in range(3):
            client.create_model_version(name, harbour_model.uri, harbour_model.run_id, tags)
    write_history(lake, HISTORIES)
    yield lake
    for name in HISTORIES:
        client.delete_registered_model(name)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    return model_of(request.function.__name__)


@history((PROMOTED, 1, FEBRUARY), (PROMOTED, 3, APRIL))
def test_nobody_is_champion_before_the_first_promotion_and_each_one_until_the_next(lake: Lakehouse, model: str) -> None:
    assert champion_as_of(Lakehouse(lake.spark, prefix="test_registry_without_a_table_"), model, APRIL) is None
    second = dt.timedelta(seconds=1)
    assert [champion_as_of(lake, model, t) for t in (FEBRUARY - second, FEBRUARY, APRIL - second, APRIL)] == [None, 1, 1, 3]
    assert champion_as_of(lake, "another.ml.model", APRIL) is None


@history()
def test_repeating_a_decision_writes_nothing_and_leaves_the_alias(lake: Lakehouse, model: str) -> None:
    with pytest.raises(RegistryError, match="needs an earlier champion"):
        rollback(lake, model, FEBRUARY, "?")
    assert promote(lake, model, 2, FEBRUARY, "first", {"auc": 0.7}) is True
    assert promote(lake, model, 2, FEBRUARY, "first", {"auc": 0.7}) is False
    (row,) = read_events(lake, model)
    assert (row["previous_version"], row["evidence"], row["moved_at"]) == (None, '{"auc": 0.7}', FEBRUARY)
    assert alias_version(MlflowClient(), model) == 2


@history((PROMOTED, 1, FEBRUARY), (PROMOTED, 3, APRIL))
def test_a_decision_about_the_past_leaves_todays_champion_alone(lake: Lakehouse, model: str) -> None:
    promote(lake, model, 2, MARCH, "a re-run of March", expects=1)
    assert alias_version(MlflowClient(), model) == 3 == champion_as_of(lake, model, APRIL)
    assert champion_as_of(lake, model, MARCH) == 2


@history((PROMOTED, 1, FEBRUARY))
def test_an_unknown_version_is_refused_before_anything_is_written(lake: Lakehouse, model: str) -> None:
    with pytest.raises(mlflow.exceptions.MlflowException):
        promote(lake, model, 99, MARCH, "typing mistake")
    assert len(read_events(lake, model)) == 1
    assert alias_version(MlflowClient(), model) == 1


@history((PROMOTED, 1, FEBRUARY), (PROMOTED, 2, MARCH))
def test_a_rollback_is_a_new_decision_also_in_the_instant_of_the_promotion(lake: Lakehouse, model: str) -> None:
    assert rollback(lake, model, MARCH, "it was not") == 1
    assert alias_version(MlflowClient(), model) == 1 == champion_as_of(lake, model, MARCH)
    assert len(read_events(lake, model)) == 3


@history((PROMOTED, 1, FEBRUARY), (PROMOTED, 2, MARCH), (PROMOTED, 3, APRIL))
def test_two_rollbacks_go_back_two_steps_and_one_that_is_done_is_not_done_again(lake: Lakehouse, model: str) -> None:
    assert rollback(lake, model, MAY, "worse", expects=3) == 2
    assert rollback(lake, model, MAY, "worse", expects=3) == 2  # the same task again
    assert rollback(lake, model, MAY, "still worse", expects=2) == 1
    with pytest.raises(RegistryError, match="needs an earlier champion"):
        rollback(lake, model, MAY, "and further", expects=1)
    assert [row["version"] for row in read_events(lake, model)] == [1, 2, 3, 2, 1]


@history((PROMOTED, 1, FEBRUARY), (PROMOTED, 2, MARCH), (ROLLED_BACK, 1, MARCH))
def test_after_a_rollback_the_promotion_that_was_undone_is_not_repeated_by_its_own_task(lake: Lakehouse, model: str) -> None:
    assert promote(lake, model, 2, MARCH, "better", expects=1) is False
    assert alias_version(MlflowClient(), model) == 1


@history((PROMOTED, 1, FEBRUARY), (PROMOTED, 2, MARCH))
def test_a_decision_that_rests_on_another_champion_is_refused(lake: Lakehouse, model: str) -> None:
    with pytest.raises(RegistryError, match=r"compared with no champion, found version 1 at 2013-\d\d-\d\d: validate it again"):
        promote(lake, model, 3, FEBRUARY, "first, too", expects=None)
    with pytest.raises(RegistryError, match=r"compared with version 1, found version 2 at 2013-\d\d-\d\d: validate it again"):
        promote(lake, model, 3, APRIL, "better than 1", expects=1)
    assert alias_version(MlflowClient(), model) == 2
    assert len(read_events(lake, model)) == 2


@history((PROMOTED, 1, FEBRUARY))
def test_what_the_gates_refused_or_never_saw_is_promoted_by_force_alone_and_the_event_says_so(lake: Lakehouse, model: str) -> None:
    client, another = MlflowClient(), model_of("test_nobody_is_champion_before_the_first_promotion_and_each_one_until_the_next")
    client.set_model_version_tag(model, "1", "validation", "refused")  # judged without a lake: the tag alone knows
    client.set_model_version_tag(model, "1", "refused_because", "auc_floor: 0.6")
    judged = [
        (2, MARCH, "auc_floor", "blocks", False), (2, APRIL, "auc_floor", "blocks", True), (2, APRIL, "age", "warns", False),
        (3, MARCH, "auc_floor", "blocks", True), (3, APRIL, "auc_floor", "blocks", False), (3, APRIL, "age", "blocks", True),
    ]  # fmt: skip
    rows = [
        (model, v, at, gate, action, "pass" if ok else "refuse", ok, None, None, f"{gate} of {v}", "run")
        for v, at, gate, action, ok in judged
    ]
    merge(lake, GATES, lake.spark.createDataFrame([*rows, (another, 1, *rows[1][2:])], GATES.schema))
    for name, version, said in (
        (model, 1, "the gates refused it (auc_floor: 0.6). Validate it again, or pass force=True"),
        (model, 3, "the gates refused it (auc_floor: auc_floor of 3)."),  # by the last verdict, not by the first
        (another, 2, "no gate has judged it, but gates have judged other versions of the model"),
    ):
        with pytest.raises(RegistryError, match=f"version {version} must not be promoted: {re.escape(said)}"):
            promote(lake, name, version, MAY, "newest data")
        if name == model:  # a version that nobody has judged may be scored in the shadow, as the flights' deployment does
            with pytest.raises(RegistryError, match=f"version {version} must not become challenger: {re.escape(said.partition('.')[0])}"):
                challenge(lake, name, version, MAY, "newest data")
    assert [row["version"] for row in read_events(lake, model)] == [1]
    assert promote(lake, model, 1, FEBRUARY, "as decided") is False  # what was decided before is not judged again
    assert promote(lake, model, 2, APRIL, "mended") is True
    assert promote(lake, model, 3, MAY, "2 is broken", {"auc": 0.6}, by="Omar", force=True) is True
    *_, mended, forced = read_events(lake, model)
    assert (mended["reason"], forced["reason"], forced["moved_by"]) == ("mended", "against the gates: 2 is broken", "Omar")
    assert forced["evidence"] == '{"auc": 0.6, "refusal": "the gates refused it (auc_floor: auc_floor of 3)"}'
    assert challenge(lake, model, 1, MAY, "for a comparison", force=True) is True
    assert read_events(lake, model)[-1]["reason"] == "against the gates: for a comparison"


@history((APPROVED, 1, MARCH, "Omar"), (REJECTED, 1, MARCH, "Eve"))
def test_where_an_approval_is_asked_for_it_is_a_named_persons_and_not_the_authors(lake: Lakehouse, model: str) -> None:
    with pytest.raises(RegistryError, match="needs an approval"):
        promote(lake, model, 1, MARCH, "better", approval=True)  # the last word was Eve's
    for who, why, what in (
        ("IDA", "fine", "another person must approve it"),
        ("  ", "fine", "needs a person and a reason"),
        ("job", "fine", "needs a person and a reason"),
        ("Omar", " ", "needs a person and a reason"),
    ):
        with pytest.raises(RegistryError, match=what):
            approve_version(lake, model, 1, who, why, MARCH)
    assert approve_version(lake, model, 1, "Omar", "talked to Eve", MARCH) is True
    assert approve_version(lake, model, 1, "Omar", "talked to Eve", MARCH) is False
    assert promote(lake, model, 1, MARCH, "better", approval=True) is True
    with pytest.raises(RegistryError, match="needs an approval"):
        promote(lake, model, 2, APRIL, "better", approval=True)  # an approval is of one version
    assert [row["moved_by"] for row in read_events(lake, model)] == ["Omar", "Eve", "Omar", "job"]
    assert MlflowClient().get_model_version(model, "1").tags["approval"] == "approved"


@history((PROMOTED, 1, FEBRUARY), (CHALLENGED, 2, MARCH))
def test_a_challenger_loses_its_alias_to_the_next_one_or_by_becoming_champion(lake: Lakehouse, model: str) -> None:
    client = MlflowClient()
    challenge(lake, model, 3, MARCH, "passed, too")
    assert challenge(lake, model, 2, MARCH, "passed") is False
    assert alias_version(client, model, CHALLENGER) == 3
    promote(lake, model, 3, APRIL, "better")
    assert challenge(lake, model, 3, MARCH, "passed") is False
    assert client.get_registered_model(model).aliases == {"champion": 3}


@history((PROMOTED, 1, FEBRUARY), (PROMOTED, 2, MARCH), (PROMOTED, 3, APRIL))
def test_a_retired_version_is_neither_promoted_nor_gone_back_to_and_a_champion_is_not_retired(lake: Lakehouse, model: str) -> None:
    with pytest.raises(RegistryError, match="is the champion"):
        retire(lake, model, 3, MAY, "old", "Omar")
    retire(lake, model, 2, MAY, "trained on wrong rows", "Omar")
    retire(lake, model, 2, MAY, "trained on wrong rows", "Omar")
    with pytest.raises(RegistryError, match=r"was retired by Omar \(trained on wrong rows\)"):
        promote(lake, model, 2, MAY, "come back")
    assert rollback(lake, model, MAY, "worse") == 1
    assert [row["move"] for row in read_events(lake, model)].count("retired") == 1


@history((PROMOTED, 1, FEBRUARY), (PROMOTED, 2, MARCH))
def test_a_champion_whose_files_were_changed_is_not_gone_back_to(lake: Lakehouse, model: str) -> None:
    client = MlflowClient()
    client.set_model_version_tag(model, "1", CONTENT, "0" * 64)
    with pytest.raises(UntrustedModel, match="has other files than when it was registered"):
        rollback(lake, model, APRIL, "worse")
    assert alias_version(client, model) == 2


# Two processes that wait for one another right before they write: each has read the same champion.
RACE = """
import sys, time
from datetime import datetime
from pathlib import Path

import boathouse.registry.promotions as registry
from boathouse.runtime import get_spark
from boathouse.tables.table import Lakehouse

here, prefix, model, version, expects = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
write = registry.append_event

def wait(lake, row):
    (here / f"ready {version}").touch()
    while len(list(here.glob("ready *"))) < 2:
        time.sleep(0.01)
    write(lake, row)

registry.append_event = wait
lake = Lakehouse(get_spark(), prefix=prefix)
print("promoted:", registry.promote(lake, model, version, datetime(2013, 4, 1), f"{version} is better", by=f"job {version}", expects=eval(expects)))
"""


@history((PROMOTED, 1, FEBRUARY))
@pytest.mark.parametrize("first", [None, 1])
def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    lake: Lakehouse, model: str, cluster: Cluster, tmp_path: Path, first: int | None
) -> None:
    if first is None:
        MlflowClient().delete_registered_model_alias(model, CHAMPION)
        lake = Lakehouse(lake.spark, prefix="test_registry_race_")  # the first two ever: they make the table, too
    script = tmp_path / "race.py"
    script.write_text(RACE)
    words = {version: (str(tmp_path), lake.prefix, model, str(version), repr(first)) for version in (2, 3)}
    tasks = {
        version: cluster.launch(TaskSpec(kind="script", folder=tmp_path / str(version), project=tmp_path, file=script, argv=argv))
        for version, argv in words.items()
    }
    results = {version: task.wait(300) for version, task in tasks.items()}
    (winner,) = [version for version, result in results.items() if result and result.state == "SUCCESS"]
    (loser,) = {2, 3} - {winner}
    told = results[loser]
    assert told is not None
    assert f"another event came first: version {winner} was promoted by job {winner}" in (told.error or "")
    assert alias_version(MlflowClient(), model) == winner == champion_as_of(lake, model, APRIL)
    assert [row["version"] for row in read_events(lake, model)] == [*([1] if first else []), winner]


# The process ends itself with SIGKILL after its row is written, and before the alias is moved.
DEADLY = """
import os, signal, sys
from datetime import datetime

import boathouse.registry.promotions as registry
from boathouse.runtime import get_spark
from boathouse.tables.table import Lakehouse

registry.sync_alias = lambda lake, model: os.kill(os.getpid(), signal.SIGKILL)
registry.promote(Lakehouse(get_spark(), prefix=sys.argv[1]), sys.argv[2], 2, datetime(2013, 3, 1), "better", expects=1)
"""


@history((PROMOTED, 1, FEBRUARY))
def test_killed_between_row_and_alias_the_same_call_again_ends_it(lake: Lakehouse, model: str, cluster: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "deadly.py"
    script.write_text(DEADLY)
    spec = TaskSpec(kind="script", folder=tmp_path / "run", project=tmp_path, file=script, argv=(lake.prefix, model))
    result = cluster.launch(spec).wait(300)
    assert result is not None
    assert "SIGKILL" in (result.error or "")
    assert alias_version(MlflowClient(), model) == 1
    assert promote(lake, model, 2, MARCH, "better", expects=1) is False
    assert alias_version(MlflowClient(), model) == 2
    assert len(read_events(lake, model)) == 2
