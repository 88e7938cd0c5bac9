"""How a message travels: as a signed webhook or as Slack takes it, in one POST with an end, over verified TLS, to nowhere else.

A receiver checks `X-Streamlearn-Signature: t=SECONDS,v1=HEX[,v1=HEX]`: one of the v1 is the HMAC-SHA256, with a secret that it
knows, of the text of t, a dot, and the body. Every secret of the target signs, so that a new one is added first on the sender's
side, then taken by the receiver, then the old one removed. See docs/notifications.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from .. import __version__
from ..config_notify import TargetSettings
from ..errors import ConfigError
from ..keys import items, read_secret
from ..logs import hide
from .notices import WORDS, Message, Notice, headline

MOST_READ: Final = 200  # characters of an answer that are told
MOST_TEXT: Final = 2900  # characters; a section of Slack's has at most 3000
Client = httpx.AsyncClient
MARKS: Final = {"info": "ℹ️", "warning": "⚠️", "critical": "🔴"}


class Answer(NamedTuple):
    """What came back: `error` is empty when the message was taken. `wish_s`: seconds for which the receiver wants no more."""

    status: int | None
    error: str
    wish_s: float | None = None


class Parcel(NamedTuple):
    url: str
    body: bytes
    headers: dict[str, str]


def parcel(
    key: str, target: TargetSettings, message: Message, environ: Mapping[str, str], dashboard: str, now: float
) -> Parcel:
    """What is to be posted for a message. Secrets are read anew, so that they can be changed at any time. `key`: where the
    target stands in the settings. Raises ConfigError for a secret that cannot be read."""
    url = address(key, target)
    headers = {
        "Content-Type": "application/json", "User-Agent": f"streamlearn/{__version__}", "X-Streamlearn-Id": message.id,
    }  # fmt: skip
    if target.form == "slack":
        return Parcel(url, msgspec.json.encode(slack_body(message, dashboard)), headers)
    body = msgspec.json.encode(webhook_body(message, dashboard))
    secrets = secrets_of(key, target, environ)
    if secrets:
        headers["X-Streamlearn-Signature"] = signature(secrets, body, int(now))
    return Parcel(url, body, headers)


def address(key: str, target: TargetSettings) -> str:
    """Where it is posted to. Raises ConfigError."""
    if target.url:
        return target.url
    url = read_secret(f"{key}.url_file", target.url_file).strip()
    if not url.lower().startswith(("https://", "http://")):
        raise ConfigError(f"{key}.url_file", f"{target.url_file} holds no web address", "Write one that begins with https://")
    return url


def secrets_of(key: str, target: TargetSettings, environ: Mapping[str, str]) -> list[str]:
    """The secrets that sign, none when the target names none. Raises ConfigError for one that is named and not there."""
    if target.secret_file:
        setting, text = f"{key}.secret_file", read_secret(f"{key}.secret_file", target.secret_file)
    elif target.secret_env:
        setting, text = f"{key}.secret_env", environ.get(target.secret_env, "")
    else:
        return []
    found = list(items(text))
    if not found:
        problem = f"{target.secret_file or target.secret_env} holds no secret"
        raise ConfigError(setting, problem, "Write one, for instance from: openssl rand -hex 32")
    hide(*found)
    return found


def signature(secrets: list[str], body: bytes, at: int) -> str:
    """The header's value, by each secret; `at` in Unix seconds."""
    signed = f"{at}.".encode() + body
    macs = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={at}", *(f"v1={mac}" for mac in macs)])


def link(message: Message, dashboard: str) -> str | None:
    """Where a person sees more of it; None when nobody said where the dashboard is."""
    if not dashboard:
        return None
    if message.upto < 0:  # a test is of no model
        return f"{dashboard.rstrip('/')}/"
    case = message.notices[-1].case
    page = f"case/{quote(case, safe='')}" if case else f"model/{quote(message.model, safe='')}"
    return f"{dashboard.rstrip('/')}/#/{page}"


def webhook_body(message: Message, dashboard: str) -> dict[str, Any]:
    """The document that a webhook gets."""
    return {
        "type": "notices", "id": message.id, "model": message.model, "severity": message.severity, "text": headline(message),
        "counts": message.counts, "since": message.since, "until": message.until, "url": link(message, dashboard),
        "notices": [msgspec.to_builtins(notice) for notice in message.notices],
    }  # fmt: skip


def slack_body(message: Message, dashboard: str) -> dict[str, Any]:
    """The payload of an incoming webhook of Slack's, or of what takes the same: text, and blocks that say it at length."""
    title = f"{MARKS.get(message.severity, '')} {message.model}: {', '.join(WORDS[kind] for kind in message.counts)}".strip()
    lines = []
    for notice in message.notices:
        version = f" version {notice.version}" if notice.version is not None else ""
        case = f" ({notice.case})" if notice.case else ""
        lines.append(f"*{_at(notice.at)} {WORDS[notice.kind]}*{_escaped(version + case)}: {_escaped(notice.why)}")
    more = sum(message.counts.values()) - len(lines)
    if more > 0:
        lines.insert(0, f"_{more} before these are counted only_")
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title[:150]}},
        *({"type": "section", "text": {"type": "mrkdwn", "text": line[:MOST_TEXT]}} for line in lines),
    ]
    seen = link(message, dashboard)
    if seen is not None:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": f"<{seen}|See it on the dashboard>"}})
    return {"text": _escaped(headline(message))[:MOST_TEXT], "blocks": blocks}


def client(timeout_s: float) -> Client:
    """Certificates are verified (SSL_CERT_FILE names other authorities), proxies are those of the environment, and an answer
    that sends elsewhere is not followed."""
    return Client(timeout=timeout_s, follow_redirects=False)


async def post(http: Client, what: Parcel, timeout_s: float, now: float) -> Answer:
    """Post it, `timeout_s` at most for everything. Never raises but CancelledError."""
    try:
        async with (
            asyncio.timeout(timeout_s),
            http.stream("POST", what.url, content=what.body, headers=what.headers) as response,
        ):
            said = "" if response.is_success else await _beginning(response)
    except TimeoutError:
        return Answer(None, f"no answer within {timeout_s:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        words = str(error).replace(what.url, "its URL")
        return Answer(None, f"{type(error).__name__}: {words}".rstrip(": "))
    if response.is_success:
        return Answer(response.status_code, "")
    wish = _seconds(response.headers.get("retry-after"), now)
    if response.is_redirect:
        said = "it sends elsewhere, which is not followed; write the address that it sends to"
    return Answer(response.status_code, f"HTTP {response.status_code}" + (f": {said}" if said else ""), wish)


async def _beginning(response: httpx.Response) -> str:
    """The first words of an answer."""
    found = b""
    async for piece in response.aiter_bytes():
        found += piece
        if len(found) >= MOST_READ:
            break
    return " ".join(found[:MOST_READ].decode("utf-8", errors="replace").split())


def _seconds(text: str | None, now: float) -> float | None:
    """The seconds of a Retry-After header, which has them or an HTTP date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError):
        return None


def _at(at: float) -> str:
    return time.strftime("%H:%M:%SZ", time.gmtime(at))


def _escaped(text: str) -> str:
    """As Slack wants it, so that no text of a user's is markup or wakes a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def trial_message(target: str, now: float) -> Message:
    """What `streamlearn notify test` sends."""
    at = datetime.fromtimestamp(now).astimezone().isoformat(timespec="seconds")
    notice = Notice(
        f"test:{target}:{int(now)}", "test", "test", "test", "info", now, -1, why=f"test of the target {target!r}, sent {at}"
    )
    return Message(notice.id, target, "test", "info", {"test": 1}, now, now, -1, (notice,))
