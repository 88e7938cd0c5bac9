"""Blobs in Redis: cut into parts under a fresh name, which expire unless a pointer to them is published.

So a write that is broken off leaves nothing that can be seen and nothing that stays, and no single value is so large that the
server stands still for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from streamlearn.errors import StoreError

from .redis_link import Link

PART_BYTES: Final = 8 << 20
UNPUBLISHED_S: Final = 600


class Pointer(msgspec.Struct, frozen=True):
    """Where a blob is, `size` bytes in all, and what is said of it: see CheckpointInfo."""

    size: int
    parts: tuple[str, ...]
    generation: int = 0
    created: float = 0.0
    set_aside: str | None = None
    build: str = ""

    def encoded(self) -> bytes:
        """The bytes by which it is compared and swapped: equal pointers, equal bytes."""
        return msgspec.json.encode(self)


def decode(data: bytes) -> Pointer:
    """The pointer whose `encoded` bytes these are."""
    return msgspec.json.decode(data, type=Pointer)


def parts_of(data: bytes) -> tuple[str, ...]:
    """The keys that an encoded pointer names; none for no pointer."""
    return decode(data).parts if data else ()


def upload(link: Link, tag: str, blob: bytes, part_bytes: int = PART_BYTES) -> tuple[str, ...]:
    """Write the parts of `blob` under the hash tag `tag`, to be published within UNPUBLISHED_S; their keys."""
    nonce, view = secrets.token_hex(8), memoryview(blob)
    names = tuple(f"{tag}:v1:part:{nonce}:{n}" for n in range(-(-len(blob) // part_bytes)))
    try:
        for n, name in enumerate(names):
            link.command("SET", name, view[n * part_bytes : (n + 1) * part_bytes], "EX", UNPUBLISHED_S)
    except StoreError:
        drop(link, names)
        raise
    return names


def drop(link: Link, names: Sequence[str]) -> None:
    """Free what was not published. What cannot be freed now expires."""
    with suppress(StoreError):
        link.commands([("UNLINK", name) for name in names])


def fetch(link: Link, pointer: Pointer) -> bytes | None:
    """The blob, or None when a part is gone: replaced and dropped meanwhile, or evicted."""
    found: list[bytes] = []
    for name in pointer.parts:
        part = link.command("GET", name)
        if part is None:
            return None
        found.append(part)
    blob = found[0] if len(found) == 1 else b"".join(found)
    return blob if len(blob) == pointer.size else None
