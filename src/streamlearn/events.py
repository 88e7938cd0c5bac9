"""What applications send: one event type whose optional parts say what it is, and the rules by which it is accepted.

The same rules hold at the HTTP door and in the learner, since applications may write to the log directly. Nothing here
knows about models: a feature whose type changed, or a label that a model does not know, is the learner's to judge.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
import zlib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgspec

from .errors import EventError
from .items import ShownItem as ShownItem
from .items import check_action, shown_items

Scalar = float | int | str | bool | None
Features = dict[str, Scalar]

# Reason codes: at the door they name a rejected event, in the learner a dead letter, and each is a counter's label.
REASONS: Final[dict[str, str]] = {
    "malformed": "not JSON, or not UTF-8",
    "shape": "a field is missing, or has the wrong JSON type",
    "too_deep": "nested deeper than any event is",
    "empty": "neither features, label nor interaction: nothing to learn from",
    "unknown_stream": "no such stream in the configuration",
    "too_many_features": "more features than limits.max_features",
    "too_many_items": "more items than a slate may have",
    "too_long": "a string longer than limits.max_string",
    "not_finite": "NaN or infinity",
    "out_of_range": "an integer beyond 64 bits",
    "time": "not RFC 3339 and not Unix seconds",
    "future": "event time too far ahead of the time it was appended (a clock is wrong, or milliseconds were sent)",
    "too_large": "the event is larger than limits.max_event_bytes",
    "misrouted": "the key belongs to another partition",
    "feature_type": "a feature changed between number and string",
    "unknown_label": "a label that the model's task or declared labels do not know",
    "orphan": "a label whose features never came",
    "late": "a label that came after its wait had run out",
    "correction": "a second, different label for the same id",
    "bad_signature": "a command that no known key signed",
    "unlearnable": "the model's pipeline raised an exception on this event",
    "not_finite_prediction": "the model predicted NaN or infinity",
}

MAX_DEPTH: Final = 32
INT64: Final = 2**63
YEAR_1: Final = -62_135_596_800.0


class Kind(IntEnum):
    """What a log record holds. Applications write EVENT (the default); the service writes the others."""

    EVENT = 0
    PREDICTION = 1
    COMMAND = 2
    HEARTBEAT = 3
    SHARED = 4


class Limits(NamedTuple):
    """Bounds on one event; they come from the configuration."""

    max_features: int = 1000
    max_string: int = 1024
    max_event_bytes: int = 262_144
    max_ahead_s: float = 3600.0


class Position(msgspec.Struct, frozen=True):
    """A place in the log: everything below `offset` (the next to read) of one partition of the log named `log`."""

    log: str
    stream: str
    partition: int
    offset: int


class Event(msgspec.Struct, omit_defaults=True):
    """One event. `x` and `y`: learn now. `x` alone: remember, predict, wait. `y` alone: join by `id`, score, learn."""

    stream: str
    id: str | None = None
    ts: float | str | None = None
    key: str | None = None
    x: Features | None = None
    y: Scalar = None
    user: str | None = None
    item: str | None = None
    action: str | None = None
    items: list[Any] | None = None


class Prediction(msgspec.Struct, omit_defaults=True):
    """What was served for `id`: logged, so that an outcome is attributed to what was really shown.

    Its `x` counts as the features of `id` when none came before. `y` is the predicted label or number,
    `p` the probabilities by label. Of a slate, `items` are what was shown to `user`, `y` is None and `x` the context.
    """

    stream: str
    id: str
    model: str
    version: int
    y: Scalar = None
    p: dict[str, float] | None = None
    x: Features | None = None
    ts: float | None = None
    key: str | None = None
    user: str | None = None
    items: list[ShownItem] | None = None


class _Known(Event, forbid_unknown_fields=True):
    """An event with no field beside those above."""


_event_decoder = msgspec.json.Decoder(Event)
_known_decoder = msgspec.json.Decoder(_Known)
_raw_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_prediction_decoder = msgspec.json.Decoder(Prediction)
encode = msgspec.json.encode


def decode_event(data: bytes | msgspec.Raw) -> Event:
    """The event in `data`, its shape checked; see `check_event` for its values. Raises EventError."""
    try:
        return _event_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain(bytes(data), error) from None


def decode_posted(data: bytes | msgspec.Raw) -> tuple[Event, str | None]:
    """The event in `data`, as `decode_event` has it, and the first field in it that no event has: ignored, if any.

    A label that is written `Y` or `label` would otherwise be lost without a word.
    """
    try:
        return _known_decoder.decode(data), None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _, unknown, name = str(error).partition("unknown field `")
        return decode_event(data), name.rpartition("`")[0] if unknown else None


def decode_prediction(data: bytes) -> Prediction:
    """The logged prediction in `data`. Raises EventError."""
    try:
        return _prediction_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain(data, error) from None


def parse_time(ts: float | str) -> float:
    """Unix seconds, UTC, from Unix seconds or RFC 3339 text (text without a zone is UTC). Raises EventError."""
    if isinstance(ts, str):
        try:
            moment = datetime.fromisoformat(ts.upper())  # RFC 3339 lets t and z be small
        except ValueError:
            raise EventError("time", "ts", f"{ts[:40]!r} is not RFC 3339, such as 2026-01-31T12:00:00Z") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(ts):
        raise EventError("not_finite", "ts", "is NaN or infinite")
    if ts < YEAR_1:
        raise EventError("time", "ts", f"{ts:g} lies before the year 1")
    return float(ts)


def start_text(value: object) -> object:
    """A model's `start` as text: "earliest", "latest", or a time as RFC 3339; a TOML date and time is one too.

    Raises ValueError, as settings report it.
    """
    text = value.isoformat() if isinstance(value, date) else value  # a datetime is a date
    if isinstance(text, str) and text not in ("earliest", "latest"):
        try:
            parse_time(text)
        except EventError:
            problem = f'start: {text[:40]!r} is no place to begin; write "earliest", "latest" or a time as 2026-01-31T12:00:00Z'
            raise ValueError(problem) from None
    return text


def check_event(event: Event, limits: Limits, now: float) -> None:
    """Hold `event` to the rules that need no model. `now` is the append time, Unix seconds. Raises EventError."""
    if event.x is None and event.y is None and event.item is None and event.items is None and event.action is None:
        raise EventError("empty", "x", "the event has neither x, y nor an interaction; send at least one")
    for field in ("id", "key", "user", "item", "action"):
        value = getattr(event, field)
        if value is not None:
            check_string(field, value, limits)
            if not value:
                raise EventError("shape", field, "is an empty string; leave it out instead")
    if event.id is None and event.x is None and event.y is not None:
        raise EventError("shape", "id", "a label alone needs the id of its features")
    if event.ts is not None and parse_time(event.ts) > now + limits.max_ahead_s:
        raise EventError(
            "future", "ts", f"lies more than {limits.max_ahead_s:g} s ahead of now; Unix time is in seconds, not milliseconds"
        )
    if event.x is not None:
        if len(event.x) > limits.max_features:
            raise EventError("too_many_features", "x", f"has {len(event.x)} features, more than {limits.max_features}")
        for name, value in event.x.items():
            check_scalar(f"x.{name}", value, limits)
            if len(name) > limits.max_string:
                raise EventError("too_long", "x", f"a feature's name has {len(name)} characters")
    check_scalar("y", event.y, limits)
    if event.items is not None:
        if _depth_exceeds(event.items, MAX_DEPTH - 1):
            raise EventError("too_deep", "items", f"nested deeper than {MAX_DEPTH} levels")
        shown_items(event.items, limits.max_string)
    if event.action is not None:
        check_action(event.action, event.item, event.user, event.x)
    elif event.item is not None and event.x is None and event.y is None:
        raise EventError("shape", "action", "is missing: what was done to the item, such as click?")


def default_key(event: Event) -> str | None:
    """The partition key of an event that has no `key`: the user of an interaction, a slate or a user's record; else the id.

    Of an item's record it is the id too, but such a record belongs to every partition: see `is_item_record`.
    """
    if event.user is not None and (event.action is not None or event.items is not None):
        return event.user
    return event.id


def is_item_record(event: Event) -> bool:
    """Whether every partition of the stream is to have the event: it says something of an item, for whoever meets it."""
    return event.item is not None and event.action is not None and event.action[:1] == "$"


def _depth_exceeds(value: object, most: int) -> bool:
    """Whether lists and objects in `value` are nested more than `most` levels deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (most <= 0 or any(_depth_exceeds(one, most - 1) for one in inner))


def check_scalar(field: str, value: Scalar, limits: Limits) -> None:
    """A finite number, a 64-bit integer, a bounded string, a boolean or null. Raises EventError."""
    kind = type(value)
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]  # a float, as the line above says
            raise EventError("not_finite", field, "is NaN or infinite; leave it out or send null")
    elif kind is int:
        if not -INT64 <= value < INT64:  # type: ignore[operator]  # an int, as above
            raise EventError("out_of_range", field, "does not fit 64 bits; send it as a string or a float")
    elif kind is str:
        check_string(field, value, limits)  # type: ignore[arg-type]  # a str, as above


def check_string(field: str, value: str, limits: Limits) -> None:
    """Raises EventError when `value` is longer than allowed."""
    if len(value) > limits.max_string:
        raise EventError("too_long", field, f"has {len(value)} characters, more than {limits.max_string}")


def split_body(body: bytes, ndjson: bool) -> Iterator[tuple[int, bytes | msgspec.Raw | EventError]]:
    """(index, raw event or why it is none) of a request body: one object, an array, or NDJSON lines (blank ones skipped).

    Raises EventError when the body as a whole is not JSON: then no event can be told from the next.
    """
    if ndjson:
        lines = (line for line in body.split(b"\n") if line.strip())
        yield from enumerate(lines)
        return
    if body.lstrip()[:1] != b"[":
        yield 0, body
        return
    try:
        items: list[msgspec.Raw] = _raw_list_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield from _split_leniently(body, error)
        return
    yield from enumerate(items)


def _split_leniently(body: bytes, error: Exception) -> Iterator[tuple[int, bytes | EventError]]:
    """Python writes NaN and Infinity where JSON has none: find the items that hold them, so that the others go in."""
    if not isinstance(error, msgspec.DecodeError):
        raise explain(body, error)
    try:
        items = json.loads(body)
    except (ValueError, RecursionError):
        raise explain(body, error) from None
    for index, item in enumerate(items):
        try:
            field = _find_not_finite(item, "")
            again = b"" if field is not None else msgspec.json.encode(item)
        except UnicodeEncodeError:
            yield index, EventError("malformed", "$", "holds half of a UTF-16 surrogate pair")
        except RecursionError as deep:
            yield index, explain(body, deep)
        else:
            if field is None:
                yield index, again
            else:
                yield index, EventError("not_finite", field or "$", "is NaN or infinite, which JSON does not have; send null")


def _find_not_finite(value: object, path: str) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return path
    pairs: Iterator[tuple[object, object]] = iter(())
    if isinstance(value, dict):
        pairs = iter(value.items())
    elif isinstance(value, list):
        pairs = iter(enumerate(value))
    for name, inner in pairs:
        found = _find_not_finite(inner, f"{path}.{name}" if path else str(name))
        if found is not None:
            return found
    return None


def explain(data: bytes, error: Exception) -> EventError:
    """The EventError that tells a sender what is wrong with `data`, from what the decoder raised."""
    if isinstance(error, UnicodeDecodeError):
        return EventError("malformed", "$", "not UTF-8")
    if isinstance(error, RecursionError):
        return EventError("too_deep", "$", f"nested deeper than {MAX_DEPTH} levels")
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        problem, _, path = text.partition(" - at `")
        field = path.rstrip("`").removeprefix("$.") or "$"
        if "[...]" in field:
            field = _locate(data) or field
        if "out of range" in problem:
            return EventError("not_finite", field, "the number is too large for a 64-bit float")
        if "missing required field" in problem:
            return EventError("shape", problem.rpartition("field `")[2].rstrip("`"), "is missing")
        return EventError("shape", field, problem)
    for name in (b"NaN", b"Infinity"):
        if name in data:
            field = _locate(data) or "$"
            return EventError("not_finite", field, "holds NaN or Infinity, which JSON does not have; send null")
    return EventError("malformed", "$", text)


def _locate(data: bytes) -> str | None:
    """The path of the first feature with a wrong shape, else of the first NaN or infinity: the decoder does not name it."""
    try:
        tree = json.loads(data)
        features = tree.get("x") if isinstance(tree, dict) else None
        for name, value in features.items() if isinstance(features, dict) else ():
            if isinstance(value, dict | list):
                return f"x.{name}"
        return _find_not_finite(tree, "")
    except (ValueError, RecursionError):
        return None


def new_id() -> str:
    """A random id for an event that came without one."""
    return uuid.uuid4().hex


def fingerprint(text: str) -> int:
    """CRC-32 of the UTF-8 text: cheap, the same on every machine; not for security."""
    return zlib.crc32(text.encode())


def murmur2(key: bytes) -> int:
    """Kafka's murmur2 hash of a record key (org.apache.kafka.common.utils.Utils.murmur2), as an unsigned 32-bit integer."""
    m, length = 0x5BD1E995, len(key)
    h = 0x9747B28C ^ length
    for start in range(0, length & ~3, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ (k >> 24)) * m & 0xFFFFFFFF
        h = (h * m & 0xFFFFFFFF) ^ k
    tail = key[length & ~3 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * m & 0xFFFFFFFF
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a record with this key."""
    return 0 if partitions == 1 else (murmur2(key) & 0x7FFFFFFF) % partitions


def unit_of(salt: str, key: str) -> float:
    """A number in [0, 1) that looks drawn at random for each (salt, key), and is the same everywhere and for ever.

    The first 53 bits of SHA-256 over the UTF-8 of the salt, a zero byte and the key. Who lies below a share lies below every
    larger one; another salt draws anew.
    """
    digest = hashlib.sha256(f"{salt}\0{key}".encode(errors="surrogatepass")).digest()
    return float((int.from_bytes(digest[:8], "big") >> 11) / 2**53)
