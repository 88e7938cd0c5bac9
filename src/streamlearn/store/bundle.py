"""A version of a model as one file, to be taken elsewhere: the signed blobs of its shards under a signed manifest.

    manifest.json    a `Manifest`
    signature.json   key id and HMAC-SHA256 of the manifest's bytes
    shard-0.blob …   one for each shard, as the store keeps it
    NAME.piece …     the pieces of large tables that these have links to, each named by its SHA-256

It is a zip without compression, so that what is announced is what is read. Nothing that is handed out was not verified, and
nothing is unpickled here.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import BadSignature, CodecError, ConfigError, Corrupt, StoreError, Unexpected
from ..keys import KeyRing
from .codec import Sealed, open_blob
from .links import Fetch, names_of

FORMAT: Final = "streamlearn-version"
SCHEMA: Final = 1
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "signature.json"
MAX_MANIFEST_BYTES: Final = 16 << 20
# What zipfile raises for bytes that are no zip, for an encrypted one, and for one of a later version of the format.
_NO_ZIP: Final = (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, struct.error)


class Manifest(msgspec.Struct):
    """What a file holds. `what`: the version as "fitted", or as it was "serving". `settings`: the model's table, `document`:
    what the registry said of the version. `blobs`: the SHA-256 of each, by shard. Times are Unix seconds."""

    model: str
    version: int
    what: str
    exported_at: float
    made_with: dict[str, Any]
    settings: dict[str, Any]
    document: dict[str, Any]
    blobs: dict[str, str]
    format: str = FORMAT
    schema: int = SCHEMA


class Bundle(msgspec.Struct):
    """A file that was read and verified. `sealed`: its blobs by shard; `digest`: SHA-256 of the manifest, which names it."""

    path: Path
    manifest: Manifest
    sealed: dict[int, Sealed]
    digest: str

    def piece(self, name: str) -> bytes | None:
        """A piece, read from the file again."""
        with zipfile.ZipFile(self.path) as file:
            return file.read(f"{name}.piece") if f"{name}.piece" in file.NameToInfo else None


class _Signature(msgspec.Struct):
    key: str
    mac: str


def write(
    path: Path, manifest: Manifest, blobs: Mapping[int, bytes], keys: KeyRing, pieces: Mapping[str, Fetch] | None = None
) -> int:
    """Write the file, whole or not at all; returns its bytes. Fills in `manifest.blobs`. `pieces`: what fetches each.

    Raises ConfigError for a file that is there already, or cannot be written, Corrupt for a piece that is gone or damaged.
    """
    manifest.blobs = {str(shard): hashlib.sha256(blob).hexdigest() for shard, blob in sorted(blobs.items())}
    body = msgspec.json.encode(manifest)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    if path.exists():
        raise ConfigError("FILE", f"{path} is there already", "Name another file, or take that one away")
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as file:
            file.writestr(MANIFEST, body)
            file.writestr(SIGNATURE, msgspec.json.encode(_Signature(*keys.sign(body))))
            for shard, blob in sorted(blobs.items()):
                file.writestr(_name(shard), blob)
            for name, fetch in sorted((pieces or {}).items()):
                file.writestr(f"{name}.piece", _sound(name, fetch(name)))
        draft.rename(path)
    except (CodecError, StoreError):
        draft.unlink(missing_ok=True)
        raise
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError("FILE", f"{path} cannot be written ({error.strerror})", "Name a file in a folder of yours") from None
    return path.stat().st_size


def read(path: Path, keys: KeyRing) -> Bundle:
    """The file's content, all of it verified with `keys`.

    Raises ConfigError for a file that cannot be read, Corrupt for one that is none or was altered, BadSignature for one that
    no key of these signed, Unexpected for one of another schema, or whose blobs need another river or Python.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return _read(path, file, keys)
    except OSError as error:
        raise ConfigError("FILE", f"{path} cannot be read ({error.strerror})", "Name a file that this user may read") from None
    except _NO_ZIP as error:
        raise Corrupt(f"{path} is not an exported version, or is damaged: {error}") from None


def _read(path: Path, file: zipfile.ZipFile, keys: KeyRing) -> Bundle:
    body = _entry(path, file, MANIFEST, MAX_MANIFEST_BYTES)
    try:
        signature = msgspec.json.decode(_entry(path, file, SIGNATURE, MAX_MANIFEST_BYTES), type=_Signature)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSignature(f"{path}: its signature cannot be read: {error}") from None
    keys.verify(body, signature.key, signature.mac)
    manifest = _manifest(path, body)
    sealed = {}
    for text, sha256 in manifest.blobs.items():
        shard = int(text)
        blob = _entry(path, file, _name(shard))
        if hashlib.sha256(blob).hexdigest() != sha256:
            raise Corrupt(f"{path}: {_name(shard)} does not match its SHA-256 in the manifest")
        sealed[shard] = open_blob(blob, keys, kind="version", model=manifest.model, shard=shard, version=manifest.version)
        sealed[shard].all_parts()
        for name in sorted(names_of(sealed[shard].header.extra)):
            _sound(name, _entry(path, file, f"{name}.piece"))
    if set(sealed) != set(range(len(sealed))) or not sealed:
        raise Corrupt(f"{path}: it holds the shards {sorted(sealed)}")
    return Bundle(path, manifest, sealed, hashlib.sha256(body).hexdigest())


def _sound(name: str, piece: bytes | None) -> bytes:
    """The piece, known to be the one of this name. Raises Corrupt."""
    if piece is None or hashlib.sha256(piece).hexdigest() != name:
        raise Corrupt(f"the piece {name[:12]}… of its tables is {'gone' if piece is None else 'damaged'}")
    return piece


def _manifest(path: Path, body: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unexpected(f"{path}: a signed manifest that this streamlearn cannot read: {error}") from None
    if (manifest.format, manifest.schema) != (FORMAT, SCHEMA):
        raise Unexpected(f"{path}: format {manifest.format!r} {manifest.schema}; this streamlearn reads {FORMAT!r} {SCHEMA}")
    return manifest


def _entry(path: Path, file: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    try:
        info = file.getinfo(name)
    except KeyError:
        raise Corrupt(f"{path} is not an exported version: it has no {name}") from None
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise Corrupt(f"{path}: {name} is compressed, which an export never is")
    if most is not None and info.file_size > most:
        raise Corrupt(f"{path}: {name} has {info.file_size} bytes, more than {most}")
    return file.read(info)


def _name(shard: int) -> str:
    return f"shard-{shard}.blob"
