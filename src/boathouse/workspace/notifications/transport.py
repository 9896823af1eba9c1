"""Send one notification: by a mail server, into the mailbox file of the target, or to a URL.

A webhook gets `Idempotency-Key`, and with a secret also a time and a signature of time and body.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import mailbox
import os
import smtplib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from boathouse.workspace.errors import did_you_mean
from boathouse.workspace.notifications.outbox import Message
from boathouse.workspace.notifications.settings import FILE, Destination, DestinationKind, MailServer, NotificationSettings, Security

EMAIL, DESTINATION = "email:", "destination:"
MAILBOX = "mailbox"
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_PAUSE = 30.0


class NotSent(Exception):
    "Signal that a notification could not be sent, with the reason. Trying again is of no use."


class TryAgain(NotSent):
    "Signal that a notification could not be sent now, and may be sent later."


@dataclass(frozen=True)
class Transport:
    "Send the notifications of one target by its settings; `state` is the target's folder."

    settings: NotificationSettings
    state: Path

    def send(self, destination: str, message: Message, key: str, tried: Callable[[], None] = lambda: None) -> None:
        "Send a message to `email:<address>` or `destination:<id>`; call `tried` before each try. Raises NotSent."
        limits = self.settings.limits
        retrying = Retrying(
            stop=stop_after_attempt(limits.tries),
            wait=wait_exponential(multiplier=limits.pause, max=LONGEST_PAUSE),
            retry=retry_if_exception_type(TryAgain),
            reraise=True,
        )

        def once() -> None:
            tried()
            self._send(destination, message, key)

        retrying(once)

    def _send(self, destination: str, message: Message, key: str) -> None:
        if destination.startswith(EMAIL):
            return self._mail([destination.removeprefix(EMAIL)], message, key)
        name = destination.removeprefix(DESTINATION)
        known = self.settings.destinations
        if name not in known:
            raise NotSent(f"{FILE} has no destination '{name}' for this target. {did_you_mean(name, known)}".strip())
        if known[name].kind == DestinationKind.EMAIL:
            return self._mail(known[name].addresses, message, key)
        return _post(known[name], message, key, self.settings.limits.timeout)

    def _mail(self, addresses: list[str], message: Message, key: str) -> None:
        server = self.settings.smtp
        mail = _email(server.sender if server else MailServer("").sender, addresses, message, key)
        if server is None:
            append_to_mailbox(self.state / MAILBOX, mail)
        else:
            _submit(server, mail, self.settings.limits.timeout)


def append_to_mailbox(file: Path, mail: EmailMessage) -> None:
    "Append a mail to a file in mbox format. Several processes may do so at once."
    with FileLock(f"{file}.lock"):
        box = mailbox.mbox(file)
        try:
            box.add(mail)
            box.flush()
        finally:
            box.close()


def sign(secret: str, timestamp: str, body: bytes) -> str:
    "Return the signature of a webhook: `v1=` and HMAC-SHA256 of `<timestamp>.<body>` in hexadecimal digits."
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _email(sender: str, addresses: list[str], message: Message, key: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(addresses)
    mail["Subject"] = " ".join(message.subject.split())
    mail["Date"] = formatdate()
    mail["Message-ID"] = f"<{key}@boathouse>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    return mail


def _submit(server: MailServer, mail: EmailMessage, timeout: float) -> None:
    password = _secret(server.password_env) if server.password_env else ""
    secure = None if server.security == Security.NONE else ssl.create_default_context()
    try:
        if server.security == Security.TLS:
            connection: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=timeout, context=secure)
        else:
            connection = smtplib.SMTP(server.host, server.port, timeout=timeout)
        with connection:
            if server.security == Security.STARTTLS:
                connection.starttls(context=secure)
            if server.user:
                connection.login(server.user, password)
            connection.send_message(mail)
    except smtplib.SMTPRecipientsRefused as e:
        code, answer = next(iter(e.recipients.values()))
        raise _refused(server, code, answer) from e
    except smtplib.SMTPResponseException as e:
        raise _refused(server, e.smtp_code, e.smtp_error) from e
    except smtplib.SMTPNotSupportedError as e:
        raise NotSent(f"mail server {server.host}:{server.port}: {e}") from e
    except (OSError, smtplib.SMTPException) as e:
        raise TryAgain(f"mail server {server.host}:{server.port}: {_reason(e)}") from e


def _refused(server: MailServer, code: int, answer: bytes | str) -> NotSent:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    kind = TryAgain if 400 <= code < 500 else NotSent
    return kind(f"mail server {server.host}:{server.port} answered {code} {text}")


def _post(destination: Destination, message: Message, key: str, timeout: float) -> None:
    url = destination.url or _secret(destination.url_env or "")
    body = json.dumps(payload(destination.kind, message), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "boathouse", "Idempotency-Key": key}
    if destination.secret_env:
        now = str(int(time.time()))
        headers |= {"X-Boathouse-Timestamp": now, "X-Boathouse-Signature": sign(_secret(destination.secret_env), now, body)}
    place = urlsplit(url).netloc.rpartition("@")[2]  # the rest of a URL may be a secret
    try:
        answer = requests.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)
    except requests.RequestException as e:
        kind = TryAgain if isinstance(e, requests.ConnectionError | requests.Timeout) else NotSent
        raise kind(f"{place}: {_reason(e)}") from None
    if not 200 <= answer.status_code < 300:
        raise (TryAgain if answer.status_code in AGAIN else NotSent)(f"{place} answered {answer.status_code}")


def payload(kind: DestinationKind, message: Message) -> dict[str, Any]:
    "Return the JSON body for a destination: the message's own for a webhook, a text for Slack, a card for Teams."
    if kind == DestinationKind.SLACK:
        return {"text": f"*{message.subject}*\n{message.text}"}
    if kind == DestinationKind.TEAMS:
        blocks = [{"type": "TextBlock", "text": message.subject, "weight": "Bolder", "wrap": True}]
        blocks += [{"type": "TextBlock", "text": line, "wrap": True} for line in message.text.splitlines() if line]
        card = {"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": blocks}
        return {"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}]}
    return dict(message.body)


def _secret(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise NotSent(f"the environment variable {variable} is not set.")
    return value


def _reason(error: BaseException) -> str:
    "Return what failed, without the URL that messages of `requests` contain."
    if isinstance(error, requests.Timeout | TimeoutError):
        return "no answer in time"
    found = _os_error(error)
    return type(error).__name__ if found is None else found.strerror or str(found) or type(found).__name__


def _os_error(error: BaseException | None) -> OSError | None:
    "Return the error of the operating system behind one of `requests`."
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
            return error
        error = error.__cause__ or error.__context__ or next((a for a in error.args if isinstance(a, BaseException)), None)
    return None
