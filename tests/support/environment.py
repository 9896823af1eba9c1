"The environment of the commands that tests start."

from __future__ import annotations

import os


def clean_environment() -> dict[str, str]:
    "This process's, without the state and the MLflow that the suite's own session has set."
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "BOATHOUSE_STATE", "_MLFLOW"))}
