"""`dbutils.fs`: list, read and change files of volumes and of this machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from boathouse.workspace.worker.dbutils.help import Utility


class FileInfo(NamedTuple):
    "Hold one entry of `fs.ls`."

    path: str
    name: str
    size: int
    modificationTime: int

    def isDir(self) -> bool:
        return self.name.endswith("/")

    def isFile(self) -> bool:
        return not self.isDir()


class Fs(Utility):
    "Files of volumes (`/Volumes/...`, `dbfs:/Volumes/...`) and of this machine, which are changed in the target's state and in the bundle only."

    def __init__(self, volumes: Path, project: Path | None = None) -> None:
        self._volumes = volumes
        self._own = {"the folder of the volumes": volumes.resolve(), "the state of the target": volumes.parent.resolve()}
        if project is not None:
            self._own["the bundle"] = project.resolve()

    def _local(self, path: str) -> Path:
        "Return the local path of `path`."
        scheme, plain = _parts(str(path))
        if plain == "/Volumes" or plain.startswith("/Volumes/"):
            inside = (self._volumes / plain.removeprefix("/Volumes").lstrip("/")).resolve()
            if not inside.is_relative_to(self._volumes.resolve()):
                raise ValueError(f"{path} leaves the volumes: it must lead to a place below /Volumes")
            return inside
        if scheme == "dbfs":
            raise ValueError(
                f"{path} is in the DBFS root, which the local workspace lacks: it must be in a volume (/Volumes/catalog/schema/volume/...)"
            )
        if scheme not in ("", "file"):
            raise ValueError(
                f"{path} has the scheme {scheme}: it must be in a volume (/Volumes/catalog/schema/volume/...), or a file of this machine"
            )
        return Path(plain)

    def _written(self, path: str, command: str) -> Path:
        "Return the local path of `path` for a command that writes there."
        local = self._local(path)
        self._refuse_outside(local, path, f"{command} cannot write to")
        return local

    def _removed(self, path: str, command: str) -> Path:
        "Return the local path of `path` for a command that removes it. The state, its volumes and the bundle itself cannot be removed."
        local = self._local(path)
        self._refuse_outside(local, path, f"{command} cannot remove")
        for name, folder in self._own.items():
            if folder.is_relative_to(local.resolve()):
                raise PermissionError(f"dbutils.fs.{command} cannot remove {path}: {folder} belongs to it, which is {name}. "
                                      f"Name a file or folder below that.")  # fmt: skip
        return local

    def _refuse_outside(self, local: Path, path: str, does: str) -> None:
        lies = local.resolve()
        if any(lies.is_relative_to(folder) for folder in self._own.values()):
            return
        led = "" if lies == local else f" (which is {lies})"
        own = " or ".join(f"{name} ({folder})" for name, folder in self._own.items() if folder != self._volumes.resolve())
        raise PermissionError(f"dbutils.fs.{does} {path}{led}: on this machine it changes nothing outside {own}. "
                              f"Use the path of a volume: /Volumes/<catalog>/<schema>/<volume>/...")  # fmt: skip

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
        target = self._written(file, "put")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w" if overwrite else "x", encoding="utf-8") as opened:
            opened.write(contents)
        return True

    def mkdirs(self, dir: str) -> bool:
        "Makes a folder and those above it."
        self._written(dir, "mkdirs").mkdir(parents=True, exist_ok=True)
        return True

    def cp(self, from_: str, to: str, recurse: bool = False) -> bool:
        "Copies a file, or a folder with recurse=True; what is there already is overwritten."
        source, target = self._local(from_), self._written(to, "cp")
        if source.is_dir():
            if not recurse:
                raise IsADirectoryError(f"{from_} is a folder: pass recurse=True")
            for inside in source.rglob("*"):
                if (link := target / inside.relative_to(source)).is_symlink():  # a copy would be written to the target of the link
                    self._refuse_outside(link, str(link), "cp cannot write to")
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target = target / source.name if target.is_dir() else target
            self._refuse_outside(target, str(target), "cp cannot write to")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        return True

    def mv(self, from_: str, to: str, recurse: bool = False) -> bool:
        "Moves a file, or a folder with recurse=True."
        source, target = self._removed(from_, "mv"), self._written(to, "mv")
        if source.is_dir() and not recurse:
            raise IsADirectoryError(f"{from_} is a folder: pass recurse=True")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
        return True

    def rm(self, dir: str, recurse: bool = False) -> bool:
        "Removes a file, an empty folder, or any folder with recurse=True; False if there is nothing of that name."
        target = self._removed(dir, "rm")
        if not target.exists():
            return False
        if target.is_symlink():
            target.unlink()
        elif target.is_dir() and (recurse or not any(target.iterdir())):
            shutil.rmtree(target)
        elif target.is_dir():
            raise IsADirectoryError(f"{dir} is not empty: pass recurse=True")
        else:
            target.unlink()
        return True


def _parts(path: str) -> tuple[str, str]:
    "Return the scheme of a path and the rest with one leading slash; `file:/a`, `file:///a` and `dbfs:/a` are all accepted."
    found = re.match(r"^([A-Za-z][A-Za-z0-9+.-]+):/", path)
    if found is None:
        return "", path
    return found[1].lower(), "/" + path[found.end() :].lstrip("/")


def _info(base: str, entry: Path) -> FileInfo:
    stat, name = entry.stat(), entry.name + ("/" if entry.is_dir() else "")
    return FileInfo(f"{base}/{name}", name, 0 if entry.is_dir() else stat.st_size, int(stat.st_mtime * 1000))
