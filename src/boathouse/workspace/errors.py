"""What the workspace room says when it refuses: what, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Where:
    "A place in a bundle file; line and column count from 1, and 0 means the file as a whole."

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        parts = [self.file, *(str(n) for n in (self.line, self.column) if n)]
        return ":".join(parts)


class BundleError(Exception):
    "A bundle, job or command line that is refused before anything runs."

    def __init__(self, message: str, where: Where | None = None, hint: str = "") -> None:
        self.message, self.where, self.hint = message, where, hint
        super().__init__(message, where, hint)

    def __str__(self) -> str:
        sentence = f"{self.message} {self.hint}".strip()
        return f"{self.where}: {sentence}" if self.where else sentence

    def as_json(self) -> dict[str, Any]:
        "The refusal as `--json` prints it."
        where = self.where or Where("")
        if where.file.startswith("--"):  # an option of the command line is no file
            where, option = Where(""), f"{where.file}: "
        else:
            option = ""
        message = f"{option}{self.message} {self.hint}".strip()
        return {"error": {"file": where.file or None, "line": where.line or None, "column": where.column or None, "message": message}}


class CannotStart(Exception):
    "A task that fails by its own definition: a reference without a value, inputs that are no array, operands that are no numbers."


class ClusterError(Exception):
    "The cluster is not there (any more): stopped, or one of its processes died."


class QueryFailed(Exception):
    "What Spark says about a statement that it cannot run."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    "`Did you mean 'x'?` for the nearest known name, or an empty string when nothing is near."
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else ""
