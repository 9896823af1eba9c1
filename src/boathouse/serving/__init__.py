"A model's way into service and out of it."

from boathouse.serving.ab_report import AB_QUALITY, compare_served_versions, count_versions, record_ab_report
from boathouse.serving.canary import (
    CanaryDecision,
    CanaryPlan,
    ENDPOINT_DECISIONS,
    Observation,
    measure_requests,
    next_step,
    read_observations,
    record_endpoint_decision,
    run_canary,
)
from boathouse.serving.client import FeatureEngineeringClient, FeatureTable
from boathouse.serving.deployment import DeploymentFailed, check_approval, record_or_fail, select_candidate, undo_promotion
from boathouse.serving.endpoints import EndpointSpec, build_endpoint_config, deploy_endpoint, probe_version, shift_traffic
from boathouse.serving.feature_models import log_model, read_spec, rebuild_training_set, score_batch
from boathouse.serving.load_test import load_test
from boathouse.serving.predictions import read_dead_letters
from boathouse.serving.stream import score_stream

__all__ = [
    "AB_QUALITY",
    "CanaryDecision",
    "CanaryPlan",
    "DeploymentFailed",
    "ENDPOINT_DECISIONS",
    "EndpointSpec",
    "FeatureEngineeringClient",
    "FeatureTable",
    "Observation",
    "build_endpoint_config",
    "check_approval",
    "compare_served_versions",
    "count_versions",
    "deploy_endpoint",
    "load_test",
    "log_model",
    "measure_requests",
    "next_step",
    "probe_version",
    "read_dead_letters",
    "read_observations",
    "read_spec",
    "rebuild_training_set",
    "record_ab_report",
    "record_endpoint_decision",
    "record_or_fail",
    "run_canary",
    "score_batch",
    "score_stream",
    "select_candidate",
    "shift_traffic",
    "undo_promotion",
]
