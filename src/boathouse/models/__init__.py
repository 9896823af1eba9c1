"Task types, learners, the integrity of a stored model, and scoring."

from boathouse.models.integrity import AllowedTypes, UntrustedModel, fetch_files, refuse_code
from boathouse.models.learners import Recipe, build_estimator, fit, importances, log_pipeline, predict, probabilities, to_pandas
from boathouse.models.scoring import PackedModel, pack_model, score, score_together
from boathouse.models.tasks import (
    METRICS,
    TASKS,
    LabelError,
    Metric,
    Task,
    check_labels,
    check_predictions,
    encode_labels,
    measure_predictions,
)

__all__ = [
    "AllowedTypes",
    "LabelError",
    "METRICS",
    "Metric",
    "PackedModel",
    "Recipe",
    "TASKS",
    "Task",
    "UntrustedModel",
    "build_estimator",
    "check_labels",
    "check_predictions",
    "encode_labels",
    "fetch_files",
    "fit",
    "importances",
    "log_pipeline",
    "measure_predictions",
    "pack_model",
    "predict",
    "probabilities",
    "refuse_code",
    "score",
    "score_together",
    "to_pandas",
]
