"Splits, the held-out rows and the hyperparameter search."

from boathouse.training.holdout import HOLDOUT_OPENINGS, Holdout, open_holdout, versions_shown
from boathouse.training.search import Budget, Trial, fold_rows, fold_scores, log_trials, search_parameters
from boathouse.training.splits import HoldoutError, KeySplit, SplitError, TimeSplit, refuse_holdout, split_by_time

__all__ = [
    "Budget",
    "HOLDOUT_OPENINGS",
    "Holdout",
    "HoldoutError",
    "KeySplit",
    "SplitError",
    "TimeSplit",
    "Trial",
    "fold_rows",
    "fold_scores",
    "log_trials",
    "open_holdout",
    "refuse_holdout",
    "search_parameters",
    "split_by_time",
    "versions_shown",
]
