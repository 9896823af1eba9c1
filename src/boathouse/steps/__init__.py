"One call per step of the lifecycle: train, validate, promote and score a model of your own table."

from boathouse.steps.score import score
from boathouse.steps.train import Candidate, tune_and_train
from boathouse.steps.validate import promote, validate

__all__ = [
    "Candidate",
    "promote",
    "score",
    "tune_and_train",
    "validate",
]
