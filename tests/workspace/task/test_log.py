"A log beyond its limit: what is kept of it, what is printed about the rest, and what it takes of the disk meanwhile."

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boathouse.workspace.errors import ClusterError
from boathouse.workspace.task.log import TaskLog, limit

LEFT_OUT = re.compile(rb"\.\.\. (\d+) bytes left out: [^\n]*\n")
MIB = 1 << 20


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % n for n in range(first, last))


def test_a_log_within_its_limit_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(numbered(0, 100))
    TaskLog(tmp_path, len(numbered(0, 100))).close()
    assert (tmp_path / "log.txt").read_bytes() == numbered(0, 100)


def test_of_a_longer_log_the_first_and_the_last_lines_are_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(numbered(0, 100_000))
    TaskLog(tmp_path, 60).close()
    first, count, last = LEFT_OUT.split((tmp_path / "log.txt").read_bytes())
    assert first == b"line 0\nline 1\nline 2\nline 3\n"
    assert last == b"line 99998\nline 99999\n"
    assert int(count) == len(numbered(4, 99_998))


def test_a_log_without_lines_is_cut_between_characters(tmp_path: Path) -> None:
    for kept in range(400, 430):
        (tmp_path / "log.txt").write_text("täglich€𐍈" * 1000, encoding="utf-8")
        TaskLog(tmp_path, kept).close()
        assert "bytes left out" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_the_logs_of_notebooks_that_a_notebook_runs_have_the_limit_too(tmp_path: Path) -> None:
    inner = tmp_path / "notebook-1-clean" / "notebook-2-deep"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "log.txt").write_bytes(numbered(0, 100_000))
    TaskLog(tmp_path, 1000).close()
    assert all((folder / "log.txt").stat().st_size < 1200 for folder in (inner, inner.parent))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives back the middle of a file")
def test_the_disk_space_of_the_middle_comes_back_while_the_task_still_writes(tmp_path: Path) -> None:
    log = TaskLog(tmp_path, 2 * MIB)
    line = b"x" * 1023 + b"\n"
    with (tmp_path / "log.txt").open("ab", buffering=0) as writer:
        for _ in range(20):
            writer.write(line * 1024)
            log.relieve()
            assert (tmp_path / "log.txt").stat().st_blocks * 512 < 3.5 * MIB
        writer.write(b"the last line\n")
    assert (tmp_path / "log.txt").stat().st_size == 20 * MIB + 14
    log.close()
    first, count, last = LEFT_OUT.split((tmp_path / "log.txt").read_bytes())
    assert (first, last) == (line * 1024, line * 1023 + b"the last line\n")
    assert int(count) == 18 * MIB + 1024


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300_000), min_size=1, max_size=12), st.integers(2, 400_000))
def test_what_is_kept_is_how_the_log_begins_and_ends_whenever_it_was_relieved(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], kept: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log, file, whole = TaskLog(folder, kept), folder / "log.txt", b"".join(pieces)
    with file.open("ab", buffering=0) as writer:
        for piece in pieces:
            writer.write(piece)
            log.relieve()
    log.close()
    log.relieve()
    log.close()
    found = file.read_bytes()
    if found == whole:
        return
    first, count, last = LEFT_OUT.split(found)
    begun = 0 if whole.startswith(first) else 1  # the line on what was left out begins on a line of its own
    assert whole.startswith(first[: len(first) - begun])
    assert whole.endswith(last)
    assert len(first) + int(count) + len(last) - len(whole) in (0, 1)
    assert max(len(first) - 1, len(last)) <= kept // 2


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_above_nought_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match=f"BOATHOUSE_LOG_MIB is '{text}'"):
        limit({"BOATHOUSE_LOG_MIB": text})


def test_the_limit_is_100_mib_unless_the_environment_says_otherwise() -> None:
    assert (limit({}), limit({"BOATHOUSE_LOG_MIB": "0.5"})) == (100 * MIB, MIB // 2)
