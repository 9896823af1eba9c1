"""How a run of the suite is dealt out and reported: groups of tests per process, seconds per folder, CPU seconds, long tests that no time is left for.

A pytest plugin that `conftest.py` loads. `long(minutes=...)` says what a test takes on a slow machine; `BOATHOUSE_TESTS_UNTIL` is the moment (seconds since
1970) by which the run must end, and `make long` takes the long tests in the order of their marks.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from functools import cache
from pathlib import Path

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

BEGAN = pytest.StashKey[float]()
FILES = pytest.StashKey[set[str]]()  # with a long test that was left out
UNTIL = "BOATHOUSE_TESTS_UNTIL"
LEFT_OUT = "left out, no time for it"


def pytest_configure(config: pytest.Config) -> None:
    "Remembers what the processors had done when the run began."
    config.stash[BEGAN] = machine_seconds()


def machine_seconds() -> float:
    "Seconds that the processors of this machine have worked since it started, whoever they worked for: clusters that tests start belong to no process here."
    used = psutil.cpu_times()
    return used.user + used.nice + used.system if hasattr(used, "nice") else used.user + used.system


def order_of(item: pytest.Item) -> int:
    "The place of a test among the long ones; tests that are not long come first."
    mark = item.get_closest_marker("long")
    return mark.kwargs["order"] if mark else 0


def file_of(nodeid: str) -> str:
    "The file of a test, as its id names it."
    return nodeid.split("::")[0]


@cache
def shared_lake(file: str) -> str:
    "The fixture of tables that the tests of a file share with other files, which then run in one process: filling them costs half a minute to minutes."
    text = Path(file).read_text(encoding="utf-8") if file.startswith("tests/flights/") else ""
    return next((name for name in ("airport", "calm_lake") if name in text), "")


class Groups(LoadScopeScheduling):
    "Deals out the tests: those of a group to one process. (With pytest 9, xdist's own groups have no effect.)"

    def _split_scope(self, nodeid: str) -> str:
        file, chapter = file_of(nodeid), nodeid.partition("[")[2].rstrip("]")
        if chapter.startswith("flights/"):  # they use the airport too
            return "airport"
        if shared := shared_lake(file):
            return shared
        if file.endswith("_on_a_cluster.py"):  # they share two executors
            return "executors"
        return nodeid if chapter.startswith("kit/") and file.endswith("test_notebooks.py") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups:
    "Tests of a file run in one process, files that share tables in one, those with the airport beside the flights' chapters, each chapter of the kit wherever there is time."
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    "Puts the long tests in order of importance."
    items.sort(key=order_of)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    "Leaves out a long test that would not end in time, before its fixtures are made, and all that follow it in its file: they share them."
    mark, until = item.get_closest_marker("long"), os.environ.get(UNTIL)
    if mark is None or not until:
        return
    left_out, minutes = item.config.stash.setdefault(FILES, set()), mark.kwargs["minutes"]
    if file_of(item.nodeid) in left_out or time.time() + 60 * minutes > float(until):
        left_out.add(file_of(item.nodeid))
        pytest.skip(f"{LEFT_OUT}: it may take {minutes} minutes")


def seconds_by_folder(reports: list[pytest.TestReport]) -> Counter[str]:
    "The seconds of set-up, call and tear-down together, by the folder of the test (a file that lies in `tests` itself counts as one)."
    seconds: Counter[str] = Counter()
    for report in reports:
        file = file_of(report.nodeid)
        seconds[os.path.dirname(file) if os.path.dirname(file) != "tests" else file] += report.duration
    return seconds


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    "Prints the seconds by folder, the CPU seconds and the long tests that were left out."
    reports = [r for found in terminalreporter.stats.values() for r in found if isinstance(r, pytest.TestReport)]
    if sum(report.duration for report in reports) < 60:
        return
    terminalreporter.section("seconds by folder")
    for folder, seconds in seconds_by_folder(reports).most_common():
        terminalreporter.write_line(f"{seconds:8.0f} {folder}")
    terminalreporter.write_line(f"{machine_seconds() - terminalreporter.config.stash[BEGAN]:8.0f} CPU seconds of the machine")
    left_out = sorted({r.nodeid for r in terminalreporter.stats.get("skipped", []) if LEFT_OUT in str(r.longrepr)})
    if left_out:
        terminalreporter.section(f"{len(left_out)} long tests left out for lack of time")
        for name in left_out:
            terminalreporter.write_line(name)
