"""Print refusals of the command line on stderr and as JSON, with exit code 2. This module needs only the standard library."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence

from boathouse.workspace.errors import BundleError

# The modules of the extra `local` in pyproject.toml; a test compares the two lists.
EXTRA = {
    "click": "click",
    "databricks": "databricks-sdk",
    "delta": "delta-spark",
    "execnb": "execnb",
    "fastapi": "fastapi",
    "fastapi_offline": "fastapi-offline",
    "filelock": "filelock",
    "jinja2": "Jinja2",
    "matplotlib": "matplotlib",
    "mlflow": "mlflow",
    "nbconvert": "nbconvert",
    "nbformat": "nbformat",
    "packaging": "packaging",
    "pandas": "pandas",
    "prometheus_client": "prometheus-client",
    "psutil": "psutil",
    "pydantic_core": "pydantic-core",
    "pygments": "Pygments",
    "py4j": "pyspark",
    "pyarrow": "pyarrow",
    "pyspark": "pyspark",
    "requests": "requests",
    "rich": "rich",
    "sklearn": "scikit-learn",
    "sqlparse": "sqlparse",
    "starlette": "starlette",
    "tenacity": "tenacity",
    "uvicorn": "uvicorn",
    "yaml": "PyYAML",
}


def missing_extra(error: ModuleNotFoundError) -> BundleError | None:
    "Return the refusal for a missing module of the extra `local`; None for any other module."
    package = EXTRA.get((error.name or "").split(".")[0])
    if package is None:
        return None
    return BundleError(f"the package '{package}' is not installed.", hint='Install what running jobs needs: pip install "boathouse[local]"')


def wants_json(words: Sequence[str]) -> bool:
    "Return whether a command line requests JSON, also one that cannot be parsed."
    pairs = set(itertools.pairwise(words))
    return bool({"--json", "-ojson", "--output=json"} & set(words)) or bool({("-o", "json"), ("--output", "json")} & pairs)


def print_refusal(refusal: BundleError, as_json: bool) -> int:
    "Print a refusal on stderr and, if JSON is requested, as an object on stdout; return the exit code of refusals, 2."
    if as_json:
        print(json.dumps(refusal.as_json()), flush=True)
    print(refusal, file=sys.stderr)
    return 2
