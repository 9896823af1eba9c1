"""How a run of the suite is dealt out and reported: groups of tests per process, seconds per folder, CPU seconds, long tests that no time is left for.

A pytest plugin that `conftest.py` loads. `long(minutes=...)` says what a test takes on a slow machine; `BOATHOUSE_TESTS_UNTIL` is the moment (seconds since
1970) by which the run must end, and `make long` takes the long tests in the order of their marks.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import psutil
import pytest

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


def group_of(item: pytest.Item, sharing: set[str]) -> str:
    "Tests of a group run in one process: those of a file, the files that share the airport with the flights' chapters, and each chapter of the kit alone."
    file, chapter = file_of(item.nodeid), item.name.partition("[")[2].rstrip("]")
    if file in sharing or chapter.startswith("flights/"):
        return "airport"
    return f"{file}:{chapter}" if chapter.startswith("kit/") and file.endswith("test_notebooks.py") else file


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in a hook of the same name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    "Puts the long tests in order of importance, and each test into its group."
    items.sort(key=order_of)
    sharing = {file_of(item.nodeid) for item in items if "airport" in getattr(item, "fixturenames", ())}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item, sharing)))


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
    left_out = sorted(
        {r.nodeid.rpartition("@")[0] or r.nodeid for r in terminalreporter.stats.get("skipped", []) if LEFT_OUT in str(r.longrepr)}
    )
    if left_out:
        terminalreporter.section(f"{len(left_out)} long tests left out for lack of time")
        for name in left_out:
            terminalreporter.write_line(name)
