"The parent of the processes that run Python UDFs imports what models need, and only while nobody asks it for a process."

import os
import sys

import pytest

from boathouse.workspace.spark import udf_daemon as udfdaemon


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    "Two modules that are not imported, and one that is not installed."
    names = ["this", "antigravity_not_installed", "symtable"]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(udfdaemon, "MODULES", names)
    return names


def test_one_module_is_imported_each_time_that_nothing_is_ready(modules: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    poller = udfdaemon.Poller()
    seen = []
    for _ in range(4):
        assert poller.poll(0) == []
        seen.append([name for name in modules if name in sys.modules])
    assert seen == [["this"], ["this", "symtable"], ["this", "symtable"], ["this", "symtable"]]


def test_a_request_is_answered_before_anything_is_imported(modules: list[str]) -> None:
    read, write = os.pipe()
    try:
        poller = udfdaemon.Poller()
        poller.register(read, udfdaemon.select.POLLIN)
        os.write(write, b"x")
        assert poller.poll(1000) == [(read, udfdaemon.select.POLLIN)]
        assert not set(modules) & set(sys.modules)
    finally:
        os.close(read)
        os.close(write)


def test_udfs_run_in_processes_of_this_daemon(spark) -> None:
    def parent(batches):
        import sys

        import pandas as pd

        for _ in batches:
            yield pd.DataFrame({"name": [sys.modules["__main__"].__spec__.name]})

    assert spark.range(1).mapInPandas(parent, "name string").first().name == udfdaemon.__name__
