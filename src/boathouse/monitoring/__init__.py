"Drift and quality over time, and the decision to keep, retrain, roll back or fix the data."

from boathouse.monitoring.decay import measure_decay, plot_decay
from boathouse.monitoring.decision import DECISIONS, ModelDecision, PreviousVersion, decide_action, record_decision
from boathouse.monitoring.drift import compare_profiles
from boathouse.monitoring.estimates import ScoreCalibration, estimate_auc, fit_calibration
from boathouse.monitoring.evidence import DecisionPolicy, WindowEvidence
from boathouse.monitoring.page import monitoring_page
from boathouse.monitoring.profiles import profile
from boathouse.monitoring.quality import model_quality, quality_rows, score_buckets
from boathouse.monitoring.schema_health import TABLE_HEALTH, check_table_health, summarize_health
from boathouse.monitoring.table_health import judge_freshness, judge_new_categories, judge_null_share, judge_row_count, predict_range
from boathouse.monitoring.tables import drift_table, profile_table

__all__ = [
    "DECISIONS",
    "ModelDecision",
    "DecisionPolicy",
    "PreviousVersion",
    "ScoreCalibration",
    "TABLE_HEALTH",
    "WindowEvidence",
    "check_table_health",
    "compare_profiles",
    "decide_action",
    "drift_table",
    "estimate_auc",
    "fit_calibration",
    "judge_freshness",
    "judge_new_categories",
    "judge_null_share",
    "judge_row_count",
    "measure_decay",
    "model_quality",
    "monitoring_page",
    "plot_decay",
    "predict_range",
    "profile",
    "profile_table",
    "quality_rows",
    "record_decision",
    "score_buckets",
    "summarize_health",
]
