"A model's way into service and out of it."

from boathouse.serving.client import FeatureEngineeringClient, FeatureTable
from boathouse.serving.deployment import DeploymentFailed, check_approval, record_or_fail, select_candidate, undo_promotion
from boathouse.serving.feature_models import log_model, read_spec, rebuild_training_set, score_batch

__all__ = [
    "DeploymentFailed",
    "FeatureEngineeringClient",
    "FeatureTable",
    "check_approval",
    "log_model",
    "read_spec",
    "rebuild_training_set",
    "record_or_fail",
    "score_batch",
    "select_candidate",
    "undo_promotion",
]
