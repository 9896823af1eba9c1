"""Capture what a cell prints: written to the task's log at once and, up to a limit, to the executed copy."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from nbformat import NotebookNode
from nbformat.v4 import new_output

LONGEST_TEXT = 1_000_000
LARGEST_OUTPUTS = 20_000_000


class CapturedText:
    "Hold the printed text of one cell in order, up to `LONGEST_TEXT` characters."

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: list[tuple[str, list[str]]] = []
        self._length = self._left_out = 0

    def add(self, name: str, text: str) -> None:
        "Add text printed on the stream `name`."
        with self._lock:
            taken = text[: LONGEST_TEXT - self._length]
            self._length += len(taken)
            self._left_out += len(text) - len(taken)
            if not taken:
                return
            if not self._pieces or self._pieces[-1][0] != name:
                self._pieces.append((name, []))
            self._pieces[-1][1].append(taken)

    def outputs(self) -> list[NotebookNode]:
        "Return the text as outputs of a notebook."
        with self._lock:
            found = [new_output("stream", name=name, text="".join(texts)) for name, texts in self._pieces]
            if self._left_out:
                notice = f"\n... {self._left_out} more characters: they are in the task's log.txt\n"
                found.append(new_output("stream", name="stderr", text=notice))
            return found


class Tee(io.TextIOBase):
    "Write to the stream `through` and keep what was written."

    def __init__(self, name: str, through: TextIO, kept: CapturedText) -> None:
        self._name, self._through, self._kept = name, through, kept

    def write(self, text: str) -> int:
        self._through.write(text)
        self._kept.add(self._name, text)
        return len(text)

    def flush(self) -> None:
        self._through.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._through.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._through.encoding


@contextmanager
def capture_streams() -> Iterator[CapturedText]:
    "Capture what is printed while the block runs, and still write it to the log."
    kept = CapturedText()
    with redirect_stdout(Tee("stdout", sys.stdout, kept)), redirect_stderr(Tee("stderr", sys.stderr, kept)):
        yield kept


def within_limit(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    "Return the outputs of a cell up to `LARGEST_OUTPUTS` characters, with a sentence about the rest."
    room = LARGEST_OUTPUTS
    for number, output in enumerate(shown):
        room -= len(str(output))
        if room < 0:
            return [
                *shown[:number],
                {"output_type": "stream", "name": "stderr", "text": f"... {len(shown) - number} more outputs left out\n"},
            ]
    return shown
