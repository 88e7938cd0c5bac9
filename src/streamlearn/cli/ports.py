"""Listening sockets, and what is wrong when one cannot be had."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from ..errors import ConfigError

BACKLOG: Final = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ConfigError when the address or port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except socket.gaierror:
        raise ConfigError("serve.host", f"nothing is known as {host!r}", "Write 127.0.0.1, or 0.0.0.0 with API keys") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            problem = f"{host} is no address of this machine"
            raise ConfigError("serve.host", problem, "Write 127.0.0.1, or 0.0.0.0 with API keys") from None
        problem = f"port {port} on {host} cannot be had ({os.strerror(error.errno or 0)})"
        raise ConfigError("serve.port", problem, "Stop what listens there, or write another (0 takes a free one)") from None


def free_port(host: str, port: int) -> int:
    """The port itself, or a free one for 0. Raises ConfigError when it is taken."""
    with listen(host, port) as taken:
        return int(taken.getsockname()[1])
