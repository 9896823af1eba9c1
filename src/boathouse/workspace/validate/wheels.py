"""Find the Python packages that a bundle builds, and the entry points of installed ones."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path

from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.yaml_tree import Map, where
from boathouse.workspace.packages.pyproject import Project, project_in


def built_packages(bundle: Bundle) -> list[Project]:
    "Return the packages of the bundle's wheel artifacts, and of the bundle's own folder."
    folders: list[Path] = []
    artifacts = bundle.data.get("artifacts")
    for artifact in artifacts.values() if isinstance(artifacts, Map) else ():
        if isinstance(artifact, Map) and artifact.get("type", "whl") == "whl":
            folders.append(bundle.path(where(artifact, "path"), str(artifact.get("path") or ".")))
    # A package that is not built from files read here may have any name; only its own command knows it.
    made = [project_in(folder) or Project(folder) for folder in dict.fromkeys(folders)]
    own = project_in(bundle.root) if bundle.root not in folders else None
    return [own, *made] if own is not None else made


@cache
def installed_entry_points(package: str) -> frozenset[str] | None:
    "Return the entry points of the installed package of that name; None if there is none."
    try:
        return frozenset(e.name for e in importlib.metadata.distribution(package).entry_points)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
