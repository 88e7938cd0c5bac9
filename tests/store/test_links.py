"""Links: what a header says of pieces, and where the pieces of a version and of a checkpoint lie."""

from __future__ import annotations

from typing import Any

import pytest

from streamlearn.errors import Corrupt, StoreError
from streamlearn.store import Retention
from streamlearn.store.links import Kept, kept_checkpoint, kept_version, lacking, links_of, names_of, no_pieces
from streamlearn.testing import MemoryStore

EXTRA: dict[str, Any] = {
    "chains": {
        "model": {"uid": "u", "covers": 2, "base": ["a", "b"], "deltas": [[3, "c"]]},
        "challenger": {"uid": "v", "covers": 0, "base": ["b", "d"], "deltas": []},
    }
}


def test_the_names_of_all_parts_are_told() -> None:
    assert names_of(EXTRA) == {"a", "b", "c", "d"}
    assert links_of(EXTRA)["model"].deltas == [(3, "c")]
    assert (names_of({}), links_of({})) == (frozenset(), {})
    with pytest.raises(Corrupt, match="the links to its tables cannot be read"):
        names_of({"chains": {"model": {"uid": 1}}})


def test_a_version_s_pieces_and_a_checkpoint_s_lie_apart() -> None:
    store = MemoryStore()
    store.put_version_piece("m", 2, 0, "a", b"of version 2")
    store.put_piece("m", 0, 1, "a", b"of the shard")
    store.put_version("m", 2, 0, b"v", ["a"])
    id = store.put_checkpoint("m", 0, 1, b"c", Retention())
    version, checkpoint = kept_version(store, "m", 2, 0), kept_checkpoint(store, id, "m", 0)
    assert version is not None
    assert (version.blob, version.fetch("a"), version.fetch("b")) == (b"v", b"of version 2", None)
    assert (checkpoint.blob, checkpoint.fetch("a")) == (b"c", b"of the shard")
    assert kept_version(store, "m", 3, 0) is None
    with pytest.raises(StoreError, match="no checkpoint"):
        kept_checkpoint(store, id + 1, "m", 0)
    assert Kept(b"whole").fetch is no_pieces
    assert Kept(b"whole").fetch("a") is None


def test_what_a_version_lacks_is_counted() -> None:
    store = MemoryStore()
    for name in "abcd":
        store.put_version_piece("m", 2, 0, name, b"x")
    assert lacking(store, "m", 2, 0, EXTRA) == ""
    assert lacking(store, "m", 2, 0, {}) == ""
    store.put_version("m", 2, 0, b"v", ["a", "d"])
    assert lacking(store, "m", 2, 0, EXTRA) == "2 of the 4 pieces of its tables are not in the store"
