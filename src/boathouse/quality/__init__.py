"Rules about rows and tables, the quarantine of rows that break them, and the report on both."

from boathouse.quality.dataset_checks import (
    CheckFinding,
    check_freshness,
    check_references,
    check_row_count,
    check_schema,
    check_unique,
    raise_on_findings,
)
from boathouse.quality.lines import cast_lines, contract_rules
from boathouse.quality.quarantine import EvaluatedRows, append_rejected, quarantine_of, requeue_rows, write_with_quarantine
from boathouse.quality.report import quality_page
from boathouse.quality.rules import METRICS, QualityError, Rule, RuleError, check_rules, evaluate_rules, passing_rows, rejected_rows

__all__ = [
    "CheckFinding",
    "EvaluatedRows",
    "METRICS",
    "QualityError",
    "Rule",
    "RuleError",
    "append_rejected",
    "cast_lines",
    "check_freshness",
    "check_references",
    "check_row_count",
    "check_rules",
    "check_schema",
    "check_unique",
    "contract_rules",
    "evaluate_rules",
    "passing_rows",
    "quality_page",
    "quarantine_of",
    "raise_on_findings",
    "rejected_rows",
    "requeue_rows",
    "write_with_quarantine",
]
