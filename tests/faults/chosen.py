"""A pytest plugin: of the files collected, keep the tests whose names hold one of the words given for their file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

SETTING = "BOATHOUSE_FAULT_TESTS"  # JSON: file -> words; no words keep every test of the file


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    "Deselect what was not asked for."
    rules: dict[str, list[str]] = json.loads(os.environ[SETTING])
    kept, left = [], []
    for item in items:
        words = rules.get(Path(item.path).relative_to(config.rootpath).as_posix(), [])
        (kept if not words or any(word in item.name for word in words) else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept
