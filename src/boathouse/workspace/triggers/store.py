"Keep the clocks, the states of the triggers and the planned starts of a target in its `workspace.db`."

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from boathouse.workspace.graph.state_machine import SUCCEEDED
from boathouse.workspace.history.store import History
from boathouse.workspace.history.trigger_starts import TriggerStart
from boathouse.workspace.triggers.evaluate import DueStart, Observation, TriggerState

REAL = 0  # the number of the machine's own clock


@dataclass(frozen=True)
class OpenStart:
    "Hold a start that is not settled, and its run if a process has claimed it, or its evaluation; `ended` is the end in milliseconds."

    start: TriggerStart
    run_id: int | None = None
    result: str | None = None
    message: str = ""
    begun: int | None = None
    ended: int | None = None


def begin_clock(history: History, begins: float, *, restart: bool = False) -> tuple[int, float]:
    """Return the number and the position of a simulated clock that begins at a time.

    It goes on where one with the same begin was interrupted. Otherwise, and with `restart`, it is a new one.
    """
    with history.transaction() as database:
        row = database.execute("SELECT * FROM trigger_clocks ORDER BY clock DESC LIMIT 1").fetchone()
        if row is not None and row["begins"] == begins and not row["ended"] and not restart:
            return int(row["clock"]), float(row["position"])
        number = int(row["clock"]) + 1 if row is not None else REAL + 1
        database.execute("INSERT INTO trigger_clocks (clock, begins, position) VALUES (?, ?, ?)", (number, begins, begins))
    return number, begins


class TriggerStore:
    "Read and write the states and starts of one clock of a target."

    def __init__(self, history: History, clock: int = REAL) -> None:
        self.history, self.clock = history, clock

    def states(self) -> dict[str, TriggerState]:
        "Return the states of the triggers by job."
        rows = self.history.rows("SELECT job_key, state FROM trigger_states WHERE clock = ?", self.clock)
        return {row["job_key"]: TriggerState.from_json(row["state"]) for row in rows}

    def record(
        self, now: float, states: Mapping[str, TriggerState], starts: Sequence[tuple[str, str, DueStart]] = ()
    ) -> list[TriggerStart]:
        """Write states and starts (each with its job and type) in one transaction, and the position of a simulated clock.

        Return the new starts; one that is there already is not recorded again.
        """
        with self.history.transaction() as database:
            rows = [(self.clock, job, state.to_json()) for job, state in states.items()]
            database.executemany("INSERT OR REPLACE INTO trigger_states (clock, job_key, state) VALUES (?, ?, ?)", rows)
            made = list[int]()
            for job, kind, start in starts:
                done = database.execute(
                    "INSERT OR IGNORE INTO trigger_starts (clock, job_key, type, key, planned, recorded, details) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (self.clock, job, kind, start.key, start.planned, now, json.dumps(start.details)),
                )
                made += [int(done.lastrowid or 0)] if done.rowcount else []
            if self.clock != REAL:
                database.execute("UPDATE trigger_clocks SET position = ? WHERE clock = ?", (now, self.clock))
        return [self.history.find_start(start_id) for start_id in made]

    def end_clock(self) -> None:
        "Record that a simulated clock has come to its end."
        with self.history.transaction() as database:
            database.execute("UPDATE trigger_clocks SET ended = 1 WHERE clock = ?", (self.clock,))

    def open_starts(self) -> list[OpenStart]:
        "Return the starts that are not settled, oldest first, with their runs."
        rows = self.history.rows(
            "SELECT s.*, r.run_id, r.result_state, r.state_message, r.start_time, r.end_time FROM trigger_starts s"
            " LEFT JOIN runs r ON r.trigger_start = s.start_id WHERE s.clock = ? AND NOT s.settled ORDER BY s.start_id",
            self.clock,
        )
        return [_open_start(row) for row in rows]

    def launched(self, start: TriggerStart, pid: int | None = None, started: float | None = None) -> None:
        "Record the process that is to claim a start; without one, that none could be started."
        with self.history.transaction() as database:
            database.execute(
                "UPDATE trigger_starts SET launches = launches + 1, pid = ?, pid_started = ? WHERE start_id = ?",
                (pid, started, start.start_id),
            )

    def give_up(self, start: TriggerStart, why: str) -> bool:
        "Record that a start gets no run or evaluation; return False if a process has claimed it meanwhile."
        with self.history.transaction() as database:
            done = database.execute(
                "UPDATE trigger_starts SET failed = ?, settled = 1 WHERE start_id = ? AND outcome IS NULL AND start_id NOT IN"
                " (SELECT trigger_start FROM runs WHERE trigger_start IS NOT NULL)",
                (why, start.start_id),
            )
        return done.rowcount > 0

    def settle(self, start: TriggerStart) -> None:
        "Record that the run of a start has ended and was reported."
        with self.history.transaction() as database:
            database.execute("UPDATE trigger_starts SET settled = 1 WHERE start_id = ?", (start.start_id,))


def _open_start(row: sqlite3.Row) -> OpenStart:
    start = TriggerStart.of(row)
    if start.outcome is not None:
        outcome = json.loads(start.outcome)
        return OpenStart(start, None, outcome["state"], outcome["message"], outcome["begun"], outcome["ended"])
    return OpenStart(start, row["run_id"], row["result_state"], row["state_message"] or "", row["start_time"], row["end_time"])


def last_result(history: History, clock: int, job: str) -> Observation:
    "Return the last start of a job with its result: active, succeeded, failed or none; active too if another run of the job is."
    rows = history.rows(
        "SELECT s.start_id, s.failed, r.run_id, r.result_state, r.end_time FROM trigger_starts s LEFT JOIN runs r ON r.trigger_start = s.start_id"
        " WHERE s.clock = ? AND s.job_key = ? ORDER BY s.start_id DESC LIMIT 1",
        *(clock, job),
    )
    others = history.rows("SELECT 1 FROM runs WHERE job_key = ? AND end_time IS NULL LIMIT 1", job)
    if not rows:
        return {"": "active" if others else "none"}
    last = rows[0]
    if others or (last["failed"] is None and last["end_time"] is None):
        return {str(last["start_id"]): "active"}
    return {str(last["start_id"]): "succeeded" if last["result_state"] in {one.value for one in SUCCEEDED} else "failed"}
