"""Read what a task requires to be installed: its `libraries` and the dependencies of its environment, line by line with places."""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from boathouse.workspace.bundle.jobs import COMPUTE, Job, TaskSource
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import BundleError, Where, did_you_mean

WHEEL = re.compile(r"(?P<path>\S.*?\.whl)\s*(?:\[(?P<extras>[^\]]*)\])?\s*(?:;.*)?")
URL = re.compile(r"[a-z+]+://|[\w.\[\], -]+@\s*[a-z+]+:")
NOT_INSTALLED = ("jar", "maven", "cran", "egg")
OPTIONS = (
    "-i",
    "--index-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "-c",
    "--constraint",
    "--trusted-host",
    "--only-binary",
    "--no-binary",
)
FLAGS = ("--pre", "--no-index", "--prefer-binary", "--require-hashes")


@dataclass(frozen=True)
class Dependency:
    """Hold one thing to install.

    This is a `wheel` (a glob, with extras), a `project` (a folder with its source), a `requirement` for pip, or an `option` of pip.
    `index` is the package index for this one, if a line names one.
    """

    kind: str
    text: str
    at: Where
    path: Path = Path()
    extras: frozenset[str] = frozenset()
    index: str | None = None

    @cached_property
    def requirement(self) -> Requirement | None:
        "Return the requirement by PEP 508; None for a line that only pip understands (a bare URL, an archive's path)."
        try:
            return Requirement(re.split(r"\s--hash\b", self.text)[0])
        except InvalidRequirement:
            return None

    @property
    def wheels(self) -> list[Path]:
        "Return the wheels that the glob matches now."
        return sorted(Path(p) for p in glob.glob(str(self.path))) if self.kind == "wheel" else []


def dependencies_of(job: Job, source: TaskSource) -> list[Dependency]:
    "Return everything that a task requires to be installed. Raises BundleError for an undeclared environment or an invalid line."
    return list(_dependencies(job, source)) if source.kinds[:1] and source.kind in COMPUTE else []


def _dependencies(job: Job, source: TaskSource) -> Iterator[Dependency]:
    libraries = source.node.get("libraries")
    for library in libraries if isinstance(libraries, List) else ():
        if isinstance(library, Map):
            yield from _library(job, library)
    key = source.task.environment_key
    if key is None:
        return
    environments = {e["environment_key"]: e for e in job.source.get("environments") or () if isinstance(e, Map) and "environment_key" in e}
    if key not in environments:
        hint = did_you_mean(key, environments)
        raise BundleError(
            f"task '{source.key}' uses the environment '{key}', which its job does not declare.", source.at("environment_key"), hint
        )
    lines = (environments[key].get("spec") or {}).get("dependencies")
    if isinstance(lines, List):
        for line, at in zip(lines, lines.items_at, strict=True):
            yield from _line(job, str(line), at, job.file(at, "."))


def _library(job: Job, library: Map) -> Iterator[Dependency]:
    for kind, value in library.items():
        at = library.values_at[kind]
        if kind == "pypi" and isinstance(value, Map):
            yield from _requirement(str(value.get("package")), where(value, "package"), str(value["repo"]) if value.get("repo") else None)
        elif kind == "whl":
            yield _wheel(job, str(value), at, job.file(at, "."))
        elif kind == "requirements":
            yield from _file(job, job.file(at, str(value)), at)


def _line(job: Job, text: str, at: Where, folder: Path) -> Iterator[Dependency]:
    "Yield the dependencies of one line of a requirements file; its paths are relative to `folder`."
    line = re.sub(r"(^|\s)#.*$", "", text).strip()
    option, rest = _option(line)
    if not line:
        return
    if option in ("-r", "--requirement"):
        yield from _file(job, (folder / rest).resolve(), at)
    elif option in ("-e", "--editable"):
        yield _project(rest, at, folder)
    elif option in FLAGS:
        yield Dependency("option", option, at)
    elif option in OPTIONS:
        value = str((folder / rest).resolve()) if option in ("-c", "--constraint", "-f", "--find-links") and "://" not in rest else rest
        yield Dependency("option", shlex.join([option, value]), at)
    elif option:
        raise BundleError(
            f"'{option}' is not an option that a list of requirements may hold.", at, did_you_mean(option, (*OPTIONS, *FLAGS))
        )
    elif WHEEL.fullmatch(line) and not URL.match(line):
        yield _wheel(job, line, at, folder)
    elif line.startswith((".", "/")) or ("/" in line and (folder / line.split("[")[0]).is_dir()):
        yield (
            _project(line, at, folder)
            if (folder / line.split("[")[0]).is_dir()
            else Dependency("requirement", str(_existing(folder / line, at)), at)
        )
    else:
        yield from _requirement(line, at, None)


def _option(line: str) -> tuple[str, str]:
    "Return the option at the beginning of a line, and its value; two empty texts if there is none."
    found = re.match(r"(--[a-z-]+|-[a-z])(?:=|\s+|(?<=^-[a-z])|$)(.*)", line)
    return (found[1], found[2].strip().strip("\"'")) if found else ("", "")


def _requirement(text: str, at: Where, index: str | None) -> Iterator[Dependency]:
    one = Dependency("requirement", text.strip(), at, index=index)
    if one.requirement is None and not URL.match(text):
        raise BundleError(f"'{text}' is not a requirement as pip has them.", at, "Write it as `name`, `name==1.0` or `name[extra]>=1.0`.")
    if one.requirement is None or one.requirement.marker is None or one.requirement.marker.evaluate():
        yield one


def _wheel(job: Job, text: str, at: Where, folder: Path) -> Dependency:
    found = WHEEL.fullmatch(text.strip())
    if found is None:
        raise BundleError(f"'{text}' is not the path of a wheel.", at, "It ends with .whl.")
    path = found["path"]
    volumes = job.bundle.state / "volumes"
    local = volumes / path.removeprefix("/Volumes/") if path.startswith("/Volumes/") else Path(folder / path)
    extras = frozenset(str(canonicalize_name(e.strip())) for e in (found["extras"] or "").split(",") if e.strip())
    return Dependency("wheel", text, at, Path(_plain_path(local)), extras)


def _plain_path(path: Path) -> str:
    "Return the path without `..`, which a glob may have before names that do not exist yet."
    fixed = next(p for p in (path, *path.parents) if not glob.has_magic(str(p)))
    return str(fixed.resolve() / path.relative_to(fixed))


def _project(text: str, at: Where, folder: Path) -> Dependency:
    path, _, extras = text.rstrip("]").partition("[")
    names = frozenset(str(canonicalize_name(e.strip())) for e in extras.split(",") if e.strip())
    return Dependency("project", text, at, _existing(folder / path, at).resolve(), names)


def _existing(path: Path, at: Where) -> Path:
    if not path.exists():
        raise BundleError(f"there is no '{path.resolve()}'.", at)
    return path.resolve()


def _file(job: Job, file: Path, at: Where, above: tuple[Path, ...] = ()) -> Iterator[Dependency]:
    "Yield the dependencies of a requirements file, with the places of its lines."
    if not file.is_file():
        raise BundleError(f"there is no file '{file}'.", at, did_you_mean(file.name, [p.name for p in file.parent.glob("*")]))
    if file in above:
        raise BundleError(f"'{file}' includes itself.", at)
    root = job.bundle.root
    shown = file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
    pending, begun = "", 0
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        begun = begun if pending else number
        pending += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        option, rest = _option(pending.strip())
        here = Where(shown, begun, 1)
        if option in ("-r", "--requirement"):
            yield from _file(job, (file.parent / rest).resolve(), here, (*above, file))
        else:
            yield from _line(job, pending, here, file.parent)
        pending = ""
