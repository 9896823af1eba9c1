"The code that runs: notebooks, scripts, files, packages."

from __future__ import annotations

from typing import Any

import pytest

HEADER = "# Databricks notebook source\n"
ENV = "environments: [{environment_key: e}]\n"
WHEEL = ENV + "tasks: [{task_key: t, environment_key: e, python_wheel_task: {package_name: mine, entry_point: main}}]\n"
SCRIPT = ENV + "tasks: [{task_key: t, environment_key: e, spark_python_task: {python_file: ^s.py}}]\n"
NOTEBOOK = "tasks: [{task_key: t, notebook_task: {notebook_path: ^n.py}}]\n"
ARTIFACT = "bundle: {name: demo}\nartifacts: {mine: {type: whl, path: pkg, build: make}}\nresources: {jobs: {a: {"
PYPROJECT = '[project]\nname = "mine"\nversion = "1"\n[project.scripts]\nmain = "mine.cli:main"\n'
CASES = [
    (
        "no-notebook",
        NOTEBOOK.replace("n.py", "report"),
        {"report.py": HEADER},
        "there is no notebook 'report'. Write it with its extension: 'report.py'.",
    ),
    ("no-notebook", NOTEBOOK.replace("n.py", "nn.py"), {}, "there is no notebook 'nn.py'. Did you mean 'n.py'?"),
    (
        "not-a-notebook",
        NOTEBOOK.replace("n.py", "s.py"),
        {},
        "'s.py' is not a notebook. Its first line must be '# Databricks notebook source'.",
    ),
    (
        "notebook-language",
        NOTEBOOK.replace("n.py", "n.scala"),
        {"n.scala": "// Databricks notebook source\n"},
        "'n.scala' is a .scala notebook, which this machine does not run.",
    ),
    ("no-script", SCRIPT.replace("s.py", "main.py"), {"mian.py": ""}, "there is no file 'main.py'. Did you mean 'mian.py'?"),
    ("script-is-notebook", SCRIPT.replace("s.py", "n.py"), {}, "'n.py' is a notebook. Use a notebook_task."),
    (
        "no-file",
        "tasks: [{task_key: t, libraries: [{requirements: ^reqs.txt}], notebook_task: {notebook_path: n.py}}]\n",
        {"req.txt": ""},
        "there is no file 'reqs.txt'. Did you mean 'req.txt'?",
    ),
    (
        "outside-sync-root",
        SCRIPT.replace("s.py", "../outside.py"),
        {"../outside.py": "print(1)\n"},
        "'../outside.py' lies outside what the bundle deploys. Name its folder, and the bundle's own (`.`), under `sync.paths`.",
    ),
    (
        "workspace-path",
        NOTEBOOK.replace("n.py", "/Workspace/Shared/report"),
        {},
        "the notebook '/Workspace/Shared/report' lies in a workspace, not in the bundle.",
    ),
    (
        "workspace-path",
        SCRIPT.replace("^s.py", "^dbfs:/jobs/s.py"),
        {},
        "the script 'dbfs:/jobs/s.py' lies in a workspace or a cloud store, not in the bundle.",
    ),
    (
        "no-package",
        WHEEL.replace("mine", "^nowhere"),
        {},
        "the package 'nowhere' is not installed here. "
        "Name its wheel in the task's 'libraries' or environment, or install it into this environment.",
    ),
    (
        "no-entry-point",
        WHEEL.replace("entry_point: main", "entry_point: ^mian"),
        {"pyproject.toml": PYPROJECT},
        "'mine' has no entry point 'mian'. Did you mean 'main'?",
    ),
]


@pytest.mark.parametrize(("rule", "text", "files", "message"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_code_that_is_not_there_is_named_with_its_place(
    check: Any, page: Any, rule: str, text: str, files: dict[str, str], message: str
) -> None:
    assert check(text, files) == [f"{rule} ^ {message}"]
    page.shows(rule, message)


def test_a_line_that_pip_would_not_take_is_named(check: Any, page: Any) -> None:
    text = "environments: [{environment_key: e, spec: {dependencies: [^six=1.0]}}]\n"
    message = "'six=1.0' is not a requirement as pip has them. Write it as `name`, `name==1.0` or `name[extra]>=1.0`."
    assert check(text + "tasks: [{task_key: t, environment_key: e, spark_python_task: {python_file: s.py}}]\n") == [f"library ^ {message}"]
    page.shows("library", message)


POETRY = '[tool.poetry]\nname = "mine"\nversion = "1"\n[tool.poetry.scripts]\nmain = "mine:main"\n'
SETUP_CFG = "[metadata]\nname = mine\n[options.entry_points]\nconsole_scripts =\n    main = mine:main\n"
SETUP_PY = "from setuptools import setup\nsetup(name='mine', entry_points={'packages': ['main=mine:main']})\n"
COMPUTED = "from setuptools import setup\nfrom v import name, points\nsetup(name=name, entry_points=points())\n"


@pytest.mark.parametrize(
    "files",
    [
        {"pkg/pyproject.toml": PYPROJECT},
        {"pkg/pyproject.toml": PYPROJECT.replace("project.scripts", "project.entry-points.jobs")},
        {"pkg/pyproject.toml": POETRY},
        {"pkg/setup.cfg": SETUP_CFG, "pkg/setup.py": "from setuptools import setup\nsetup()\n"},
        {"pkg/setup.py": SETUP_PY},
        {"pkg/setup.py": COMPUTED},
        {"pkg/setup.py": COMPUTED.replace("name=name", "name='mine'")},
        {"pkg/pyproject.toml": '[project]\nname = "mine"\n', "pkg/src/mine/__init__.py": "def main():\n    pass\n"},
        {"pkg/pyproject.toml": '[project]\nname = "Mine"\ndynamic = ["entry-points"]\n'},
    ],
    ids=[
        "scripts",
        "entry points",
        "poetry",
        "setup.cfg",
        "setup.py",
        "computed",
        "computed entry points",
        "function of the package",
        "dynamic",
    ],
)
def test_the_package_an_artifact_builds_is_found_however_it_is_described(check: Any, files: dict[str, str]) -> None:
    job = ARTIFACT + "environments: [{environment_key: e}], tasks: [{task_key: t, environment_key: e, "
    assert check(job + "python_wheel_task: {package_name: mine, entry_point: main}}]}}}\n", files) == []


@pytest.mark.parametrize(
    "library",
    [
        "whl: libs/mine-1.0-py3-none-any.whl",
        "pypi: {package: mine==1.0}",
        "whl: /Volumes/c/s/v/mine-1.0-py3-none-any.whl",
        "whl: /Workspace/libs/*.whl",
    ],
)
def test_a_package_that_a_library_brings_is_not_doubted(check: Any, library: str) -> None:
    task = (
        f"{{task_key: t, existing_cluster_id: c, libraries: [{{{library}}}], python_wheel_task: {{package_name: mine, entry_point: main}}}}"
    )
    assert [f for f in check(f"tasks: [{task}]\n") if not f.startswith("not-run-here")] == []


def test_a_wheel_that_lies_there_or_a_build_that_names_nothing_may_be_the_package(check: Any) -> None:
    task = (
        "{task_key: t, existing_cluster_id: c, libraries: [{whl: libs/*.whl}], python_wheel_task: {package_name: mine, entry_point: main}}"
    )
    assert [f.split()[0] for f in check(f"tasks: [{task}]\n", {"libs/other-1-py3-none-any.whl": ""})] == ["no-package"]
    assert check(f"tasks: [{task}]\n", {"libs/mine-1-py3-none-any.whl": ""}) == []
    assert check(ARTIFACT.replace("pkg", "made") + f"tasks: [{task}]}}}}}}\n", {"libs/x.whl": "", "made/Makefile": ""}) == []


def test_a_file_that_sync_paths_brings_in_is_inside(check: Any) -> None:
    text = "bundle: {name: demo}\nsync: {paths: [., ../shared]}\nresources: {jobs: {a: {tasks: [{task_key: t, notebook_task: "
    assert check(text + "{notebook_path: ../shared/n.py}}]}}}\n", {"../shared/n.py": HEADER}) == []


def test_a_notebook_named_as_a_workspace_knows_it_is_found_here(check: Any) -> None:
    assert check("tasks: [{task_key: t, notebook_task: {notebook_path: '${workspace.file_path}/n'}}]\n") == []
