"Drift and quality over time, and the decision to retrain."

from boathouse.monitoring.decay import measure_decay, plot_decay
from boathouse.monitoring.drift import compare_profiles, model_quality, profile, score_buckets
from boathouse.monitoring.retraining import RetrainingDecision, RetrainingPolicy, WindowEvidence, decide_retraining

__all__ = [
    "RetrainingDecision",
    "RetrainingPolicy",
    "WindowEvidence",
    "compare_profiles",
    "decide_retraining",
    "measure_decay",
    "model_quality",
    "plot_decay",
    "profile",
    "score_buckets",
]
