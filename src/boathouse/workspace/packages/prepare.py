"""Prepare what each task of a run imports from.

This is the checkout, for speed, or built wheels and installed libraries in separate folders.
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from boathouse.workspace.bundle.jobs import COMPUTE, Job, TaskSource
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.errors import BundleError
from boathouse.workspace.packages.artifacts import Artifact, artifacts_of, build
from boathouse.workspace.packages.entry_points import distribution, editable_folder, entry_point_problems, folders_of, module_name
from boathouse.workspace.packages.install import install_requirements, install_wheel, requirements_of
from boathouse.workspace.packages.pip import is_satisfied
from boathouse.workspace.packages.pyproject import module_file, plain_name, project_in, same_name
from boathouse.workspace.packages.requirements import Dependency, dependencies_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Packages:
    "Hold the folders that come first on a task's path, and whether the checkout's `src` and root follow."

    paths: tuple[Path, ...] = ()
    checkout: bool = True


@dataclass(frozen=True)
class Preparation:
    "Hold the packages of every task, by job and path of the task; with `wheel`, no task has the checkout."

    packages: Mapping[tuple[str, str | None, str], Packages] = field(default_factory=dict)
    wheel: bool = False

    def of(self, job: Job, source: TaskSource) -> Packages:
        "Return the packages of a task; the plain checkout for a task that was not prepared."
        return self.packages.get((job.key, source.loop, source.key), Packages())


AS_IT_IS = Preparation()


def prepare(bundle: Bundle, jobs: Iterable[Job], say: Say, *, wheel: bool = False) -> Preparation:
    "Build and install what the tasks of these jobs require and do not have; with `wheel`, no task imports from the checkout."
    work = _Work(bundle, wheel, say)
    packages = {(job.key, s.loop, s.key): work.of(job, s) for job in jobs for s in job.every_task() if s.kind in COMPUTE}
    return Preparation(packages, wheel)


class _Work:
    "Hold what one run has built so far."

    def __init__(self, bundle: Bundle, wheel: bool, say: Say) -> None:
        self.bundle, self.wheel, self.say = bundle, wheel, say
        self.artifacts = artifacts_of(bundle)
        self.built: dict[str, list[Path]] = {}
        self.installed: dict[Path, Path] = {}  # folder -> wheel

    def of(self, job: Job, source: TaskSource) -> Packages:
        wanted = dependencies_of(job, source)
        paths: list[Path] = []
        needed = [one for one in wanted if one.kind == "requirement"]
        for one in wanted:
            if one.kind == "wheel":
                folders, needs = self._wheel(job, source, one)
            elif one.kind == "project":
                folders, needs = self._project(source, one)
            else:
                continue
            paths += folders
            needed += [Dependency("requirement", str(r), one.at) for r in needs]
        provided = {str(canonicalize_name(d.name)): d.version for d in importlib.metadata.distributions(path=[str(p) for p in paths])}
        missing = [one for one in needed if not _met(one, provided)]
        if missing:
            options = [one.text for one in wanted if one.kind == "option"]
            beside = {name: self.installed[p] for p in paths if p in self.installed for name in provided if _is(self.installed[p], name)}
            paths.append(install_requirements(self.bundle.state, missing, options, beside, self.say))
        packages = Packages(tuple(dict.fromkeys(paths)), checkout=not self.wheel)
        self._check(job, source, packages)
        return packages

    def _wheel(self, job: Job, source: TaskSource, one: Dependency) -> tuple[list[Path], list[Requirement]]:
        "Return the folders of the wheels that a line names, and their dependencies; no folder if the checkout replaces the wheel."
        makers = [a for a in self.artifacts if a.makes(one.path)] or self._own(one)
        stands_in = [a.project for a in makers if not self.wheel and _checkout_serves(job, source, a)]
        if makers and len(stands_in) == len(makers):
            return [], [Requirement(line) for project in stands_in if project for line in project.needs(one.extras)]
        files = [f for a in makers for f in self._build(a) if fnmatch.fnmatch(str(f), str(one.path))] or one.wheels
        if not files:
            hint = (
                "Declare an artifact that builds it, or put the wheel there." if not makers else f"The build made {_names(self, makers)}."
            )
            raise BundleError(f"no wheel matches '{one.path}'.", one.at, hint)
        return self._installed(files, one)

    def _own(self, one: Dependency) -> list[Artifact]:
        "Return the bundle's own project if the wheels are its own in `dist`, although no artifact states how they are built."
        root = self.bundle.root
        project = project_in(root)
        name = project.name if project is not None else None
        ours = name is not None and one.path.parent == root / "dist" and all(_is(w, plain_name(name)) for w in one.wheels)
        return [Artifact(self.bundle.name, root, one.at, (one.path,), prebuilt=True)] if ours else []

    def _installed(self, files: list[Path], one: Dependency) -> tuple[list[Path], list[Requirement]]:
        folders = [install_wheel(self.bundle.state, file, one, self.say) for file in files]
        self.installed.update(zip(folders, files, strict=True))
        return folders, [r for file in files for r in requirements_of(file, one.extras)]

    def _build(self, artifact: Artifact) -> list[Path]:
        if artifact.key not in self.built:
            self.built[artifact.key] = build(self.bundle, artifact, self.say)
        return self.built[artifact.key]

    def _project(self, source: TaskSource, one: Dependency) -> tuple[list[Path], list[Requirement]]:
        """Return a folder of source for a line such as `-e`.

        With `--wheel`, for a wheel task, or if only a build knows the dependencies, return the folder of a wheel built from it.
        """
        project = project_in(one.path)
        if not self.wheel and source.task.python_wheel_task is None and project is not None and project.dependencies is not None:
            folders = [folder for folder in (one.path / "src", one.path) if folder.is_dir()][:1]
            return folders, [Requirement(line) for line in project.needs(one.extras)]
        output = self.bundle.state / "artifacts" / "built" / one.path.name
        made = self._build(Artifact(f"-e {one.text}", one.path, one.at, (output / "*.whl",)))
        return self._installed(made, one)

    def _check(self, job: Job, source: TaskSource, packages: Packages) -> None:
        "Refuse a wheel task whose entry point is in nothing that it will be able to import."
        if source.task.python_wheel_task is None:
            return
        folders = [*packages.paths, *(folders_of(self.bundle.root) if packages.checkout else [])]
        for problem in entry_point_problems(source, folders, None if not packages.checkout else self.bundle.root):
            raise problem


def _met(one: Dependency, provided: Mapping[str, str]) -> bool:
    requirement = one.requirement
    if requirement is None:
        return False
    version = provided.get(str(canonicalize_name(requirement.name)))
    if version is None or requirement.url is not None:
        return is_satisfied(requirement)
    if not requirement.specifier.contains(version, prereleases=True):
        raise BundleError(f"'{one.text}' is required, and a wheel of the same task is {requirement.name} {version}.", one.at)
    return True


def _is(wheel: Path, name: str) -> bool:
    return canonicalize_name(parse_wheel_filename(wheel.name)[0]) == name


def _checkout_serves(job: Job, source: TaskSource, artifact: Artifact) -> bool:
    "Return whether a task can import the artifact's package from its checkout, with the entry point that it calls."
    root, project, wheel = job.bundle.root, artifact.project, source.task.python_wheel_task
    name = project.name if project is not None else wheel.package_name if wheel is not None else None
    if name is None:
        return False
    editable = editable_folder(distribution(name))
    if editable is None or (project is not None and editable != artifact.folder):
        # Facts that only a build knows come from a build.
        if project is None or project.dependencies is None or artifact.folder != root:
            return False
        if module_file(folders_of(root), module_name(name)) is None:
            return False
    called_here = wheel is not None and same_name(name, wheel.package_name)
    return not called_here or not list(entry_point_problems(source, folders_of(root), root))


def _names(work: _Work, makers: list[Artifact]) -> str:
    return ", ".join(f.name for a in makers for f in work.built.get(a.key, ()))
