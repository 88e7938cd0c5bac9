"""What operators read of a role: one line an event, JSON for machines or plain for a terminal, and no secret in it.

The same things bear the same names in every line, so that a search finds them whoever speaks: `model`, `version`, `shard`,
`case`; a place in a stream as `stream`, `partition`, `offset`; one in the control log as `control_offset`; what went wrong as
`error`, and why something was done as `why`. Nothing here is called once per event of a stream, and nothing here may raise
because of what it is given to say.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

FORMATS: Final = ("json", "pretty")
HIDDEN: Final = "***"
SHORTEST_SECRET: Final = 6  # characters; to hide anything shorter would hide words
FIRST: Final = ("model", "version", "shard", "case", "stream", "partition", "offset", "control_offset")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PAINTED: Final = "color_message"  # uvicorn says everything twice, the second time with escape codes for a terminal
_SECRET_NAMES: Final = re.compile(r"(?i)^(.*_)?(secret|secrets|password|passwd|token|api_key|authorization|cookie)$")
_SECRET_TEXTS: Final = (
    (re.compile(r"(?i)([a-z][a-z0-9+.-]*://[^/@\s:]*):[^/@\s]+@"), rf"\1:{HIDDEN}@"),  # the password of a URL
    (re.compile(r"\bslk_[\w-]+"), f"slk_{HIDDEN}"),  # an API key
    (re.compile(r"(?i)(hooks\.slack\.com/)[\w/-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|x-api-key:?)\s+[\w.~+/=-]+"), rf"\1 {HIDDEN}"),
)
_hidden: Final[dict[str, None]] = {}


def hide(*secrets: str) -> None:
    """Never let one of these texts stand in a line of this process's log. Whoever reads a secret says so here."""
    _hidden.update(dict.fromkeys(secret for secret in secrets if len(secret) >= SHORTEST_SECRET))


def redacted(text: str) -> str:
    """The text without the secrets that were told to `hide`, the passwords in URLs, and the keys in headers."""
    for secret in _hidden:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    for pattern, instead in _SECRET_TEXTS:
        text = pattern.sub(instead, text)
    return text


def named(model: str, shard: int, stream: str, version: int | None = None) -> dict[str, object]:
    """How every line names a shard; a shard's number is that of its partition."""
    more = {} if version is None else {"version": version}
    return {"model": model, **more, "shard": shard, "stream": stream, "partition": shard}


class JsonFormatter(logging.Formatter):
    """One JSON object a record: at, level, role, logger, text, whatever came in `extra`, and the traceback if any."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "text": redacted(_text(record)),
        }
        line |= {name: value for name, value in _fields(record).items() if name not in line}
        trace = _trace(record)
        if trace:
            line["trace"] = trace
        return json.dumps(line, ensure_ascii=False)


class PrettyFormatter(logging.Formatter):
    """One line a record for a person at a terminal: time, level, role, text, then the fields, and the traceback below."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%SZ")
        words = [at, f"{record.levelname:<7}", f"{self._role:<7}", _one_line(redacted(_text(record)))]
        found = _fields(record)
        order = [*(name for name in FIRST if name in found), *(name for name in found if name not in FIRST)]
        words += [f"{name}={_one_line(str(found[name]))}" for name in order if found[name] not in (None, "")]
        trace = _trace(record)
        return "  ".join(words[:3]) + "  " + " ".join(words[3:]) + (f"\n{trace.rstrip()}" if trace else "")


_FORMATTERS: Final[Mapping[str, Callable[[str], logging.Formatter]]] = {"json": JsonFormatter, "pretty": PrettyFormatter}


def setup_logging(role: str, stream: TextIO | None = None, level: str = "INFO", form: str | None = None) -> None:
    """Send every log record of this process to `stream` (default: stderr), as lines of that form.

    Without a form: pretty for a terminal, else JSON. Raises ValueError for a level or a form that there is not.
    """
    out = sys.stderr if stream is None else stream
    chosen = form or ("pretty" if out.isatty() else "json")
    if chosen not in _FORMATTERS:
        raise ValueError(f"there is no log format {chosen!r}")
    handler = logging.StreamHandler(out)
    handler.setFormatter(_FORMATTERS[chosen](role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What came in `extra`, as JSON holds it, without secrets."""
    found = {name: value for name, value in vars(record).items() if name not in _STANDARD and name != _PAINTED}
    return {name: HIDDEN if _SECRET_NAMES.match(name) else _clean(value) for name, value in found.items()}


def _clean(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): HIDDEN if _SECRET_NAMES.match(str(name)) else _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner) for inner in value]
    return redacted(str(value))


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return redacted("".join(traceback.format_exception(*record.exc_info)))


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # the arguments do not fit the text: say both rather than nothing
        return f"{record.msg} {record.args!r}"


def _one_line(text: str) -> str:
    """The text with its line breaks and its escape codes written out: it may come from anywhere, and goes to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
