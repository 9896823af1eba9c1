"""Read `boathouse.yml` beside `databricks.yml`: the mail server and the destinations of notifications, for all targets or for one.

Secrets are not in the file: it names environment variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from boathouse.workspace.bundle.schema import schema_problems
from boathouse.workspace.bundle.yaml_tree import Map, load, where
from boathouse.workspace.errors import BundleError, Where, did_you_mean

FILE = "boathouse.yml"


class Security(Enum):
    "How the connection to a mail server is encrypted."

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class DestinationKind(Enum):
    "What receives the notifications of a destination."

    WEBHOOK = "webhook"
    SLACK = "slack"
    TEAMS = "teams"
    EMAIL = "email"


@dataclass(frozen=True)
class MailServer:
    "Hold the mail server; `password_env` is the environment variable that has the password."

    host: str
    port: int = 587
    security: Security = Security.STARTTLS
    user: str | None = None
    password_env: str | None = None
    sender: str = "boathouse@localhost"


@dataclass(frozen=True)
class Destination:
    """Hold one notification destination: a URL, or the addresses of the kind `email`.

    `url_env` is the environment variable that has a secret URL, and `secret_env` the one that has the key of the signature.
    """

    kind: DestinationKind
    url: str | None = None
    url_env: str | None = None
    secret_env: str | None = None
    addresses: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SendLimits:
    "Hold how often a notification is tried, the first pause between two tries in seconds, and the seconds that one try may take."

    tries: int = 4
    pause: float = 0.5
    timeout: float = 10.0


@dataclass(frozen=True)
class NotificationSettings:
    "Hold the settings of one target."

    destinations: Mapping[str, Destination] = field(default_factory=dict)
    smtp: MailServer | None = None
    limits: SendLimits = SendLimits()


@dataclass(frozen=True)
class _OfTarget:
    destinations: dict[str, Destination] = field(default_factory=dict)
    smtp: MailServer | None = None
    limits: SendLimits | None = None


@dataclass(frozen=True)
class _File(_OfTarget):
    targets: dict[str, _OfTarget] = field(default_factory=dict)


def read_settings(root: Path, target: str) -> NotificationSettings:
    "Return the settings of one target of the bundle at `root`; empty ones without a file. Raises BundleError for the first fault."
    tree = _read(root)
    for fault in _faults(tree):
        raise fault
    own = _part(tree, "targets", target)
    destinations = {**_part(tree, "destinations"), **_part(own, "destinations")}
    smtp = _part(own, "smtp") or _part(tree, "smtp")
    limits = _part(own, "limits") or _part(tree, "limits")
    return NotificationSettings(
        {key: _destination(body) for key, body in destinations.items()},
        _mail_server(smtp) if smtp else None,
        _send_limits(limits),
    )


def settings_faults(root: Path, targets: tuple[str, ...]) -> Iterator[BundleError]:
    "Yield everything that is wrong with the settings of the bundle at `root`, which has these targets."
    try:
        tree = _read(root)
    except BundleError as e:
        yield e
        return
    yield from _faults(tree)
    for name in _part(tree, "targets"):
        if name not in targets:
            yield BundleError(f"the bundle has no target '{name}'.", tree["targets"].keys_at[name], did_you_mean(name, targets))


def _read(root: Path) -> Map:
    file = root / FILE
    return load(file, FILE) if file.is_file() else Map(Where(FILE))


def _faults(tree: Map) -> Iterator[BundleError]:
    if not tree:
        return
    wrong = schema_problems(tree, _File, FILE)
    yield from wrong
    if wrong:
        return
    for part in (tree, *(part for part in _part(tree, "targets").values() if isinstance(part, Map))):
        for key, body in _part(part, "destinations").items():
            yield from _destination_faults(key, body if isinstance(body, Map) else Map(where(part, "destinations", key)))
        smtp = _part(part, "smtp")
        if smtp.get("user") and not smtp.get("password_env"):
            yield BundleError(
                "'smtp' has a user and no 'password_env'.", where(smtp, "user"), "Name the environment variable of the password."
            )
        limits = _part(part, "limits")
        for key in limits:
            if limits[key] is not None and float(limits[key]) <= 0:
                yield BundleError(f"'{key}' must be more than 0, got {limits[key]}.", where(limits, key))


def _destination_faults(key: str, body: Map) -> Iterator[BundleError]:
    if not body:
        yield BundleError(f"destination '{key}' is empty.", body.at)
    elif body["kind"] == DestinationKind.EMAIL.value:
        if not body.get("addresses"):
            yield BundleError(f"destination '{key}' of kind email needs 'addresses'.", body.at)
    elif bool(body.get("url")) == bool(body.get("url_env")):
        hint = "A URL that is a secret, such as Slack's, belongs in an environment variable: `url_env`."
        yield BundleError(f"destination '{key}' of kind {body['kind']} needs one of 'url' and 'url_env'.", body.at, hint)
    elif body.get("url") and not str(body["url"]).startswith(("http://", "https://")):
        yield BundleError(f"the url of destination '{key}' must begin with https:// or http://, got '{body['url']}'.", where(body, "url"))


def _destination(body: Map) -> Destination:
    addresses = [str(one) for one in body.get("addresses") or ()]
    texts = {key: str(body[key]) for key in ("url", "url_env", "secret_env") if body.get(key)}
    return Destination(DestinationKind(body["kind"]), **texts, addresses=addresses)


def _mail_server(body: Map) -> MailServer:
    texts = {key: str(body[key]) for key in ("host", "user", "password_env", "sender") if body.get(key)}
    return MailServer(**texts, port=int(body.get("port") or 587), security=Security(body.get("security") or "starttls"))


def _send_limits(body: Map) -> SendLimits:
    given, usual = {key: value for key, value in body.items() if value is not None}, SendLimits()
    return SendLimits(
        int(given.get("tries", usual.tries)), float(given.get("pause", usual.pause)), float(given.get("timeout", usual.timeout))
    )


def _part(node: Mapping[str, Any], *path: str) -> Map:
    for step in path:
        node = node.get(step) or {}
    return node if isinstance(node, Map) else Map(Where(FILE))
