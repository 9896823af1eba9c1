"""The inference log: each recorded request is in the table once, after kills, races, full disks and refused writes."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from support.forks import Forks

from boathouse.service.inference_buffer import Segment, make_entry, read_segment
from boathouse.service.inference_log import InferenceLog

NOON = 1370088000000
CODE = """
log = InferenceLog({buffer!r}, {table!r}, segment_bytes=4096, sync_seconds=0.01, flush_seconds={flush})
acknowledged = os.open({acks!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
n = 0
while True:
    n += 1
    name = {name!r} + "-" + str(n)
    if log.record(databricks_request_id=name, timestamp_ms=1370088000000, status_code=200, execution_time_ms=1, request="{{}}", response="{{}}"):
        os.write(acknowledged, (name + "\\n").encode())
    time.sleep(0.0005)
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    "A process that has imported the log, and forks for each worker of a service."
    with Forks("import os, time\nimport deltalake\nfrom boathouse.service.inference_log import InferenceLog, flush_at_exit") as started:
        yield started


def record(log: InferenceLog, name: str, **more: Any) -> bool:
    values = {"timestamp_ms": NOON, "status_code": 200, "execution_time_ms": 1, "request": "{}", "response": "{}"} | more
    return log.record(databricks_request_id=name, **values)


def ids(table: Path) -> Counter[str]:
    found = DeltaTable(table).to_pyarrow_table(columns=["databricks_request_id"]) if DeltaTable.is_deltatable(str(table)) else None
    return Counter(found["databricks_request_id"].to_pylist() if found is not None else [])


def test_after_sixty_kills_every_acknowledged_request_is_in_the_table_once(forks: Forks, tmp_path: Path) -> None:
    table, acks, buffer, wait, kills = tmp_path / "table", tmp_path / "acks", tmp_path / "buffer", random.Random(2), 0
    for turn in range(32):
        names = {"buffer": str(buffer), "table": str(table), "acks": str(acks), "flush": wait.choice([0.02, 0.1, 60])}
        pids = [forks.start(CODE.format(name=f"{turn}{letter}", **names)) for letter in "ab"]  # two workers of one table
        time.sleep(wait.uniform(0.02, 0.4))
        for pid in pids:
            kills += forks.kill(pid) == -9
    last = InferenceLog(buffer, table, segment_bytes=4096)
    last.close()
    assert last.counts.failures == 0, last.counts.last_error
    told, found = set(acks.read_text().split()), ids(table)
    assert kills == 64
    assert len(told) > 200, "the workers were killed before they recorded anything"
    assert told - set(found) == set(), "an acknowledged request is lost"
    assert [name for name, n in found.items() if n > 1] == []
    assert list(buffer.iterdir()) == [], "what a dead worker left was not cleared"


@pytest.mark.parametrize("after", ["DeltaTable.create", "write_deltalake"])
def test_a_kill_right_after_a_commit_doubles_nothing(after: str, forks: Forks, tmp_path: Path) -> None:
    "The process kills itself when the call returns: at the commit, and before the file is deleted."
    code = f"""
import signal
owner, name = (deltalake.DeltaTable, "create") if {after!r} == "DeltaTable.create" else (deltalake, "write_deltalake")
real = getattr(owner, name)
def then_die(*args, **more):
    real(*args, **more)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, then_die)
log = InferenceLog({str(tmp_path / "buffer")!r}, {str(tmp_path / "table")!r}, segment_bytes=4096)
for n in range(3):
    assert log.record(databricks_request_id=str(n), timestamp_ms=0, status_code=200, execution_time_ms=1, request="", response="")
log.flush()
"""
    assert forks.wait(forks.start(code)) == -signal.SIGKILL
    InferenceLog(tmp_path / "buffer", tmp_path / "table").close()
    assert ids(tmp_path / "table") == {"0": 1, "1": 1, "2": 1}


def test_sigterm_writes_what_was_recorded(forks: Forks, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
log = InferenceLog({str(tmp_path / "buffer")!r}, {str(tmp_path / "table")!r}, segment_bytes=4096, flush_seconds=3600)
flush_at_exit(log)
log.record(databricks_request_id="last", timestamp_ms=0, status_code=200, execution_time_ms=1, request="", response="")
Path({str(tmp_path / "ready")!r}).touch()
time.sleep(600)
"""
    pid = forks.start(code)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    assert forks.wait(pid) == 128 + signal.SIGTERM
    assert ids(tmp_path / "table") == {"last": 1}
    assert list((tmp_path / "buffer").iterdir()) == []


def test_many_threads_record_while_files_are_filled_flushed_and_synced(tmp_path: Path) -> None:
    log, kept = (
        InferenceLog(tmp_path / "buffer", tmp_path / "table", segment_bytes=65536, sync_seconds=0.005, flush_seconds=0.02),
        set[str](),
    )

    def work(thread: int) -> None:
        for n in range(300):
            if record(log, f"{thread}-{n}", request="x" * (n % 50)):
                kept.add(f"{thread}-{n}")
            time.sleep(0.0002)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    log.close()
    assert ids(tmp_path / "table") == dict.fromkeys(kept, 1)
    counts = log.counts
    assert (counts.recorded, counts.written, counts.recorded + counts.dropped) == (len(kept), len(kept), 2400)
    assert not record(log, "after the end")


def test_a_table_that_cannot_be_written_costs_no_request_and_what_waited_is_written_later(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("not a folder")
    log = InferenceLog(tmp_path / "buffer", tmp_path / "table", segment_bytes=4096, max_waiting=3, flush_seconds=3600)
    answers = [record(log, str(n)) for n in range(5) if log.flush() == 0]
    assert answers == [True, True, True, True, False], "more files wait than max_waiting allows"
    assert (log.counts.recorded, log.counts.dropped, log.counts.written) == (4, 1, 0)
    assert log.counts.failures >= 3
    assert log.counts.last_error
    (tmp_path / "table").unlink()
    log.flush()
    assert log.counts.written == 4  # by this call, or by the thread that the last refusal woke
    assert record(log, "5")
    log.close()
    assert set(ids(tmp_path / "table")) == {"0", "1", "2", "3", "5"}


def test_a_full_disk_drops_and_counts_and_logging_goes_on_when_there_is_room(tmp_path: Path) -> None:
    "The limit of file sizes stands for the disk: the system refuses to reserve the file in the same way."
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        log = InferenceLog(tmp_path / "buffer", tmp_path / "table", segment_bytes=4096, flush_seconds=3600)
        assert [record(log, str(n)) for n in range(3)] == [False] * 3
        assert list((tmp_path / "buffer").glob("*.log")) == []
        assert (log.counts.dropped, "File too large" in log.counts.last_error) == (3, True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.flush()
    assert record(log, "later")
    log.close()
    assert ids(tmp_path / "table") == {"later": 1}


def test_a_body_above_the_limit_is_left_out_and_the_row_says_so(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path / "buffer", tmp_path / "table")
    kept = "é" * (1 << 19)  # 1 MB as bytes
    assert record(log, "a", request=kept, response=kept + "x", client_request_id="mine", request_metadata={"model_version": 3})
    log.close()
    (row,) = DeltaTable(tmp_path / "table").to_pyarrow_table().to_pylist(maps_as_pydicts="strict")
    assert (row["request"] == kept, row["response"], row["logging_error_codes"]) == (True, None, ["MAX_RESPONSE_SIZE_EXCEEDED"])
    assert (str(row["date"]), row["client_request_id"], row["request_metadata"]) == ("2013-06-01", "mine", {"model_version": "3"})
    assert log.counts.bodies_left_out == 1


def test_sampling_keeps_about_its_share_and_the_same_requests_in_every_worker(tmp_path: Path) -> None:
    found = []
    for worker in ("a", "b"):
        log = InferenceLog(tmp_path / "buffer", tmp_path / worker, sampling=0.25)
        found.append([record(log, f"r{n}") for n in range(2000)])
        log.close()
        assert log.counts.sampled_out == 2000 - log.counts.recorded
    assert found[0] == found[1]
    assert 400 < sum(found[0]) < 600
    with pytest.raises(ValueError, match=r"sampling must be a share from 0 to 1, got 1.5"):
        InferenceLog(tmp_path / "buffer", tmp_path / "a", sampling=1.5)


def test_record_never_raises_whatever_it_is_given(tmp_path: Path) -> None:
    log = InferenceLog(tmp_path / "buffer", tmp_path / "table", segment_bytes=4096)
    wrong: list[dict[str, Any]] = [
        {"request": object()},
        {"timestamp_ms": None},
        {"timestamp_ms": 10**30},
        {"request_metadata": 5},
        {"request": "x" * 5000},
    ]
    assert [record(log, "r", **one) for one in wrong] == [False] * 5
    assert record(log, "surrogate", request="\ud800", response=b"\xff\xfe\x00")
    assert log.counts.dropped == 5
    log.close()
    assert ids(tmp_path / "table") == {"surrogate": 1}


def test_the_files_of_a_dead_process_are_written_by_a_living_one(forks: Forks, tmp_path: Path) -> None:
    alive = InferenceLog(tmp_path / "buffer", tmp_path / "table", segment_bytes=4096, flush_seconds=3600)
    code = CODE.format(buffer=str(tmp_path / "buffer"), table=str(tmp_path / "table"), acks=str(tmp_path / "acks"), flush=3600, name="dead")
    pid = forks.start(code)
    while not (tmp_path / "acks").exists() or len((tmp_path / "acks").read_text().split()) < 5:
        time.sleep(0.01)
    assert alive.flush() == 0, "the files of a living process are its own"
    forks.kill(pid)
    assert alive.flush() >= 5
    assert set((tmp_path / "acks").read_text().split()) <= set(ids(tmp_path / "table"))
    alive.close()


def test_a_torn_entry_ends_a_file_and_those_before_it_are_read(tmp_path: Path) -> None:
    entries = [json.dumps(make_entry({"databricks_request_id": str(n), "timestamp_ms": NOON}, 100)).encode() for n in range(3)]
    segment = Segment(tmp_path / "w-1.log", 4096)
    assert all(map(segment.append, entries))
    segment.sync()
    segment.close()
    content = (tmp_path / "w-1.log").read_bytes()
    whole = sum(len(one) + 8 for one in entries)
    for cut, complete in ((whole, 3), (whole - 1, 2), (8 + len(entries[0]), 1), (5, 0), (0, 0)):
        (tmp_path / "w-2.log").write_bytes(content[:cut])
        assert len(read_segment(tmp_path / "w-2.log")) == complete
        (tmp_path / "w-2.log").write_bytes(content[:cut] + bytes(4096 - cut))
        assert len(read_segment(tmp_path / "w-2.log")) == complete, "the rest of the file is empty, as after a kill"


def test_a_log_keeps_its_rows_apart_from_one_whose_folder_was_deleted(tmp_path: Path) -> None:
    "The numbers of a new folder begin again: under the name of the old writer, its commits would count as done."
    for n in range(2):
        log = InferenceLog(tmp_path / "buffer", tmp_path / "table", segment_bytes=4096)
        record(log, str(n))
        log.close()
        os.rmdir(tmp_path / "buffer")
    assert ids(tmp_path / "table") == {"0": 1, "1": 1}
