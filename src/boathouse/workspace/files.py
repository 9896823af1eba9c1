"""`dbutils.fs`: the files of volumes and of this machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from boathouse.workspace.utility import Utility


class FileInfo(NamedTuple):
    "One entry of `fs.ls`."

    path: str
    name: str
    size: int
    modificationTime: int

    def isDir(self) -> bool:
        return self.name.endswith("/")

    def isFile(self) -> bool:
        return not self.isDir()


class Files(Utility):
    "Files of volumes and of this machine. `/Volumes/...` and `dbfs:/Volumes/...` mean the workspace's volumes."

    def __init__(self, volumes: Path) -> None:
        self._volumes = volumes

    def _local(self, path: str) -> Path:
        "Where `path` lies on this machine."
        scheme, plain = _parts(str(path))
        if plain == "/Volumes" or plain.startswith("/Volumes/"):
            inside = (self._volumes / plain.removeprefix("/Volumes").lstrip("/")).resolve()
            if not inside.is_relative_to(self._volumes.resolve()):
                raise ValueError(f"{path} leaves the volumes")
            return inside
        if scheme == "dbfs":
            raise ValueError(f"{path}: the local workspace has no DBFS root; use a volume (/Volumes/catalog/schema/volume/...)")
        if scheme not in ("", "file"):
            raise ValueError(f"{path}: only volumes (/Volumes/catalog/schema/volume/...) and local files are reachable here")
        return Path(plain)

    def ls(self, path: str) -> list[FileInfo]:
        "The entries of a folder, or the one of a file."
        found = self._local(path)
        if not found.exists():
            raise FileNotFoundError(f"No such file or directory: {path}")
        entries = sorted(found.iterdir()) if found.is_dir() else [found]
        base = str(path).rstrip("/") if found.is_dir() else str(path).rpartition("/")[0]
        return [_info(base, entry) for entry in entries]

    def head(self, file: str, maxBytes: int = 65536) -> str:
        "The first bytes of a file as text."
        with self._local(file).open("rb") as opened:
            return opened.read(maxBytes).decode(errors="replace")

    def put(self, file: str, contents: str, overwrite: bool = False) -> bool:
        "Writes a text as a file, with the folders above it."
        target = self._local(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w" if overwrite else "x", encoding="utf-8") as opened:
            opened.write(contents)
        return True

    def mkdirs(self, dir: str) -> bool:
        "Makes a folder and those above it."
        self._local(dir).mkdir(parents=True, exist_ok=True)
        return True

    def cp(self, from_: str, to: str, recurse: bool = False) -> bool:
        "Copies a file, or a folder with recurse=True; what is there already is overwritten."
        source, target = self._local(from_), self._local(to)
        if source.is_dir():
            if not recurse:
                raise IsADirectoryError(f"{from_} is a folder: pass recurse=True")
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target = target / source.name if target.is_dir() else target
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        return True

    def mv(self, from_: str, to: str, recurse: bool = False) -> bool:
        "Moves a file, or a folder with recurse=True."
        source, target = self._local(from_), self._local(to)
        if source.is_dir() and not recurse:
            raise IsADirectoryError(f"{from_} is a folder: pass recurse=True")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
        return True

    def rm(self, dir: str, recurse: bool = False) -> bool:
        "Removes a file, an empty folder, or any folder with recurse=True; False if there is nothing of that name."
        target = self._local(dir)
        if not target.exists():
            return False
        if target.is_dir() and (recurse or not any(target.iterdir())):
            shutil.rmtree(target)
        elif target.is_dir():
            raise IsADirectoryError(f"{dir} is not empty: pass recurse=True")
        else:
            target.unlink()
        return True


def _parts(path: str) -> tuple[str, str]:
    "The scheme of a path and the rest with one slash in front: `file:/a`, `file:///a` and `dbfs:/a` are all written."
    found = re.match(r"^([A-Za-z][A-Za-z0-9+.-]+):/", path)
    if found is None:
        return "", path
    return found[1].lower(), "/" + path[found.end() :].lstrip("/")


def _info(base: str, entry: Path) -> FileInfo:
    stat, name = entry.stat(), entry.name + ("/" if entry.is_dir() else "")
    return FileInfo(f"{base}/{name}", name, 0 if entry.is_dir() else stat.st_size, int(stat.st_mtime * 1000))
