"""What `boathouse models` shows and does, by its words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession

from boathouse.models.integrity import CONTENT
from boathouse.registry.cli import (
    apply_command,
    compare_versions,
    find_model,
    find_version,
    list_models,
    list_versions,
    models_command,
    parse_words,
    show_version,
)
from boathouse.registry.promotions import TRAINED_BY, alias_version, promote, read_events, register
from boathouse.tables.table import Lakehouse, drop_all

MODEL = "spark_catalog.test_ml.listed_boat"
MARCH, APRIL, MAY = (dt.datetime(2013, month, 1) for month in (3, 4, 5))


@pytest.fixture
def lake(spark: SparkSession, harbour_model) -> Iterator[Lakehouse]:
    "A model with two versions by Ida, of which the second is champion."
    lake, client = Lakehouse(spark, prefix="test_models_"), MlflowClient()
    drop_all(lake)
    for at in (MARCH, APRIL):
        version = register(MODEL, harbour_model.uri, harbour_model.run_id, {TRAINED_BY: "Ida", "as_of": str(at.date())})
        promote(lake, MODEL, version, at, f"version {version} is better")
    yield lake
    client.delete_registered_model(MODEL)
    drop_all(lake)


def by_hand(lake: Lakehouse, *words: str) -> str:
    given = parse_words(list(words))
    return apply_command(lake, find_model(given.model), given, MAY)


def test_models_are_found_by_their_last_part_and_what_is_not_found_says_what_there_is(lake: Lakehouse, harbour_model) -> None:
    assert find_model("listed_boat") == find_model(MODEL) == MODEL
    with pytest.raises(LookupError, match=r"expected one model named boat, found 0: .*spark_catalog.test_ml.listed_boat"):
        find_model("boat")
    for wrong in ("3", "two"):
        with pytest.raises(LookupError, match=f"has no version {wrong}: it has 1, 2"):
            find_version(MODEL, wrong)
    register("spark_catalog.other_ml.listed_boat", harbour_model.uri, harbour_model.run_id)
    try:
        with pytest.raises(LookupError, match="expected one model named listed_boat, found 2: name one of spark_catalog"):
            find_model("listed_boat")
    finally:
        MlflowClient().delete_registered_model("spark_catalog.other_ml.listed_boat")


def test_the_lists_show_champions_versions_and_moves(lake: Lakehouse) -> None:
    ((_, _, models),) = list_models(lake)
    (mine,) = [row for row in models if row["model"] == MODEL]
    assert (mine["versions"], mine["champion"]) == (2, 2)
    assert mine["last move"] == "promoted 2 on 2013-04-01: version 2 is better"
    for alias in ("zzz", "prod"):
        MlflowClient().set_registered_model_alias(MODEL, alias, "2")
    (_, _, versions), (_, _, told) = list_versions(lake, MODEL)
    assert [(row["version"], row["alias"], row["as_of"], row["trained_by"]) for row in versions] == [
        (2, "champion, prod, zzz", "2013-04-01", "Ida"),
        (1, "", "2013-03-01", "Ida"),
    ]
    assert [row["version"] for row in told] == [1, 2]


def test_models_and_versions_of_all_pages_are_found(lake: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_per_page(search: Callable[..., Any]) -> Callable[..., Any]:
        return lambda client, *given, **how: search(client, *given, **{**how, "max_results": 1})

    client = MlflowClient()
    client.create_registered_model("spark_catalog.aaa_ml.first_boat")  # fills the first page
    for name in ("search_registered_models", "search_model_versions"):
        monkeypatch.setattr(MlflowClient, name, one_per_page(getattr(MlflowClient, name)))
    try:
        assert find_model("listed_boat") == MODEL
        ((_, said, models),) = list_models(lake)
        assert {"spark_catalog.aaa_ml.first_boat": 0, MODEL: 2}.items() <= {row["model"]: row["versions"] for row in models}.items()
        assert said == f"{len(models)} registered models."
        assert [row["version"] for row in list_versions(lake, MODEL)[0][2]] == [2, 1]
        with pytest.raises(LookupError, match="it has 1, 2"):
            find_version(MODEL, "3")
    finally:
        client.delete_registered_model("spark_catalog.aaa_ml.first_boat")


def test_two_versions_are_compared_by_what_differs_alone(lake: Lakehouse) -> None:
    found = {title: rows for title, _, rows in compare_versions(MODEL, "1", "2")}
    assert found["tags"] == [{"name": "as_of", "1": "2013-03-01", "2": "2013-04-01"}]
    assert found["parameters"] == found["metrics"] == []  # one run logged both
    assert "2013-03-01" in str(show_version(lake, MODEL, "1"))


def test_a_person_rolls_back_approves_rejects_and_retires_by_name_and_with_a_reason(lake: Lakehouse) -> None:
    assert by_hand(lake, "approve", "listed_boat", "1", "--by", "Omar", "--why", "fine").endswith("approved by Omar.")
    assert by_hand(lake, "approve", "listed_boat", "1", "--by", "Omar", "--why", "fine").endswith(
        "approved by Omar before; nothing was changed."
    )
    assert "rejected by Eve" in by_hand(lake, "reject", "listed_boat", "2", "--by", "Eve", "--why", "slow")
    assert (
        by_hand(lake, "rollback", "listed_boat", "--by", "Omar", "--why", "complaints")
        == f"{MODEL}: version 1 is champion again instead of version 2."
    )
    assert "is retired" in by_hand(lake, "retire", "listed_boat", "2", "--by", "Omar", "--why", "old")
    assert [(row["move"], row["moved_by"], row["reason"]) for row in read_events(lake, MODEL)[2:]] == [
        ("approved", "Omar", "fine"), ("rejected", "Eve", "slow"), ("rolled back", "Omar", "complaints"), ("retired", "Omar", "old"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["approve", "listed_boat", "1", "--by", "Ida", "--why", "mine"], "another person must approve it"),
        (["retire", "listed_boat", "2", "--by", "Omar", "--why", "old"], "is the champion"),
        (["rollback", "listed_boat", "--by", "Omar"], "the following arguments are required: --why"),
        (["approve", "listed_boat", "--by", "Omar", "--why", "fine"], "the following arguments are required: version"),
        (["sink", "listed_boat"], "invalid choice: 'sink'"),
    ],
)
def test_what_may_not_be_done_is_refused_with_the_reason_and_changes_nothing(lake: Lakehouse, words: list[str], said: str) -> None:
    with pytest.raises(LookupError, match=said):
        by_hand(lake, *words)
    assert len(read_events(lake, MODEL)) == 2
    assert alias_version(MlflowClient(), MODEL) == 2


def test_a_rollback_to_files_that_were_changed_is_refused(lake: Lakehouse) -> None:
    MlflowClient().set_model_version_tag(MODEL, "1", CONTENT, "0" * 64)
    with pytest.raises(LookupError, match="has other files than when it was registered"):
        by_hand(lake, "rollback", "listed_boat", "--by", "Omar", "--why", "complaints")


def test_the_command_lists_all_without_a_word(spark: SparkSession, lake: Lakehouse) -> None:
    ((title, said, rows),) = models_command(spark, "spark_catalog", [])
    assert title == "models"
    assert said == f"{len(rows)} registered models."
    assert MODEL in {row["model"] for row in rows}
    assert [title for title, _, _ in models_command(spark, "spark_catalog", ["list", "listed_boat"])] == ["versions", "moves"]
