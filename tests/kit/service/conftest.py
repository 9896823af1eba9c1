"What the tests of the service share: one bundle with an MLflow registry, without Spark."

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.services import bundle_registry


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with bundle_registry(tmp_path_factory.mktemp("bundle")) as folder:
        yield folder
