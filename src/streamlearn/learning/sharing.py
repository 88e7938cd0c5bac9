"""What shards of a recommender tell each other, as records of their stream: what users did with items, without the users.

A shard tells every other partition, `share_every` interactions at a time, or when the first of them is `share_s` of event time
old. The record names the model, the shard and how far it had read, which grows: a shard that recovers tells some of it again,
under the same numbers, and who has heard them passes them over. So every shard is still a function of its partition.
"""

from __future__ import annotations

import msgspec

from ..errors import EventError
from ..recommend.hearing import Heard


class Shared(msgspec.Struct, array_like=True):
    """Told by `shard` of `model` when it had read `seq` records of its partition."""

    model: str
    shard: int
    seq: int
    heard: list[Heard]


def encode(shared: Shared) -> bytes:
    """The record's value."""
    return _encoder.encode(shared)


def read(value: bytes) -> Shared:
    """What `encode` gave. Raises EventError."""
    try:
        shared = _decoder.decode(value)
        if any(len(one.last) % 8 for one in shared.heard):
            raise ValueError("the hashes of items are cut off")
        return shared
    except (msgspec.DecodeError, ValueError) as error:
        raise EventError("malformed", "$", f"not what a shard tells the others: {error}") from None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Shared)
