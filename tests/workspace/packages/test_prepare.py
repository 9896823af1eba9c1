"""Wheels are built and libraries installed by pip, without a network, where a run needs them and not where it does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from boathouse.workspace.cli.main import main
from boathouse.workspace.errors import BundleError
from boathouse.workspace.packages.prepare import Packages

if TYPE_CHECKING:
    from conftest import Tiny

OWN_WHEEL = "{tiny: {type: whl, build: python3 -m pip wheel --no-deps --wheel-dir dist .}}"
SCRIPT = "{task_key: t, environment_key: e, spark_python_task: {python_file: s.py}}"
GO = "def go(): print(__file__)\n"


def found(packages: Packages, name: str) -> str:
    "Where a fresh interpreter with these folders first on its path finds a module."
    code = f"import sys; sys.path[:0] = {[str(p) for p in packages.paths]}; import {name}; print({name}.__file__)"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_package_of_the_checkout_needs_no_wheel(tiny: Tiny) -> None:
    tiny.bundle("oars", artifacts=OWN_WHEEL, dependencies="[dist/*.whl]")
    tiny.project("oars", GO)
    assert tiny.prepared() == ({"oars": Packages()}, [])
    assert not (tiny.root / "dist").exists()


@pytest.mark.parametrize("by", ["setup.cfg", "a star import"])
def test_what_validate_accepts_in_the_checkout_a_run_does_too(tiny: Tiny, by: str) -> None:
    tiny.bundle("oars", artifacts=OWN_WHEEL, dependencies="[dist/*.whl]")
    tiny.project("oars", GO, __init____py="from oars.main import *" if by == "a star import" else "")
    file = tiny.root / "pyproject.toml"
    file.write_text(file.read_text().replace('scripts = {go = "oars.main:go"}', 'dynamic = ["scripts"]' if by == "setup.cfg" else ""))
    (tiny.root / "setup.cfg").write_text("[options.entry_points]\nconsole_scripts = go = oars.main:go\n" if by == "setup.cfg" else "")
    assert tiny.prepared() == ({"oars": Packages()}, [])


def test_with_wheel_it_is_built_as_the_bundle_says_and_installed_once_for_the_same_content(tiny: Tiny) -> None:
    tiny.bundle("oars", artifacts=OWN_WHEEL, dependencies="[dist/*.whl]")
    tiny.project("oars", GO, old__py="")
    first, said = tiny.prepared(wheel=True)
    assert said == ["building artifact 'tiny': python3 -m pip wheel --no-deps --wheel-dir dist .", "installing oars-1.0-py3-none-any.whl"]
    assert not first["oars"].checkout
    (folder,) = first["oars"].paths
    assert folder.parent == tiny.root / ".boathouse" / "default" / "artifacts"
    assert found(first["oars"], "oars.main") == str(folder / "oars" / "main.py")

    again, said = tiny.prepared(wheel=True)
    assert again == first
    assert [line.split()[0] for line in said] == ["building"]

    # setuptools would take a deleted file from what the last build left
    (tiny.root / "src" / "oars" / "old.py").unlink()
    edited, _ = tiny.prepared(wheel=True)
    assert [(p["oars"].paths[0] / "oars" / "old.py").exists() for p in (first, edited)] == [True, False]


def test_a_package_from_elsewhere_in_the_bundle_is_built_without_being_asked(tiny: Tiny) -> None:
    artifacts = "{oars: {type: whl, path: libs/oars}, sculls: {type: whl, path: libs/sculls}}"
    tiny.bundle("oars", "sculls", artifacts=artifacts, dependencies="[libs/oars/dist/*.whl, 'libs/sculls/dist/*.whl']")
    for name in ("oars", "sculls"):
        tiny.project(name, GO, f"libs/{name}", needs=("oars==1.0",) if name == "sculls" else ())
    packages, said = tiny.prepared()
    assert [line.split()[0] for line in said] == ["building", "installing", "building", "installing"]
    assert packages["oars"] == packages["sculls"]
    assert [p.name.split("-")[0] for p in packages["oars"].paths] == ["oars", "sculls"]
    assert packages["oars"].checkout


def test_a_wheel_that_lies_there_already_is_installed_without_a_build(tiny: Tiny) -> None:
    project = tiny.project("oars", GO, "elsewhere")
    tiny.wheel(project, "dist")
    shutil.rmtree(project)
    tiny.bundle("oars", dependencies="[dist/*.whl]")
    packages, said = tiny.prepared()
    assert said == ["installing oars-1.0-py3-none-any.whl"]
    assert found(packages["oars"], "oars.main").startswith(str(packages["oars"].paths[0]))

    entry = tiny.root / "databricks.yml"
    entry.write_text(entry.read_text().replace("entry_point: go", "entry_point: goo"))
    with pytest.raises(BundleError, match=r"yml:7:105: 'oars' has no entry point 'goo'\. Did you mean 'go'\?"):
        tiny.prepared()


def test_a_wheel_of_the_checkout_that_was_built_by_hand_does_not_hide_newer_source(tiny: Tiny) -> None:
    tiny.wheel(tiny.project("oars", GO), "dist")
    tiny.bundle("oars", dependencies="[dist/*.whl]")
    assert tiny.prepared() == ({"oars": Packages()}, [])
    assert [p.parent.name for p in tiny.prepared(wheel=True)[0]["oars"].paths] == ["artifacts"]


def test_a_build_whose_tool_is_not_here_says_what_to_do(tiny: Tiny) -> None:
    tiny.bundle("oars", artifacts="{oars: {type: whl, path: libs, build: no-such-tool build}}", dependencies="[libs/dist/*.whl]")
    (tiny.root / "libs").mkdir()
    with pytest.raises(BundleError, match=r"yml:2:\d+: .* exit code 127:\n.*no-such-tool.*not found\nInstall what it calls: on the PATH"):
        tiny.prepared()


def test_a_build_that_fails_or_makes_no_wheel_says_so_at_its_command(tiny: Tiny) -> None:
    tiny.bundle("oars", artifacts="{oars: {type: whl, path: libs, build: 'echo no oars today; exit 3'}}", dependencies="[libs/dist/*.whl]")
    (tiny.root / "libs").mkdir()
    with pytest.raises(BundleError, match=r"yml:2:\d+: the build of artifact 'oars' ended with exit code 3:\nno oars today"):
        tiny.prepared()
    file = tiny.root / "databricks.yml"
    file.write_text(file.read_text().replace("; exit 3", ""))
    with pytest.raises(BundleError, match=r"left no wheel at .*/libs/dist/\*\.whl"):
        tiny.prepared()


def test_a_requirement_that_is_satisfied_installs_nothing_and_one_that_is_not_is_installed_beside(tiny: Tiny) -> None:
    sculls = tiny.project("sculls", GO, "sculls", needs=("filelock",))
    tiny.wheel(sculls, "index")
    (tiny.root / "s.py").write_text("")
    tiny.bundle(SCRIPT, dependencies=f"[filelock, 'pandas=={version('pandas')}', 'IPython>=8']")
    assert tiny.prepared() == ({"t": Packages()}, [])

    tiny.bundle(SCRIPT, dependencies=f"[filelock, 'sculls>=1', '--find-links {tiny.root}/index']")
    packages, said = tiny.prepared()
    (folder,) = packages["t"].paths
    assert (folder.parent.name, said) == ("libraries", ["installing sculls>=1"])
    assert found(packages["t"], "sculls.main") == str(folder / "sculls" / "main.py")
    assert not (folder / "filelock").exists()  # it is here already
    assert tiny.prepared() == (packages, [])


def test_a_requirement_that_cannot_be_installed_is_refused_where_it_is_written_with_pips_words(tiny: Tiny) -> None:
    (tiny.root / "s.py").write_text("")
    tiny.wheel(tiny.project("oars", GO, "oars"), "index")
    tiny.bundle(SCRIPT, dependencies=f"[oars, filelock, 'no-such-oars==7', '--find-links {tiny.root}/index']")
    with pytest.raises(BundleError, match=r"(?s)yml:6:\d+: 'no-such-oars==7' cannot be installed; pip printed:.*No matching distribution"):
        tiny.prepared()
    assert [p.name for p in (tiny.root / ".boathouse" / "default" / "libraries").iterdir() if p.is_dir()] == []


def test_a_requirement_may_need_a_wheel_of_the_same_task_and_may_not_contradict_it(tiny: Tiny) -> None:
    tiny.project("oars", GO, "libs/oars")
    tiny.wheel(tiny.project("sculls", GO, "sculls", needs=("oars>=1",)), "index")
    artifacts, links = "{oars: {type: whl, path: libs/oars}}", f"'--find-links {tiny.root}/index'"
    tiny.bundle("oars", artifacts=artifacts, dependencies=f"[libs/oars/dist/*.whl, sculls, {links}]")
    packages, said = tiny.prepared()
    assert said[1:] == ["installing oars-1.0-py3-none-any.whl", "installing sculls"]
    assert [(p / "oars").exists() for p in packages["oars"].paths] == [True, False]

    tiny.bundle("oars", artifacts=artifacts, dependencies="[libs/oars/dist/*.whl, oars==2]")
    with pytest.raises(BundleError, match=r"yml:6:\d+: 'oars==2' is required, and a wheel of the same task is oars 1\.0\."):
        tiny.prepared()


def test_what_would_replace_the_cluster_itself_is_refused(tiny: Tiny) -> None:
    pyspark = tiny.project("pyspark", GO, "pyspark", version="3.5.0")
    tiny.wheel(pyspark, "index")
    (tiny.root / "s.py").write_text("")
    tiny.bundle(SCRIPT, dependencies=f"['--find-links {tiny.root}/index', 'pyspark==3.5.0']")
    with pytest.raises(BundleError, match=r"this would replace pyspark 3\.5\.0, which is the cluster itself"):
        tiny.prepared()


def test_with_wheel_a_task_that_names_no_wheel_of_its_package_is_refused(tiny: Tiny) -> None:
    tiny.bundle("oars", artifacts=OWN_WHEEL)
    tiny.project("oars", GO)
    assert tiny.prepared()[0] == {"oars": Packages()}
    with pytest.raises(BundleError, match=r"yml:7:86: the package 'oars' is not in a wheel of this task\. Name the wheel"):
        tiny.prepared(wheel=True)


def test_an_editable_folder_is_its_source_and_with_wheel_a_wheel(tiny: Tiny) -> None:
    tiny.project("oars", GO, "libs/oars")
    (tiny.root / "s.py").write_text("")
    tiny.bundle(SCRIPT, dependencies="['-e libs/oars']")
    assert tiny.prepared() == ({"t": Packages((tiny.root / "libs" / "oars" / "src",))}, [])
    packages, _ = tiny.prepared(wheel=True)
    assert [p.name.split("-")[0] for p in packages["t"].paths] == ["oars"]
    tiny.bundle("oars", dependencies="['-e libs/oars']")  # its entry points are known once it is built
    assert tiny.prepared()[0]["oars"].paths == packages["t"].paths


def test_two_runs_at_once_install_one_folder_whole(tiny: Tiny) -> None:
    tiny.bundle("oars", dependencies="[dist/*.whl]")
    tiny.wheel(tiny.project("oars", GO, "elsewhere"), "dist")
    seen: list[tuple[dict[str, Packages], list[str]]] = []
    runs = [threading.Thread(target=lambda: seen.append(tiny.prepared())) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert seen[0][0] == seen[1][0]
    assert sum(line.startswith("installing") for _, said in seen for line in said) == 1
    assert [p.name for p in (tiny.root / ".boathouse" / "default" / "artifacts").iterdir() if p.is_dir()] == [
        seen[0][0]["oars"].paths[0].name
    ]


def test_run_refuses_what_cannot_be_installed_before_it_starts_a_cluster(tiny: Tiny) -> None:
    (tiny.root / "s.py").write_text("")
    tiny.bundle(SCRIPT, dependencies="[no-such-oars]")
    done = CliRunner().invoke(main, ["run", "a", "--bundle", str(tiny.root), "--json"])
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert (error["file"], error["line"], error["message"].split(";")[0]) == ("databricks.yml", 6, "'no-such-oars' cannot be installed")
    assert "installing no-such-oars" in done.stderr
    assert not (tiny.root / ".boathouse" / "default" / "lock").exists()


def test_a_project_of_setup_py_is_built_on_each_run_also_when_a_build_has_left_its_metadata_in_the_checkout(tiny: Tiny) -> None:
    tiny.project("oars", GO)
    (tiny.root / "pyproject.toml").unlink()
    (tiny.root / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='oars', version='1.0', packages=['oars'], package_dir={'': 'src'},\n"
        "      entry_points={'packages': ['go=oars.main:go']})\n"
    )
    tiny.bundle("oars", dependencies="[dist/*.whl]")
    first, _ = tiny.prepared()
    again, said = tiny.prepared()
    assert [p.name.split("-")[0] for p in first["oars"].paths] == ["oars"]
    assert (again, said) == (first, ["building artifact 'tiny': a wheel, by pip"])
