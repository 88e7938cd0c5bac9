"""The store: checkpoints for recovery, publications for serving, versions, views of the control log, and history.

It holds nothing that the log cannot bring back, but for the history: how models did, for people to look at. Every write for a
shard carries the writer's generation and is refused (`Fenced`) when a newer one was seen for that shard. Blobs are opaque here:
`codec` signs and checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol


class CheckpointInfo(NamedTuple):
    """One checkpoint: a store-wide `id`, its writer's generation, when it was put (Unix seconds), its bytes, its fate.

    `build`: what wrote it (`codec.build`), "" when that was not said.
    """

    id: int
    generation: int
    created: float
    size: int
    set_aside: str | None  # why it is no longer used, None while it is good
    build: str = ""


class Publication(NamedTuple):
    """The newest published model of a shard; `tag` differs from that of the one before."""

    tag: int
    blob: bytes


class Retention(NamedTuple):
    """Which checkpoints to keep: the `last` few, then one an hour for `hourly` hours, then one a day for `daily` days."""

    last: int = 3
    hourly: int = 24
    daily: int = 7


class Store(Protocol):
    """Safe to use from several threads, and from several processes at once. Raises StoreUnavailable and StoreFull."""

    def claim(self, model: str, shard: int, generation: int) -> None:
        """Fence every older writer of this shard. Raises Fenced when a newer one was seen."""

    def put_checkpoint(
        self, model: str, shard: int, generation: int, blob: bytes, keep: Retention, build: str = ""
    ) -> int:
        """Add a checkpoint, drop those that `keep` does not cover (never a set-aside one), return its id. Raises Fenced.

        What is kept is counted for each build by itself (`retention.kept_by_build`).
        """

    def restore_checkpoint(self, model: str, shard: int, info: CheckpointInfo, blob: bytes) -> int:
        """Put a checkpoint back as it was (all but its id, which is new), from a backup; returns its id.

        Older generations than its own are fenced from then on, newer ones are not disturbed, and nothing is dropped.
        """

    def checkpoints(self, model: str, shard: int) -> list[CheckpointInfo]:
        """All of a shard's checkpoints, the newest generation first, and of one generation the newest first.

        So what a zombie, or a backup, brought in later does not go before what a newer writer has put.
        """

    def checkpoint(self, id: int) -> bytes:
        """The blob of a checkpoint. Raises StoreError when there is none."""

    def set_aside(self, id: int, reason: str) -> None:
        """Mark a checkpoint as not to be used, and keep its bytes for people."""

    def put_publication(self, model: str, shard: int, generation: int, blob: bytes) -> int:
        """Replace the shard's publication; returns its tag. Raises Fenced."""

    def publication(self, model: str, shard: int, after: int | None = None) -> Publication | None:
        """The shard's publication, or None when there is none or its tag is `after`."""

    def put_piece(self, model: str, shard: int, generation: int, name: str, data: bytes) -> None:
        """Keep a piece of a shard's large tables until it is dropped; a name never stands for other bytes. Raises Fenced."""

    def piece(self, model: str, shard: int, name: str) -> bytes | None:
        """A piece, or None when there is none of that name."""

    def pieces(self, model: str, shard: int) -> dict[str, int]:
        """The size of every piece of a shard, by name."""

    def drop_pieces(self, model: str, shard: int, generation: int, names: Sequence[str]) -> None:
        """Forget these pieces, those that are there. Raises Fenced."""

    def put_version(self, model: str, version: int, shard: int, blob: bytes, pieces: Collection[str] = ()) -> None:
        """Keep a fitted version until it is dropped, over the same one fitted less far; and of its pieces these alone."""

    def version(self, model: str, version: int, shard: int) -> bytes | None:
        """The blob of a version, or None."""

    def versions(self) -> list[tuple[str, int, int]]:
        """Every (model, version, shard) that is kept, in order."""

    def drop_version(self, model: str, version: int) -> None:
        """Forget a version's blobs and pieces on every shard."""

    def put_version_piece(self, model: str, version: int, shard: int, name: str, data: bytes) -> None:
        """Keep a piece of a version's large tables, whose blob comes after them; a name never stands for other bytes."""

    def version_piece(self, model: str, version: int, shard: int, name: str) -> bytes | None:
        """A piece of a version, or None when there is none of that name."""

    def version_pieces(self, model: str, version: int, shard: int) -> dict[str, int]:
        """The size of every piece of a version, by name; also of one whose blob is not there (yet)."""

    def put_status(self, model: str, shard: int, generation: int, doc: bytes) -> int | None:
        """Replace a shard's status (JSON, see `records.Status`); returns its publication's tag, None for none. Raises Fenced.

        A writer that gets another tag than that of what it published last knows that the store has lost it.
        """

    def statuses(self) -> dict[tuple[str, int], bytes]:
        """Every shard's newest status."""

    def put_views(self, docs: Mapping[tuple[str, str], bytes], offset: int) -> None:
        """Put JSON documents by (kind, id), all or none, and say that the views now hold the control log below `offset`."""

    def views(self, kind: str, ids: Sequence[str] | None = None) -> dict[str, bytes]:
        """The documents of one kind by id, in the order in which they were first put."""

    def view_kinds(self) -> list[str]:
        """Every kind of which there is a document, in order."""

    def view_offset(self) -> int:
        """What `put_views` said last, 0 for an empty store."""

    def clear_views(self) -> None:
        """Drop every view, so that they can be rebuilt from the control log."""

    def put_history(self, model: str, step: int, at: int, row: bytes, was: bytes | None) -> bool:
        """Put the row at `at` (Unix seconds) of a model's series in steps of `step` seconds, over `was`; None for nothing.

        False, and nothing is done, when something else is there: another process has written it since it was read.
        """

    def history(self, model: str, step: int, since: int, until: int) -> list[tuple[int, bytes]]:
        """The rows (at, row) with `since` <= at < `until`, in order."""

    def drop_history(self, model: str, step: int, before: int) -> None:
        """Forget the rows below `before`."""

    def histories(self) -> list[tuple[str, int]]:
        """Every (model, step) of which there is a row, in order."""

    def shards(self) -> list[tuple[str, int]]:
        """Every (model, shard) that was written for, in order; perhaps also one of which everything was dropped."""

    def memory(self) -> dict[str, int]:
        """Bytes taken by each model, and by the views under "_views": as the server counts, or the sizes of what is kept."""

    def describe(self) -> list[str]:
        """What is not as it must be of the server behind it, each with its mending. Raises StoreError, StoreUnavailable."""

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake`, from whatever thread, soon after a publication changed; the returned function ends that.

        Only a help: `wake` may be called for nothing, late, or, by a store that cannot tell, never. Who must know polls. Never
        raises, and `wake` must return at once and not raise.
        """

    def close(self) -> None:
        """Let go. Closing twice is allowed."""
