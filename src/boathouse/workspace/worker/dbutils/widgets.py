"""`dbutils.widgets`: the parameters of a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from boathouse.workspace.worker.dbutils.help import Utility

WIDGET_LIMIT = 2048


class InputWidgetNotDefined(ValueError):
    "Signal that a widget is read or removed that neither the notebook defined nor the job passed."


class Widgets(Utility):
    "Parameters of a notebook: what the job passes, else the default that the notebook declared first."

    def __init__(self, passed: Mapping[str, str]) -> None:
        self._passed, self._defaults = dict(passed), dict[str, str]()

    def text(self, name: str, defaultValue: str, label: str | None = None) -> None:
        "Defines a text widget; one of that name keeps its value."
        if len(str(defaultValue).encode()) > WIDGET_LIMIT:
            raise ValueError(
                f"the default of widget '{name}' must have at most {WIDGET_LIMIT} bytes, got {len(str(defaultValue).encode())}"
            )
        self._defaults.setdefault(name, str(defaultValue))

    def dropdown(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        "Defines a widget with one of the choices."
        if defaultValue not in choices:
            raise ValueError(
                f"the default of widget '{name}' must be one of its choices ({', '.join(map(str, choices))}), got '{defaultValue}'"
            )
        self.text(name, defaultValue, label)

    def combobox(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        "Defines a widget with one of the choices or any other text."
        self.text(name, defaultValue, label)

    def multiselect(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        "Defines a widget with any of the choices; its value has commas between them."
        self.dropdown(name, defaultValue, choices, label)

    def get(self, name: str) -> str:
        "The value of a widget."
        known = self.getAll()
        if name not in known:
            raise InputWidgetNotDefined(f"No input widget named {name} is defined. There are: {', '.join(sorted(known)) or 'none'}.")
        return known[name]

    def getAll(self) -> dict[str, str]:
        "The values of all widgets."
        return {**self._defaults, **self._passed}

    def getArgument(self, name: str, defaultValue: str | None = None) -> str:
        "The value of a widget, or the default if there is none of that name."
        known = self.getAll()
        return self.get(name) if defaultValue is None or name in known else defaultValue

    def remove(self, name: str) -> None:
        "Removes a widget."
        if name not in self.getAll():
            raise InputWidgetNotDefined(f"No input widget named {name} is defined.")
        self._defaults.pop(name, None)

    def removeAll(self) -> None:
        "Removes all widgets."
        self._defaults.clear()

    @contextmanager
    def _passing(self, values: Mapping[str, str]) -> Iterator[None]:
        """Pass these values too while the block runs, as `%run other $name="value"` does."""
        before, self._passed = self._passed, {**self._passed, **values}
        try:
            yield
        finally:
            self._passed = before
