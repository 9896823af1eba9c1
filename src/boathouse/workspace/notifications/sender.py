"""Send the recorded notifications of one target in the background, each until it is sent or has failed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self

from boathouse.workspace.notifications.outbox import Message, Occasion, Outbox, message_of
from boathouse.workspace.notifications.settings import NotificationSettings
from boathouse.workspace.notifications.transport import EMAIL, MAILBOX, NotSent, Transport

AT_ONCE = 4


class Sender:
    "Record notifications and send them; `close` waits until all have been tried."

    def __init__(self, state: Path, settings: NotificationSettings) -> None:
        self.outbox = Outbox(state)
        self.faults: list[str] = []
        self._transport = Transport(settings, state)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="notifications")
        self._mailed = 0

    def post(self, occasion: Occasion, message: Message, destinations: Iterable[str]) -> None:
        "Record a message for each destination, and send it in the background."
        self.submit(self.outbox.add(occasion, message, destinations))

    def resume(self) -> None:
        "Send what a process has left that was killed."
        self.submit(self.outbox.adopt_pending())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        "Wait until every notification is sent or has failed."
        self._pool.shutdown(wait=True)
        self.outbox.close()

    def report(self) -> list[str]:
        "Return a line for each notification that could not be sent, and one if some are in the mailbox."
        mailbox = self._transport.state / MAILBOX
        count = f"{self._mailed} notification{'s are' if self._mailed > 1 else ' is'} in {mailbox}, because no mail server is set."
        return [*self.faults, *([count] if self._mailed else [])]

    def submit(self, numbers: Iterable[int]) -> None:
        "Send recorded notifications in the background."
        for number in numbers:
            self._pool.submit(self._send, number)

    def _send(self, number: int) -> None:
        try:
            row = self.outbox.find(number)
            why = self._try(row)
            self.outbox.mark(number, "failed" if why else "sent", why)
        except Exception as e:
            # The history cannot be read or written: the row stays pending, and the next run sends it.
            self.faults.append(f"a notification stays pending: {type(e).__name__}: {e}")
            return
        if why:
            self.faults.append(f"a notification ({row['event']}) to {row['destination']} could not be sent: {why}")
        elif row["destination"].startswith(EMAIL) and self._transport.settings.smtp is None:
            self._mailed += 1

    def _try(self, row: sqlite3.Row) -> str:
        "Send one notification; return why it failed, or an empty text."
        try:
            self._transport.send(row["destination"], message_of(row), row["key"], partial(self.outbox.count_try, row["id"]))
        except sqlite3.Error:
            raise
        except Exception as e:
            return str(e) if isinstance(e, NotSent) else f"{type(e).__name__}: {e}"
        return ""
