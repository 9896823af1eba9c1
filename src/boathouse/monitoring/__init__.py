"Drift and quality over time, and the decision to retrain."

from boathouse.monitoring.decay import measure_decay, plot_decay
from boathouse.monitoring.drift import compare_profiles, model_quality, profile, score_buckets
from boathouse.monitoring.retraining import (
    DECISIONS,
    RetrainingDecision,
    RetrainingPolicy,
    WindowEvidence,
    decide_retraining,
    record_decision,
)

__all__ = [
    "DECISIONS",
    "RetrainingDecision",
    "RetrainingPolicy",
    "WindowEvidence",
    "compare_profiles",
    "decide_retraining",
    "measure_decay",
    "model_quality",
    "plot_decay",
    "profile",
    "record_decision",
    "score_buckets",
]
