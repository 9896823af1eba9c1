"""The parent of the processes that run Python UDFs: PySpark's daemon, which imports what models need while it is idle.

Otherwise each process would import it again, for five seconds.
"""

from __future__ import annotations

import importlib
import importlib.util
import select
from typing import Any

from pyspark import daemon

MODULES = ["pandas", "pyarrow.compute", "sklearn.pipeline", "sklearn.compose", "lightgbm", "mlflow.pyfunc", "mlflow.sklearn", "skops.io"]


class Poller:
    "Replace `select.poll`: import one more module whenever a call would return nothing."

    def __init__(self) -> None:
        self._poll = select.poll()
        self._left = [name for name in MODULES if importlib.util.find_spec(name.partition(".")[0])]

    def poll(self, timeout: int) -> list[tuple[int, int]]:
        "Return what is ready, after at most `timeout` milliseconds or the time of one import."
        ready = self._poll.poll(timeout)
        if not ready and self._left:
            importlib.import_module(self._left.pop(0))
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poll, name)


class Select:
    "Replace the module `select` for PySpark's daemon."

    poll = Poller

    def __getattr__(self, name: str) -> Any:
        return getattr(select, name)


if __name__ == "__main__":
    daemon.select = Select()  # type: ignore[assignment]
    daemon.manager()
