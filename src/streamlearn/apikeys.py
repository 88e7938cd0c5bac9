"""API keys: what each may do, how one is written, and the book of those that are known.

A key made by `streamlearn keys` reads `slk_ID_SECRET`. The id says which record of the control log it is to be compared with,
so that one digest is computed for a request, however many keys there are. The secret has 256 random bits, which nobody
guesses: a salted SHA-256 keeps it as well as a slow hash would, and costs a request a microsecond. Keys given by the
environment have no id; each is compared. All comparisons take the same time whatever is given. Pure: it reads no log and no
clock.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

import msgspec

from .errors import ConfigError
from .records import KeyMade, KeyRevoked, decode_control

SCOPES: Final[tuple[str, ...]] = ("write", "predict", "read", "operate")
ALL: Final = frozenset(SCOPES)
MEANINGS: Final = {
    "write": "post events", "predict": "ask for predictions", "read": "see models, cases, the audit trail and metrics",
    "operate": "retrain, cancel, promote, roll back, hold, resume, rewind, silence",
}  # fmt: skip
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
PREFIX: Final = "slk_"
_TOKEN: Final = re.compile(rb"slk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class ApiKey(NamedTuple):
    """A key as it is kept: `digest` is SHA-256 of `salt` and the secret. `expires`: Unix seconds. `rate`: requests a second."""

    id: str
    name: str
    scopes: frozenset[str]
    salt: bytes
    digest: bytes
    expires: float | None = None
    rate: float | None = None


def make(
    name: str, scopes: Collection[str], by: str, at: float, expires: float | None = None, rate: float | None = None
) -> tuple[str, KeyMade]:
    """A new key: what its holder is given, which is kept nowhere, and the record of it."""
    id, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_bytes(16)
    made = KeyMade(id, name, sorted(scopes, key=SCOPES.index), salt.hex(), _digest(salt, secret.encode()).hex(), by, at)
    made.expires, made.rate = expires, rate
    return f"{PREFIX}{id}_{secret}", made


def given(name: str, secret: str, scopes: frozenset[str] = ALL) -> ApiKey:
    """A key of the environment; its id tells of the name alone."""
    return ApiKey(f"env:{name}", name, scopes, b"", _digest(b"", secret.encode()))


class KeyBook:
    """The keys that are known: those of the environment, and those that the control log tells of.

    `required`: whether anybody must show one. It stays so once a key was made, also when it is revoked: to revoke the last key
    must not open the service to everybody.
    """

    def __init__(self, environment: Iterable[ApiKey] = ()) -> None:
        self._given = tuple(environment)
        self._logged: dict[str, ApiKey] = {}
        self.made: dict[str, KeyMade] = {}
        self.revoked: dict[str, KeyRevoked] = {}

    @property
    def required(self) -> bool:
        return bool(self._given or self.made)

    def take(self, record: KeyMade | KeyRevoked) -> bool:
        """Enter a record of the control log; whether it is news. A key's first record holds, and nothing brings it back."""
        if isinstance(record, KeyRevoked):
            news = record.key in self._logged
            self.revoked.setdefault(record.key, record)
            self._logged.pop(record.key, None)
            return news
        if record.key in self.made:
            return False
        self.made[record.key] = record
        try:
            salt, digest = bytes.fromhex(record.salt), bytes.fromhex(record.digest)
        except ValueError:
            return False  # not made by us: it opens nothing
        if record.key not in self.revoked:
            scopes = frozenset(record.scopes)
            self._logged[record.key] = ApiKey(record.key, record.name, scopes, salt, digest, record.expires, record.rate)
        return True

    def find(self, token: bytes, now: float) -> ApiKey | None:
        """The valid key that `token` is; `now` in Unix seconds."""
        parts = _TOKEN.fullmatch(token)
        if parts is not None:
            key = self._logged.get(parts[1].decode())
            if key is not None and hmac.compare_digest(_digest(key.salt, parts[2]), key.digest) and _lasts(key, now):
                return key
        found = None
        if self._given:
            digest = _digest(b"", token)
            for key in self._given:
                if hmac.compare_digest(digest, key.digest):
                    found = key
        return found

    def by_id(self, id: str, now: float) -> ApiKey | None:
        """The valid key with this id."""
        key = self._logged.get(id)
        if key is None:
            key = next((one for one in self._given if one.id == id), None)
        return key if key is not None and _lasts(key, now) else None

    def valid(self, now: float) -> list[ApiKey]:
        """Every key that opens something."""
        return [key for key in (*self._given, *self._logged.values()) if _lasts(key, now)]


def key_record(data: bytes) -> KeyMade | KeyRevoked | None:
    """The record in a value of the control log if it is one about a key; most others are not decoded for it.

    One that cannot be read is None: control says so.
    """
    if b'"key_' not in data:
        return None
    try:
        record = decode_control(data)
    except msgspec.DecodeError:
        return None
    return record if isinstance(record, KeyMade | KeyRevoked) else None


def check_scopes(scopes: Iterable[str], where: str) -> frozenset[str]:
    """The scopes that the setting or option `where` names. Raises ConfigError for one that there is not, and for none."""
    found, fix = frozenset(scopes), f"Write some of {', '.join(SCOPES)}"
    for one in sorted(found - ALL):
        raise ConfigError(where, f"there is no scope {one[:40]!r}", fix)
    if not found:
        raise ConfigError(where, "names no scope", fix)
    return found


def _digest(salt: bytes, secret: bytes) -> bytes:
    return hashlib.sha256(salt + secret).digest()


def _lasts(key: ApiKey, now: float) -> bool:
    return key.expires is None or now < key.expires
