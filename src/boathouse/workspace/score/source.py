"Where evidence is read from: the project, the state folder of a target, the history of its runs, and its MLflow store. No JVM is started."

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from boathouse.workspace.bundle.jobs import Job, all_jobs
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.history.schema import open_read_only
from boathouse.workspace.score.outcomes import FILE, RecordedOutcome, count_commits, read_commit, read_outcomes
from boathouse.workspace.score.rubric import Requirement, Rubric
from boathouse.workspace.spark.delta_log import table_folders

DAY = 86_400


@dataclass(frozen=True)
class EvidenceFinding:
    """Hold whether a piece of evidence is there. `text` says what was found, `at` when it was recorded, `commit` at which commit.

    `renew` is the kind of evidence whose command would record it; empty if no command would.
    """

    requirement: Requirement
    holds: bool
    text: str
    at: datetime | None = None
    commit: str = ""
    renew: str = ""


@dataclass(frozen=True)
class Champion:
    "Hold the version of a registered model that has the alias champion, its run, and the folder of the run's artifacts."

    model: str
    version: int
    run_id: str
    artifacts: Path | None


@dataclass(frozen=True)
class EvidenceSource:
    "Hold a target of a bundle, a rubric and the present time; read what they need once."

    bundle: Bundle
    rubric: Rubric
    now: datetime

    @property
    def root(self) -> Path:
        "Return the folder of the bundle."
        return self.bundle.root

    @cached_property
    def jobs(self) -> dict[str, Job]:
        "Return the jobs of the bundle."
        return all_jobs(self.bundle)

    @cached_property
    def outcomes(self) -> dict[str, RecordedOutcome]:
        "Return the last outcomes of the project's tests."
        return read_outcomes(self.root / FILE)

    @cached_property
    def commit(self) -> tuple[str, bool]:
        "Return the present commit, and whether the checkout differs from it."
        return read_commit(self.root)

    @cached_property
    def _distances(self) -> dict[str, int | None]:
        return {}

    def describe_commit(self, commit: str) -> str:
        "Return a commit as text, with the number of commits since it; empty outside of git."
        if not commit:
            return ""
        if commit not in self._distances:
            self._distances[commit] = count_commits(self.root, commit)
        behind = self._distances[commit]
        since = "not in this history" if behind is None else f"{behind} commits ago" if behind else ""
        return f" at commit {commit[:8]}" + (f", {since}" if since else "")

    def age(self, at: datetime) -> str:
        "Return the age of a time as text: minutes, hours or days."
        seconds = max((self.now - at).total_seconds(), 0)
        for unit, size in (("days", DAY), ("hours", 3600)):
            if seconds >= 2 * size:
                return f"{seconds / size:.0f} {unit} ago"
        return f"{seconds / 60:.0f} minutes ago"

    def is_stale(self, at: datetime) -> bool:
        "Return whether evidence of this time is older than the rubric allows."
        days = self.rubric.stale_after_days
        return days is not None and (self.now - at).total_seconds() > days * DAY

    def history_rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        "Return rows of the history of runs; none if there is no history yet."
        return query_file(self.bundle.state / "workspace.db", query, *values)

    def mlflow_rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        "Return rows of the MLflow store; none if there is no store yet."
        return query_file(self.bundle.state / "mlflow.db", query, *values)

    @cached_property
    def tables(self) -> dict[str, Path]:
        "Return the folders of the target's Delta tables, by `schema.table`."
        return dict(table_folders(self.bundle.state / "warehouse"))

    @cached_property
    def champion(self) -> Champion | None:
        "Return the champion of the rubric's model; None if there is none."
        model = f"{self.bundle.catalog}.{self.rubric.model}"
        found = self.mlflow_rows(
            "SELECT v.version, v.run_id, r.artifact_uri FROM registered_model_aliases a JOIN model_versions v ON v.name = a.name AND v.version = a.version"
            " LEFT JOIN runs r ON r.run_uuid = v.run_id WHERE a.name = ? AND a.alias = 'champion'",
            model,
        )
        if not self.rubric.model or not found:
            return None
        place = urlparse(found[0]["artifact_uri"] or "")
        folder = Path(unquote(place.path)) if place.path and place.scheme in ("", "file") else None
        return Champion(model, int(found[0]["version"]), found[0]["run_id"] or "", folder)


def query_file(file: Path, query: str, *values: Any) -> list[sqlite3.Row]:
    "Return rows of a SQLite file, which is opened for reading; none if the file or a table is missing."
    if not file.is_file():
        return []
    with closing(open_read_only(file)) as database:
        database.row_factory = sqlite3.Row
        try:
            return database.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


def from_millis(milliseconds: int) -> datetime:
    "Return milliseconds since 1970 as time in UTC."
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
