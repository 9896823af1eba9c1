"What the planted failures share: an honest candidate, its test rows, and what the gates say of another one."

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[4] / "bench"))

from harbour import POLICY, candidate_of, ferries

from boathouse.validation.gate import Evidence, run_gates
from boathouse.validation.policy import gates_of


@pytest.fixture(scope="session")
def harbour() -> pd.DataFrame:
    "98 days of ferries."
    return ferries(1)


@pytest.fixture(scope="session")
def good(harbour: pd.DataFrame) -> Evidence:
    "A candidate that deserves to pass: the good twin of the bad ones."
    return candidate_of(harbour)


@pytest.fixture(scope="session")
def refused() -> Callable[[Evidence], set[str]]:
    "The names of the gates that refuse."

    def ask(evidence: Evidence) -> set[str]:
        return set(run_gates(gates_of(POLICY), evidence).refusals)

    return ask


@pytest.fixture(scope="module", autouse=True)
def good_twin(good: Evidence, refused: Callable[[Evidence], set[str]]) -> None:
    "Beside the bad candidates of a module stands the good one, which is accepted."
    assert run_gates(gates_of(POLICY), good).accepted
