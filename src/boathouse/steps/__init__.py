"One call per step of the lifecycle: train, validate, promote, score and monitor a model of your own table, and decide whether to retrain it."

from boathouse.steps.monitor import MonitoringReport, decide, monitor
from boathouse.steps.score import score
from boathouse.steps.train import Candidate, tune_and_train
from boathouse.steps.validate import promote, validate

__all__ = [
    "Candidate",
    "MonitoringReport",
    "decide",
    "monitor",
    "promote",
    "score",
    "tune_and_train",
    "validate",
]
