"Learners, the integrity of a stored model, and scoring."

from boathouse.models.integrity import AllowedTypes, UntrustedModel, fetch_files, refuse_code
from boathouse.models.learners import Recipe, fit, importances, log_pipeline, probabilities, to_pandas
from boathouse.models.scoring import PackedModel, pack_model, score, score_together

__all__ = [
    "AllowedTypes",
    "PackedModel",
    "Recipe",
    "UntrustedModel",
    "fetch_files",
    "fit",
    "importances",
    "log_pipeline",
    "pack_model",
    "probabilities",
    "refuse_code",
    "score",
    "score_together",
    "to_pandas",
]
