"""The bytes of checkpoints, publications and versions: a signed header, with each part's place and SHA-256, then the parts.

    magic (8)  header length (4, big-endian)  header (JSON)  key id length (2)  key id  HMAC-SHA256 (32)  parts, end to end

The HMAC covers everything before the key id's length, so a reader who takes one part need not read the others. Nothing
is unpickled here, and nothing that is handed out was not verified first.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version as installed_version
from typing import Any, Final

import msgspec

from streamlearn.errors import BadSignature, Corrupt, OtherBuild, Unexpected
from streamlearn.events import Position
from streamlearn.keys import KeyRing

MAGIC: Final = b"slearn\x00\x01"
SCHEMA: Final = 1
MAX_HEADER_BYTES: Final = 16 << 20
MAC_BYTES: Final = 32
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"

_PREFIX: Final = len(MAGIC) + 4


class PartInfo(msgspec.Struct, frozen=True):
    """Where a part lies: `offset` in bytes after the signature, its length, the hexadecimal SHA-256 of its bytes."""

    offset: int
    length: int
    sha256: str


class Header(msgspec.Struct, frozen=True):
    """What a blob says of itself. `kind` is checkpoint, publication or version; `created` is Unix seconds."""

    schema: int
    kind: str
    model: str
    version: int
    shard: int
    generation: int
    positions: list[Position]
    created: float
    river: str
    python: str
    parts: dict[str, PartInfo]
    extra: dict[str, Any] = {}


class _Schema(msgspec.Struct):
    schema: int


class Sealed:
    """A blob whose header was verified, and whose parts are verified as they are taken."""

    def __init__(self, header: Header, blob: bytes, start: int) -> None:
        self.header = header
        self._blob, self._start = blob, start

    def part(self, name: str) -> bytes:
        """The bytes of one part. Raises Corrupt when they are not what was signed, Unexpected when there is no such part."""
        info = self.header.parts.get(name)
        if info is None:
            raise Unexpected(f"the {self.header.kind} has no part {name!r}; it has {sorted(self.header.parts)}")
        data = self._blob[self._start + info.offset : self._start + info.offset + info.length]
        if len(data) != info.length or hashlib.sha256(data).hexdigest() != info.sha256:
            raise Corrupt(f"part {name!r} of the {self.header.kind} of {self.header.model} does not match its SHA-256")
        return data

    def all_parts(self) -> dict[str, bytes]:
        """Every part by name. Raises Corrupt as `part` does."""
        return {name: self.part(name) for name in self.header.parts}


def encode(
    *,
    kind: str,
    model: str,
    version: int,
    shard: int,
    generation: int,
    positions: Sequence[Position],
    created: float,
    parts: Mapping[str, bytes],
    keys: KeyRing,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """The signed bytes of `parts` under a header; `extra` is anything that JSON carries."""
    places: dict[str, PartInfo] = {}
    offset = 0
    for name, data in parts.items():
        places[name] = PartInfo(offset, len(data), hashlib.sha256(data).hexdigest())
        offset += len(data)
    header = msgspec.json.encode(
        Header(
            schema=SCHEMA,
            kind=kind,
            model=model,
            version=version,
            shard=shard,
            generation=generation,
            positions=list(positions),
            created=created,
            river=river_version(),
            python=PYTHON,
            parts=places,
            extra=dict(extra or {}),
        )
    )
    if len(header) > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {len(header)} bytes; it may have {MAX_HEADER_BYTES}: put what is large into a part")
    signed = MAGIC + len(header).to_bytes(4, "big") + header
    return b"".join((*_signed(signed, keys), *parts.values()))


def open_blob(
    blob: bytes,
    keys: KeyRing,
    *,
    kind: str,
    model: str,
    shard: int,
    log: str | None = None,
    version: int | None = None,
) -> Sealed:
    """The blob with its header verified, and known to be what was asked for.

    `log`: every position must lie in the log of this identity. Raises Corrupt for bytes that are cut, longer or altered in
    their frame, BadSignature for a header that no known key signed, Unexpected for one that was signed but is of another
    kind, model, shard, version or log, OtherBuild for one of another schema, river or Python (major.minor).
    """
    header, start = _verified(blob, keys)
    asked: list[tuple[str, object, object]] = [("kind", header.kind, kind), ("model", header.model, model)]
    asked.append(("shard", header.shard, shard))
    if version is not None:
        asked.append(("version", header.version, version))
    if log is not None:
        asked += [("log", position.log, log) for position in header.positions]
    for name, found, wanted in asked:
        if found != wanted:
            raise Unexpected(f"a {header.kind} of {header.model}: its {name} is {found!r}, asked for was {wanted!r}")
    written = [
        ("river", _major_minor(header.river), _major_minor(river_version())),
        ("python", _major_minor(header.python), PYTHON),
    ]
    differ = [f"its {name} is {found!r}, this process has {wanted!r}" for name, found, wanted in written if found != wanted]
    if differ:
        raise OtherBuild(f"a {header.kind} of {header.model} from another build: {' and '.join(differ)}")
    return Sealed(header, blob, start)


def header_of(blob: bytes, keys: KeyRing) -> Header:
    """The header of a blob of any river and Python, verified. Raises Corrupt, BadSignature, OtherBuild (for the schema)."""
    return _verified(blob, keys)[0]


def build() -> str:
    """What must agree for a process to open another's blobs: river and Python (major.minor), and the schema."""
    return f"river {_major_minor(river_version())}, Python {PYTHON}, schema {SCHEMA}"


def signer_of(blob: bytes) -> str:
    """The id of the key that is said to have signed; nothing is verified. Raises Corrupt, BadSignature."""
    return _frame(blob)[1]


def signed_anew(blob: bytes, keys: KeyRing) -> bytes:
    """The same content, signed by the key that signs now. Raises as `header_of` does, and Corrupt for a damaged part."""
    header, start = _verified(blob, keys)
    Sealed(header, blob, start).all_parts()
    signed = blob[: _frame(blob)[0]]
    return b"".join((*_signed(signed, keys), blob[start:]))


def _signed(signed: bytes, keys: KeyRing) -> tuple[bytes, ...]:
    key_id, mac = keys.sign(signed)
    name = key_id.encode()
    return signed, len(name).to_bytes(2, "big"), name, bytes.fromhex(mac)


def _frame(blob: bytes) -> tuple[int, str, int]:
    """Where what is signed ends, the signing key's id, and where the parts begin."""
    if blob[: len(MAGIC)] != MAGIC:
        raise Corrupt("not a streamlearn blob: it does not begin with the magic bytes")
    length = int.from_bytes(blob[len(MAGIC) : _PREFIX], "big")
    end = _PREFIX + length
    if length > MAX_HEADER_BYTES or len(blob) < end + 2:
        raise Corrupt(f"cut short: {len(blob)} bytes, and a header of {length} bytes was announced")
    name_end = end + 2 + int.from_bytes(blob[end : end + 2], "big")
    start = name_end + MAC_BYTES
    if len(blob) < start:
        raise Corrupt(f"cut short: {len(blob)} bytes end within the signature")
    try:
        return end, blob[end + 2 : name_end].decode(), start
    except UnicodeDecodeError:
        raise BadSignature("the name of the signing key is not UTF-8") from None


def _verified(blob: bytes, keys: KeyRing) -> tuple[Header, int]:
    """The header and where the parts begin, once the signature and the total length are known to be right."""
    end, key_id, start = _frame(blob)
    keys.verify(blob[:end], key_id, blob[start - MAC_BYTES : start].hex())
    header = _decode(blob[_PREFIX:end])
    total = start + sum(part.length for part in header.parts.values())
    if len(blob) != total:
        raise Corrupt(f"{len(blob)} bytes where the header announces {total}")
    return header, start


def _decode(data: bytes) -> Header:
    try:
        schema = msgspec.json.decode(data, type=_Schema).schema
        if schema != SCHEMA:
            raise OtherBuild(f"schema {schema}; this streamlearn reads schema {SCHEMA}")
        return msgspec.json.decode(data, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"a signed header that is none: {error}") from None


@cache
def river_version() -> str:
    """The installed river, such as 0.26.1."""
    return installed_version("river")


def _major_minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
