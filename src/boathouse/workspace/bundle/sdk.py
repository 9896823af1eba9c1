"""Import the dataclasses of the Jobs API, and on demand those of serving endpoints and alerts, without the rest of the SDK, which takes a second to import.

`import databricks.sdk` runs an `__init__` that imports every service. Here that `__init__` is delayed until
code uses a name of the package itself. Modules below the package are imported as usual.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import sys
import threading
import typing
from types import ModuleType
from typing import Any

PACKAGE = "databricks.sdk"
LOCK = threading.RLock()


class _Later(ModuleType):
    "A package whose `__init__` runs on the first use of a name that no import has set yet."

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        # `from . import useragent` uses the package first: the whole `__init__` must not run in the middle of that import.
        if importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
            return importlib.import_module(f"{self.__name__}.{name}")
        self._run()
        if name in self.__dict__:
            return self.__dict__[name]
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")

    def _run(self) -> None:
        with LOCK:
            # The `__init__` itself uses it again, or a thread that waited for it.
            if "_begun" in self.__dict__ or self.__spec__ is None or self.__spec__.loader is None:
                return
            self.__dict__["_begun"] = True
            self.__spec__.loader.exec_module(self)


def _put_off() -> None:
    spec = importlib.util.find_spec(PACKAGE)
    if PACKAGE in sys.modules or spec is None or spec.submodule_search_locations is None:
        return
    package = _Later(PACKAGE)
    package.__spec__, package.__loader__, package.__file__ = spec, spec.loader, spec.origin
    package.__path__, package.__package__ = spec.submodule_search_locations, PACKAGE
    sys.modules[PACKAGE] = package
    # The same steps that the import system takes for a package.
    parent, _, child = PACKAGE.rpartition(".")
    setattr(sys.modules[parent], child, package)


_put_off()

from databricks.sdk.service.jobs import ConditionTask, JobSettings, Task

__all__ = ["ConditionTask", "JobSettings", "Task", "alert_settings", "serving_endpoint"]


@functools.cache
def serving_endpoint() -> type:
    """Return a dataclass with the keys of a serving endpoint in a bundle: what the SDK takes to create one.

    Its `config` has no name, because the endpoint's name is above it.
    """
    from databricks.sdk.service.serving import EndpointCoreConfigInput, ServingEndpointsAPI

    config = [(name, hint, None) for name, hint in typing.get_type_hints(EndpointCoreConfigInput).items() if name != "name"]
    keys = typing.get_type_hints(ServingEndpointsAPI.create)
    keys |= {"config": dataclasses.make_dataclass("Config", config)}
    rest = [(name, hint, None) for name, hint in keys.items() if name not in ("name", "return")]
    return dataclasses.make_dataclass("ServingEndpoint", [("name", str), *rest])


@functools.cache
def alert_settings() -> type:
    "Return the dataclass of an alert in a bundle."
    from databricks.sdk.service.sql import AlertV2

    return AlertV2
