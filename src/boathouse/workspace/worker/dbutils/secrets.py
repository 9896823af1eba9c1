"""`dbutils.secrets`: read secrets from environment variables."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from boathouse.workspace.worker.dbutils.help import Utility

REDACTED = "[REDACTED]"


@dataclass(frozen=True)
class SecretMetadata:
    "Hold the name of a secret in a scope."

    key: str


@dataclass(frozen=True)
class SecretScope:
    "Hold the name of a scope."

    name: str


class Secrets(Utility):
    "Secrets from the environment: `BOATHOUSE_SECRET_<SCOPE>_<KEY>`, in capitals, other signs as underscores."

    PREFIX = "BOATHOUSE_SECRET_"

    def __init__(self) -> None:
        self._read = set[str]()

    def get(self, scope: str, key: str) -> str:
        "The secret as text."
        name = f"{self.PREFIX}{_shout(scope)}_{_shout(key)}"
        if name not in os.environ:
            raise ValueError(f"Secret does not exist with scope: {scope} and key: {key}. Set the environment variable {name}.")
        if os.environ[name]:
            self._read.add(os.environ[name])
        return os.environ[name]

    def getBytes(self, scope: str, key: str) -> bytes:
        "The secret as bytes."
        return self.get(scope, key).encode()

    def list(self, scope: str) -> list[SecretMetadata]:
        "The names of a scope's secrets."
        start = f"{self.PREFIX}{_shout(scope)}_"
        return [SecretMetadata(name.removeprefix(start).lower()) for name in sorted(os.environ) if name.startswith(start)]

    def listScopes(self) -> Sequence[SecretScope]:
        "The names of the scopes."
        names = {name.removeprefix(self.PREFIX).split("_")[0].lower() for name in os.environ if name.startswith(self.PREFIX)}
        return [SecretScope(name) for name in sorted(names)]

    def _redacted(self, text: str) -> str:
        "Return a text with the secrets that were read so far replaced, as Databricks shows it."
        # Each secret as it is, as Python's repr, and as HTML.
        forms = {form for value in self._read for form in (value, repr(value)[1:-1], html.escape(value))}
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, REDACTED)
        return text


def _shout(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())
