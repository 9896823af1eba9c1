"""boathouse runs the jobs of a Databricks bundle on one machine, with real Spark, Delta and MLflow, and adds a kit for the machine-learning lifecycle.

`boathouse.workspace` is the local workspace behind the command `boathouse`. The other packages are the kit: tables, quality, ingest, features, training,
validation, registry, serving and monitoring. They work the same on one machine and on Databricks, and never import the workspace there.
"""

from importlib import metadata


def _installed_version() -> str:
    "Return the version of the installed package; a checkout that is on the path without an installation has none."
    try:
        return metadata.version("boathouse")
    except metadata.PackageNotFoundError:
        return "0+checkout"


__version__ = _installed_version()
