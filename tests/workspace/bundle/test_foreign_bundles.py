"""Bundles as other people write them: hosts, clusters, permissions, schedules and all. Each is valid, and what does not run here is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from boathouse.workspace.validate.report import check_bundle

BUNDLES = Path(__file__).parents[1] / "bundles"
# What is refused, as `place: message`; every other job runs.
REFUSED = {
    "conditions": [],
    "for_each": [],
    "included_targets": [],
    "outside_files/project": [],
    "poetry_wheel": ["databricks.yml:79:11: task 'refresh' is a pipeline_task, which this machine does not run."],
    "run_job": [],
    "several_wheels": [],
    "sql_notebooks": [
        "databricks.yml:36:11: task 'report' is a sql_task, which this machine does not run.",
        "databricks.yml:42:27: ${var.warehouse} has no value on this machine: it is looked up in a workspace. "
        "Give the variable a value with --var.",
    ],
    "task_values": [],
    "volumes_and_secrets": [],
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bundle_of_somebody_else_is_valid_in_every_target(name: str) -> None:
    report = check_bundle(BUNDLES / name)
    assert report.refusal is None
    by_level = {
        level: sorted(str(r.finding.problem) for r in report.remarks if r.finding.level == level)
        for level in ("error", "refused", "advice")
    }
    assert by_level == {"error": [], "refused": REFUSED[name], "advice": []}


def test_no_bundle_is_left_out() -> None:
    assert {str(file.parent.relative_to(BUNDLES)) for file in BUNDLES.rglob("databricks.yml")} == set(REFUSED)


def test_only_a_pipeline_and_sql_files_keep_a_job_from_running_here() -> None:
    from boathouse.workspace.bundle.jobs import all_jobs
    from boathouse.workspace.bundle.load import load
    from boathouse.workspace.validate.check import findings

    runnable = {}
    for name in REFUSED:
        jobs = all_jobs(load(BUNDLES / name, environ={}))
        runnable |= {f"{name}/{key}": not any(f.level in ("error", "refused") for f in findings(jobs, job)) for key, job in jobs.items()}
    assert [job for job, runs in runnable.items() if not runs] == ["poetry_wheel/refresh", "sql_notebooks/files"]
    assert len(runnable) >= 14
