"""A real Redis server for tests and trials: plain or with TLS, keeping its data through a restart or forgetting them.

Readiness is asked for with a PING over a socket; no client library is needed. It never touches a server that it did not start.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from ..errors import ConfigError
from .dev_certificate import Certificate, make_certificate
from .dev_docker import Docker
from .dev_process import LOOPBACK, Host, Local, Server, free_ports, program

IMAGE: Final = "redis:7"
PACKAGE: Final = "redis-server"
KEEP: Final = ("--appendonly", "yes", "--appendfsync", "always")
FORGET: Final = ("--appendonly", "no")
ANSWER_S: Final = 1.0


class Redis(NamedTuple):
    """Where a redis-server is, and its command."""

    host: Host
    command: str


def find_redis() -> Redis:
    """The installed redis-server, else the one in Docker's image. Raises ConfigError that says what to install."""
    try:
        return Redis(Local(), program("redis-server", PACKAGE))
    except ConfigError:
        docker = Docker.find(IMAGE)
        if docker is None:
            raise
        return Redis(docker, "redis-server")


class RedisServer(Server):
    """A Redis server on a free port. `options` are of redis-server's own, for instance `"--maxmemory", "4mb"`.

    It keeps its data through `kill` and `restart`, unless `*FORGET` is among the options.
    """

    def __init__(self, folder: Path, redis: Redis, *options: str, certificate: Certificate | None = None) -> None:
        super().__init__("redis-server", folder, redis.host)
        self.port = free_ports(1)[0]
        self.certificate = certificate
        self._command, self._options = redis.command, options

    @classmethod
    def with_tls(cls, folder: Path, redis: Redis, *options: str) -> Self:
        """One that speaks TLS alone, with a certificate made in the folder. Raises ConfigError without openssl."""
        return cls(folder, redis, *options, certificate=make_certificate(folder))

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """Its address as redis-py takes it; with TLS, the authority to trust is named."""
        if self.certificate is None:
            return f"redis://{self.address}/0"
        return f"rediss://{self.address}/0?ssl_ca_certs={self.certificate.cert}"

    def prepare(self) -> Sequence[str]:
        listen = ["--port", str(self.port)]
        if self.certificate is not None:
            cert, key = map(str, self.certificate)
            listen = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            listen += ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert]
        own = ["--bind", LOOPBACK, "--dir", str(self.folder), "--daemonize", "no", "--save", "", *KEEP]
        return [self._command, *listen, *own, *self._options]

    def answers(self) -> bool:
        with socket.create_connection((LOOPBACK, self.port), ANSWER_S) as plain:
            if self.certificate is None:
                return _pong(plain)
            import ssl  # here, for most servers have none

            trusted = ssl.create_default_context(cafile=self.certificate.cert)
            with trusted.wrap_socket(plain, server_hostname=LOOPBACK) as wrapped:
                return _pong(wrapped)


def _pong(connection: socket.socket) -> bool:
    connection.sendall(b"PING\r\n")
    return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
