"""`boathouse.yml`: what it may hold, and what is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from boathouse.workspace.errors import BundleError
from boathouse.workspace.notifications.settings import Destination, DestinationKind, Security, SendLimits, read_settings, settings_faults

WHOLE = """
smtp: {host: mail.example.com, user: jobs, password_env: MAIL_PASSWORD}
destinations:
  team: {kind: slack, url_env: SLACK_URL}
  people: {kind: email, addresses: [a@example.com, b@example.com]}
targets:
  prod:
    smtp: {host: relay.example.com, port: 25, security: none}
    destinations: {team: {kind: webhook, url: "https://example.com/hook", secret_env: KEY}}
    limits: {tries: 9}
"""
FAULTS = [
    ("destinations: {a: {kind: pager, url: x}}", "1:26: 'kind' is 'pager', not one of webhook, slack, teams, email."),
    ("destinations: {a: {url: x}}", "1:19: 'a' lacks 'kind'."),
    ("destination: {}", "1:1: 'destination' is not a key of boathouse.yml. Did you mean 'destinations'?"),
    ("destinations: {a: {kind: slack}}", "1:19: destination 'a' of kind slack needs one of 'url' and 'url_env'."),
    ("destinations: {a: {kind: webhook, url: 'ftp://x'}}", "1:40: the url of destination 'a' must begin with https:// or http://, got 'ftp://x'."),
    ("destinations: {a: {kind: email}}", "1:19: destination 'a' of kind email needs 'addresses'."),
    ("smtp: {host: x, user: me}", "1:23: 'smtp' has a user and no 'password_env'. Name the environment variable of the password."),
    ("limits: {tries: 0}", "1:17: 'tries' must be more than 0, got 0."),
    ("targets: {lokal: {}}", "1:11: the bundle has no target 'lokal'. Did you mean 'local'?"),
    ("destinations: {a: }", "1:19: destination 'a' is empty."),
    ("smtp: [", "2:1: not valid YAML"),
]  # fmt: skip


def test_a_target_has_the_settings_of_all_and_its_own_before_them(tmp_path: Path) -> None:
    (tmp_path / "boathouse.yml").write_text(WHOLE)
    assert list(settings_faults(tmp_path, ("local", "prod"))) == []
    local, prod = read_settings(tmp_path, "local"), read_settings(tmp_path, "prod")
    assert local.smtp is not None
    assert (local.smtp.host, local.smtp.port, local.smtp.security, local.smtp.password_env) == (
        *("mail.example.com", 587, Security.STARTTLS, "MAIL_PASSWORD"),
    )
    assert local.destinations["team"] == Destination(DestinationKind.SLACK, url_env="SLACK_URL")
    assert prod.smtp is not None
    assert (prod.smtp.host, prod.smtp.security) == ("relay.example.com", Security.NONE)
    assert prod.destinations["team"] == Destination(DestinationKind.WEBHOOK, url="https://example.com/hook", secret_env="KEY")
    assert prod.destinations["people"].addresses == ["a@example.com", "b@example.com"]
    assert (local.limits, prod.limits) == (SendLimits(), SendLimits(tries=9))
    assert read_settings(tmp_path / "nowhere", "local").destinations == {}


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "boathouse.yml").write_text(text + "\n")
    found = [str(fault) for fault in settings_faults(tmp_path, ("local", "prod"))]
    assert len(found) == 1
    assert found[0].startswith(f"boathouse.yml:{message}")
    if "target" not in text:
        with pytest.raises(BundleError):
            read_settings(tmp_path, "local")
