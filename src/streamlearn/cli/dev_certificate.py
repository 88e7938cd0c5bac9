"""A self-signed certificate for servers on loopback, made by openssl, so that TLS can be tried. Never for production."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from ..errors import StreamlearnError
from .dev_process import LOOPBACK, program


class Certificate(NamedTuple):
    """PEM files of a self-signed certificate for loopback; it is its own authority."""

    cert: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """A self-signed certificate for loopback, in `folder`. Raises ConfigError without openssl, StreamlearnError."""
    openssl = program("openssl", "openssl")
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "server.crt", folder / "server.key")
    names = f"subjectAltName=IP:{LOOPBACK},DNS:localhost"
    argv = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", names]
    done = subprocess.run([*argv, "-out", made.cert, "-keyout", made.key], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StreamlearnError(f"openssl could not make a certificate: {done.stderr.strip()}")
    return made
