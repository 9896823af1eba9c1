"""pip as a process of its own, and what the running environment already satisfies without it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement

LAST_LINES = 15


class PipError(Exception):
    "pip refused or failed; the message is the last lines of what it said."


def pip(*words: str) -> list[str]:
    "The command line of pip, in this interpreter."
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]


def pip_environment() -> dict[str, str]:
    "The variables of a process that calls pip: in an environment without pip (uv makes such), Python's own copy of it is on the path."
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if importlib.util.find_spec("pip") is not None:
        return variables
    found = importlib.util.find_spec("ensurepip")  # some distributions leave it out
    bundled = sorted((Path(found.origin).parent / "_bundled").glob("pip-*.whl")) if found and found.origin else []
    return variables | ({"PYTHONPATH": str(bundled[-1])} if bundled else {})


def call(*words: str) -> None:
    "Runs pip with the user's own configuration (proxy, mirror, certificates)."
    done = subprocess.run(pip(*words), env=pip_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise PipError("\n".join(done.stdout.strip().splitlines()[-LAST_LINES:]))


@cache
def is_satisfied(requirement: Requirement) -> bool:
    "Whether the running environment satisfies a requirement, with its extras."
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return True
    if requirement.url is not None:
        return False
    try:
        found = importlib.metadata.distribution(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    if not requirement.specifier.contains(found.version, prereleases=True):
        return False
    return all(is_satisfied(more) for more in _added(found, requirement.extras))


def _added(found: importlib.metadata.Distribution, extras: set[str]) -> list[Requirement]:
    "What the extras of an installed distribution need beyond it."
    lines = [Requirement(line) for line in found.requires or ()] if extras else []
    added = [
        r
        for r in lines
        if r.marker is not None and not r.marker.evaluate({"extra": ""}) and any(r.marker.evaluate({"extra": e}) for e in extras)
    ]
    for requirement in added:
        requirement.marker = None
    return added
