"The background cluster's door: who may enter, what can be asked, and that whatever a client started ends when it hangs up."

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import boathouse
from boathouse.workspace.cluster.address import Address, ClusterSpec, Connection
from boathouse.workspace.cluster.client import BackgroundCluster, cluster_status, stop_background
from boathouse.workspace.cluster.cluster import Cluster, TaskSpec
from boathouse.workspace.cluster.server import Server
from boathouse.workspace.errors import ClusterError, QueryFailed

SLOW_QUERY = "select count(*) from range(100000000000) where id % 7 = rand()"


class Serving:
    "A server over the suite's cluster, as another process would have it."

    def __init__(self, cluster: Cluster, idle: float) -> None:
        self.server, self.why = Server(cluster, "local[*]", idle), ""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        while Address.read(cluster.state) != self.server.address:
            assert self._thread.is_alive()
            time.sleep(0.01)

    def _run(self) -> None:
        self.why = self.server.run()

    def ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def end(self) -> None:
        self.server.ending.set()
        self._thread.join()


@pytest.fixture
def serving(cluster: Cluster) -> Iterator[Serving]:
    made = Serving(cluster, 60)
    yield made
    made.end()


@pytest.fixture
def client(serving: Serving, cluster: Cluster, tmp_path: Path) -> Iterator[BackgroundCluster]:
    with BackgroundCluster.reach(ClusterSpec(cluster.state, tmp_path)) as reached:
        yield reached


def script(folder: Path, code: str) -> TaskSpec:
    (folder / "task.py").write_text(code)
    return TaskSpec("script", folder / "run", folder, file=folder / "task.py")


def jobs(cluster: Cluster) -> list[int]:
    return list(cluster.spark.sparkContext.statusTracker().getActiveJobsIds())


def test_the_key_is_readable_by_its_owner_only_and_the_port_is_on_loopback(serving: Serving, cluster: Cluster) -> None:
    assert stat.S_IMODE((cluster.state / "cluster.json").stat().st_mode) == 0o600
    assert serving.server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("words", [b'{"key": "guess", "op": "status"}\n', b'{"op": "status"}\n', b"GET / HTTP/1.1\r\n\r\n", b"\xff\n"])
def test_a_visitor_without_the_key_gets_no_answer(serving: Serving, words: bytes) -> None:
    with socket.create_connection(("127.0.0.1", serving.server.address.port), timeout=10) as visitor:
        visitor.sendall(words)
        assert visitor.recv(100) == b""


def test_a_task_gets_the_environment_of_its_client_and_its_result_comes_back(
    client: BackgroundCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOUR", "green")
    monkeypatch.delenv("LANG", raising=False)
    code = "import os\ndbutils.jobs.taskValues.set('seen', [os.environ['COLOUR'], 'LANG' in os.environ, spark.range(3).count()])\n"
    result = client.launch(script(tmp_path, code)).wait(60)
    assert result is not None
    assert (result.state, result.values) == ("SUCCESS", {"seen": ["green", False, 3]})


def test_a_client_that_hangs_up_takes_its_task_with_it(client: BackgroundCluster, cluster: Cluster, tmp_path: Path, until: Any) -> None:
    task = client.launch(script(tmp_path, "import time; time.sleep(600)"))
    assert len(cluster.tasks()) == 1
    task._talk.close()  # what the system does when a process is killed
    assert until(lambda: not cluster.tasks(), 60)
    assert not Path("/proc", str(task.pid)).exists()
    with pytest.raises(ClusterError, match="the cluster ended under the task"):
        task.wait(5)


def test_a_cancelled_task_is_gone_when_cancel_returns(client: BackgroundCluster, cluster: Cluster, tmp_path: Path) -> None:
    task = client.launch(script(tmp_path, "import time; time.sleep(600)"))
    task.cancel()
    assert not cluster.tasks()
    result = task.wait(1)
    assert result is not None
    assert result.state == "CANCELED"
    task.cancel()


def test_a_query_gives_plain_values_and_says_what_is_wrong_with_it(client: BackgroundCluster) -> None:
    query = "select 1.50 as d, timestamp'2013-10-01 00:30:00' as t, double('nan') as n, map('k', array(1)) as m"
    assert client.sql(query) == (["d", "t", "n", "m"], [["1.50", "2013-10-01T00:30:00", "NaN", {"k": [1]}]])
    with pytest.raises(QueryFailed, match="TABLE_OR_VIEW_NOT_FOUND"):
        client.sql("select * from nowhere")


def test_a_query_that_meets_a_damaged_file_names_it_in_a_few_lines_and_says_where_to_look(
    client: BackgroundCluster, cluster: Cluster
) -> None:
    client.sql("CREATE OR REPLACE TABLE default.holed AS SELECT id FROM range(100)")
    for file in (cluster.state / "warehouse/holed").glob("*.parquet"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(QueryFailed, match="FAILED_READ_FILE") as told:
        client.sql("SELECT sum(id) FROM default.holed")
    lines = str(told.value).splitlines()
    assert "warehouse/holed/part-" in lines[0]
    assert lines[-1] == "`boathouse doctor` looks for damaged files, and names what brings the table back."
    assert len(lines) < 6
    client.sql("DROP TABLE default.holed")


def test_a_query_ends_with_its_client(serving: Serving, cluster: Cluster, until: Any) -> None:
    talk = serving.server.address.call(op="query", text=SLOW_QUERY, catalog="spark_catalog")
    assert until(lambda: bool(jobs(cluster)))
    talk.close()
    assert until(lambda: not jobs(cluster), 60)


def test_status_tells_tasks_sessions_clients_and_memory(client: BackgroundCluster, cluster: Cluster, tmp_path: Path) -> None:
    task = client.launch(script(tmp_path, "import time; time.sleep(600)"))
    session, _ = client._ask(op="attach", catalog="spark_catalog")
    seen = cluster_status(cluster.state)
    assert seen is not None
    assert (len(seen["tasks"]), seen["sessions"], seen["clients"], seen["pid"]) == (1, 1, 1, os.getpid())
    assert (
        min(seen["memory_bytes"][part] for part in ("cluster", "zygote", "jvm")) > 2**22
    )  # its share: pages that others use too count in part
    session.close()
    task.cancel()


def test_a_cluster_in_use_is_not_stopped_unless_forced(client: BackgroundCluster, cluster: Cluster, serving: Serving) -> None:
    with pytest.raises(ClusterError, match=r"is in use \(stay\)"):
        stop_background(cluster.state)
    assert not serving.ended(0.2)
    serving.server.address.call(op="stop", force=True).hear()
    assert serving.ended(10)
    assert serving.why == "a stop was requested"
    assert Address.read(cluster.state) is None


def test_a_cluster_that_nobody_uses_ends_after_a_while_and_one_in_use_does_not(cluster: Cluster, tmp_path: Path) -> None:
    serving = Serving(cluster, 1.0)
    with BackgroundCluster.reach(ClusterSpec(cluster.state, tmp_path)):
        assert not serving.ended(2.5)
    assert serving.ended(10)
    assert serving.why == "nobody was here for 1 s"


def test_a_cluster_whose_state_folder_is_taken_away_ends(serving: Serving, cluster: Cluster) -> None:
    (cluster.state / "cluster.json").unlink()
    assert serving.ended(10)
    assert serving.why == "the state folder was deleted or taken by another cluster"


def test_another_master_than_the_running_one_is_refused(client: BackgroundCluster, cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"runs on local\[\*\], not on local\[1\]. End it first"):
        BackgroundCluster.reach(ClusterSpec(cluster.state, tmp_path, master="local[1]"))


def test_a_cluster_is_of_another_version_once_any_file_of_the_workspace_is_another(tmp_path: Path) -> None:
    package = tmp_path / "boathouse"
    shutil.copytree(Path(boathouse.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))

    def version() -> str:
        command = [sys.executable, "-c", "from boathouse.workspace.cluster import address; print(address.__file__, address.version())"]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
        file, found = done.stdout.split()
        assert Path(file).is_relative_to(package)
        return found

    before = version()
    assert version() == before
    (package / "workspace" / "validate" / "edges.py").write_text('"Another version."\n')
    assert version() != before


def test_an_address_of_a_process_that_is_gone_is_no_cluster(tmp_path: Path) -> None:
    Address(2**22 + 7, 1.0, 1, "k", "v", "local[*]").write(tmp_path)
    assert cluster_status(tmp_path) is None
    assert stop_background(tmp_path) is False
    (tmp_path / "cluster.json").write_text('{"pid": ')
    assert Address.read(tmp_path) is None


def test_a_talk_ends_with_none_also_in_the_middle_of_a_line() -> None:
    one, two = socket.socketpair()
    ear = Connection(one)
    two.sendall(b'{"a": 1}\n{"b"')
    two.close()
    assert (ear.hear(), ear.hear()) == ({"a": 1}, None)


def test_a_cluster_that_has_grown_large_ends_earlier(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LARGE_BYTES": 0, "LARGE_IDLE": 1.5, "TIDY_AFTER": 0.2}.items():
        monkeypatch.setattr(f"boathouse.workspace.cluster.server.{name}", value)
    serving = Serving(cluster, 60)
    assert serving.ended(10)
    assert serving.why == "nobody was here for 2 s"
