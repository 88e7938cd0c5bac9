"""`streamlearn keys make | list | revoke`: who may use the API, and for what. `signing`, `renew`: which keys sign what is kept.

It works on the log itself, so the service may be up or down: whoever may write the log decides who gets in, and nobody can make
himself a key over HTTP. A service that runs takes up a new key, or drops a revoked one, within a second.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from ..apikeys import MEANINGS, NAME, ApiKey, KeyBook, check_scopes, make
from ..config import Settings
from ..errors import ConfigError, EventError, LogError
from ..events import encode, parse_time
from ..log import CONTROL, Entry, Log
from ..records import AccessRecord, KeyMade, KeyRevoked
from ..serving.access import is_loopback, load_api_keys, read_keys
from .console import Commands, console, counted, say, table, warn
from .remote import user

APPEND_S: Final = 30.0
SPAN: Final = re.compile(r"(\d+)([hdw])")
HOURS: Final = {"h": 1, "d": 24, "w": 168}
app = typer.Typer(cls=Commands, no_args_is_help=True, help="Make, list and revoke API keys; tell what signing keys sign.")

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="STREAMLEARN_CONFIG", help="The configuration whose log holds the keys.", show_default=False
    ),
]
_SCOPES: Final = "; ".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items())


@app.command("make")
def make_key(
    name: Annotated[str, typer.Argument(help="Whose it is, as the audit trail shows it.", show_default=False)],
    config: ConfigOption,
    scope: Annotated[list[str] | None, typer.Option(help=f"What it may do, repeatable. {_SCOPES}.", show_default=False)] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 12h, 90d, 8w from now, or an RFC 3339 time.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Requests a second, in the place of [serve.rates].", show_default=False)
    ] = None,
) -> None:
    """Make an API key. Its secret goes to stdout, once, and is kept nowhere.

    Two keys may bear one name, so that a new one can be handed out before the old one is revoked.
    """
    from . import wiring

    if not NAME.fullmatch(name):
        raise ConfigError("NAME", f"is {name[:80]!r}", "Use letters, digits and . _ @ -, 64 characters at most")
    now = time.time()
    scopes, ends = check_scopes(scope or (), "--scope"), _end(expires, now)
    token, record = make(name, scopes, user() or "cli", now, ends, rate)
    settings = wiring.read_settings(config, os.environ)
    log = wiring.open_log(settings)
    try:
        _append(log, record)
    finally:
        log.close()
    until = "" if ends is None else f", until {_when(ends)}"
    warn(f"key {record.key} of {name!r}: {', '.join(record.scopes)}{until}. Its secret, which is not shown again:")
    say(token)


@app.command("list")
def list_keys(
    config: ConfigOption,
    all_keys: Annotated[bool, typer.Option("--all", help="Also revoked and expired ones.")] = False,
) -> None:
    """List the API keys that hold; never a secret."""
    from . import wiring

    settings, now = wiring.read_settings(config, os.environ), time.time()
    with _book(settings) as (_, book):
        valid = {key.id for key in book.valid(now)}
        made = table("id", "name", "scopes", "made", "by", "expires", ">rate", "state")
        for key in load_api_keys(os.environ):
            made.add_row("", key.name, _scopes(key), "", "STREAMLEARN_API_KEYS", "", "", "valid here")
        for id, one in book.made.items():
            if all_keys or id in valid:
                ends = "" if one.expires is None else _when(one.expires)
                rate = "" if one.rate is None else f"{one.rate:g}"
                made.add_row(id, one.name, ", ".join(one.scopes), _when(one.at), one.by, ends, rate, _state(book, one, now))
    if not made.row_count:
        say("no API keys" if all_keys else "no API keys hold (--all also lists revoked and expired ones)")
        return
    console().print(made)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, or its name when one key alone bears it.", show_default=False)],
    config: ConfigOption,
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")] = "",
) -> None:
    """Revoke an API key, and with it whoever is signed in by it. It cannot be brought back."""
    from . import wiring

    settings, now = wiring.read_settings(config, os.environ), time.time()
    with _book(settings) as (log, book):
        one = _named(book, key)
        _append(log, KeyRevoked(one.key, one.name, user() or "cli", now, reason))
        left = [other for other in book.valid(now) if other.id != one.key]
    say(f"revoked key {one.key} of {one.name!r}; a service that runs drops it within a second")
    if not left and not load_api_keys(os.environ):
        say("it was the last one that held: the API answers nobody until another one is made")


@app.command("signing")
def signing_keys(config: ConfigOption) -> None:
    """Tell which signing keys are still needed, by what they signed: of the store, and of the commands in the log.

    A key can be taken out of STREAMLEARN_KEYS once nothing needs it. What is only for going back is read by a recovery from an
    older checkpoint, by a learner that reads everything again, and by streamlearn verify.
    """
    from . import signing, wiring

    with wiring.opened(wiring.read_settings(config, os.environ), os.environ) as world:
        with console(stderr=True).status("reading the store and the log"):
            found = signing.needed(world)
        made = table("key", "state", ">checkpoints", ">versions", ">publications", ">older", ">commands", "last one")
        for one in found:
            last = "" if one.last is None else _when(one.last)
            numbers = (one.checkpoints, one.versions, one.publications, one.older, one.commands)
            made.add_row(one.key, one.state, *(f"{number:,}" for number in numbers), last)
    console().print(made)


@app.command()
def renew(config: ConfigOption) -> None:
    """Sign the kept versions anew with the key that signs now. The rest is signed anew by itself, as learners go on."""
    from . import signing, wiring

    with wiring.opened(wiring.read_settings(config, os.environ), os.environ) as world:
        done = signing.renew(world)
    say(f"signed anew: {counted(done, 'version')}" if done else "every version is signed by the key that signs now")


def known_keys(settings: Settings, environ: Mapping[str, str]) -> list[ApiKey]:
    """The keys that hold, of the environment and of the log, as far as they matter before the service listens.

    A log on brokers is asked only when nothing else can tell whether the service may start. Raises ConfigError and, where it
    matters, LogError.
    """
    from . import wiring

    found = load_api_keys(environ)
    settled = bool(found) or is_loopback(settings.serve.host)
    if (settled and settings.log.backend != "sqlite") or not wiring.has_log(settings):
        return found
    try:
        with _book(settings, found) as (_, book):
            return book.valid(time.time())
    except LogError:
        if settled:  # whoever needs the log says so
            return found
        raise


@contextmanager
def _book(settings: Settings, environment: list[ApiKey] | None = None) -> Iterator[tuple[Log, KeyBook]]:
    from . import wiring

    book = KeyBook(environment or ())
    log = wiring.existing_log(settings)
    try:
        read_keys(log, book, 0)
        yield log, book
    finally:
        log.close()


def _append(log: Log, record: AccessRecord) -> None:
    log.append(CONTROL, [Entry(b"keys", encode(record), partition=0)]).result(timeout=APPEND_S)


def _named(book: KeyBook, key: str) -> KeyMade:
    """The one key that `key` names. Raises ConfigError for none, several, and one that is revoked already."""
    one = book.made.get(key)
    if one is None:
        named = [made for id, made in book.made.items() if made.name == key and id not in book.revoked]
        if len(named) > 1:
            ids = ", ".join(made.key for made in named)
            raise ConfigError("KEY", f"{len(named)} keys are named {key!r}", f"Write the id of one: {ids}")
        if not named:
            raise ConfigError("KEY", f"there is no key {key[:80]!r}", "streamlearn keys list shows those that hold")
        one = named[0]
    if one.key in book.revoked:
        raise ConfigError("KEY", f"{key!r} was revoked before", "There is nothing left to do")
    return one


def _end(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    span = SPAN.fullmatch(text.strip())
    try:
        ends = now + int(span[1]) * HOURS[span[2]] * 3600 if span else parse_time(text)
    except EventError:
        raise ConfigError("--expires", f"{text[:40]!r} is no time", "Write 12h, 90d, 8w, or 2027-01-31T12:00:00Z") from None
    if ends <= now:
        raise ConfigError("--expires", f"{text} has passed", "Write a time to come")
    return ends


def _state(book: KeyBook, one: KeyMade, now: float) -> str:
    revoked = book.revoked.get(one.key)
    if revoked is not None:
        why = f": {revoked.reason}" if revoked.reason else ""
        return f"revoked {_when(revoked.at)} by {revoked.by}{why}"
    return "expired" if one.expires is not None and one.expires <= now else "valid"


def _scopes(key: ApiKey) -> str:
    return ", ".join(scope for scope in MEANINGS if scope in key.scopes)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ")
