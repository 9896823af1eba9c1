"""Good candidates are let through: the gates' small chances of refusing one must not add up."""

from __future__ import annotations

from collections.abc import Callable

from harbour import candidate_of, ferries

from boathouse.validation.gate import Evidence


def test_fewer_than_one_in_twenty_good_candidates_is_refused(refused: Callable[[Evidence], set[str]]) -> None:
    # bench/honesty.py asks 200. Were the rate 5 %, four or more of 20 would be refused once in sixty times.
    found = [refused(candidate_of(ferries(seed))) for seed in range(20)]
    assert sum(map(bool, found)) <= 3, [f for f in found if f]
