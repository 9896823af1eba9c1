"""Errors of the local workspace. Each message states what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Where:
    "Hold a place in a bundle file; line and column count from 1, and 0 stands for the whole file."

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        parts = [self.file, *(str(n) for n in (self.line, self.column) if n)]
        return ":".join(parts)


class BundleError(Exception):
    "Signal that a bundle, job or command line is refused before anything runs."

    def __init__(self, message: str, where: Where | None = None, hint: str = "") -> None:
        self.message, self.where, self.hint = message, where, hint
        super().__init__(message, where, hint)

    def __str__(self) -> str:
        sentence = f"{self.message} {self.hint}".strip()
        return f"{self.where}: {sentence}" if self.where else sentence

    def as_json(self) -> dict[str, Any]:
        "Return the error as `--json` prints it."
        where = self.where or Where("")
        if where.file.startswith("--"):  # an option of the command line is not a file
            where, option = Where(""), f"{where.file}: "
        else:
            option = ""
        message = f"{option}{self.message} {self.hint}".strip()
        return {"error": {"file": where.file or None, "line": where.line or None, "column": where.column or None, "message": message}}


class CannotStart(Exception):
    "Signal that a task cannot start: a reference without a value, `inputs` that are not an array, operands that are not numbers."


class ClusterError(Exception):
    "Signal that the cluster is not running: it was stopped, or one of its processes died."


class QueryFailed(Exception):
    "Signal that Spark cannot run a statement; the message is Spark's."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    "Return `Did you mean 'x'?` for the most similar known name, or an empty string if none is similar."
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else ""
