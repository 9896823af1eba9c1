"""The common part of the modules of `dbutils`: `help()`, and the message for names that are not available here."""

from __future__ import annotations

import inspect
from typing import Any


class Utility:
    "A module of `dbutils`."

    def help(self, name: str = "") -> None:
        "Prints the module's commands, or one of them."
        commands = {n: m for n, m in inspect.getmembers(type(self), inspect.isfunction) if not n.startswith("_") and n != "help"}
        if name and name not in commands:
            raise ValueError(f"there is no command '{name}'; there are: {', '.join(commands)}")
        print(inspect.getdoc(self), "\n")
        for command in [name] if name else commands:
            print(f"{command}{_signature(commands[command])} -> {inspect.getdoc(commands[command])}")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(missing_utility(type(self).__name__, name, [n for n in dir(type(self)) if not n.startswith("_")]))


def missing_utility(module: str, name: str, known: list[str]) -> str:
    "Return the message about a part of `dbutils` that the local workspace does not have."
    return f"{module.lower()} has no '{name}' in the local workspace; it has: {', '.join(known)}"


def _signature(command: Any) -> str:
    given = inspect.signature(command)
    parameters = [p.replace(annotation=p.empty) for n, p in given.parameters.items() if n != "self"]
    return str(inspect.Signature(parameters))
