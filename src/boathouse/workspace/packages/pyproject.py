"""Read what a folder of Python source builds from its files: name, entry points and dependencies. No code is run or imported."""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Project:
    """Describe a Python project by its pyproject.toml, setup.cfg and setup.py.

    `name`, `entry_points` (name to `module:attribute`) or `dependencies` is None if only a build knows it. `build_requires` are the requirements of that build.
    """

    folder: Path
    name: str | None = None
    entry_points: Mapping[str, str] | None = None
    dependencies: tuple[str, ...] | None = None
    extras: Mapping[str, list[str]] = field(default_factory=dict)
    build_requires: tuple[str, ...] = ("setuptools",)

    def needs(self, extras: Iterable[str]) -> list[str]:
        "Return the requirements of the project with these extras."
        more = {plain_name(name): lines for name, lines in self.extras.items()}
        return [*(self.dependencies or ()), *(line for extra in sorted(extras) for line in more.get(extra, ()))]

    def is_called(self, name: str) -> bool:
        "Return whether this is the project's name, by PEP 503."
        return self.name is not None and same_name(self.name, name)


def same_name(one: str, other: str) -> bool:
    "Return whether two names are equal by PEP 503."
    return plain_name(one) == plain_name(other)


def plain_name(name: str) -> str:
    "Return a package's name as PEP 503 normalizes it."
    return re.sub(r"[-_.]+", "-", name).lower()


def project_in(folder: Path) -> Project | None:
    "Return the project of a folder; None if none of the three files is there."
    stamps = tuple((f, f.stat().st_mtime_ns) for name in ("pyproject.toml", "setup.cfg", "setup.py") if (f := folder / name).is_file())
    return _read(folder, stamps) if stamps else None


@lru_cache(maxsize=256)
def _read(folder: Path, stamps: tuple[tuple[Path, int], ...]) -> Project:
    "Read the project once per version of its files, because every target and task needs it."
    files = {file.name for file, _ in stamps}
    content = _toml(folder / "pyproject.toml") if "pyproject.toml" in files else {}
    project, poetry = _tables(content or {})
    name = project.get("name") or poetry.get("name")
    points, unknown = _declared(project, poetry), content is None or _dynamic(content, "setup.cfg" in files)
    if "setup.cfg" in files:
        found, more = _setup_cfg(folder / "setup.cfg")
        name, points = name or found, more | points
    if "setup.py" in files:
        found, more, dynamic = _setup_py(folder / "setup.py")
        name, points, unknown = name or found, more | points, unknown or dynamic
    static = project and "dependencies" not in (project.get("dynamic") or ()) and not poetry.get("dependencies")
    return Project(
        folder,
        name,
        None if unknown else points,
        tuple(project.get("dependencies") or ()) if static else None,
        project.get("optional-dependencies") or {},
        tuple(((content or {}).get("build-system") or {}).get("requires", ["setuptools"])),
    )


def _toml(file: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None


def _tables(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return content.get("project") or {}, (content.get("tool") or {}).get("poetry") or {}


def _declared(project: dict[str, Any], poetry: dict[str, Any]) -> dict[str, str]:
    "Return the entry points of every group; of two with the same name, that of the group named first."
    groups = [*(project.get("entry-points") or {}).values(), project.get("scripts"), project.get("gui-scripts")]
    groups += [poetry.get("scripts"), *(poetry.get("plugins") or {}).values()]
    return {name: str(value) for group in reversed(groups) if group for name, value in group.items()}


def _dynamic(content: dict[str, Any], setup_cfg: bool) -> bool:
    "Return whether entry points are left to the build, except by a setup.cfg that can be read."
    left = {"scripts", "entry-points", "gui-scripts"} & set(_tables(content)[0].get("dynamic") or ())
    setuptools_dynamic = ((content.get("tool") or {}).get("setuptools") or {}).get("dynamic") or {}
    return bool(left) and ("entry-points" in setuptools_dynamic or not setup_cfg)


def _setup_cfg(file: Path) -> tuple[str | None, dict[str, str]]:
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        config.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return None, {}
    groups = config.items("options.entry_points") if config.has_section("options.entry_points") else []
    points = {name: value for _, lines in groups for name, value in _pairs(lines.splitlines()).items()}
    return config.get("metadata", "name", fallback=None), points


def _setup_py(file: Path) -> tuple[str | None, dict[str, str], bool]:
    "Return the literal name and entry points of the call of `setup`; True if there is more that is not literal."
    points: dict[str, str] = {}
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return None, points, True
    name = None
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        if getattr(call.func, "id", getattr(call.func, "attr", "")) != "setup":
            continue
        given = {k.arg: _literal(k.value) for k in call.keywords}
        name = given.get("name") if isinstance(given.get("name"), str) else None
        groups = given.get("entry_points", {})
        if None in given or not isinstance(groups, dict):
            return name, points, True
        for lines in groups.values():
            points |= _pairs(lines if isinstance(lines, list | tuple) else str(lines).splitlines())
    return name, points, False


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _pairs(lines: Iterable[Any]) -> dict[str, str]:
    halves = (str(line).partition("=") for line in lines if "=" in str(line))
    return {name.strip(): value.strip() for name, _, value in halves}


def module_file(folders: Sequence[Path], name: str) -> Path | None:
    "Return the file of a module in one of the folders; nothing is imported."
    files = (file for folder in folders for file in (folder / name / "__init__.py", folder / f"{name}.py"))
    return next((file for file in files if file.is_file()), None)


def names_in(module: Path) -> set[str] | None:
    "Return the names that a module defines or imports at its top; None if a star import or other code may define any."
    if module.suffix != ".py":
        return None
    try:
        tree = ast.parse(module.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return None
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    names |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    names |= {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    imported = [a for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names]
    if any(a.name == "*" for a in imported) or any(isinstance(n, ast.If | ast.Try) for n in tree.body) or "__getattr__" in names:
        return None
    return names | {a.asname or a.name.partition(".")[0] for a in imported}
