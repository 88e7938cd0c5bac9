"""What `streamlearn check` finds of notifications: secrets that are not there, hosts that cannot be found, unknown models."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ..config import Settings
from ..errors import ConfigError


class Found(NamedTuple):
    """`level` is "error", "warning" or "note"."""

    level: str
    key: str
    text: str


def targets(settings: Settings, environ: Mapping[str, str]) -> Iterator[Found]:
    """What is to be said of each target. Nothing is sent: `streamlearn notify test` does that."""
    from ..control.sending import address, secrets_of

    for name, target in settings.notify.targets.items():
        key = f"notify.targets.{name}"
        for model in target.models:
            if model not in settings.models:
                yield Found("warning", f"{key}.models", f"there is no model {model!r}, so nothing is told of it")
        try:
            secrets = secrets_of(key, target, environ)
            url = address(key, target)
        except ConfigError as error:
            yield Found("error", error.key, f"{error.problem}. {error.fix}")
            continue
        yield from _host(f"{key}.{'url' if target.url else 'url_file'}", url)
        if target.form == "webhook" and not secrets:
            text = "has no secret, so a receiver cannot tell that a message is ours. Name one in secret_file"
            yield Found("note", key, text)


def _host(key: str, url: str) -> Iterator[Found]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme.lower() == "https" else 80)
    except ValueError as error:
        yield Found("error", key, f"is no web address ({error}). Mend it")
        return
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield Found("warning", key, f"the host {host} cannot be found now ({error.strerror}). Mend its name, or the network")
    if parts.scheme.lower() == "http" and not _is_near(host):
        yield Found("warning", key, f"what is told goes to {host} in the clear. Write https://")


def _is_near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
