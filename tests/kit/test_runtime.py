from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from boathouse.runtime import get_dbutils, parameters, read_local_log, run_id, set_task_value


def called_with(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["flights", *words])


def test_a_parameter_takes_the_type_of_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    called_with(monkeypatch, "--seed=9", "--share=0.5", "--dirt=false", "--month=2013-11")
    p = parameters(seed=1, share=0.1, dirt=True, month="", owner=None)
    assert vars(p) == {"seed": 9, "share": 0.5, "dirt": False, "month": "2013-11", "owner": None}


def test_a_value_may_hold_an_equals_sign_and_may_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    called_with(monkeypatch, "--where=a=b", "--note=")
    assert vars(parameters(where="", note="none")) == {"where": "a=b", "note": ""}


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("--seed=many", "'seed' must be of type int, got 'many'"),
        ("--dirt=perhaps", "'dirt' must be true or false, got 'perhaps'"),
        ("--as_of=2013-13-01", "'as_of' must be a date such as 2013-10-01, got '2013-13-01'"),
        ("--as_of=2013-10-01T06:00:00", "'as_of' must be a date such as 2013-10-01, got '2013-10-01T06:00:00'"),
        ("--at=noon", "'at' must be a time such as 2013-10-01T06:00:00, got 'noon'"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(monkeypatch: pytest.MonkeyPatch, word: str, says: str) -> None:
    called_with(monkeypatch, word)
    with pytest.raises(ValueError, match=says):
        parameters(seed=1, dirt=True, as_of=date(2013, 1, 1), at=datetime(2013, 1, 1))


def test_a_date_and_a_time_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    called_with(monkeypatch, "--as_of=2013-10-01", "--at=2013-10-01T06:00:00Z")
    found = parameters(as_of=date(2013, 1, 1), at=datetime(2013, 1, 1))
    assert vars(found) == {"as_of": date(2013, 10, 1), "at": datetime(2013, 10, 1, 6, tzinfo=UTC)}


def test_job_parameters_that_a_task_does_not_declare_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    called_with(monkeypatch, "--as_of=2013-10-01", "--month=2013-10")
    assert vars(parameters(month="")) == {"month": "2013-10"}


def test_outside_a_job_there_is_no_dbutils_and_task_values_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BOATHOUSE_TASK", "BOATHOUSE_RUN_ID", "DATABRICKS_RUNTIME_VERSION"):
        monkeypatch.delenv(name, raising=False)
    assert get_dbutils() is None
    assert run_id() == "interactive"
    set_task_value("model_version", 3)


def test_the_run_id_is_that_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOATHOUSE_RUN_ID", "42")
    assert run_id() == "42"


def test_the_log_of_a_local_table_says_what_the_history_of_delta_says(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a place with 100% blanks"
    for note in ("first", "second"):
        spark.range(1).write.format("delta").mode("append").option("userMetadata", note).save(str(folder))
    table = DeltaTable.forPath(spark, str(folder))
    table.restoreToVersion(0)
    found = read_local_log(table)
    assert found is not None
    told = table.history().select("version", "operation", "userMetadata").collect()
    assert [(version, info["operation"], info.get("userMetadata")) for version, info in found] == [tuple(row) for row in told]
    assert [info["operation"] for _, info in found] == ["RESTORE", "WRITE", "WRITE"]
    assert read_local_log(table, 2) == found[:2]
    with monkeypatch.context() as patch:
        patch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
        assert read_local_log(table) is None
    (folder / "_delta_log" / f"{2:020d}.json").write_text("")
    assert read_local_log(table) is None
