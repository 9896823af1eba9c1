"""Install packages into folders of a target's state: one per wheel, named by its content, and one per set of requirements."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from filelock import FileLock
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from boathouse.workspace.errors import BundleError
from boathouse.workspace.packages.pip import PipError, call
from boathouse.workspace.packages.requirements import Dependency

Say = Callable[[str], None]
OURS = ("pyspark", "py4j", "delta-spark")


def install_wheel(state: Path, wheel: Path, one: Dependency, say: Say) -> Path:
    "Return the folder in which a wheel is installed, without its dependencies."
    name, version, _, _ = parse_wheel_filename(wheel.name)
    folder = state / "artifacts" / f"{name}-{version}-{wheel_hash(wheel)}"

    def work(scratch: Path) -> None:
        say(f"installing {wheel.name}")
        call("install", "--no-deps", "--no-index", "--target", str(scratch), str(wheel))

    return _placed(folder, work, [one])


def wheel_hash(wheel: Path) -> str:
    "Return a hash of the content of the wheel that does not depend on the time of the build."
    with zipfile.ZipFile(wheel) as members:
        inside = sorted((m.filename, m.CRC, m.file_size) for m in members.infolist())
    return hashlib.sha256(json.dumps(inside).encode()).hexdigest()[:12]


def requirements_of(wheel: Path, extras: frozenset[str]) -> list[Requirement]:
    "Return the dependencies of a wheel with these extras, on this machine."
    with zipfile.ZipFile(wheel) as members:
        file = next(name for name in members.namelist() if name.endswith(".dist-info/METADATA"))
        lines = HeaderParser().parsestr(members.read(file).decode()).get_all("Requires-Dist", [])
    needed = [Requirement(line) for line in lines]
    kept = [r for r in needed if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in ("", *extras))]
    for requirement in kept:
        requirement.marker = None
    return kept


def install_requirements(state: Path, wanted: Sequence[Dependency], options: Sequence[str], beside: Mapping[str, Path], say: Say) -> Path:
    """Return the folder with everything that `wanted` needs beyond this environment and the wheels `beside` it, by name.

    pip resolves against the installed packages, so that it downloads nothing that is there already. Then exactly its choice is installed.
    """
    texts = sorted({f"{one.text} {one.index or ''}".strip() for one in wanted})
    key = hashlib.sha256(json.dumps([texts, *options, _contents(wanted), sorted(beside), sys.version_info[:2]]).encode()).hexdigest()[:12]
    folder = state / "libraries" / key

    def work(scratch: Path) -> None:
        say(f"installing {', '.join(texts)}")
        for index in sorted({one.index or "" for one in wanted}):
            lines = [one.text for one in wanted if (one.index or "") == index]
            more = [f"--find-links {wheel.parent}" for wheel in beside.values()] + ([f"--index-url {index}"] if index else [])
            _install(scratch, lines, [*options, *more], beside)

    return _placed(folder, work, wanted)


def _contents(wanted: Iterable[Dependency]) -> list[str]:
    return [hashlib.sha256(Path(one.text).read_bytes()).hexdigest() for one in wanted if Path(one.text).is_file()]


def _install(scratch: Path, lines: Sequence[str], options: Sequence[str], beside: Container[str]) -> None:
    listed, report = scratch / "wanted.txt", scratch / "report.json"
    listed.write_text("\n".join([*options, *lines]))
    call("install", "--dry-run", "--report", str(report), "-r", str(listed))
    chosen = [c for c in json.loads(report.read_text())["install"] if canonicalize_name(c["metadata"]["name"]) not in beside]
    refused = [c["metadata"] for c in chosen if canonicalize_name(c["metadata"]["name"]) in OURS]
    if refused:
        what = ", ".join(f"{m['name']} {m['version']}" for m in refused)
        raise PipError(f"this would replace {what}, which is the cluster itself. Leave it out, as on Databricks.")
    listed.write_text("\n".join(_exactly(c) for c in chosen))
    if chosen:
        call("install", "--no-deps", "--target", str(scratch), "-r", str(listed))
    listed.unlink()
    report.unlink()


def _exactly(chosen: dict[str, Any]) -> str:
    "Return one line of pip's report as a requirement for this exact file."
    name, info = chosen["metadata"]["name"], chosen["download_info"]
    if vcs := info.get("vcs_info"):
        return f"{name} @ {vcs['vcs']}+{info['url']}@{vcs['commit_id']}"
    hashes = info.get("archive_info", {}).get("hashes", {})
    return f"{name} @ {info['url']}" + (f"#sha256={hashes['sha256']}" if "sha256" in hashes else "")


def _placed(folder: Path, work: Callable[[Path], None], wanted: Sequence[Dependency]) -> Path:
    """Return the folder, created if it is missing.

    One process at a time fills a scratch folder, which gets its name when it is complete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if folder.is_dir():
            return folder
        scratch = folder.with_name(f".{folder.name}.part")
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir()
        try:
            work(scratch)
            scratch.rename(folder)
        except PipError as e:
            shutil.rmtree(scratch)
            culprit = _blamed(str(e), wanted)
            raise BundleError(f"'{culprit.text}' cannot be installed; pip printed:\n{e}", culprit.at) from e
    return folder


def _blamed(output: str, wanted: Sequence[Dependency]) -> Dependency:
    "Return the first line that pip's errors name, or the first of all if they name none."
    errors = "\n".join(line for line in output.splitlines() if line.startswith("ERROR"))
    names = {one: re.escape(one.requirement.name if one.requirement else one.text) for one in wanted}
    return next((one for one, name in names.items() if re.search(rf"(?<![\w.-]){name}(?![\w.-])", errors)), wanted[0])
