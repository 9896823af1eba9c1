"A little project to run tasks of, on the suite's one cluster."

from __future__ import annotations

import itertools
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boathouse.workspace.cluster import Cluster, TaskProcess, TaskResult, TaskSpec


class Project:
    "A folder of files and the attempts made there."

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.root, self.cluster, self.numbers = root, cluster, itertools.count(1)

    def write(self, name: str, text: str) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"))
        return file

    def launch(self, kind: str = "script", code: str | None = None, **fields: Any) -> TaskProcess:
        number = next(self.numbers)
        if code is not None:
            fields["file"] = self.write(f"task_{number}.py", code)
        spec = TaskSpec(kind=kind, folder=self.root / "runs" / str(number), project=self.root, **fields)
        return self.cluster.launch(spec)

    def run(self, kind: str = "script", code: str | None = None, **fields: Any) -> tuple[TaskResult, str]:
        "The result and the log of one attempt."
        task = self.launch(kind, code, **fields)
        result = task.wait(120)
        assert result is not None
        return result, (task.spec.folder / "log.txt").read_text()

    @property
    def last(self) -> Path:
        "The folder of the latest attempt."
        return max((self.root / "runs").iterdir(), key=lambda folder: int(folder.name))


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster) -> Project:
    return Project(tmp_path, cluster)


def until(holds: Callable[[], bool], seconds: float = 20) -> bool:
    "Whether `holds` comes true in time."
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., bool]:
    return until
