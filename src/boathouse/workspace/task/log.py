"""Limit the log of an attempt: keep its first and last part, and a line about the omitted bytes between them.

A task and its children write to the file directly. So no process stands between, and nothing is lost when they are killed.
While they write, the disk space of the middle is released. This changes neither the length of the file nor the position of the next line.
When they have ended, the middle is cut out.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from boathouse.workspace.errors import ClusterError

SETTING, USUAL_MIB = "BOATHOUSE_LOG_MIB", 100.0
INTERVAL = 0.5
BLOCK = 1 << 16  # a multiple of the block size of every file system
PIECE = 1 << 20
KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02
INNER, FIRST = bytes(range(0x80, 0xC0)), bytes(range(0xC0, 0x100))  # later and first bytes of a UTF-8 character of several bytes
LAST_LINES, TAIL_BYTES = 15, 16_384
NOTEBOOKS_BELOW = ("notebook-*/log.txt", "notebook-*/notebook-*/log.txt")


def limit(environ: Mapping[str, str]) -> int:
    "Return how many bytes of a log are kept: `BOATHOUSE_LOG_MIB`, else 100 MiB."
    text = environ.get(SETTING) or str(USUAL_MIB)
    try:
        mib = float(text)
    except ValueError:
        mib = 0.0
    if not 0 < mib < float("inf"):
        raise ClusterError(f"{SETTING} is '{text}'. It takes a number of MiB above 0, such as {USUAL_MIB:.0f}.")
    return int(mib * (1 << 20))


def last_lines(log: Path, count: int = LAST_LINES) -> list[str]:
    "Return the last lines of a log, none if there is no log. Only the end of the file is read."
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return [line[:500] for line in text.splitlines()[-count:]]


class TaskLog:
    "The logs of one attempt in `folder`: its own, and those of the notebooks that it runs."

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._half = folder, limit // 2
        self._lock = threading.Lock()  # a hole made during the cut would be in the last part

    def relieve(self) -> None:
        "Release the disk space of the middle while the log is being written."
        begin = -(-self._half // BLOCK) * BLOCK
        with self._lock, suppress(OSError):  # its folder may be deleted at any time
            for file, size in self._too_long():
                if (end := (size - self._half) // BLOCK * BLOCK) > begin:
                    _punch(file, begin, end - begin)

    def close(self) -> None:
        "Cut out the middle, after all writers have ended."
        with self._lock, suppress(OSError):  # on a full disk the log stays as it is; the task is not at fault
            for file, size in self._too_long():
                _cut(file, self._half, size)

    def _too_long(self) -> Iterable[tuple[Path, int]]:
        for file in (self._folder / "log.txt", *(f for pattern in NOTEBOOKS_BELOW for f in self._folder.glob(pattern))):
            if file.is_file() and (size := file.stat().st_size) > 2 * self._half:
                yield file, size


def keep_relieving(logs: Callable[[], Iterable[TaskLog]], over: threading.Event) -> None:
    "Release disk space of the logs of running tasks repeatedly, until `over` is set."
    while not over.wait(INTERVAL):
        for log in logs():
            log.relieve()


def _punch(file: Path, begin: int, length: int) -> None:
    "Release a part of a file on Linux. On other systems or file systems, the log keeps its full length until the task ends."
    if sys.platform != "linux":
        return
    with file.open("r+b") as opened:
        ctypes.CDLL(None).fallocate(opened.fileno(), KEEP_SIZE_AND_PUNCH_HOLE, ctypes.c_int64(begin), ctypes.c_int64(length))


def _cut(file: Path, half: int, size: int) -> None:
    with file.open("r+b") as log:
        near = min(PIECE, half)
        log.seek(half - near)
        first = _until_a_line_ends(log.read(near))
        to = half - near + len(first)
        log.seek(size - half)
        start = size - half + near - len(_from_a_line_on(log.read(near)))
        notice = f"... {start - to} bytes left out: the first and the last part of a log are kept; {SETTING} says how much ...\n".encode()
        notice = notice if first.endswith(b"\n") else b"\n" + notice
        log.seek(to)
        if start - to <= len(notice):
            return
        log.write(notice)
        _move(log.fileno(), start, log.tell(), size - start)


def _until_a_line_ends(text: bytes) -> bytes:
    "Return the text up to its last line end, or without a line end up to its last whole character."
    return text[: found + 1] if (found := text.rfind(b"\n")) >= 0 else text.rstrip(INNER).rstrip(FIRST)


def _from_a_line_on(text: bytes) -> bytes:
    return text[found + 1 :] if (found := text.find(b"\n")) >= 0 else text.lstrip(INNER)


def _move(descriptor: int, start: int, to: int, length: int) -> None:
    "Move the end of a file towards its beginning, and truncate the file there."
    for done in range(0, length, PIECE):
        os.pwrite(descriptor, os.pread(descriptor, min(PIECE, length - done), start + done), to + done)
    os.ftruncate(descriptor, to + length)
