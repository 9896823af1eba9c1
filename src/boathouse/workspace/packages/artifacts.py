"""Build the artifacts of a bundle: wheels, by the command that the bundle states, else by pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.yaml_tree import Map, where
from boathouse.workspace.errors import BundleError, Where
from boathouse.workspace.packages.pip import is_satisfied, pip, pip_environment
from boathouse.workspace.packages.pyproject import Project, project_in

Say = Callable[[str], None]
LAST_LINES = 15
NOT_FOUND = 127  # exit code of a shell for an unknown command


@dataclass(frozen=True)
class Artifact:
    "Describe one wheel that the bundle builds: the folder of its source, a command if any, and its output; or `prebuilt` files."

    key: str
    folder: Path
    at: Where
    outputs: tuple[Path, ...]
    command: str | None = None
    shell: str | None = None
    prebuilt: bool = False

    def makes(self, pattern: Path) -> bool:
        "Return whether this artifact makes a wheel that `pattern` matches."
        return any(pattern == o or pattern.match(str(o)) or o.match(str(pattern)) for o in self.outputs)

    @cached_property
    def project(self) -> Project | None:
        "Return the project in the source folder; None if its files do not state a name."
        found = project_in(self.folder)
        return found if found is not None and found.name is not None else None


def artifacts_of(bundle: Bundle) -> list[Artifact]:
    "Return the wheels that the bundle builds; without any stated, a setup.py in its root is one, as in the Databricks CLI."
    stated = bundle.data.get("artifacts")
    found = (
        [a for a in (_artifact(bundle, key, stated[key], stated.keys_at[key]) for key in stated) if a] if isinstance(stated, Map) else []
    )
    if not stated and (bundle.root / "setup.py").is_file():
        found.append(Artifact(bundle.name, bundle.root, Where(bundle.file.name), (bundle.root / "dist" / "*.whl",)))
    return found


def _artifact(bundle: Bundle, key: str, node: Any, at: Where) -> Artifact | None:
    if not isinstance(node, Map) or node.get("type", "whl") != "whl":
        return None
    folder = bundle.path(where(node, "path"), str(node.get("path") or "."))
    files = node.get("files")
    outputs = [bundle.path(where(f, "source"), str(f["source"])) for f in files or () if isinstance(f, Map) and f.get("source")]
    command, shell = node.get("build"), node.get("executable")
    place = where(node, "build") if command else at
    places = tuple(outputs) or (folder / "dist" / "*.whl",)
    return Artifact(key, folder, place, places, str(command) if command else None, shell, prebuilt=bool(outputs) and not command)


def build(bundle: Bundle, artifact: Artifact, say: Say) -> list[Path]:
    "Build an artifact; return the wheels that the build has made or found to be up to date."
    if artifact.prebuilt:
        return _newest(list(_seen(artifact)))
    say(f"building artifact '{artifact.key}': {artifact.command or 'a wheel, by pip'}")
    lock = bundle.root / ".boathouse" / "build.lock"
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        _clear(artifact.folder)
        before = _seen(artifact)
        _run(artifact)
        after = _seen(artifact)
    made = [file for file in after if after[file] != before.get(file)] or list(after)
    if not made:
        places = ", ".join(str(o) for o in artifact.outputs)
        raise BundleError(f"the build of artifact '{artifact.key}' left no wheel at {places}.", artifact.at)
    return _newest(made)


def _clear(folder: Path) -> None:
    "Remove the files that setuptools keeps between builds; with them, deleted or unlisted files would still be in the wheel."
    for left in [*(folder / "build").glob("lib*"), *(folder / "build").glob("bdist.*")]:
        shutil.rmtree(left)
    for listed in (p for base in (folder, folder / "src") for p in base.glob("*.egg-info/SOURCES.txt")):
        listed.unlink()


def _seen(artifact: Artifact) -> dict[Path, tuple[int, int]]:
    return {file: (file.stat().st_mtime_ns, file.stat().st_size) for o in artifact.outputs for file in sorted(_matches(o))}


def _matches(pattern: Path) -> Iterator[Path]:
    return (f for f in Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))) if f.suffix == ".whl")


def _newest(files: list[Path]) -> list[Path]:
    "Return one wheel per distribution: the latest version."
    latest: dict[str, tuple[Any, Path]] = {}
    for file in files:
        try:
            name, version, number, _ = parse_wheel_filename(file.name)
        except InvalidWheelFilename as e:
            raise BundleError(f"'{file.name}' is not the name of a wheel: {e}.") from e
        if str(name) not in latest or (version, number) > latest[str(name)][0]:
            latest[str(name)] = ((version, number), file)
    return [file for _, file in latest.values()]


def _run(artifact: Artifact) -> None:
    if artifact.shell not in (None, "bash", "sh"):
        raise BundleError(
            f"artifact '{artifact.key}' is built with '{artifact.shell}', which is not on this machine.", artifact.at, "Use sh or bash."
        )
    isolated = not _build_requirements_met(artifact.folder)
    shell = artifact.shell or shutil.which("bash") or "sh"
    alone = [] if isolated else ["--no-build-isolation"]
    command = (
        [shell, "-e", "-c", artifact.command]
        if artifact.command
        else pip("wheel", "--no-deps", *alone, "--wheel-dir", str(artifact.outputs[0].parent), ".")
    )
    if not artifact.folder.is_dir():
        raise BundleError(f"artifact '{artifact.key}' is to be built in '{artifact.folder}', which does not exist.", artifact.at)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # Falsy means without isolation, as pip defines options that are named `--no-...`.
    variables = pip_environment() | {"PATH": path} | ({} if isolated else {"PIP_NO_BUILD_ISOLATION": "0"})
    done = subprocess.run(
        command, cwd=artifact.folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
        end = f"ended with exit code {done.returncode}:\n{last}"
        hint = "\nInstall what it calls: on the PATH, or in the environment that runs boathouse." if done.returncode == NOT_FOUND else ""
        raise BundleError(f"the build of artifact '{artifact.key}' {end}{hint}", artifact.at)


def _build_requirements_met(folder: Path) -> bool:
    "Return whether this environment has the build requirements of the project, so that nothing has to be downloaded."
    try:
        return all(is_satisfied(Requirement(line)) for line in (project_in(folder) or Project(folder)).build_requires)
    except InvalidRequirement:
        return False
