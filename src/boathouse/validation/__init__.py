"Gates that a candidate passes before it is promoted, and the evidence that they check."

from boathouse.validation.ablation import drop_and_retrain, drop_groups
from boathouse.validation.card import log_card, model_card
from boathouse.validation.comparison import paired_gain
from boathouse.validation.explanation import Explanation, explain, log_explanation
from boathouse.validation.gate import CANDIDATE, CHAMPION, Evidence, Gate, GateResult, Verdict, conclude, format_results, gate, run_gates
from boathouse.validation.metrics import calibration, roc, score_metrics, slices
from boathouse.validation.policy import STANDARD_GATES, Policy, gates_of

__all__ = [
    "CANDIDATE",
    "CHAMPION",
    "Evidence",
    "Explanation",
    "Gate",
    "GateResult",
    "Policy",
    "STANDARD_GATES",
    "Verdict",
    "calibration",
    "conclude",
    "drop_and_retrain",
    "drop_groups",
    "explain",
    "format_results",
    "gate",
    "gates_of",
    "log_card",
    "log_explanation",
    "model_card",
    "paired_gain",
    "roc",
    "run_gates",
    "score_metrics",
    "slices",
]
