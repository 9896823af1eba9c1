"What triggers observe: real files, a real Delta log, a real registry of models."

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from mlflow import MlflowClient

from boathouse.workspace.history.store import History
from boathouse.workspace.triggers.observe import Observer
from boathouse.workspace.triggers.settings import JobTrigger, watched_folder


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[Observer]:
    with History(tmp_path) as history:
        yield Observer(tmp_path, history, 0)


def test_files_are_found_in_all_folders_but_those_that_spark_does_not_read(observer: Observer) -> None:
    landing = observer.state / "volumes/c/s/in"
    trigger = JobTrigger("file_arrival", url="/Volumes/c/s/in")
    assert observer.observe("j", trigger) == {}
    for name in ("a.csv", "day/b.csv", ".hidden", "_temporary/c.csv", "day/_SUCCESS"):
        (landing / name).parent.mkdir(parents=True, exist_ok=True)
        (landing / name).write_text("1")
    assert sorted(observer.observe("j", trigger)) == [str(landing / "a.csv"), str(landing / "day/b.csv")]


def test_a_file_in_an_old_folder_is_noticed_and_so_is_one_that_grows(observer: Observer) -> None:
    folder = observer.state / "in"
    (folder / "day").mkdir(parents=True)
    for old in (folder / "day", folder):
        os.utime(old, (1e9, 1e9))
    trigger = JobTrigger("file_arrival", url=folder.as_uri())
    assert [observer.observe("j", trigger) for _ in range(2)] == [{}, {}]
    (folder / "day" / "a").write_text("1")
    before = observer.observe("j", trigger)
    (folder / "day" / "a").write_text("12")
    assert [list(before), list(observer.observe("j", trigger))] == [[str(folder / "day" / "a")]] * 2
    assert before != observer.observe("j", trigger)


@pytest.mark.parametrize(
    ("url", "folder"),
    [("/Volumes/c/s/v/x y/", "state/volumes/c/s/v/x y"), ("dbfs:/Volumes/c/s/v", "state/volumes/c/s/v"), ("file:///in/", "/in"),
     ("/in", "/in"), ("s3://bucket/in", None), ("abfss://c@a.dfs.core.windows.net/in", None), ("dbfs:/in", None), ("in", None)],
)  # fmt: skip
def test_a_location_is_a_volume_or_a_folder_of_this_machine(url: str, folder: str | None) -> None:
    assert watched_folder(Path("state"), url) == (None if folder is None else Path(folder))


def test_a_table_has_the_version_and_time_of_its_last_commit(observer: Observer) -> None:
    trigger = JobTrigger("table_update", tables=("dev.s.t", "dev.s.none"))
    assert observer.observe("j", trigger) == {}
    for version in range(3):
        write_deltalake(observer.state / "warehouse/s.db/t", pa.table({"n": [version]}), mode="append")
        table = DeltaTable(observer.state / "warehouse/s.db/t")
        time = table.history(1)[0]["timestamp"]
        assert observer.observe("j", trigger) == {"dev.s.t": f"{version}/{time}"}
    table.create_checkpoint()
    assert observer.observe("j", trigger) == {"dev.s.t": f"2/{time}"}


def test_the_registry_tells_models_ready_versions_and_aliases_of_what_is_watched(observer: Observer) -> None:
    store = f"sqlite:///{observer.state}/mlflow.db"
    created, ready = (JobTrigger("model", condition=c, securable="c.ml") for c in ("MODEL_CREATED", "MODEL_VERSION_READY"))
    alias = JobTrigger("model", condition="MODEL_ALIAS_SET", securable="c.ml.late", aliases=("champion",))
    assert observer.observe("j", created) == {}
    client = MlflowClient(store, store)
    for name in ("c.ml.late", "c.ml2.late", "c.ml.early"):
        client.create_registered_model(name)
        client.create_model_version(name, str(observer.state))
        for word in ("champion", "challenger"):
            client.set_registered_model_alias(name, word, "1")
    assert sorted(observer.observe("j", created)) == ["c.ml.early", "c.ml.late"]
    assert sorted(observer.observe("j", ready)) == ["c.ml.early/1", "c.ml.late/1"]
    assert list(observer.observe("j", alias)) == ["c.ml.late/1@champion"]
    assert len(observer.observe("j", JobTrigger("model", condition="MODEL_ALIAS_SET"))) == 6
    client.delete_model_version("c.ml.early", "1")
    assert sorted(observer.observe("j", ready)) == ["c.ml.late/1"]


def test_changes_within_one_tick_of_the_file_system_are_all_noticed(observer: Observer) -> None:
    folder, log = observer.state / "in", observer.state / "warehouse/s.db/t/_delta_log"
    folder.mkdir()
    files, table = JobTrigger("file_arrival", url=str(folder)), JobTrigger("table_update", tables=("c.s.t",))
    seen = []
    now = time.time_ns()
    for version in range(2):
        (folder / f"{version}.csv").write_text("1")
        write_deltalake(log.parent, pa.table({"n": [version]}), mode="append")
        for changed in (folder, log):
            os.utime(changed, ns=(now, now))
        seen.append((len(observer.observe("j", files)), observer.observe("j", table)["c.s.t"].partition("/")[0]))
    assert seen == [(1, "0"), (2, "1")]
