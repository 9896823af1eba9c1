"A policy names gates by id, refuses what does not exist when it is declared, and the page about the gates is what their functions declare."

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from boathouse.models.tasks import TASKS
from boathouse.validation.gate import REGISTERED_GATES, Gate
from boathouse.validation.policy import GATE_MODULES, STANDARD_GATES, STANDARD_OF_OTHERS, Policy, gates_of

PAGE = Path(__file__).parents[3] / "docs" / "gates.md"
HEAD = """# The gates

Written from the functions: change them, not this page. A gate is a decorated function (`boathouse.validation.gate`); the first line of its docstring stands below.
A use case lists gates by id in its `Policy`, with the settings in which they differ from the defaults shown here.
Gates in **bold** are the standard ones of their tasks (`Policy.standard(task)`); the others run if a policy names them.
A gate that needs a timestamp or a day is left out if the evidence has none, and the verdict names it.

| gate | tasks | needs | a refusal | inconclusive | limits | description |
|---|---|---|---|---|---|---|
"""


def limits_of(gate: Gate) -> str:
    "The limits with their defaults, as Markdown."
    shown = [f"`{name}`" + ("" if value is inspect.Parameter.empty else f" {value}") for name, value in gate.limits.items()]
    return ", ".join(shown)


def test_the_page_about_the_gates_is_what_the_functions_declare(request: pytest.FixtureRequest) -> None:
    standard = (*STANDARD_GATES, *STANDARD_OF_OTHERS)
    kit = {module.__name__ for module in GATE_MODULES} | {"boathouse.validation.policy"}
    others = sorted(name for name, gate in REGISTERED_GATES.items() if name not in standard and gate.check.__module__ in kit)
    rows = []
    for gate in (REGISTERED_GATES[name] for name in (*standard, *others)):
        name = f"**`{gate.name}`**" if gate.name in standard else f"`{gate.name}`"
        outcome = {"pass": "passes", "refuse": "refuses"}[gate.if_inconclusive]
        tasks = "all" if gate.tasks == TASKS else ", ".join(gate.tasks)
        rows.append(
            f"| {name} | {tasks} | {gate.needs or ''} | {'blocks' if gate.blocks else 'warns'} | {outcome} | {limits_of(gate)} | {gate.description} |"
        )
    page = HEAD + "\n".join(rows) + "\n"
    if request.config.getoption("--save-outputs"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "docs/gates.md is out of date: pytest tests/kit/validation/test_policy.py --save-outputs"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"settings": {"auc_flor": {"floor": 0.7}}}, "expected the id of a gate, got 'auc_flor'; did you mean 'auc_floor'?"),
        ({"gates": ("holdout_use",)}, "expected the id of a gate, got 'holdout_use'; did you mean 'holdout_reuse'?"),
        ({"gates": ("better than the champion",)}, "did you mean 'beats_champion'?"),
        ({"settings": {"auc_floor": {"flor": 0.7}}}, "gate 'auc_floor' takes no setting 'flor'; did you mean 'floor'?"),
        ({"settings": {"auc_floor": {"blocks": "no"}}}, "blocks of gate 'auc_floor' must be True or False, got 'no'"),
        ({"settings": {"slice_floor": {"floor": 0.6}}}, "gate 'slice_floor' needs a value for columns, which has no default: set it in the policy, or leave out the gate"),
        ({"settings": {"auc_floor": {"if_inconclusive": "warn"}}}, "if_inconclusive of gate 'auc_floor' must be 'pass' or 'refuse', got 'warn'"),
    ],
)  # fmt: skip
def test_a_policy_that_names_what_does_not_exist_is_refused_when_it_is_declared(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Policy(**policy)


def test_settings_change_limits_of_standard_gates_and_add_others_behind_them() -> None:
    gates = gates_of(Policy({"beats_baseline": {"baselines": ["timetable"]}, "auc_floor": {"floor": 0.7, "blocks": False}}))
    assert tuple(gate.name for gate in gates) == (*STANDARD_GATES, "beats_baseline")
    floor = next(gate for gate in gates if gate.name == "auc_floor")
    assert (floor.limits, floor.blocks) == ({"floor": 0.7, "level": 0.95}, False)
    assert REGISTERED_GATES["auc_floor"].limits["floor"] == 0.6  # other policies keep the default


def test_a_policy_may_list_its_own_gates() -> None:
    assert [gate.name for gate in gates_of(Policy(gates=("auc_floor", "latency")))] == ["auc_floor", "latency"]
