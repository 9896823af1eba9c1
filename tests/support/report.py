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


def group_of(item: pytest.Item) -> str:
    "Tests of a group run in one process: those of a file, each chapter of the kit alone, and the chapters of the flights, which share tables."
    file = item.nodeid.split("::")[0]
    chapter = item.name.partition("[")[2].rstrip("]")
    return f"{file}:{chapter}" if chapter.startswith("kit/") and file.endswith("test_notebooks.py") else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    "Long tests run in order of importance."
    items.sort(key=order_of)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    "Leaves out a long test that would not end in time, before its fixtures are made."
    mark, until = item.get_closest_marker("long"), os.environ.get(UNTIL)
    if mark is not None and until and time.time() + 60 * mark.kwargs["minutes"] > float(until):
        pytest.skip(f"{LEFT_OUT}: it may take {mark.kwargs['minutes']} minutes")


def seconds_by_folder(reports: list[pytest.TestReport]) -> Counter[str]:
    "The seconds of set-up, call and tear-down together, by the folder of the test (a file that lies in `tests` itself counts as one)."
    seconds: Counter[str] = Counter()
    for report in reports:
        file = report.nodeid.split("::")[0]
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
