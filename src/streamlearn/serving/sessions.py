"""Who is signed in, and the token that their actions carry. Both are signed by the service's key ring and kept nowhere.

A session is `PAYLOAD.MAC`, the payload (JSON in base64url) naming the API key that was signed in with, when it ends and which
key of the ring signed. The signature covers the digest of the API key too: a session holds over several API processes and
restarts, and ends with its time, with the API key's revocation or expiry, with another secret under the same name, and with
the signing key's leaving the ring. The CSRF token is `KEY.MAC` over the session; without API keys, over a fixed text, since
what it is to keep out is only pages from elsewhere, which cannot read it.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final, NamedTuple

import msgspec

from ..apikeys import ApiKey
from ..errors import BadSignature
from ..keys import KeyRing
from .keywatch import KeyWatch

COOKIE: Final = "streamlearn_session"
LONGEST: Final = 1024  # characters of what may be a session or a token
ANONYMOUS: Final = "anonymous"
_SESSION: Final = b"streamlearn session\n"
_CSRF: Final = b"streamlearn csrf\n"


class _Payload(msgspec.Struct):
    id: str  # of the API key
    ends: int
    signer: str
    nonce: str


class Session(NamedTuple):
    """A session that holds: its key, its end in Unix seconds, and the cookie's text."""

    key: ApiKey
    ends: int
    text: str


def begin(key: ApiKey, now: float, seconds: float, ring: KeyRing) -> Session:
    """A new session of `key`, `seconds` long, or until the key expires."""
    ends = int(min(now + seconds, key.expires if key.expires is not None else now + seconds))
    payload = msgspec.json.encode(_Payload(key.id, ends, ring.signer, secrets.token_hex(8)))
    _, mac = ring.sign(_SESSION + payload + key.digest)
    return Session(key, ends, f"{base64.urlsafe_b64encode(payload).decode()}.{mac}")


def find(text: str, now: float, ring: KeyRing, keys: KeyWatch) -> Session | None:
    """The session that a cookie's text is, if it holds."""
    body, _, mac = text.partition(".")
    if len(text) > LONGEST:
        return None
    try:
        raw = base64.urlsafe_b64decode(body)
        payload = msgspec.json.decode(raw, type=_Payload)
        key = keys.by_id(payload.id)
        if key is None or now >= payload.ends:
            return None
        ring.verify(_SESSION + raw + key.digest, payload.signer, mac)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError, BadSignature):
        return None
    return Session(key, payload.ends, text)


def csrf(session: str, ring: KeyRing) -> str:
    """The token for the actions of a session, given as its text; "" where no API key is needed."""
    signer, mac = ring.sign(_CSRF + session.encode())
    return f"{signer}.{mac}"


def proves(token: str, session: str, ring: KeyRing) -> bool:
    """Whether `token` is one for this session."""
    signer, _, mac = token.rpartition(".")
    try:
        ring.verify(_CSRF + session.encode(), signer, mac)
    except BadSignature:
        return False
    return len(token) <= LONGEST


def cookie(text: str, seconds: int, secure: bool) -> str:
    """The Set-Cookie header; an empty text with 0 seconds takes the cookie away."""
    parts = [f"{COOKIE}={text}", "Path=/", f"Max-Age={seconds}", "HttpOnly", "SameSite=Strict", *(["Secure"] if secure else [])]
    return "; ".join(parts)


def of_cookies(header: bytes) -> str | None:
    """The session's text in a Cookie header."""
    for part in header.decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value.strip('"')
    return None
