"""What must be settled before the service listens: the API keys, and whether it may bind to the address without any.

The supervisor asks this before it starts a role, so nothing here may need the web framework, which takes a second to import.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from typing import Final

from ..errors import ConfigError
from ..keys import items, secret_text

VARIABLE: Final = "STREAMLEARN_API_KEYS"
WEAK: Final = 16
_FIX: Final = "Write name:secret,name:secret, each secret random, for instance from: openssl rand -hex 16"
_log = logging.getLogger(__name__)


def load_api_keys(environ: Mapping[str, str]) -> dict[str, str]:
    """Secret by name from `STREAMLEARN_API_KEYS` or the file it is in; empty when neither is set. Raises ConfigError."""
    keys: dict[str, str] = {}
    for item in items(secret_text(environ, VARIABLE) or ""):
        name, colon, secret = item.partition(":")
        if not colon or not name.isprintable() or not name:
            raise ConfigError(VARIABLE, "an entry is not name:secret", _FIX)
        if not secret:
            raise ConfigError(VARIABLE, f"the secret of {name!r} is empty", _FIX)
        if len(secret) < WEAK:
            _log.warning("%s: the secret of %r has fewer than %d characters and can be guessed", VARIABLE, name, WEAK)
        if name in keys:
            raise ConfigError(VARIABLE, f"{name!r} is given twice", _FIX)
        keys[name] = secret
    return keys


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without a port, can only be reached from this machine."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_bind(host: str, api_keys: Mapping[str, str]) -> None:
    """Raises ConfigError when `host` is not loopback and there is no key; says so in the log when there is none."""
    if api_keys:
        _log.info("API keys are required: %s", ", ".join(sorted(api_keys)))
    elif is_loopback(host):
        _log.warning("no %s: everyone on this machine may use the API, and nobody else (bound to %s)", VARIABLE, host)
    else:
        raise ConfigError(
            "serve.host",
            f"{host} can be reached from other machines, and there is no API key",
            f"Set {VARIABLE}=name:secret, or bind to 127.0.0.1",
        )
