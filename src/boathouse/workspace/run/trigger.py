"What the references of a run can read about its planned start."

from __future__ import annotations

from datetime import UTC, datetime

from boathouse.workspace.history.trigger_starts import TriggerStart
from boathouse.workspace.parameters.references import TriggerFacts, utc_now


def run_time(start: TriggerStart | None) -> datetime:
    "Return the time at which a run starts: the present, or that of a simulated clock."
    return datetime.fromtimestamp(start.recorded, UTC) if start is not None and start.clock else utc_now()


def trigger_facts(start: TriggerStart | None) -> TriggerFacts:
    "Return what started a run; without a planned start, a person did."
    if start is None:
        return TriggerFacts()
    tables = {name: found.split("/") for name, found in start.details.get("tables", {}).items()}
    return TriggerFacts(
        start.type.lower(),
        datetime.fromtimestamp(start.planned, UTC),
        start.details.get("location"),
        tuple(start.details["changes"]) if tables else (),
        {name: (int(version), datetime.fromtimestamp(int(time) / 1000, UTC)) for name, (version, time) in tables.items()},
    )
