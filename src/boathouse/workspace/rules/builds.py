"""The Python packages that a bundle builds, and what a package offers: read from its files, without running or importing any."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import importlib.util
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from boathouse.workspace.bundle import Bundle
from boathouse.workspace.yamlfile import Map, where


@dataclass(frozen=True)
class Package:
    "A package with the folder it is built from. None for a name or entry points that only building it would tell."

    folder: Path
    name: str | None
    entry_points: frozenset[str] | None


def built(bundle: Bundle) -> list[Package]:
    "The packages of the bundle's wheel artifacts, and of the bundle's own folder."
    folders: list[Path] = []
    artifacts = bundle.data.get("artifacts")
    for artifact in artifacts.values() if isinstance(artifacts, Map) else ():
        if isinstance(artifact, Map) and artifact.get("type", "whl") == "whl":
            folders.append(bundle.path(where(artifact, "path"), str(artifact.get("path") or ".")))
    # What is built from no file that is read here may have any name: a command of its own knows.
    made = [package_in(folder) or Package(folder, None, None) for folder in dict.fromkeys(folders)]
    own = package_in(bundle.root) if bundle.root not in folders else None
    return [own, *made] if own is not None else made


def same_name(one: str, other: str) -> bool:
    "Whether two names are one by PEP 503."
    return plain_name(one) == plain_name(other)


def plain_name(name: str) -> str:
    "A package's name as PEP 503 normalises it."
    return re.sub(r"[-_.]+", "-", name).lower()


def package_in(folder: Path) -> Package | None:
    "The package that a folder builds, if it builds one."
    stamps = tuple((f, f.stat().st_mtime_ns) for name in ("pyproject.toml", "setup.cfg", "setup.py") if (f := folder / name).is_file())
    return _read(folder, stamps) if stamps else None


@lru_cache(maxsize=256)
def _read(folder: Path, stamps: tuple[tuple[Path, int], ...]) -> Package:
    "Read once for each version of the files: every target and task asks."
    files = {file.name for file, _ in stamps}
    name: str | None = None
    points: set[str] = set()
    unknown = False
    if "pyproject.toml" in files:
        name, unknown = _pyproject(folder / "pyproject.toml", points)
    if "setup.cfg" in files:
        name = name or _setup_cfg(folder / "setup.cfg", points)
    if "setup.py" in files:
        found, dynamic = _setup_py(folder / "setup.py", points)
        name, unknown = name or found, unknown or dynamic
    return Package(folder, name, None if unknown else frozenset(points))


def _pyproject(file: Path, points: set[str]) -> tuple[str | None, bool]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None, True
    project, poetry = content.get("project", {}), content.get("tool", {}).get("poetry", {})
    groups = [project.get("scripts", {}), project.get("gui-scripts", {}), *project.get("entry-points", {}).values()]
    groups += [poetry.get("scripts", {}), *poetry.get("plugins", {}).values()]
    points.update(key for group in groups for key in group)
    dynamic = {"scripts", "entry-points", "gui-scripts"} & set(project.get("dynamic", ()))
    declared = content.get("tool", {}).get("setuptools", {}).get("dynamic", {})
    return project.get("name") or poetry.get("name"), bool(dynamic) and (
        "entry-points" in declared or not (file.parent / "setup.cfg").exists()
    )


def _setup_cfg(file: Path, points: set[str]) -> str | None:
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        config.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return None
    if config.has_section("options.entry_points"):
        for _, lines in config.items("options.entry_points"):
            points.update(_named(lines.splitlines()))
    return config.get("metadata", "name", fallback=None)


def _setup_py(file: Path, points: set[str]) -> tuple[str | None, bool]:
    "The literal name and entry points of the call of `setup`; true if there is more that is not literal."
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return None, True
    name = None
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        if getattr(call.func, "id", getattr(call.func, "attr", "")) != "setup":
            continue
        given = {k.arg: _literal(k.value) for k in call.keywords}
        name = given.get("name") if isinstance(given.get("name"), str) else None
        groups = given.get("entry_points", {})
        if None in given or not isinstance(groups, dict):
            return name, True
        for lines in groups.values():
            points.update(_named(lines if isinstance(lines, list | tuple) else str(lines).splitlines()))
    return name, False


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _named(lines: Iterable[Any]) -> set[str]:
    return {str(line).partition("=")[0].strip() for line in lines if "=" in str(line)}


def module_file(folders: tuple[Path, ...], name: str) -> Path | None:
    "The file of a module, from the source in one of the folders or from what is installed."
    for folder in folders:
        for file in (folder / name / "__init__.py", folder / f"{name}.py"):
            if file.is_file():
                return file
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    return Path(found.origin) if found is not None and found.origin else None


@cache
def installed_entry_points(package: str) -> frozenset[str] | None:
    "The entry points of the installed package of that name; None if there is none."
    try:
        return frozenset(e.name for e in importlib.metadata.distribution(package).entry_points)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def names_in(module: Path) -> set[str] | None:
    "The names a module defines or imports at its top; None where a star import or other code may define any."
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
