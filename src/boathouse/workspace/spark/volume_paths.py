"""Refuse paths below `/Volumes` that reach Spark or Python: the volumes of this machine are in the target's state.

In the JVM, a file system in place of Hadoop's local one refuses them, because every reader, writer and statement uses it.
In the process of a task, an audit hook refuses them. Python calls it before it opens, creates, lists, moves or removes a file.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = "/Volumes"
DISKS, VOLUMES = "boathouse.disks", "boathouse.volumes"  # system properties of the JVM
REMEDY = "Pass ${resources.volumes.<key>.volume_path} to the task as a parameter, or use dbutils.fs."
# Settings of a SparkContext whose JVM has the classes below.
SETTINGS = {
    "spark.hadoop.fs.file.impl": "boathouse.LocalFiles",
    "spark.hadoop.fs.AbstractFileSystem.file.impl": "boathouse.LocalFs",
    "spark.hadoop.fs.dbfs.impl": "boathouse.Dbfs",
}
SOURCE = r"""
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.util.EnumSet;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.AbstractFileSystem;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FilterFs;
import org.apache.hadoop.fs.LocalFileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.Options.ChecksumOpt;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.util.Progressable;
import org.apache.spark.sql.catalyst.analysis.UnresolvedRelation;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;

public class VolumePaths {
  // A query on files, whose own error would hide the reason.
  public static void refuse(LogicalPlan plan) {
    if (plan instanceof UnresolvedRelation) {
      String last = (String) ((UnresolvedRelation) plan).multipartIdentifier().last();
      if (last.contains("/Volumes")) refuse(new Path(last).toUri().getPath());
    }
  }
  public static void refuse(String path) {
    String plain = path.startsWith("/dbfs/Volumes") ? path.substring(5) : path;
    if (plain.equals("/Volumes") || (plain.startsWith("/Volumes/") && !isDisk(plain.split("/")[2]))) {
      String folder = System.getProperty("boathouse.volumes", "<state>/volumes") + plain.substring(8);
      throw new IllegalArgumentException(path + " is a path of a volume, which Spark cannot open on this machine: the volume lies in " + folder
        + ". REMEDY");
    }
  }
  private static boolean isDisk(String name) {
    if (("," + System.getProperty("boathouse.disks", "") + ",").contains("," + name + ",")) return true;
    return System.getProperty("os.name").startsWith("Mac") && new File("/Volumes/" + name).isDirectory();
  }
}

public class RawFiles extends LocalDisk {
  protected void checkPath(Path path) {
    VolumePaths.refuse(path.toUri().getPath());
    super.checkPath(path);
  }
}

public class LocalFiles extends LocalFileSystem {
  public LocalFiles() { super(new RawFiles()); }
  protected void checkPath(Path path) {
    VolumePaths.refuse(path.toUri().getPath());
    super.checkPath(path);
  }
}

// The same for the checkpoints and logs of streams, which come through Hadoop's other interface to files.
public class LocalFs extends FilterFs {
  private static final String SETTING = "fs.AbstractFileSystem.file.impl";
  public LocalFs(URI uri, Configuration conf) throws IOException, URISyntaxException { super(AbstractFileSystem.createFileSystem(uri, plain(conf))); }
  private static Configuration plain(Configuration conf) {
    Configuration plain = new Configuration(conf);
    plain.set(SETTING, "boathouse.LocalContext");
    return plain;
  }
  // Not in `checkPath`, whose refusal makes Hadoop look for another file system.
  public FileStatus getFileStatus(Path path) throws IOException {
    VolumePaths.refuse(path.toUri().getPath());
    return super.getFileStatus(path);
  }
  public FileStatus[] listStatus(Path path) throws IOException {
    VolumePaths.refuse(path.toUri().getPath());
    return super.listStatus(path);
  }
  public void mkdir(Path path, FsPermission permission, boolean createParent) throws IOException {
    VolumePaths.refuse(path.toUri().getPath());
    super.mkdir(path, permission, createParent);
  }
  public FSDataOutputStream createInternal(
    Path path, EnumSet flag, FsPermission permission, int bufferSize, short replication, long blockSize, Progressable progress, ChecksumOpt checksum,
    boolean createParent
  ) throws IOException {
    VolumePaths.refuse(path.toUri().getPath());
    return super.createInternal(path, flag, permission, bufferSize, replication, blockSize, progress, checksum, createParent);
  }
}

public class Dbfs extends RawLocalFileSystem {
  public void initialize(URI uri, Configuration conf) throws IOException {
    VolumePaths.refuse(String.valueOf(uri.getPath()));
    throw new IllegalArgumentException(uri + ": this machine has no DBFS. Use the folder of a volume. REMEDY");
  }
}
""".replace("REMEDY", REMEDY)  # fmt: skip

COMMANDS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
# The audit events that name a file, and how many of their first arguments are paths.
EVENTS = {
    **dict.fromkeys(COMMANDS, 3),
    **dict.fromkeys(("open", "os.chdir", "os.chmod", "os.chown", "os.listdir", "os.mkdir", "os.remove", "os.rmdir", "os.scandir"), 1),
    **dict.fromkeys(("os.truncate", "os.utime", "os.walk", "glob.glob", "glob.glob/2", "pathlib.Path.glob", "pathlib.Path.rglob"), 1),
    **dict.fromkeys(("shutil.rmtree", "shutil.make_archive", "sqlite3.connect", "tempfile.mkdtemp", "tempfile.mkstemp"), 1),
    **dict.fromkeys(("os.link", "os.rename", "os.symlink", "shutil.copyfile", "shutil.copymode", "shutil.copystat", "shutil.copytree"), 2),
    **dict.fromkeys(("shutil.move", "shutil.unpack_archive"), 2),
}
IN_COMMAND = re.compile(r"(?<![\w./-])(?:/dbfs)?/Volumes(?![\w.-])[^\s'\";|&<>()]*")


class VolumePathError(Exception):
    "Signal that a task used a path below `/Volumes` in Python."


def disks(*paths: Path | str) -> frozenset[str]:
    "Return the folders directly below `/Volumes` in which these paths lie: disks of this machine, not catalogs."
    parts = [Path(path).parts for path in paths]
    return frozenset(part[2] for part in parts if part[:2] == ("/", "Volumes") and len(part) > 2)


def path_refusal(path: str, volumes: Path, own: Iterable[str]) -> str:
    """Return why a path of a volume is refused; empty text for any other path.

    macOS mounts disks below `/Volumes`, and a path on such a disk is not a path of a volume.
    """
    plain = os.path.normpath(os.path.join(os.getcwd(), path)).replace("//", "/", 1)
    plain = plain.removeprefix("/dbfs") if plain.startswith("/dbfs/Volumes") else plain
    name = plain.split("/")[2] if plain.startswith(f"{ROOT}/") else ""
    if (plain != ROOT and not name) or name in own or (sys.platform == "darwin" and _is_disk(name)):
        return ""
    folder = f"{volumes}{plain.removeprefix(ROOT)}"
    return f"{path} is a path of a volume, which Python cannot open on this machine: the volume lies in {folder}. {REMEDY}"


def _is_disk(name: str) -> bool:
    "Return whether macOS has a disk of this name. A command may contain `Macintosh\\ HD`; only its first word arrives here."
    return os.path.isdir(f"{ROOT}/{name}") or any(disk.startswith(f"{name.rstrip(chr(92))} ") for disk in os.listdir(ROOT))


def refuse_path(path: str, volumes: Path, own: Iterable[str]) -> None:
    "Raise VolumePathError for a path of a volume."
    if why := path_refusal(path, volumes, own):
        raise VolumePathError(why)


def explanation(error: BaseException, volumes: Path, own: Iterable[str], knows: str) -> str:
    """Return the refusal for the first path of a volume that a library's own error names; else empty text.

    The module in the file `knows` can read volumes, so its errors need no such sentence.
    """
    frames = traceback.walk_tb(error.__traceback__)
    if not isinstance(error, OSError) or any(frame.f_code.co_filename == knows for frame, _ in frames):
        return ""
    return next((f" {why}" for path in IN_COMMAND.findall(str(error)) if (why := path_refusal(path, volumes, own))), "")


def refuse_in_process(volumes: Path, own: frozenset[str]) -> None:
    "Refuse paths of volumes in this process and in the commands that it starts. This cannot be undone."
    sys.addaudithook(hook(volumes, own))


def hook(volumes: Path, own: frozenset[str]) -> Callable[[str, tuple[Any, ...]], None]:
    "Return the audit hook. Python calls it for many other events, `id` included, so those cost only one lookup in a dictionary."

    def audit(event: str, args: tuple[Any, ...], watched: dict[str, int] = EVENTS) -> None:
        if event in watched:
            for path in _in_command(args) if event in COMMANDS else _named(args[: watched[event]]):
                refuse_path(path, volumes, own)

    return audit


def _named(args: Iterable[Any]) -> Iterator[str]:
    "Yield the paths among these arguments, without those that cannot be below `/Volumes`."
    for arg in args:
        if isinstance(arg, str | bytes | os.PathLike) and "Volumes" in (text := os.fsdecode(arg)):
            yield text


def _in_command(args: tuple[Any, ...]) -> list[str]:
    "Return the paths of volumes in a command: in its program, its arguments and its folder."
    return IN_COMMAND.findall(" ".join(_words(args[:3])))


def _words(args: Iterable[Any]) -> Iterator[str]:
    for arg in args:
        if isinstance(arg, str | bytes | os.PathLike):
            yield os.fsdecode(arg)
        elif isinstance(arg, list | tuple):
            yield from _words(arg)
