"""A pytest plugin that records the outcome of each test for `boathouse score`: `pytest -p boathouse.workspace.score.pytest_plugin`.

It writes below pytest's root folder, or into the file of the option `--evidence`. With pytest-xdist, only the process that collects the reports writes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from boathouse.workspace.score.outcomes import FILE, PASSED, RecordedOutcome, append_outcomes, hash_file, read_commit

NAME = "boathouse-evidence"


def pytest_addoption(parser: pytest.Parser) -> None:
    "Add the options of the plugin."
    group = parser.getgroup("boathouse")
    group.addoption("--evidence", metavar="FILE", help=f"Record the outcomes of tests here. Default: {FILE} in the root folder.")
    group.addoption("--no-evidence", action="store_true", help="Record no outcomes.")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    "Start to record, unless this process is a worker of pytest-xdist or only collects tests."
    if not (config.getoption("--no-evidence") or hasattr(config, "workerinput") or config.option.collectonly):
        file = config.getoption("--evidence")
        config.pluginmanager.register(Recorder(config.rootpath, Path(file) if file else config.rootpath / FILE), NAME)


class Recorder:
    "Gather the phases of each test, and record its outcome when it has ended."

    def __init__(self, root: Path, file: Path) -> None:
        self.root, self.file = root, file
        self.process, (self.commit, self.dirty) = os.getpid(), read_commit(root)
        self.phases: dict[str, list[pytest.TestReport]] = {}
        self.hashes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        "Keep the report of a phase; after the last one, record the test. Processes that a test forks record nothing."
        self.phases.setdefault(report.nodeid, []).append(report)
        if report.when != "teardown" or os.getpid() != self.process:
            return
        reports = self.phases.pop(report.nodeid)
        outcome = join_phases(reports)
        file, seconds = report.nodeid.split("::")[0], sum(one.duration for one in reports)
        if file not in self.hashes:
            self.hashes[file] = hash_file(self.root / file)
        recorded = RecordedOutcome(report.nodeid, outcome, time.time(), round(seconds, 3), self.commit, self.dirty, self.hashes[file])
        append_outcomes(self.file, [recorded])


def join_phases(reports: list[pytest.TestReport]) -> str:
    "Return the outcome of a test from the reports of its set-up, call and tear-down."
    if any(one.failed for one in reports):
        return "failed"
    if any(one.skipped for one in reports):
        return "xfailed" if any(hasattr(one, "wasxfail") for one in reports) else "skipped"
    return PASSED
