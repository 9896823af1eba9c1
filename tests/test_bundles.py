"""The bundle itself: it loads for every target, nothing in it is refused, and it keeps the habits of the house."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load, target_names
from boathouse.workspace.validate.check import bundle_findings, findings

ROOT = Path(__file__).parent.parent
TARGETS = target_names(ROOT)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_in_a_target_is_wrong_refused_or_doubtful(target: str) -> None:
    bundle = load(ROOT, target)
    jobs = all_jobs(bundle)
    said = [*bundle_findings(bundle), *(f for job in jobs.values() for f in findings(jobs, job))]
    assert [str(f.problem) for f in said if f.level != "note"] == []


def test_a_catalog_is_spark_s_own_on_this_machine_and_the_target_s_elsewhere() -> None:
    assert {t: load(ROOT, t).catalog for t in TARGETS} == {
        "local": "spark_catalog",
        "year": "spark_catalog",
        "demo": "spark_catalog",
        "dev": "dev",
        "staging": "staging",
        "prod": "prod",
    }


def test_each_job_has_a_file_of_its_name_and_everything_is_described() -> None:
    jobs = all_jobs(load(ROOT))
    assert {p.stem for p in (ROOT / "bundles").glob("*.yml")} == {*jobs, "resources", "dashboard"}
    silent = [job.key for job in jobs.values() if not job.settings.description]
    silent += [f"{job.key}.{task.key}" for job in jobs.values() for task in job.tasks.values() if not task.task.description]
    assert silent == []


def test_a_task_that_joins_branches_says_when_it_runs() -> None:
    jobs = all_jobs(load(ROOT))
    joins = [
        f"{job.key}.{task.key}"
        for job in jobs.values()
        for task in job.tasks.values()
        if len(task.task.depends_on or []) > 1 and not task.task.run_if
    ]
    assert joins == []


@pytest.mark.parametrize("path", [ROOT / "databricks.yml", *sorted((ROOT / "bundles").glob("*.yml"))], ids=lambda p: p.name)
def test_no_host_user_or_id_is_written_down(path: Path) -> None:
    text = path.read_text()
    assert yaml.safe_load(text)
    assert not re.search(r"https?://|/Users/|@\w+\.\w+|job_id: \d|cluster_id", text)
