"What the files of a project say of it, whoever asks: validate, a run that builds or imports, the task that calls an entry point."

from __future__ import annotations

from pathlib import Path

import pytest

from boathouse.workspace.packages.pyproject import Project, names_in, project_in
from boathouse.workspace.worker.main import find_entry_point

CFG = "[metadata]\nname = oars\n[options.entry_points]\nconsole_scripts =\n    row = oars.main:go\n"
SETUP = "from setuptools import setup\nsetup(name='oars', entry_points={'jobs': ['row = oars.main:go']})\n"


def project(folder: Path, **files: str) -> Project | None:
    for name, text in files.items():
        (folder / name.replace("_toml", ".toml").replace("_cfg", ".cfg").replace("_py", ".py")).write_text(text)
    return project_in(folder)


@pytest.mark.parametrize(
    "files",
    [
        {"pyproject_toml": '[project]\nname = "oars"\nscripts = {row = "oars.main:go"}\n'},
        {"pyproject_toml": '[project]\nname = "oars"\ngui-scripts = {row = "oars.main:go"}\n'},
        {"pyproject_toml": '[project]\nname = "oars"\nentry-points = {jobs = {row = "oars.main:go"}}\nscripts = {row = "oars:other"}\n'},
        {"pyproject_toml": '[tool.poetry]\nname = "oars"\nscripts = {row = "oars.main:go"}\n'},
        {"pyproject_toml": '[build-system]\nrequires = ["setuptools"]\n', "setup_cfg": CFG},
        {"pyproject_toml": '[project]\nname = "oars"\ndynamic = ["scripts"]\n', "setup_cfg": CFG},
        {"setup_py": SETUP},
        {"setup_cfg": CFG, "setup_py": "from setuptools import setup\nsetup()\n"},
    ],
    ids=[
        "scripts",
        "gui scripts",
        "group before scripts",
        "poetry",
        "setup.cfg",
        "dynamic by setup.cfg",
        "setup.py",
        "setup.cfg and setup.py",
    ],
)
def test_a_project_has_one_name_and_the_entry_points_of_whichever_file_states_them(tmp_path: Path, files: dict[str, str]) -> None:
    found = project(tmp_path, **files)
    assert found is not None
    assert (found.name, found.entry_points) == ("oars", {"row": "oars.main:go"})


def test_what_only_a_build_tells_is_not_guessed(tmp_path: Path) -> None:
    assert project(tmp_path) is None
    assert project(tmp_path, setup_py="from setuptools import setup\nsetup(**about())\n") == Project(tmp_path)
    assert project(tmp_path, pyproject_toml="no toml") == Project(tmp_path)
    left = project(tmp_path, pyproject_toml='[project]\nname = "oars"\ndynamic = ["dependencies", "scripts"]\n', setup_py="")
    assert left == Project(tmp_path, "oars")


def test_what_a_project_needs_to_run_with_an_extra_and_to_be_built_is_read(tmp_path: Path) -> None:
    text = '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "oars"\ndependencies = ["six"]\noptional-dependencies = {Fast_Row = ["numpy"]}\n'
    found = project(tmp_path, pyproject_toml=text)
    assert found is not None
    assert (found.needs([]), found.needs(["fast-row"]), found.build_requires) == (["six"], ["six", "numpy"], ("hatchling",))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    assert project(tmp_path, setup_cfg="[metadata]\nname = oars\n") == Project(tmp_path, "oars", {})
    assert project(tmp_path, setup_cfg="[metadata]\nname = sculls\n") == Project(tmp_path, "sculls", {})


def test_a_task_calls_the_entry_point_that_setup_cfg_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, setup_cfg=CFG.replace("oars.main", "rowing_by_cfg"))
    (tmp_path / "rowing_by_cfg.py").write_text("def go():\n    return 'rowed'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_entry_point(tmp_path, "Oars", "row")() == "rowed"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import a.b, c as d\nfrom e import f\nN = 1\nM: int = 2\ndef g(): ...\nclass H: ...\n", {"a", "d", "f", "N", "M", "g", "H"}),
        ("from a import *\n", None),
        ("def __getattr__(name): ...\n", None),
        ("def go(:\n", None),
    ],
    ids=["all that is there", "a star", "made when asked for", "no Python"],
)
def test_the_names_of_a_module_are_known_unless_code_makes_them(tmp_path: Path, text: str, names: set[str] | None) -> None:
    (tmp_path / "m.py").write_text(text)
    assert names_in(tmp_path / "m.py") == names
