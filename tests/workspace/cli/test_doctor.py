"What `boathouse doctor` finds, on real damage, and that it finds nothing where nothing is."

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from boathouse.workspace.bundle.load import Bundle, load
from boathouse.workspace.cli.doctor import HealthFinding, examine
from boathouse.workspace.cli.main import main
from boathouse.workspace.cluster.address import Address
from boathouse.workspace.history.store import History
from boathouse.workspace.spark.checkpoints import find_damage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    (tmp_path / "databricks.yml").write_text("bundle: {name: ill}\n")
    made = load(tmp_path, environ={})
    made.state.mkdir(parents=True)
    return made


def ills(bundle: Bundle) -> dict[str, HealthFinding]:
    "What is not well, by its name."
    return {finding.what: finding for finding in examine(bundle) if not finding.well}


def test_a_sound_machine_has_no_finding_and_exit_code_0(bundle: Bundle) -> None:
    assert ills(bundle) == {}
    done = CliRunner().invoke(main, ["doctor", "--bundle", str(bundle.root), "--json"])
    assert done.exit_code == 0
    assert [f["what"] for f in json.loads(done.stdout)] == [
        *("python", "java", "jars", "ports", "state folder", "lock", "cluster", "stale processes", "history", "tables", "checkpoints")
    ]


def test_a_cluster_whose_process_is_gone_is_no_ill(bundle: Bundle) -> None:
    Address(2**22 + 7, 1.0, 1, "k", "v", "local[*]").write(bundle.state)
    found = {finding.what: finding for finding in examine(bundle)}["cluster"]
    assert (found.well, found.found) == (True, f"its process {2**22 + 7} is gone; the next command starts another one")


@pytest.fixture
def lost(bundle: Bundle) -> Iterator[int]:
    "A zygote that no cluster owns."
    command = [sys.executable, "-m", "boathouse.workspace.worker.zygote", str(bundle.state / "mlflow.db"), "--spawn"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert b"ready" in process.stdout.readline()
    yield process.pid
    process.communicate()


def test_a_process_without_a_cluster_is_named_with_the_command_that_ends_it(bundle: Bundle, lost: int) -> None:
    (found,) = ills(bundle).values()
    assert (found.what, found.found, found.fix) == ("stale processes", f"1 without a cluster: {lost}", f"End them: kill {lost}")
    done = CliRunner().invoke(main, ["doctor", "--bundle", str(bundle.root)])
    assert done.exit_code == 1
    assert f"FAIL  stale processes: 1 without a cluster: {lost}\n      End them: kill {lost}" in done.stdout


def test_a_history_that_is_no_database_is_found_and_a_whole_one_is_left_alone(bundle: Bundle) -> None:
    with History(bundle.state):
        assert ills(bundle) == {}
    file = bundle.state / "workspace.db"
    file.write_bytes(b"\0" * 20_000)
    (found,) = ills(bundle).values()
    assert found.found.startswith("damaged:")
    assert found.fix.startswith(f"Move {file} away")


@pytest.fixture(scope="module")
def checkpoint(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    "The files of a real checkpoint of two batches, the second of which is not committed, by their names."
    folder = tmp_path_factory.mktemp("stream")
    rows = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 2).option("numPartitions", 1).load()
    query = rows.writeStream.format("noop").option("checkpointLocation", str(folder)).trigger(processingTime="0 seconds").start()
    while len(list((folder / "commits").glob("[0-9]*"))) < 2:
        assert query.exception() is None
    query.stop()
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: files[name].read_bytes() for name in ("metadata", "offsets/0", "offsets/1", "commits/0")}


@pytest.mark.parametrize(
    ("file", "keep", "message", "repairable"),
    [
        ("offsets/1", 0, "offsets/1 is damaged (0 bytes)", True),
        ("offsets/1", 20, "offsets/1 is cut off", True),
        ("commits/0", 12, "commits/0 is cut off", True),
        ("metadata", 9, "metadata is cut off", False),
        ("offsets/0", None, "offsets/0 is damaged (200 bytes)", False),
    ],
    ids=["empty", "an offset cut off", "a commit cut off", "cut off metadata", "zeros"],
)
def test_a_damaged_checkpoint_is_named_with_its_file_and_repaired_if_the_query_can_repeat_the_micro_batch(
    bundle: Bundle, checkpoint: dict[str, bytes], file: str, keep: int | None, message: str, repairable: bool
) -> None:
    folder = bundle.state / "volumes" / "c" / "s" / "v" / "stream"
    for name, content in checkpoint.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert find_damage(folder) is None
    assert ills(bundle) == {}
    (folder / file).write_bytes(b"\0" * 200 if keep is None else checkpoint[file][:keep])
    (folder / file).with_name(f".{(folder / file).name}.crc").write_bytes(b"crc")
    (found,) = ills(bundle).values()
    assert (found.what, found.found) == ("checkpoints", f"{folder}: {message}")
    assert ("doctor --repair" in found.fix) == repairable

    done = CliRunner().invoke(main, ["doctor", "--repair", "--bundle", str(bundle.root)])
    gone = [f"{folder}: {message}, and was deleted; the query repeats its last micro-batch"] if repairable else []
    assert (done.exit_code, done.stderr.splitlines()) == (0 if repairable else 1, gone)
    left = {name for name in checkpoint if (folder / name).exists()}
    assert left == set(checkpoint) - ({file} if repairable else set())
    assert (folder / file).with_name(f".{(folder / file).name}.crc").exists() != repairable
