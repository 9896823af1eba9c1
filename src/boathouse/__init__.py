"""boathouse runs the jobs of a Databricks bundle on one machine, with real Spark, Delta and MLflow, and adds a kit for the machine-learning lifecycle.

`boathouse.workspace` is the local workspace behind the command `boathouse`. The other packages are the kit: tables, quality, ingest, features, training,
validation, registry, serving and monitoring. They work the same on one machine and on Databricks, and never import the workspace there.
"""

__version__: str


def __getattr__(name: str) -> str:
    "Read `__version__` from the installed distribution on first use, so that the import of the package does not wait for it."
    if name != "__version__":
        raise AttributeError(f"module 'boathouse' has no attribute '{name}'")
    from importlib.metadata import version

    return version("boathouse")
