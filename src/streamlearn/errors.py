"""Every exception that streamlearn raises on purpose. Foreign errors are mapped to these at the adapters; no HTTP codes here.

    StreamlearnError
    ├── ConfigError            a setting is wrong: names its key and the fix
    ├── EventError             an event cannot be accepted: names the field and a reason code
    ├── ModelError             a pipeline cannot be built, or is not deterministic
    ├── Overloaded             bounded work is in flight; try again after `retry_after` seconds
    ├── LogError
    │   ├── LogUnavailable     the log cannot be reached or is locked; nothing was appended
    │   ├── LogFull            the disk is full; nothing was appended
    │   ├── UnknownStream      no such stream, or no such partition of it
    │   ├── PositionExpired    the log no longer holds the position asked for
    │   └── ForeignLog         a position belongs to another log (re-created, restored, swapped)
    ├── StoreError
    │   ├── StoreUnavailable   the store cannot be reached or is locked; nothing was written
    │   ├── StoreFull          the disk is full; nothing was written
    │   └── Fenced             a newer generation has claimed this shard: the writer must stop
    ├── CodecError             bytes are not what they claim: nothing was unpickled
    │   ├── Corrupt            cut short, altered, or with a wrong length or SHA-256
    │   ├── BadSignature       no known key verifies the header (or a command)
    │   └── Unexpected         sound bytes of another schema, model, version, shard or log
    │       └── OtherBuild     sound bytes that another river, Python or schema wrote
    ├── RetrainError           a retrain job ended without a model: failed, timed out, out of memory, cancelled
    └── ClientError            what `client` raises
        ├── Unreachable        the service could not be reached, or broke off, and trying again did not help
        └── Refused            the service answered with a problem: carries its status and its body
"""

from __future__ import annotations

from typing import Any


class StreamlearnError(Exception):
    """The root of the tree above."""


class ConfigError(StreamlearnError):
    """A setting is wrong. `key` is its dotted path; `fix` says what to write instead."""

    def __init__(self, key: str, problem: str, fix: str) -> None:
        super().__init__(f"{key}: {problem}. {fix}")
        self.key, self.problem, self.fix = key, problem, fix


class EventError(StreamlearnError):
    """An event cannot be accepted. `reason` is a stable code (see `events.REASONS`), `field` a path such as `x.price`."""

    def __init__(self, reason: str, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail} [{reason}]")
        self.reason, self.field, self.detail = reason, field, detail


class ModelError(StreamlearnError):
    """A pipeline cannot be built from its recipe or import path, or two replays of it differ."""


class Overloaded(StreamlearnError):
    """Too much work is in flight; nothing was taken. Try again after `retry_after` seconds."""

    def __init__(self, what: str, retry_after: float) -> None:
        super().__init__(f"{what}; try again in {retry_after:g} s")
        self.retry_after = retry_after


class LogError(StreamlearnError):
    """The log refused."""


class LogUnavailable(LogError):
    """The log cannot be reached or is locked; nothing was appended."""


class LogFull(LogError):
    """No space is left for the log; nothing was appended."""


class UnknownStream(LogError):
    """The log has no such stream or partition."""


class PositionExpired(LogError):
    """`offset` lies outside what the log still holds, `[first, end]`."""

    def __init__(self, stream: str, partition: int, offset: int, first: int, end: int) -> None:
        super().__init__(
            f"{stream}/{partition}: offset {offset} is outside the retained range [{first}, {end}]; "
            "restore the log, or reset the shard to the earliest or latest offset"
        )
        self.stream, self.partition, self.offset, self.first, self.end = stream, partition, offset, first, end


class ForeignLog(LogError):
    """A position was taken in another log than the one at hand."""


class StoreError(StreamlearnError):
    """The store refused."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or is locked; nothing was written."""


class StoreFull(StoreError):
    """No space is left for the store; nothing was written."""


class Fenced(StoreError):
    """A write carried a generation older than the newest that the store has seen for this shard."""

    def __init__(self, model: str, shard: int, generation: int, current: int) -> None:
        super().__init__(
            f"{model}/{shard}: generation {generation} was replaced by {current}; this process must stop writing"
        )
        self.model, self.shard, self.generation, self.current = model, shard, generation, current


class CodecError(StreamlearnError):
    """Bytes are not what they claim to be. Raised before anything is unpickled."""


class Corrupt(CodecError):
    """Cut short, altered, or with a wrong length or SHA-256."""


class BadSignature(CodecError):
    """No known key verifies the signature."""


class Unexpected(CodecError):
    """Sound bytes, but not the schema, model, version, shard, log or library version that was asked for."""


class OtherBuild(Unexpected):
    """Sound bytes that a process with another river or Python (major.minor), or another schema, wrote for its like."""


class RetrainError(StreamlearnError):
    """A retrain job ended without a model. `reason` is one of failed, timeout, memory, cancelled, empty."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class ClientError(StreamlearnError):
    """The client could not do what was asked."""


class Unreachable(ClientError):
    """No answer from the service, however often it was tried."""


class Refused(ClientError):
    """The service said no. `status` is the answer's; `problem` is its RFC 9457 body, empty when it sent none."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('title', 'no problem details')}: {problem.get('detail', '')}")
        self.status, self.problem = status, problem
