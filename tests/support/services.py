"Registered models without Spark, and services that run as real processes on a loopback port."

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mlflow.tracking import MlflowClient

from boathouse.models.learners import Recipe, fit, log_pipeline
from boathouse.registry.promotions import register
from boathouse.serving.deployment import log_reference_rows
from boathouse.workspace.spark.session import state_environment

TOKEN = "a-secret-of-the-harbour"
BUNDLE = "bundle:\n  name: harbour\ntargets:\n  dev:\n    default: true\n"
RECIPE = Recipe(("pier",), ("wind",), "late")


@contextmanager
def bundle_registry(folder: Path) -> Iterator[Path]:
    "A bundle in `folder`, whose target's MLflow stores are those of this process meanwhile."
    (folder / "databricks.yml").write_text(BUNDLE)
    state = folder / ".boathouse" / "dev"
    state.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in state_environment(state).items():
            patch.setenv(name, value)
        mlflow.set_experiment("/harbour")
        yield folder


def harbour_rows(rows: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = pd.DataFrame({"pier": rng.choice(["east", "west"], rows), "wind": rng.gamma(4, 3, rows)})
    return found.assign(late=rng.random(rows) < 1 / (1 + np.exp(4 - 0.3 * found.wind)))


def register_version(name: str, wrong: float = 0.0, **parameters: Any) -> int:
    "A version of a small model; `wrong` moves the stored predictions of its reference rows."
    rows = harbour_rows()
    pipeline = fit(RECIPE, rows, parameters or {"n_estimators": 5})
    with mlflow.start_run() as run:
        uri = log_pipeline(pipeline, RECIPE, rows, "model")
        some = rows[RECIPE.inputs].head(20)
        log_reference_rows(uri.rsplit("/", 1)[-1], some, pipeline.predict_proba(some)[:, 1] + wrong)
    return register(name, uri, run.info.run_id)


def promote_version(name: str, version: int, alias: str = "champion") -> None:
    MlflowClient().set_registered_model_alias(name, alias, str(version))


def make_certificate(folder: Path) -> Path:
    "A certificate for 127.0.0.1 that nobody has signed, `cert.pem`; its key is in `key.pem`."
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "harbour")])
    today, day = datetime.now(UTC), timedelta(days=1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(today - day).not_valid_after(today + day)
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    signed = made.add_extension(address, critical=False).sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.TraditionalOpenSSL
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem"


class Service:
    "A process of `boathouse serve`, and a session with its token."

    def __init__(self, bundle: Path, *words: str) -> None:
        command = [Path(sys.executable).parent / "boathouse", "serve", *words, "--json"]
        if "--no-token" not in words:
            command += ["--token", TOKEN]
        self.log = (bundle / "service.log").open("ab")
        self.process = subprocess.Popen(command, cwd=bundle, stdout=subprocess.PIPE, stderr=self.log, env=dict(os.environ))
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (bundle / "service.log").read_text()[-3000:]
        self.facts = json.loads(line)
        assert "address" in self.facts, self.facts
        self.address = self.facts["address"]
        self.session = self.new_session()

    def new_session(self) -> requests.Session:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        return session

    def post(self, path: str = "/invocations", **more: Any) -> requests.Response:
        return self.session.post(self.address + path, timeout=60, **more)

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.address + path, timeout=60)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        try:
            return self.process.wait(150)
        finally:
            self.log.close()
            if self.process.stdout is not None:
                self.process.stdout.close()


@contextmanager
def running_service(bundle: Path, *words: str) -> Iterator[Service]:
    service = Service(bundle, *words)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.end(signal.SIGKILL)
