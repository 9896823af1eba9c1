"""What tasks ask to have installed: every way of writing it, each line with its place, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from boathouse.workspace.bundle.jobs import Job, all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.errors import BundleError
from boathouse.workspace.packages.requirements import Dependency, dependencies_of
from boathouse.workspace.validate.check import findings


def job(folder: Path, libraries: str = "[]", dependencies: str = "[]", more: str = "") -> Job:
    (folder / "jobs").mkdir()
    (folder / "databricks.yml").write_text("bundle: {name: demo}\ninclude: [jobs/*.yml]\n")
    (folder / "s.py").write_text("")
    (folder / "jobs" / "a.yml").write_text(f"""resources:
  jobs:
    a:
      environments:
        - environment_key: e
          spec: {{environment_version: "4", dependencies: {dependencies}}}
      tasks:
        - task_key: t
          environment_key: e{more}
          spark_python_task: {{python_file: ../s.py}}
          libraries: {libraries}
""")
    return all_jobs(load(folder, environ={}))["a"]


def lines(job: Job) -> list[Dependency]:
    return dependencies_of(job, job.tasks["t"])


def said(job: Job, level: str) -> list[str]:
    return [str(f.problem) for f in findings({job.key: job}, job) if f.level == level]


def test_a_library_list_and_an_environment_are_one_list_with_the_place_of_each_line(tmp_path: Path) -> None:
    one = job(
        tmp_path, "[{pypi: {package: 'six>=1', repo: https://mirror.example/simple}}, {whl: ../dist/*.whl}]", "['requests[socks]==2.0']"
    )
    found = lines(one)
    assert [(a.kind, a.text, a.index, str(a.at)) for a in found] == [
        ("requirement", "six>=1", "https://mirror.example/simple", "jobs/a.yml:11:40"),
        ("wheel", "../dist/*.whl", None, "jobs/a.yml:11:95"),
        ("requirement", "requests[socks]==2.0", None, "jobs/a.yml:6:59"),
    ]
    assert found[1].path == tmp_path / "dist" / "*.whl"


def test_wheels_are_globs_with_extras_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    for name in ("oars-1.0-py3-none-any.whl", "oars-1.1-py3-none-any.whl", "sculls-1.0-py3-none-any.whl"):
        (tmp_path / "dist" / name).touch()
    (one,) = lines(job(tmp_path, dependencies="['../dist/oars-*.whl[fast,Old_Style]']"))
    assert [w.name for w in one.wheels] == ["oars-1.0-py3-none-any.whl", "oars-1.1-py3-none-any.whl"]
    assert one.extras == {"fast", "old-style"}


def test_a_wheel_in_a_volume_is_a_file_of_the_state(tmp_path: Path) -> None:
    (one,) = lines(job(tmp_path, "[{whl: /Volumes/dev/ml/wheels/x-1-py3-none-any.whl}]"))
    assert one.path == tmp_path / ".boathouse" / "default" / "volumes" / "dev" / "ml" / "wheels" / "x-1-py3-none-any.whl"


def test_requirements_files_are_read_line_by_line_with_those_they_include(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "req.txt").write_text(
        "# tools\nsix  # small\n\n-r more/deep.txt\n--extra-index-url https://m.example/simple\nwheel >= 0.40, \\\n  < 1\n"
    )
    (tmp_path / "more" / "deep.txt").write_text("tomli; python_version < '3.0'\nattrs\n-f ./found\n")
    found = lines(job(tmp_path, dependencies="['-r ../req.txt']"))
    assert [(a.kind, a.text, str(a.at)) for a in found] == [
        ("requirement", "six", "req.txt:2:1"),
        ("requirement", "attrs", "more/deep.txt:2:1"),
        ("option", f"-f {tmp_path}/more/found", "more/deep.txt:3:1"),
        ("option", "--extra-index-url https://m.example/simple", "req.txt:5:1"),
        ("requirement", "wheel >= 0.40,   < 1", "req.txt:6:1"),
    ]


@pytest.mark.parametrize(
    ("dependency", "message"),
    [
        ("six=1.0", "jobs/a.yml:6:59: 'six=1.0' is not a requirement as pip has them."),
        ("-r nope.txt", "there is no file"),
        ("-e ../nope", "there is no"),
        ("./nope.tar.gz", "there is no"),
        ("--extra-index-ur https://x.example", "Did you mean '--extra-index-url'?"),
    ],
)
def test_a_line_that_means_nothing_is_an_error_of_the_job_with_its_place(tmp_path: Path, dependency: str, message: str) -> None:
    (problem,) = said(job(tmp_path, dependencies=f"['{dependency}']"), "error")
    assert problem.startswith("jobs/a.yml:6:59: ")
    assert message in problem


def test_an_environment_that_the_job_does_not_declare_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    one = job(tmp_path)
    file = tmp_path / "jobs" / "a.yml"
    file.write_text(file.read_text().replace("environment_key: e\n          spark", "environment_key: ee\n          spark"))
    one = all_jobs(load(tmp_path, environ={}))["a"]
    with pytest.raises(BundleError, match=r"a\.yml:9:28: task 't' uses the environment 'ee', .*\. Did you mean 'e'\?"):
        lines(one)


@pytest.mark.parametrize("library", ["{jar: x.jar}", "{maven: {coordinates: 'a:b:1'}}", "{cran: {package: x}}"])
def test_a_library_that_changes_what_the_jvm_or_r_runs_is_refused(tmp_path: Path, library: str) -> None:
    (problem,) = said(job(tmp_path, f"[{library}]"), "refused")
    kind = library.strip("{").split(":")[0]
    assert problem == f"jobs/a.yml:11:24: a library of type '{kind}' is not installed on this machine."


def test_a_wheel_that_is_not_there_and_that_nothing_builds_is_refused(tmp_path: Path) -> None:
    one = job(tmp_path, "[{whl: ../dist/oars.whl}]")
    assert said(one, "refused") == [
        f"jobs/a.yml:11:29: no wheel matches '{tmp_path}/dist/oars.whl'. Declare an artifact that builds it, or put the wheel there."
    ]
    with (tmp_path / "databricks.yml").open("a") as file:
        file.write("artifacts: {oars: {build: make, files: [{source: dist/*.whl}]}}\n")
    assert said(all_jobs(load(tmp_path, environ={}))["a"], "refused") == []


def test_java_dependencies_and_base_environments_are_refused(tmp_path: Path) -> None:
    one = job(tmp_path)
    file = tmp_path / "jobs" / "a.yml"
    file.write_text(file.read_text().replace("dependencies: []", "java_dependencies: [x.jar]"))
    one = all_jobs(load(tmp_path, environ={}))["a"]
    assert said(one, "refused") == ["jobs/a.yml:6:44: 'java_dependencies' is not supported on this machine."]
