"""What receivers get: mail by a real SMTP server, signed webhooks by a real HTTP server, repeated when they fail for a while."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from boathouse.workspace.cli.main import main
from boathouse.workspace.graph.state_machine import Result
from boathouse.workspace.notifications.transport import sign

JOB = """
a:
  name: training
  {kind}_notifications: {{on_failure: [{who}]}}
  tasks: [{{task_key: t, condition_task: {{op: EQUAL_TO, left: a, right: a}}}}]
"""
QUICK = "limits: {pause: 0.01, timeout: 5}\n"


def fail(made: Any) -> list[dict[str, Any]]:
    "Let the job fail, and return its notifications."
    with made.notifier:
        run = made.start()
        made.end(run, Result.FAILED, "no disk")
    assert made.history.find_run(run.run_id)["result_state"] == "FAILED"
    return made.rows()


def test_mail_goes_to_the_server_of_the_target(scene: Any, post: Any, tmp_path: Path) -> None:
    made = scene(JOB.format(kind="email", who="me@example.com, you@example.com"), f"""
    smtp: {{host: 192.0.2.1}}
    targets:
      default: {{smtp: {{host: 127.0.0.1, port: {post.port}, security: none, sender: jobs@example.com}}}}
    """)  # fmt: skip
    rows = fail(made)
    assert [row["state"] for row in rows] == ["sent", "sent"]
    assert sorted(addresses[0] for addresses, _ in post.mails) == ["me@example.com", "you@example.com"]
    mail = post.mails[0][1]
    assert (mail["From"], mail["Subject"]) == ("jobs@example.com", "[demo default] job 'training' failed (run 1)")
    assert mail["Message-ID"] in {f"<{row['key']}@boathouse>" for row in rows}
    assert "result: FAILED\nmessage: no disk\n" in mail.get_content().replace("\r\n", "\n")
    assert not (tmp_path / ".boathouse" / "default" / "mailbox").exists()


def certificate(folder: Path) -> ssl.SSLContext:
    "The server side of a self-signed certificate for 127.0.0.1, which is written to `cert.pem`."
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_mail_is_encrypted_and_the_password_is_that_of_the_variable(
    scene: Any, serve_mail: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        return AuthResult(success=(given.login, given.password) == (b"jobs", b"pa55"), handled=False)

    post = serve_mail(tls_context=certificate(tmp_path), authenticator=authenticate, auth_required=True)
    settings = f"smtp: {{host: 127.0.0.1, port: {post.port}, user: jobs, password_env: MAIL_PASSWORD}}\n{QUICK}"
    made = scene(JOB.format(kind="email", who="me@example.com"), settings)
    monkeypatch.setenv("MAIL_PASSWORD", "pa55")
    place = f"mail server 127.0.0.1:{post.port}"
    (row,) = fail(made)
    assert (row["state"], row["tries"]) == ("failed", 4)  # nobody vouches for the certificate
    assert row["error"].startswith(f"{place}: ")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert fail(made)[1]["state"] == "sent"
    monkeypatch.setenv("MAIL_PASSWORD", "wrong")
    row = fail(made)[2]
    assert (row["state"], row["tries"], row["error"][: len(place) + 13]) == ("failed", 1, f"{place} answered 535")
    assert [addresses for addresses, _ in post.mails] == [["me@example.com"]]


def test_a_webhook_is_signed_and_a_failure_for_a_while_is_tried_again_with_the_same_key(
    scene: Any, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    settings = f"destinations: {{team: {{kind: webhook, url: '{receiver.url}', secret_env: HOOK_SECRET}}}}\n{QUICK}"
    receiver.answers += [500, 503]
    (row,) = fail(scene(JOB.format(kind="webhook", who="{id: team}"), settings))
    assert (row["state"], row["tries"], row["error"]) == ("sent", 3, "")
    assert {headers["Idempotency-Key"] for headers, _ in receiver.requests} == {row["key"]}
    headers, body = receiver.requests[-1]
    assert headers["X-Boathouse-Signature"] == sign("s3cret", headers["X-Boathouse-Timestamp"], body)
    assert headers["X-Boathouse-Signature"] != sign("s3cret", headers["X-Boathouse-Timestamp"], body + b" ")
    sent = receiver.bodies[-1]
    assert (sent["event_type"], sent["job"]["name"], sent["run"]["run_id"]) == ("jobs.on_failure", "training", "1")
    assert sent["state"] == {"result_state": "FAILED", "state_message": "no disk"}


def test_a_notification_that_failed_is_sent_again_on_request_with_the_same_key(scene: Any, receiver: Any, tmp_path: Path) -> None:
    settings = f"destinations: {{team: {{kind: webhook, url: '{receiver.url}'}}}}\n{QUICK}"
    receiver.answers += [404]
    made = scene(JOB.format(kind="webhook", who="{id: team}"), settings)
    (row,) = fail(made)
    assert (row["state"], row["tries"]) == ("failed", 1)
    for _ in range(2):  # the second time, nothing is left to send
        done = CliRunner().invoke(main, ["runs", "1", "--resend", "--json", "--bundle", str(tmp_path)])
        (shown,) = json.loads(done.stdout)["notifications"]
        assert (shown["state"], shown["tries"], shown["error"]) == ("sent", 2, "")
    assert [headers["Idempotency-Key"] for headers, _ in receiver.requests] == [row["key"]] * 2
    refused = CliRunner().invoke(main, ["runs", "--resend", "--bundle", str(tmp_path)])
    assert (refused.exit_code, "--resend needs the RUN_ID of a run." in refused.stderr) == (2, True)


def test_slack_gets_a_text_and_teams_a_card(scene: Any, receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_URL", receiver.url)
    settings = "destinations: {s: {kind: slack, url_env: TEAM_URL}, t: {kind: teams, url_env: TEAM_URL}, m: {kind: email, addresses: [a@example.com]}}"
    fail(scene(JOB.format(kind="webhook", who="{id: s}, {id: t}, {id: m}"), settings))
    slack, teams = sorted(receiver.bodies, key=len)
    assert slack["text"].startswith("*[demo default] job 'training' failed (run 1)*\n")
    card = teams["attachments"][0]["content"]
    assert (card["type"], card["body"][0]["text"]) == ("AdaptiveCard", "[demo default] job 'training' failed (run 1)")


def test_what_cannot_be_sent_is_recorded_with_the_reason_and_changes_no_run(scene: Any, receiver: Any, post: Any) -> None:
    free = post.port  # a port on which nothing speaks HTTP
    settings = f"""
    destinations:
      down: {{kind: webhook, url: "http://127.0.0.1:1/secret-part"}}
      wrong: {{kind: webhook, url: "http://127.0.0.1:{free}/secret-part"}}
      refusing: {{kind: webhook, url: "{receiver.url}"}}
      unset: {{kind: slack, url_env: NO_SUCH_VARIABLE}}
    smtp: {{host: 127.0.0.1, port: 1, security: none}}
    limits: {{pause: 0.01, tries: 2, timeout: 2}}
    """
    receiver.answers += [404]
    names = ("down", "wrong", "refusing", "unset", "tema")
    jobs = JOB.format(kind="webhook", who=", ".join(f"{{id: {name}}}" for name in names))
    made = scene(jobs + "  email_notifications: {on_failure: [me@example.com]}\n", settings)
    rows = {row["destination"].partition(":")[2]: row for row in fail(made)}
    assert {row["state"] for row in rows.values()} == {"failed"}
    assert {name: (row["tries"], row["error"]) for name, row in rows.items() if name != "wrong"} == {
        "down": (2, "127.0.0.1:1: Connection refused"),
        "refusing": (1, f"{receiver.url.split('/')[2]} answered 404"),
        "unset": (1, "the environment variable NO_SUCH_VARIABLE is not set."),
        "tema": (1, "boathouse.yml has no destination 'tema' for this target."),
        "me@example.com": (2, "mail server 127.0.0.1:1: Connection refused"),
    }
    assert rows["wrong"]["tries"] == 2
    assert not any("secret-part" in row["error"] for row in rows.values())
    assert len(made.notifier.lines) == len(rows)
    assert "a notification (on_failure) to destination:tema could not be sent: boathouse.yml has no destination" in " ".join(
        made.notifier.lines
    )
