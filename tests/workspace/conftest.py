"A little project to run tasks of, on the suite's one cluster; and a little bundle with projects to build wheels of."

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.cluster.cluster import Cluster, TaskProcess, TaskResult, TaskSpec
from boathouse.workspace.packages.prepare import Packages, Preparation, prepare
from boathouse.workspace.validate.check import refuse_unrunnable


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


def until(holds: Callable[[], bool], seconds: float = 60) -> bool:
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


PROJECT = """
[build-system]
requires = ["setuptools>=60"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "{version}"
dependencies = {needs}
scripts = {{go = "{name}.main:go"}}
[tool.setuptools.packages.find]
where = ["src"]
"""


class Tiny:
    "A bundle of one job `a` in a folder, and projects of setuptools in it; pip has no network."

    def __init__(self, root: Path) -> None:
        self.root = root

    def project(self, name: str, main: str, folder: str = ".", *, version: str = "1.0", needs: tuple[str, ...] = (), **files: str) -> Path:
        "In src layout: `main` is the package's module `main`, `files` are more of its files, with `__` for a dot."
        package = self.root / folder / "src" / name
        package.mkdir(parents=True)
        (self.root / folder / "pyproject.toml").write_text(PROJECT.format(name=name, version=version, needs=list(needs)))
        for file, text in {"__init__.py": "", "main.py": main, **files}.items():
            (package / file.replace("__py", ".py").replace("__txt", ".txt")).write_text(textwrap.dedent(text))
        return self.root / folder

    def wheel(self, project: Path, into: str) -> None:
        words = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(self.root / into), str(project)]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)

    def bundle(self, *tasks: str, artifacts: str = "{}", dependencies: str = "[]") -> None:
        "Tasks are names of packages, whose entry point `go` they call, or YAML; all share the environment `e`."
        lines = [
            t if t.startswith("{") else f"{{task_key: {t}, environment_key: e, python_wheel_task: {{package_name: {t}, entry_point: go}}}}"
            for t in tasks
        ]
        (self.root / "databricks.yml").write_text(
            f"bundle: {{name: tiny}}\nartifacts: {artifacts}\nresources:\n  jobs:\n    a:\n"
            f'      environments: [{{environment_key: e, spec: {{environment_version: "4", dependencies: {dependencies}}}}}]\n'
            f"      tasks: [{', '.join(lines)}]\n"
        )

    def prepared(self, *, wheel: bool = False) -> tuple[dict[str, Packages], list[str]]:
        "What each task imports from, and what was reported on the way."
        preparation, message = self.preparation(wheel=wheel)
        return {key: packages for (_, _, key), packages in preparation.packages.items()}, message

    def preparation(self, *, wheel: bool = False) -> tuple[Preparation, list[str]]:
        bundle, message = load(self.root, environ={}), list[str]()
        jobs = all_jobs(bundle)
        refuse_unrunnable(jobs, jobs["a"])
        return prepare(bundle, jobs.values(), message.append, wheel=wheel), message


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return Tiny(tmp_path)
