"Delta Lake's jars for the installed pyspark: Spark's own Ivy downloads them from Maven once into a folder."

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pyspark

SCALA = "2.13"
# All other dependencies of Delta are among pyspark's jars, or serve only a remote Unity Catalog.
EXCLUDED = "org.*:*,com.*:*,net.*:*,io.netty:*,io.unitycatalog:*,jakarta.*:*,javax.*:*,dev.*:*"
PARTS = ("delta-spark", "delta-storage", "delta-kernel-api", "delta-kernel-defaults", "delta-kernel-unitycatalog")


class JarsError(Exception):
    "Signal that Delta's jars could not be downloaded; the message ends with the output of the resolver."


def project_root(start: Path | None = None) -> Path | None:
    "Return the nearest folder at or above `start` (the working directory) with a `databricks.yml`; None without one."
    start = (start or Path.cwd()).resolve()
    return next((folder for folder in (start, *start.parents) if (folder / "databricks.yml").is_file()), None)


def coordinate() -> str:
    "Return Delta's Maven coordinate for the installed pyspark and delta-spark, as `group:artifact:version`."
    spark = ".".join(pyspark.__version__.split(".")[:2])
    return f"io.delta:delta-spark_{spark}_{SCALA}:{version('delta-spark')}"


def jars() -> list[Path]:
    "Return Delta's jars, sorted by name; download them on the first call on a machine (`folders` lists the places)."
    for folder in folders():
        if is_complete(folder):
            return sorted(folder.glob("*.jar"))
    return resolve_jars(folders()[0])


def folders() -> list[Path]:
    """Return the folders that may hold the jars, best first.

    These are `BOATHOUSE_JARS`, the project of the working directory, boathouse's own project and the user's cache.
    """
    if named := os.environ.get("BOATHOUSE_JARS"):
        return [Path(named).resolve()]
    name = coordinate().split(":", 1)[1].replace(":", "-")
    roots = [project_root(), project_root(Path(__file__).parent)]
    found = [root / ".boathouse" / "jars" / name for root in dict.fromkeys(roots) if root is not None]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [*found, cache / "boathouse" / "jars" / name]


def is_complete(folder: Path) -> bool:
    "Return whether `folder` has every jar that a session needs, in the installed version of Delta."
    wanted = version("delta-spark")
    return all(any(folder.glob(f"io.delta_{part}*-{wanted}.jar")) for part in PARTS)


def resolve_jars(folder: Path) -> list[Path]:
    """Download the jars into `folder` through `spark.jars.packages`; a killed run leaves no folder that seems complete.

    `BOATHOUSE_IVY_SETTINGS` names an Ivy settings file (for a Maven mirror), passed on as `spark.jars.ivySettings`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".resolving-", dir=folder.parent) as scratch:
        ivy, nothing = Path(scratch, "ivy"), Path(scratch, "nothing.py")
        nothing.write_text("")
        done = subprocess.run(_command(ivy, nothing), env=_environment(), capture_output=True, text=True, check=False)
        if done.returncode or not is_complete(ivy / "jars"):
            raise JarsError(f"could not resolve {coordinate()} (exit {done.returncode}). Behind a mirror, name an Ivy settings file in "
                            f"BOATHOUSE_IVY_SETTINGS. The resolver printed:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-15:]))  # fmt: skip
        if not is_complete(folder):  # another process may have done it meanwhile
            shutil.rmtree(folder, ignore_errors=True)
            (ivy / "jars").rename(folder)
    return sorted(folder.glob("*.jar"))


def _command(ivy: Path, script: Path) -> list[str]:
    home = Path(pyspark.__file__).parent
    conf = {"spark.jars.packages": coordinate(), "spark.jars.excludes": EXCLUDED, "spark.jars.ivy": str(ivy)}
    if settings := os.environ.get("BOATHOUSE_IVY_SETTINGS"):
        conf["spark.jars.ivySettings"] = settings
    options = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    return [str(home / "bin" / "spark-submit"), "--master", "local[1]", *options, str(script)]


def _environment() -> dict[str, str]:
    home = str(Path(pyspark.__file__).parent)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYSPARK_", "SPARK_"))}
    return {**kept, "SPARK_HOME": home, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
