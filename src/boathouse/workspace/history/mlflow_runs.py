"""Read the MLflow runs of a target's tasks from the target's MLflow store.

The store is read as the SQLite file it is: MLflow's own client takes seconds to open it and may write to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from boathouse.workspace.history.schema import open_read_only

SHOWN_FILES = (".html", ".png", ".json")
JOB, TASK_RUN = "mlflow.databricks.jobID", "mlflow.databricks.jobRunID"  # the tags in which MLflow records the job and the task run


@dataclass(frozen=True)
class MlflowRun:
    """Hold one MLflow run; `task_run` is the id of the task run that logged it, as MLflow recorded it.

    `files` are those at the top of its artifacts that a browser shows, pages first.
    """

    run_id: str
    name: str
    experiment: str
    task_run: str
    files: tuple[Path, ...]


def mlflow_runs(store: Path, task_runs: Collection[str], named: Collection[str]) -> list[MlflowRun]:
    "Return the MLflow runs that one of the task runs has logged, or whose id is in `named`, oldest first; nested runs are left out."
    if not store.is_file():
        return []
    with closing(open_read_only(store)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
            return []  # MLflow is about to create it
        rows = database.execute(
            "SELECT r.run_uuid, r.name, e.name, r.artifact_uri, coalesce(t.value, '') FROM runs r JOIN experiments e USING (experiment_id)"
            " LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = ? WHERE r.lifecycle_stage = 'active' AND r.run_uuid NOT IN"
            " (SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId') ORDER BY r.start_time",
            (TASK_RUN,),
        ).fetchall()
    return [
        MlflowRun(run_id, name or run_id, experiment, task_run, _files(address or ""))
        for run_id, name, experiment, address, task_run in rows
        if task_run in task_runs or run_id in named
    ]


def _files(address: str) -> tuple[Path, ...]:
    place = urlparse(address)
    folder = Path(unquote(place.path))
    return tuple(browsable(folder.iterdir())) if place.scheme in ("", "file") and folder.is_dir() else ()


def browsable(files: Iterable[Path]) -> list[Path]:
    "Return the files that a browser shows: pages first, then pictures, then JSON."
    return sorted((f for f in files if f.suffix in SHOWN_FILES and f.is_file()), key=lambda f: (SHOWN_FILES.index(f.suffix), f.name))
