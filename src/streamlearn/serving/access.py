"""What must be settled before the service listens: the API keys, and whether it may bind to the address without any.

The supervisor asks this before it starts a role, so nothing here may need the web framework, which takes a second to import.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Mapping
from typing import Final

from ..apikeys import ALL, ApiKey, KeyBook, check_scopes, given, key_record
from ..errors import ConfigError
from ..keys import items, secret_text
from ..log import CONTROL, Log

VARIABLE: Final = "STREAMLEARN_API_KEYS"
WEAK: Final = 16
PAGE: Final = 1000
_FIX: Final = (
    "Write name:secret,name:secret, each secret random, for instance from: openssl rand -hex 16; "
    "name+read+predict:secret limits what a key may do"
)
_log = logging.getLogger(__name__)


def load_api_keys(environ: Mapping[str, str]) -> list[ApiKey]:
    """The keys in `STREAMLEARN_API_KEYS` or the file it is in; none when neither is set. Raises ConfigError.

    An entry is name:secret, which may do everything, or name+scope+scope:secret.
    """
    keys: dict[str, ApiKey] = {}
    for item in items(secret_text(environ, VARIABLE) or ""):
        label, colon, secret = item.partition(":")
        name, *scopes = label.split("+")
        if not colon or not name.isprintable() or not name:
            raise ConfigError(VARIABLE, "an entry is not name:secret", _FIX)
        if not secret:
            raise ConfigError(VARIABLE, f"the secret of {name!r} is empty", _FIX)
        if len(secret) < WEAK:
            _log.warning("%s: the secret of %r has fewer than %d characters and can be guessed", VARIABLE, name, WEAK)
        if name in keys:
            raise ConfigError(VARIABLE, f"{name!r} is given twice", _FIX)
        keys[name] = given(name, secret, check_scopes(scopes, f"{VARIABLE} ({name})") if scopes else ALL)
    return list(keys.values())


def read_keys(log: Log, book: KeyBook, offset: int) -> tuple[int, bool]:
    """Enter into `book` what the control log says of keys from `offset` on: the offset to go on from, and whether it was news.

    Raises LogError.
    """
    news = False
    offset = offset or log.bounds(CONTROL, 0)[0]
    while records := log.read(CONTROL, 0, offset, PAGE):
        for record in records:
            found = key_record(record.value)
            news = (found is not None and book.take(found)) or news
        offset = records[-1].offset + 1
    return offset, news


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without a port, can only be reached from this machine."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_bind(host: str, keys: Collection[ApiKey]) -> None:
    """Raises ConfigError when `host` is not loopback and no key is valid; says so in the log when there is none."""
    if keys:
        _log.info("API keys are required: %s", ", ".join(sorted(key.name for key in keys)))
    elif is_loopback(host):
        _log.warning("no API key: everyone on this machine may use the API, and nobody else (bound to %s)", host)
    else:
        raise ConfigError(
            "serve.host",
            f"{host} can be reached from other machines, and there is no API key",
            f"Make one (streamlearn keys make NAME --config FILE), set {VARIABLE}=name:secret, or bind to 127.0.0.1",
        )
