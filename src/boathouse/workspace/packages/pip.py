"""Run pip in a separate process, and check which requirements this environment already satisfies."""

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
    "Signal that pip refused or failed; the message is the last lines of its output."


def pip(*words: str) -> list[str]:
    "Return the command line of pip, in this interpreter."
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]


def pip_environment() -> dict[str, str]:
    """Return the environment variables for pip.

    In an environment without pip (uv creates such), Python's own copy of it is added to the path.
    """
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if importlib.util.find_spec("pip") is not None:
        return variables
    found = importlib.util.find_spec("ensurepip")  # some distributions leave it out
    bundled = sorted((Path(found.origin).parent / "_bundled").glob("pip-*.whl")) if found and found.origin else []
    return variables | ({"PYTHONPATH": str(bundled[-1])} if bundled else {})


def call(*words: str) -> None:
    "Run pip with the user's own configuration (proxy, mirror, certificates)."
    done = subprocess.run(pip(*words), env=pip_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise PipError("\n".join(done.stdout.strip().splitlines()[-LAST_LINES:]))


@cache
def is_satisfied(requirement: Requirement) -> bool:
    "Return whether this environment satisfies a requirement, with its extras."
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
    "Return the additional requirements of the extras of an installed distribution."
    lines = [Requirement(line) for line in found.requires or ()] if extras else []
    added = [
        r
        for r in lines
        if r.marker is not None and not r.marker.evaluate({"extra": ""}) and any(r.marker.evaluate({"extra": e}) for e in extras)
    ]
    for requirement in added:
        requirement.marker = None
    return added
