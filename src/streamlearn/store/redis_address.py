"""Where a Redis is, read from a URL: one server, a Unix socket, Sentinel or Cluster. Pure; it never shows a password.

    redis://[user[:password]@]host[:6379][/db]            rediss://… with TLS
    unix://[user[:password]@]/path/to/socket[?db=n]
    redis+sentinel://[user[:password]@]host[:26379][,host…]/service[/db]     rediss+sentinel://… with TLS
    redis+cluster://[user[:password]@]host[:6379][,host…]                    rediss+cluster://… with TLS
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from streamlearn.errors import ConfigError

KEY: Final = "store.redis.url"
PORT: Final = 6379
SENTINEL_PORT: Final = 26379
SCHEMES: Final[Mapping[str, tuple[Literal["single", "unix", "sentinel", "cluster"], bool]]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
TLS_TEXTS: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password")
TLS_OPTIONS: Final = (*TLS_TEXTS, "ssl_cert_reqs", "ssl_check_hostname")
SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")
BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Address(NamedTuple):
    """`hosts` are (host, port), one for a single server, none for a Unix socket, which has a `path`. `tls` are the client's
    options for TLS, None without it. `shown` is the address as it may be told to anybody."""

    kind: Literal["single", "unix", "sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...]
    path: str
    service: str
    db: int
    username: str | None
    password: str | None
    tls: Mapping[str, Any] | None
    sentinel: Mapping[str, str]
    shown: str


def parse(url: str, password: str | None = None) -> Address:
    """The address in `url`; `password` goes before the one in it. Raises ConfigError, which never repeats a password."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise ConfigError(KEY, f"begins with {scheme[:20]!r}", f"Begin it with one of {', '.join(f'{s}://' for s in SCHEMES)}")
    kind, with_tls = SCHEMES[scheme]
    try:
        split = urlsplit(f"//{rest}")
    except ValueError:  # a bracket that is not closed
        raise ConfigError(KEY, "cannot be read", "Write an IPv6 address as [::1]") from None
    if "@" in split.path + split.query + split.fragment:
        raise ConfigError(KEY, "has an @ after a /, ? or #", "Write those in a user or password as %2F, %3F and %23")
    login, at, places = split.netloc.rpartition("@")
    user, colon, secret = login.partition(":") if at else ("", "", "")
    options = _options(split.query, kind, with_tls)
    segments = [unquote(part) for part in split.path.split("/") if part]
    hosts: tuple[tuple[str, int], ...] = ()
    path, service, db = "", "", options.pop("db", "0")
    if kind == "unix":
        path = unquote(split.path)
        if places or not path:
            raise ConfigError(KEY, "names no socket", "Write unix:///path/to/redis.sock")
    else:
        hosts = tuple(_host(place, SENTINEL_PORT if kind == "sentinel" else PORT) for place in places.split(","))
        if kind == "sentinel":
            if not segments:
                raise ConfigError(KEY, "names no service", f"Write {scheme}://{places}/SERVICE, as the sentinels call it")
            service = segments.pop(0)
        if kind == "single" and len(hosts) > 1:
            raise ConfigError(KEY, "names several hosts", "Write redis+sentinel:// or redis+cluster:// before them")
        if segments and kind == "cluster":
            raise ConfigError(KEY, "names a database; a cluster has only one", "Leave out what follows the hosts")
        if len(segments) > 1:
            raise ConfigError(KEY, f"has {segments[1]!r} after the database", "Leave it out")
        db = segments[0] if segments else db
    if not (db.isascii() and db.isdigit()):
        raise ConfigError(KEY, f"names the database {db!r}", "Write a number, such as 0")
    tail = path if kind == "unix" else places + (f"/{service}" if service else "")
    return Address(
        kind, hosts, path, service, int(db),
        unquote(user) or None, password or (unquote(secret) if colon else None) or None,
        {name: _tls(name, value) for name, value in options.items() if name in TLS_OPTIONS} if with_tls else None,
        {name.removeprefix("sentinel_"): options[name] for name in SENTINEL_OPTIONS if name in options},
        f"{scheme}://{tail}" + (f"/{db}" if db != "0" and kind != "unix" else ""),
    )  # fmt: skip


def _options(query: str, kind: str, with_tls: bool) -> dict[str, str]:
    known = list(TLS_OPTIONS) if with_tls else []
    known += [] if kind == "cluster" else ["db"]
    known += SENTINEL_OPTIONS if kind == "sentinel" else ()
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in known:
            why = f"has the option {name!r}, " + ("which needs TLS" if name in TLS_OPTIONS else "which is not known here")
            fix = "Begin it with rediss" if name in TLS_OPTIONS else f"Leave it out; there are {known}"
            raise ConfigError(KEY, why, fix)
    return options


def _tls(name: str, value: str) -> Any:
    if name in TLS_TEXTS:
        return value
    if name == "ssl_check_hostname":
        if value.lower() not in BOOLEANS:
            raise ConfigError(KEY, f"has {name}={value!r}", "Write true or false")
        return BOOLEANS[value.lower()]
    if value not in ("required", "optional", "none"):
        raise ConfigError(KEY, f"has {name}={value!r}", "Write required, optional or none")
    return value


def _host(place: str, default: int) -> tuple[str, int]:
    host, port = place, ""
    if place.startswith("["):  # IPv6
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in place:
        host, _, port = place.rpartition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and int(port) < 65536)):
        raise ConfigError(KEY, f"has the host {place!r}", "Write HOST or HOST:PORT")
    return host, int(port or default)
