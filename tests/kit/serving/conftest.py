"What the tests of endpoints share: a stand-in for a workspace."

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.serving_api import Workspace, serve_workspace


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Workspace, Any]]:
    "A stand-in, and a client of the SDK for it."
    with serve_workspace() as found:
        yield found
